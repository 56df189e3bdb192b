"""Lottery tickets: Continuous Sparsification against iterative magnitude pruning, and what each costs.

    python -m experiments.ticket_search
    python -m experiments.ticket_search --dataset mnist --model lenet-300-100 --data-dir DIR --seeds 5

Expected: the first in about a minute on 2 CPU cores, digits with LeNet-300-100; the second and its
result: docs/results/ticket-search-mnist. Interrupted, the same command goes on after the last finished
round; finished, it prints the stored summary.

All networks of a seed share initial weights and data order. Networks with masks are members of one
compiled program, networks with gates of another: rounds, seeds and starts of the gates are data.

- imp: rounds of train, remove a fraction of what is left, rewind to an early step of the dense network.
  The ticket's accuracy is that of the next round's training.
- imp-continued: no rewinding between rounds; each round's ticket is rewound and trained by itself.
- learning-rate-rewinding: no rewinding at all, only the schedule begins anew.
- imp-reinit: imp's tickets with other initial weights, trained from step 0.
- cs-parallel: one round of Continuous Sparsification for each start of the gates, side by side.
- cs-sequential: several rounds from one start. CS tickets are rewound to an early step of their own
  search and trained by themselves, under plain masks (the authors' code divides them by sigmoid(s0)); a
  ticket that leaves nothing of a layer is not trained, and ends its chain.

Rewound networks begin with a new optimizer at their place in the schedule, so that a ticket's file (its
masks, where its weights are, its settings) is all that experiments.train_ticket needs.

Source: Savarese et al. 2020 (arXiv 1912.04427); Frankle and Carbin 2019 (arXiv 1803.03635); Renda et
al. 2020 (arXiv 2003.02389).
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from experiments.engine.experiment import Experiment, main, training
from experiments.methods.registry import check_methods, in_rounds
from experiments.options.knobs import Knobs, TicketKnobs
from experiments.options.options import own_first
from experiments.options.training import TrainingOptions

if TYPE_CHECKING:
    from experiments.report.table import Results


@own_first
@dataclass(frozen=True, kw_only=True)
class TicketSearch(TrainingOptions):
    """Search for lottery tickets by Continuous Sparsification and by iterative magnitude pruning."""

    experiment = "ticket_search"

    methods: Annotated[
        tuple[str, ...], tyro.conf.arg(help=f"who searches, of {', '.join(in_rounds())}")
    ] = in_rounds()
    knobs: tyro.conf.OmitArgPrefixes[Knobs] = field(default_factory=TicketKnobs)

    def __post_init__(self) -> None:
        """Raises a ValueError that names the option that is wrong; warns of gates that cannot open."""
        super().__post_init__()
        check_methods(self, self.methods, in_rounds(), "does not search in rounds")


def figures(results: "Results") -> dict[str, Any]:
    """Accuracies of tickets, and what it took to find them."""
    from experiments.report.ticket_figures import cost_figure, tickets_figure
    from experiments.report.tickets import Tickets

    found = Tickets(results)
    return {"tickets": tickets_figure(found), "cost": cost_figure(found)}


def summary(results: "Results", reference: Path | None) -> list[str]:
    """Tickets by round, beside IMP at their sparsity, and as good as the dense network."""
    from experiments.report import ticket_tables
    from experiments.report.paired import percent_cell
    from experiments.report.tickets import Tickets

    found = Tickets(results)
    starts, study = len(found.study.knobs.gates.starts), found.study
    return [
        f"# ticket_search: {results.title}",
        "",
        "Final test accuracy in percent, mean ± standard deviation over seeds; dense: "
        f"{percent_cell(found.dense.values())}. An epoch is {study.steps_per_epoch} steps. Tickets of "
        f"IMP, IMP-Continued and Continuous Sparsification are rewound to step {study.rewind_step}. "
        "Search epochs and seconds are those trained before a ticket is known, its own training not "
        f"counted; for the parallel search those of all its {starts} starts, since which of them to "
        "choose is known after all. Seconds are epochs times their median length, shared out among the "
        "networks that train together.",
        *ticket_tables.rounds_table(found),
        *ticket_tables.continuous_table(found),
        *ticket_tables.matching_table(found),
        *ticket_tables.turning_points(found),
        *ticket_tables.failures(found),
    ]


EXPERIMENT = Experiment(
    options=TicketSearch,
    help=__doc__,
    prepare=training(),
    figures=figures,
    summary=summary,
)

if __name__ == "__main__":
    main(EXPERIMENT)
