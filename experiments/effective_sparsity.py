"""Effective sparsity: what of a mask does anything, per method.

    python -m experiments.effective_sparsity
    python -m experiments.effective_sparsity --dataset cifar10 --model resnet-20 --data-dir DIR

Expected: the first in about a minute on 2 CPU cores, digits with LeNet-300-100. Nothing is trained.
Interrupted, the same command goes on.

A kept weight that is cut off from the input or the output counts as removed. Compression is N / kept:
direct with the masks as they are, effective with what is connected; a network cut in two has none.

Source: Vysogorets and Kempe 2021 (arXiv 2107.02306).
"""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import jax
import jax.numpy as jnp
import tyro

import pruning
from experiments.engine.experiment import Experiment, main
from experiments.engine.untrained import Look, Network, looking
from experiments.methods.registry import check_for, scored
from experiments.options.checks import check_sparsities
from experiments.options.options import own_first
from experiments.options.untrained import UntrainedOptions

if TYPE_CHECKING:
    from experiments.report.table import Results

PyTree = Any


@own_first
@dataclass(frozen=True, kw_only=True)
class EffectiveSparsity(UntrainedOptions):
    """Compare the sparsity of masks with that of what is connected."""

    experiment = "effective_sparsity"

    methods: Annotated[tuple[str, ...], tyro.conf.arg(help=f"who prunes, of {', '.join(scored())}")] = (
        "random",
        "random-uniform",
        "random-erk",
        "random-igq",
        "magnitude",
        "snip",
        "grasp",
        "synflow",
    )
    sparsities: tuple[float, ...] = (0.5, 0.8, 0.9, 0.95, 0.98, 0.99, 0.995, 0.998, 0.999)
    """fractions of the prunable weights to remove"""

    def __post_init__(self) -> None:
        """Raises a ValueError that names the option that is wrong."""
        super().__post_init__()
        check_for(self.methods, scored(), "has no final mask before training")
        check_sparsities(self, "sparsities")


def look(network: Network) -> Look:
    """The weights that are connected, the units that are not, and layers without any connection."""
    # Statistics as they are initially: they neither start a signal nor block one.
    _, batch_stats = network.initial(0)
    find = jax.jit(
        lambda params, masks: pruning.effective_masks(
            lambda p: network.output(p, batch_stats), params, masks
        )
    )

    def columns(params: PyTree, masks: PyTree) -> dict[str, Any]:
        effective = find(params, masks)
        dead = jax.tree.leaves(pruning.dead_units(effective))
        return {
            "effective_sparsity": pruning.sparsity(effective),
            "dead_units": int(sum(jnp.sum(units) for units in dead)),
            "units": sum(units.size for units in dead),
            "cut_off_layers": len(pruning.collapsed_layers(effective)),
        }

    return columns


def figures(results: "Results") -> dict[str, Any]:
    """Effective against direct compression."""
    from experiments.report.effective import compression_figure

    return {"compression": compression_figure(results)}


def summary(results: "Results", reference: Path | None) -> list[str]:
    """Effective sparsities, median and range over seeds."""
    from experiments.report.effective import effective_table

    return [
        f"# effective_sparsity: {results.title}",
        "",
        'Effective sparsity in percent, median (lowest to highest) over seeds. "cut": in every seed '
        "nothing connects the input with the output.",
        "",
        *effective_table(results),
    ]


EXPERIMENT = Experiment(
    options=EffectiveSparsity,
    help=__doc__,
    prepare=looking(lambda options, network: options.sparsities, look),
    figures=figures,
    summary=summary,
)

if __name__ == "__main__":
    main(EXPERIMENT)
