"""What ``experiments.layer_collapse`` reports: critical compressions, layers, published fractions."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from experiments.engine.processes import by_first
from experiments.engine.run_folder import Row, RunFolder, parquet
from experiments.report.figures import save_figures
from experiments.report.reference_table import read_table

KEPT, SIZE = "kept", "size"
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


def critical_powers(rows: Sequence[Row], powers: Sequence[float]) -> list[float]:
    """For each seed the highest compression up to which no layer is empty, as a power of ten.

    Args:
        rows: Of one method.
        powers: The grid, rising.

    Returns:
        One power a seed.
    """
    found = []
    for seed in sorted({row["seed"] for row in rows}):
        of_seed = sorted((row for row in rows if row["seed"] == seed), key=lambda r: r["sparsity_target"])
        whole = [not emptied(row) for row in of_seed]
        first_empty = whole.index(False) if False in whole else len(whole)
        found.append(powers[first_empty - 1])
    return found


def emptied(row: Row) -> list[str]:
    """The layers of which a row's mask keeps nothing.

    Args:
        row: With ``kept`` columns.

    Returns:
        Their paths.
    """
    return [name.removeprefix(KEPT) for name, kept in row.items() if name.startswith(KEPT) and kept == 0]


def densities(rows: Sequence[Row]) -> np.ndarray:
    """The kept fraction of each layer, mean over the rows, in order from input to output.

    Args:
        rows: Of one method and compression.

    Returns:
        Shape (layers,).
    """
    paths = [name.removeprefix(KEPT) for name in rows[0] if name.startswith(KEPT)]
    return np.mean([[row[KEPT + p] / row[SIZE + p] for p in paths] for row in rows], axis=0)


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
    table = read_table(path, ("pruner", "log10_compression"))
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
    return Published(path.name, fractions)


@by_first
def write_results(
    rows: list[Row],
    methods: Sequence[str],
    powers: Sequence[float],
    published: Published | None,
    title: str,
    folder: RunFolder,
) -> None:
    """Writes table, figure, and last of all the summary, which says that the run is complete.

    Args:
        rows: Of all masks.
        methods: In this order.
        powers: The grid of compressions, base-10 logarithms.
        published: Fractions to set beside ours.
        title: Of figure and summary.
        folder: Of the run.
    """
    folder.write("results.parquet", parquet(rows))
    save_figures(folder, {"layers": layers_figure(rows, methods, powers, title)})
    lines = _summary(rows, methods, powers, title)
    if published is not None:
        lines += _beside(rows, published)
    folder.write("summary.md", "\n".join(lines) + "\n")


def _summary(rows: list[Row], methods: Sequence[str], powers: Sequence[float], title: str) -> list[str]:
    lines = [
        f"# layer_collapse: {title}",
        "",
        f"Base-10 logarithm of compression; maximal compression N / L is {powers[-1]:.3f}. Critical: the "
        "highest of the grid up to which no layer is empty.",
        "",
        "| method | critical, a seed each | first emptied layers |",
        "|---|---|---|",
    ]
    for method in methods:
        of_method = [row for row in rows if row["method"] == method]
        critical = ", ".join(f"{power:.2f}" for power in critical_powers(of_method, powers))
        first = next((emptied(row) for row in of_method if emptied(row)), [])
        lines.append(f"| {method} | {critical} | {', '.join(first) or 'none'} |")
    return lines


def _beside(rows: list[Row], published: Published) -> list[str]:
    """Our fractions beside published ones, at the compressions that both have."""
    lines = [
        "",
        f"Kept fractions beside {published.name}: the largest difference of a layer, and where. "
        "Relative differences count layers of which both keep at least 100 weights. Agreement is to be "
        "expected of random, magnitude and SynFlow: SNIP and GraSP depend on the data, and the SynFlow "
        "paper's code of the time had GraSP's sign inverted and no temperature.",
        "",
        "| method | log10 compression | largest difference | largest relative difference |",
        "|---|---|---|---|",
    ]
    for (method, power), theirs in published.fractions.items():
        ours = [
            row
            for row in rows
            if row["method"] == method and math.isclose(row["sparsity_target"], 1 - 10.0**-power)
        ]
        if not ours or power == 0:
            continue
        mean = densities(ours)
        sizes = np.array([value for name, value in ours[0].items() if name.startswith(SIZE)])
        gaps = np.abs(mean - theirs)
        many = np.minimum(mean, theirs) * sizes >= 100
        relative = f"{np.max(gaps[many] / theirs[many]):.1%}" if many.any() else "none"
        lines.append(f"| {method} | {power:g} | {gaps.max():.4f} (layer {gaps.argmax()}) | {relative} |")
    return lines


def layers_figure(
    rows: Sequence[Row], methods: Sequence[str], powers: Sequence[float], title: str
) -> Figure:
    """The kept fraction of each layer, a panel a method, a line a compression.

    Args:
        rows: All rows.
        methods: In this order.
        powers: The grid.
        title: Above the panels.

    Returns:
        The figure: means over seeds; an emptied layer has no point.
    """
    figure, panels = plt.subplots(
        1,
        len(methods),
        figsize=(3.2 * len(methods) + 0.8, 4),
        layout="constrained",
        sharey=True,
        squeeze=False,
    )
    colours = plt.get_cmap("viridis")
    for axes, method in zip(panels.flat, methods, strict=True):
        for power in powers:
            chosen = [
                row
                for row in rows
                if row["method"] == method and math.isclose(row["sparsity_target"], 1 - 10.0**-power)
            ]
            values = densities(chosen)
            axes.plot(
                range(len(values)),
                np.where(values > 0, values, np.nan),
                color=colours(power / powers[-1]),
                linewidth=1,
                marker=".",
                markersize=3,
            )
        axes.set_yscale("log")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.set_title(method, fontsize=10)
        axes.set_xlabel("layer, from input to output")
        axes.grid(alpha=0.3)
    panels.flat[0].set_ylabel("fraction of the layer kept")
    scale = ScalarMappable(Normalize(powers[0], powers[-1]), colours)
    figure.colorbar(scale, ax=panels.ravel().tolist(), label="log10 compression")
    figure.suptitle(title)
    return figure
