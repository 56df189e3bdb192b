"""Layer collapse: what each method leaves of each layer, up to the highest compression there is.

    python -m experiments.layer_collapse
    python -m experiments.layer_collapse --dataset cifar10 --model vgg-16 --data-dir DIR

Expected: the first in a few minutes on 2 CPU cores, digits with ResNet-20; the second in about ten
minutes a seed. Nothing is trained. Interrupted, the same command goes on.

Compression is N / kept. A network of L layers can at best be compressed N / L times without losing one
(maximal compression); a method's critical compression is the highest of the grid up to which no layer
is empty.

Source: Tanaka et al. 2020 (arXiv 2006.05467), section 3 and figure 2.
"""

import csv
import math
import re
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")

import jax
import matplotlib.pyplot as plt
import numpy as np
import tyro
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

import pruning
from experiments.options import counted, run_in_folder
from experiments.run_folder import Row, RunFolder, parquet
from experiments.untrained import Network, Untrained, measure
from train.population import MemberState

PyTree = Any
Published = dict[tuple[str, float], np.ndarray]
KEPT, SIZE = "kept", "size"
# As the files behind Tanaka et al.'s figures call them.
PUBLISHED_NAMES = {"rand": "random", "mag": "magnitude", "cs": "snip", "grasp": "grasp", "sf": "synflow"}


@dataclass(frozen=True, kw_only=True)
class LayerCollapse(Untrained):
    """Find out which layers methods empty, and at which compression."""

    experiment = "layer_collapse"
    # Published fractions decide no mask, only what the summary says.
    without_effect = (*Untrained.without_effect, "reference")

    model: str = "resnet-20"
    """a name of train.models, such as resnet-20 or vgg-16"""
    step: float = 0.25
    """distance of compressions on the grid, in powers of ten; it begins at 0"""
    reference: Path | None = None
    """a CSV of published fractions (pruner, log10_compression, L0_keep, L1_keep, ...) to set beside"""

    def __post_init__(self) -> None:
        """Raises a ValueError that names the option that is wrong."""
        super().__post_init__()
        if not self.step > 0:
            raise ValueError(f"expected --step > 0, got {self.step}")
        if self.reference is not None and not self.reference.is_file():
            raise ValueError(f"expected --reference to be a file, got {self.reference}")


def main() -> None:
    """Runs what the command line asks for."""
    try:
        run(tyro.cli(LayerCollapse, description=__doc__))
    except ValueError as error:
        sys.exit(f"error: {error}")


def run(config: LayerCollapse) -> Path:
    """Makes the masks, writes the results and prints the summary.

    Args:
        config: What to look at.

    Returns:
        The output folder.

    Raises:
        ValueError: If the data set, the output folder or the config is no good.
    """

    def prepare() -> Callable[[RunFolder], None]:
        network = Network(config)
        masks = pruning.full_masks(network.initial(0).params)
        published = read_published(config.reference, layers=len(jax.tree.leaves(masks)))
        powers = compression_grid(masks, config.step)
        sparsities = tuple(1 - 10.0**-power for power in powers)

        def fill(folder: RunFolder) -> None:
            rows = measure(network, sparsities, folder, layer_columns)
            _write(config, rows, powers, published, folder)

        return fill

    return run_in_folder(config, prepare, rewrite=config.reference is not None)


def compression_grid(masks: PyTree, step: float) -> list[float]:
    """Powers of ten from 0 to the maximal compression N / L, which is the last one.

    Args:
        masks: Of the dense network.
        step: Distance on the grid.

    Returns:
        Base-10 logarithms of compressions.
    """
    largest = math.log10(pruning.count_prunable(masks) / len(jax.tree.leaves(masks)))
    powers = [round(step * index, 6) for index in range(math.floor(largest / step + 1e-9) + 1)]
    return powers if math.isclose(powers[-1], largest) else [*powers, largest]


