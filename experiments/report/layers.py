"""What is left of each layer: critical compressions, the layers that go first, published fractions."""

import math
from dataclasses import dataclass
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from experiments.report.accuracy import titled
from experiments.report.markdown import table
from experiments.report.reference_table import read_table
from experiments.report.table import KEPT, SIZE, Results, Table, label, layer_name
from experiments.report.writing import REFERENCE

COLUMNS = ("pruner", "log10_compression")
# As the files behind Tanaka et al.'s figures call them.
PUBLISHED_NAMES = {"rand": "random", "mag": "magnitude", "cs": "snip", "grasp": "grasp", "sf": "synflow"}


@dataclass(frozen=True)
class Published:
    """Kept fractions that others published.

    Attributes:
        name: Of their file.
        fractions: (method, base-10 logarithm of compression) -> the kept fraction of each layer, shape
            (layers,).
    """

    name: str
    fractions: dict[tuple[str, float], np.ndarray]


def powers(results: Results) -> list[float]:
    """The grid of compressions, as powers of ten."""
    sparsities = sorted(results.table["sparsity_target"].unique())
    return [abs(math.log10(1 - sparsity)) for sparsity in sparsities]


def critical_powers(results: Results, method: str) -> list[float]:
    """For each seed the highest compression up to which no layer is empty, as a power of ten."""
    grid, found = powers(results), []
    for _, of_seed in results.of(method).groupby("seed"):
        empty = (_kept(of_seed.sort_values("sparsity_target")) == 0).any(axis=1)
        first_empty = int(empty.argmax()) if empty.any() else len(empty)
        found.append(grid[first_empty - 1])
    return found


def first_emptied(results: Results, method: str) -> list[str]:
    """The layers that a method empties first."""
    rows = results.of(method).sort_values(["sparsity_target", "seed"])
    kept = _kept(rows)
    empty = kept[(kept == 0).any(axis=1)]
    if not len(empty):
        return []
    return [layer_name(name.removeprefix(KEPT)) for name in empty if empty.iloc[0][name] == 0]


def read_published(path: Path, *, layers: int) -> Published:
    """Published fractions, to be set beside ours.

    Args:
        path: A CSV with the columns pruner, log10_compression, L0_keep, L1_keep, ...
        layers: How many the network has.

    Returns:
        The fractions.

    Raises:
        ValueError: If the file is not of this form, of another number of layers, or has no numbers.
    """
    table = read_table(path, COLUMNS)
    kept = [f"L{layer}_keep" for layer in range(layers)]
    if set(kept) - set(table.columns) or f"L{layers}_keep" in table.columns:
        raise ValueError(
            f"expected a CSV with the columns pruner, log10_compression, L0_keep to L{layers - 1}_keep "
            f"(the network has {layers} layers), got {', '.join(sorted(table.columns))} in {path}"
        )
    if not table.lines:
        raise ValueError(f"expected published fractions in {path}, it has columns alone")
    fractions = {}
    for line in table.lines:
        pruner = line.text("pruner")
        at = PUBLISHED_NAMES.get(pruner, pruner), line.number("log10_compression")
        if at in fractions:
            raise ValueError(
                f"expected {pruner} at log10_compression {at[1]:g} once, {line.place} has it again"
            )
        fractions[at] = np.array([line.number(name, highest=1) for name in kept])
    return Published(path.name.removeprefix(REFERENCE), fractions)


def beside(path: Path, results: Results) -> list[str]:
    """A section of a summary: kept fractions beside published ones, at compressions that both have."""
    published = read_published(path, layers=len(layers_of(results.table)))
    rows = []
    for (method, power), theirs in published.fractions.items():
        ours = at_power(results, method, power)
        if not len(ours) or power == 0:
            continue
        mean = densities(ours)
        sizes = ours[[SIZE + layer for layer in layers_of(ours)]].iloc[0].to_numpy(float)
        gaps = np.abs(mean - theirs)
        many = np.minimum(mean, theirs) * sizes >= 100
        relative = f"{np.max(gaps[many] / theirs[many]):.1%}" if many.any() else "none"
        largest = f"{gaps.max():.4f} (layer {gaps.argmax()})"
        rows.append([label(method), f"{power:g}", largest, relative])
    head = ["method", "log10 compression", "largest difference", "largest relative difference"]
    return [
        "",
        f"Kept fractions beside {published.name}: the largest difference of a layer, and where. "
        "Relative differences count layers of which both keep at least 100 weights. Agreement is to be "
        "expected of random, magnitude and SynFlow: SNIP and GraSP depend on the data, and the SynFlow "
        "paper's code of the time had GraSP's sign inverted and no temperature.",
        "",
        *table(head, rows),
    ]


def layers_figure(results: Results) -> Figure:
    """The kept fraction of each layer, a panel a method, a line a compression.

    Means over seeds; an emptied layer has no point.
    """
    methods, grid = results.methods, powers(results)
    columns = min(5, len(methods))
    lines = -(-len(methods) // columns)
    figure, panels = plt.subplots(
        lines,
        columns,
        figsize=(3.2 * columns + 0.8, 3.6 * lines + 0.4),
        layout="constrained",
        sharey=True,
        squeeze=False,
    )
    colours = plt.get_cmap("viridis")
    for axes, method in zip(panels.flat, methods, strict=False):
        for power in grid:
            values = densities(at_power(results, method, power))
            axes.plot(
                range(len(values)),
                np.where(values > 0, values, np.nan),
                color=colours(power / grid[-1]),
                linewidth=1,
                marker=".",
                markersize=3,
            )
        axes.set_yscale("log")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.set_title(label(method), fontsize=10)
        axes.set_xlabel("layer, from input to output")
        axes.grid(alpha=0.3)
    for axes in panels.flat[len(methods) :]:
        axes.set_visible(False)
    for axes in panels[:, 0]:
        axes.set_ylabel("fraction of the layer kept")
    scale = ScalarMappable(Normalize(grid[0], grid[-1]), colours)
    figure.colorbar(scale, ax=panels.ravel().tolist(), label="log10 compression")
    titled(figure, f"{results.title}: what is left of each layer, mean over seeds")
    return figure


def densities(rows: Table) -> np.ndarray:
    """The kept fraction of each layer, mean over the rows, in order from input to output."""
    layers = layers_of(rows)
    kept = rows[[KEPT + layer for layer in layers]].to_numpy(float)
    return np.mean(kept / rows[[SIZE + layer for layer in layers]].to_numpy(float), axis=0)


def at_power(results: Results, method: str, power: float) -> Table:
    """A method's rows at a compression, given as a power of ten."""
    rows = results.table[results.table["method"] == method]
    return rows[np.isclose(-np.log10(1 - rows["sparsity_target"].to_numpy(float)), power, atol=1e-6)]


def layers_of(rows: Table) -> list[str]:
    """The paths of a network's layers, in order from input to output."""
    return [name.removeprefix(KEPT) for name in rows if name.startswith(KEPT)]


def _kept(rows: Table) -> Table:
    return rows[[KEPT + layer for layer in layers_of(rows)]]
