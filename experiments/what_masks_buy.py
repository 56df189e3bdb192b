"""What the masks of untrained networks buy on dense hardware: size on disk and measured speed.

    python -m experiments.what_masks_buy
    python -m experiments.what_masks_buy --dataset cifar10 --model vgg-16 --data-dir DIR

Expected: masks of single weights are no faster until whole channels are empty, which in a convolutional
network happens late; masks of channels are faster from the first on. About two minutes on 2 CPU cores
for the first command, digits with LeNet-300-100; other work on the machine disturbs the times. Nothing is
trained. Interrupted, the same command goes on.

What is measured is what `experiments.what_sparsity_buys` measures of trained networks, and for time the
masks suffice: weights do not change it.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import jax
import tyro

from experiments.engine.bought import bought
from experiments.engine.experiment import Experiment, main
from experiments.engine.untrained import Look, Network, looking
from experiments.methods.registry import check_for, scored
from experiments.options.checks import check_sparsities
from experiments.options.options import own_first
from experiments.options.untrained import UntrainedOptions

if TYPE_CHECKING:
    from experiments.report.table import Results


@own_first
@dataclass(frozen=True, kw_only=True)
class WhatMasksBuy(UntrainedOptions):
    """Measure what the masks of untrained networks save: bytes, operations, and time."""

    experiment = "what_masks_buy"

    methods: Annotated[tuple[str, ...], tyro.conf.arg(help=f"who prunes, of {', '.join(scored())}")] = (
        "random",
        "snip",
        "synflow",
        "snip-channels",
    )
    sparsities: tuple[float, ...] = (0.5, 0.8, 0.9, 0.95, 0.98, 0.99, 0.995)
    """fractions of the prunable weights to remove"""

    def __post_init__(self) -> None:
        """Raises a ValueError that names the option that is wrong."""
        super().__post_init__()
        check_for(self.methods, scored(), "has no final mask before training")
        check_sparsities(self, "sparsities")


def look(network: Network) -> Look:
    """Sizes, operations and times."""
    _, batch_stats = network.initial(0)
    statistics = {"batch_stats": batch_stats} if jax.tree.leaves(batch_stats) else {}

    def columns(params: Any, masks: Any) -> dict[str, Any]:
        variables = {"params": params, **statistics}
        return bought(network.model.apply, variables, masks, network.ones.shape[1:])

    return columns


def figures(results: "Results") -> dict[str, Any]:
    """Size and speed against what is kept."""
    from experiments.report.bought import bought_figure

    return {"bought": bought_figure(results)}


def summary(results: "Results", reference: Path | None) -> list[str]:
    """What every method's masks save, and from where on they are faster."""
    from experiments.report import bought

    return [f"# what_masks_buy: {results.title}", "", *bought.bought_lines(results)]


EXPERIMENT = Experiment(
    options=WhatMasksBuy,
    help=__doc__,
    prepare=looking(lambda options, network: options.sparsities, look),
    figures=figures,
    summary=summary,
)

if __name__ == "__main__":
    main(EXPERIMENT)