def layer_columns(network: Network, state: MemberState, masks: PyTree) -> Row:
    """What a row says of a mask: each layer's kept weights and size, in order from input to output.

    Args:
        network: Not looked at.
        state: The network's weights.
        masks: Its masks.
    """
    del network
    report = sorted(pruning.layer_report(state.params, masks), key=lambda row: depth_order(row.path))
    return {f"{KEPT}{row.path}": row.kept for row in report} | {
        f"{SIZE}{row.path}": row.size for row in report
    }


def depth_order(path: str) -> tuple:
    """Sorts the layers of ``train.models`` from input to output: numbers as such, the classifier last.

    Args:
        path: A leaf's path.

    Returns:
        A sort key.
    """
    parts = re.split(r"(\d+)", path)
    return "['dense']" in path, [int(part) if part.isdigit() else part for part in parts]


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


def read_published(path: Path | None, *, layers: int) -> Published:
    """Published fractions, to be set beside ours.

    Args:
        path: A CSV with the columns pruner, log10_compression, L0_keep, L1_keep, ...; None for none.
        layers: How many the network has.

    Returns:
        (method, base-10 logarithm of compression) -> the kept fraction of each layer, shape (layers,).

    Raises:
        ValueError: If the file is not of this form, or of another number of layers.
    """
    if path is None:
        return {}
    with path.open() as file:
        lines = list(csv.DictReader(file))
    needed = {"pruner", "log10_compression", *(f"L{layer}_keep" for layer in range(layers))}
    found = set(lines[0]) if lines else set()
    if needed - found or f"L{layers}_keep" in found:
        raise ValueError(
            f"expected a CSV with the columns pruner, log10_compression, L0_keep to L{layers - 1}_keep "
            f"(the network has {layers} layers), got {', '.join(sorted(found)) or 'none'} in {path}"
        )
    return {
        (PUBLISHED_NAMES.get(line["pruner"], line["pruner"]), float(line["log10_compression"])): np.array(
            [float(line[f"L{layer}_keep"]) for layer in range(layers)]
        )
        for line in lines
    }


def _write(
    config: LayerCollapse,
    rows: list[Row],
    powers: list[float],
    published: Published,
    folder: RunFolder,
) -> None:
    folder.write("results.parquet", parquet(rows))
    title = f"{config.model}, {config.dataset}, {counted(config.seeds, 'seed')}"
    figure = layers_figure(rows, config.methods, powers, title)
    for suffix in ("png", "svg"):
        figure.savefig(folder.path / f"layers.{suffix}", dpi=150)
    plt.close(figure)
    lines = _summary(config, rows, powers, title) + _beside(config, rows, published)
    folder.write("summary.md", "\n".join(lines) + "\n")


def _summary(config: LayerCollapse, rows: list[Row], powers: list[float], title: str) -> list[str]:
    lines = [
        f"# layer_collapse: {title}",
        "",
        f"Base-10 logarithm of compression; maximal compression N / L is {powers[-1]:.3f}. Critical: the "
        f"highest of the grid (steps of {config.step:g}) up to which no layer is empty.",
        "",
        "| method | critical, a seed each | first emptied layers |",
        "|---|---|---|",
    ]
    for method in config.methods:
        of_method = [row for row in rows if row["method"] == method]
        critical = ", ".join(f"{power:.2f}" for power in critical_powers(of_method, powers))
        first = next((emptied(row) for row in of_method if emptied(row)), [])
        lines.append(f"| {method} | {critical} | {', '.join(first) or 'none'} |")
    return lines


def _beside(config: LayerCollapse, rows: list[Row], published: Published) -> list[str]:
    """Our fractions beside published ones, at the compressions that both have."""
    if config.reference is None:
        return []
    lines = [
        "",
        f"Kept fractions beside {config.reference.name}: the largest difference of a layer, and where. "
        "Relative differences count layers of which both keep at least 100 weights. Agreement is to be "
        "expected of random, magnitude and SynFlow: SNIP and GraSP depend on the data, and the SynFlow "
        "paper's code of the time had GraSP's sign inverted and no temperature.",
        "",
        "| method | log10 compression | largest difference | largest relative difference |",
        "|---|---|---|---|",
    ]
    for (method, power), theirs in published.items():
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


if __name__ == "__main__":
    main()
