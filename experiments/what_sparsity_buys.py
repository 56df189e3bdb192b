"""What sparsity buys on dense hardware: accuracy, size on disk and measured speed, per method.

    python -m experiments.what_sparsity_buys
    python -m experiments.what_sparsity_buys --dataset cifar10 --model conv-2 --data-dir DIR

Expected: files shrink with every weight, time only where whole units are gone. A few minutes on 2 CPU
cores for the first command, digits with LeNet-300-100; other work on the machine disturbs the times.
Interrupted, the same command goes on.

Every trained network is compacted (`pruning.compact`): units that its masks leave unused are cut out of
the arrays, and the outputs stay. Both forms are timed in turn, with 1 and with 128 images; single
examples also through the dense layers alone by compressed rows. Networks that train something beside
their weights (gates, hidden dense weights) are not measured.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jax
import numpy as np

from experiments.engine.bought import bought
from experiments.engine.experiment import Experiment, main, training
from experiments.engine.networks import Networks
from experiments.methods.asked import Methods, MethodsOptions
from experiments.methods.programs import Observe, Program
from experiments.options.options import own_first
from train.populations.population import MemberState
from train.populations.reparametrization import DIRECT

if TYPE_CHECKING:
    from experiments.report.table import Results


@own_first
@dataclass(frozen=True, kw_only=True)
class WhatSparsityBuys(MethodsOptions):
    """Measure what masks save: bytes, operations, and time."""

    experiment = "what_sparsity_buys"

    methods: Methods = (
        "snip",
        "synflow",
        "dissipating-gradients",
        "lottery-ticket-rewinding",
        "snip-channels",
    )
    sparsities: tuple[float, ...] = (0.5, 0.8, 0.9, 0.95, 0.98, 0.99, 0.995)
    """fractions of the prunable weights to remove"""


def watch(networks: Networks, program: Program) -> Observe:
    """Measures every finished network of a program, one after the other."""
    population, model = networks.population(program), networks.maker.model
    shape = networks.maker.dataset.train.images.shape[1:]

    def observe(states: MemberState) -> dict[str, Any]:
        if program.reparametrization(networks.study) is not DIRECT:
            return {}
        masks, states = jax.device_get((jax.vmap(population.masks)(states), states))
        rows: list[dict[str, Any]] = []
        for index in range(len(states.step)):
            params, stats, own = (
                jax.tree.map(lambda leaf, i=index: leaf[i], tree)
                for tree in (states.params, states.batch_stats, masks)
            )
            if rows and _is_alike(states.params, index):
                rows.append(rows[-1])  # What fills a chunk up is measured once.
                continue
            variables = {"params": params} | ({"batch_stats": stats} if jax.tree.leaves(stats) else {})
            rows.append(bought(model.apply, variables, own, shape))
        names = dict.fromkeys(name for row in rows for name in row)
        return {name: np.array([row.get(name, np.nan) for row in rows]) for name in names}

    return observe


def _is_alike(params: Any, index: int) -> bool:
    return all(np.array_equal(leaf[index], leaf[index - 1]) for leaf in jax.tree.leaves(params))


def figures(results: "Results") -> dict[str, Any]:
    """Accuracy, size and speed against what is kept."""
    from experiments.report.bought import bought_figure, measured

    return {"bought": bought_figure(results)} if measured(results) else {}


def summary(results: "Results", reference: Path | None) -> list[str]:
    """What every method's networks save, and from where on they are faster."""
    from experiments.report import bought, markdown
    from experiments.report.paired import percent_cell

    return [
        f"# what_sparsity_buys: {results.title}",
        "",
        f"Dense test accuracy in percent: {percent_cell(results.dense())}.",
        "",
        *bought.bought_lines(results),
        *markdown.diverged(results),
    ]


EXPERIMENT = Experiment(
    options=WhatSparsityBuys,
    help=__doc__,
    prepare=training(watch=watch),
    figures=figures,
    summary=summary,
)

if __name__ == "__main__":
    main(EXPERIMENT)
