"""Effective sparsity: what of a mask does anything, per method.

    python -m experiments.effective_sparsity
    python -m experiments.effective_sparsity --dataset cifar10 --model resnet-20 --data-dir DIR

Expected: the first in about a minute on 2 CPU cores, digits with LeNet-300-100. Nothing is trained.
Interrupted, the same command goes on.

A kept weight that is cut off from the input or the output counts as removed. Compression is N / kept:
direct with the masks as they are, effective with what is connected; a network cut in two has none.

Source: Vysogorets and Kempe 2021 (arXiv 2107.02306).
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure

import pruning
from experiments.figures import save_figures
from experiments.mark_figures import LOOKS
from experiments.option_checks import check_sparsities
from experiments.options import counted, run_command, run_in_folder
from experiments.processes import by_first
from experiments.run_folder import Row, RunFolder, parquet
from experiments.untrained import Network, Untrained, measure
from train.populations.population import MemberState

PyTree = Any


@dataclass(frozen=True, kw_only=True)
class EffectiveSparsity(Untrained):
    """Compare the sparsity of masks with that of what is connected."""

    experiment = "effective_sparsity"

    methods: tuple[str, ...] = (
        "random",
        "random-uniform",
        "random-erk",
        "random-igq",
        "magnitude",
        "snip",
        "grasp",
        "synflow",
    )
    """who prunes; random with one ranking, or with an allocation to layers"""
    sparsities: tuple[float, ...] = (0.5, 0.8, 0.9, 0.95, 0.98, 0.99, 0.995, 0.998, 0.999)
    """fractions of the prunable weights to remove"""

    def __post_init__(self) -> None:
        """Raises a ValueError that names the option that is wrong."""
        super().__post_init__()
        check_sparsities(self, "sparsities")


def main() -> None:
    """Runs what the command line asks for."""
    run_command(EffectiveSparsity, run, __doc__)


def run(config: EffectiveSparsity) -> Path:
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

        def fill(folder: RunFolder) -> None:
            rows = measure(network, config.sparsities, folder, EffectiveColumns(network))
            _write(config, rows, folder)

        return fill

    return run_in_folder(config, prepare)


@by_first
def _write(config: EffectiveSparsity, rows: list[Row], folder: RunFolder) -> None:
    folder.write("results.parquet", parquet(rows))
    title = f"{config.model} on {config.dataset}, {counted(config.seeds, 'seed')}"
    save_figures(folder, {"compression": compression_figure(rows, config.methods, title)})
    folder.write("summary.md", _summary(config, rows, title))


class EffectiveColumns:
    """What a row says of a mask: the weights that are connected, and the units that are not."""

    def __init__(self, network: Network) -> None:
        """Prepares the compiled function.

        Args:
            network: What is pruned.
        """
        # Statistics as they are initially: they neither start a signal nor block one.
        batch_stats = network.initial(0).batch_stats

        def output(params: PyTree) -> jax.Array:
            return network.output(params, batch_stats)

        self._effective = jax.jit(lambda params, masks: pruning.effective_masks(output, params, masks))

    def __call__(self, network: Network, state: MemberState, masks: PyTree) -> Row:
        """The columns of one mask.

        Args:
            network: As given before.
            state: The network's weights.
            masks: Its masks.

        Returns:
            effective_sparsity, dead_units, units and cut_off_layers (layers of which nothing is
            connected).
        """
        del network
        effective = self._effective(state.params, masks)
        dead = jax.tree.leaves(pruning.dead_units(effective))
        return {
            "effective_sparsity": pruning.sparsity(effective),
            "dead_units": int(sum(jnp.sum(units) for units in dead)),
            "units": sum(units.size for units in dead),
            "cut_off_layers": len(pruning.collapsed_layers(effective)),
        }


def compression_figure(rows: list[Row], methods: tuple[str, ...], title: str) -> Figure:
    """Effective against direct compression, a line a method.

    Args:
        rows: All rows.
        methods: In this order.
        title: Above the axes.

    Returns:
        The figure: every seed a point, medians joined; a network that is cut in two has no point.
    """
    figure, axes = plt.subplots(figsize=(7, 5.5), layout="constrained")
    direct = np.unique([1 / (1 - row["sparsity"]) for row in rows])
    axes.plot(
        direct, direct, color="#999999", linewidth=1, linestyle=":", label="all kept weights connected"
    )
    for method in methods:
        colour, marker = LOOKS[method]
        of_method = [row for row in rows if row["method"] == method]
        points = [(1 / (1 - r["sparsity"]), _compression(r["effective_sparsity"])) for r in of_method]
        axes.scatter(*zip(*points, strict=True), color=colour, marker=marker, s=14)
        targets = sorted({row["sparsity_target"] for row in of_method})
        groups = [[r for r in of_method if r["sparsity_target"] == target] for target in targets]
        axes.plot(
            [np.median([1 / (1 - row["sparsity"]) for row in group]) for group in groups],
            [
                _compression(float(np.median([r["effective_sparsity"] for r in group])))
                for group in groups
            ],
            color=colour,
            marker=marker,
            markersize=4,
            linewidth=1.2,
            label=method,
        )
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlabel("compression by the masks")
    axes.set_ylabel("compression by what is connected")
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)
    figure.suptitle(title)
    return figure


def _compression(sparsity: float) -> float:
    return 1 / (1 - sparsity) if sparsity < 1 else float("nan")


def _summary(config: EffectiveSparsity, rows: list[Row], title: str) -> str:
    lines = [
        f"# effective_sparsity: {title}",
        "",
        'Effective sparsity in percent, median (lowest to highest) over seeds. "cut": in every seed '
        "nothing connects the input with the output.",
        "",
        "| sparsity | " + " | ".join(config.methods) + " |",
        "|---" * (len(config.methods) + 1) + "|",
    ]
    for sparsity in config.sparsities:
        cells = []
        for method in config.methods:
            values = [
                row["effective_sparsity"]
                for row in rows
                if (row["method"], row["sparsity_target"]) == (method, sparsity)
            ]
            cells.append(_cell(np.array(values)))
        lines.append(f"| {sparsity:g} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def _cell(values: np.ndarray) -> str:
    if np.all(values == 1):
        return "cut"
    low, middle, high = 100 * np.array([values.min(), np.median(values), values.max()])
    return f"{middle:.2f} ({low:.2f} to {high:.2f})"


if __name__ == "__main__":
    main()
