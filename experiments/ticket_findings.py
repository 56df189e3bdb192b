"""What ``experiments.ticket_search`` found: tickets by method and round, their cost, and who matches.

Everything is computed from the rows. The seed is the unit: accuracies are compared with the dense
network, and with IMP at the same sparsity, seed by seed.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from experiments.paired import Estimate, estimate, finite_mean
from experiments.run_folder import Row
from experiments.ticket_plan import (
    CHAIN_OF,
    DENSE,
    IMP,
    PARALLEL,
    SEARCH,
    SEQUENTIAL,
    TicketPlan,
)


@dataclass(frozen=True, kw_only=True)
class Found:
    """One ticket of a method: what all seeds gave in one round from one start.

    Attributes:
        method: Who found it.
        round: In which round.
        start: Of the gates, for Continuous Sparsification.
        sparsities: By seed.
        accuracies: Final test accuracies (fractions) by seed, trained by itself.
        epochs: Of the search until it was known.
        seconds: Of the search, mean over seeds; NaN where a row is missing.
    """

    method: str
    round: int
    start: float | None
    sparsities: dict[int, float]
    accuracies: dict[int, float]
    epochs: float
    seconds: float

    @property
    def sparsity(self) -> float:
        """The mean over seeds."""
        return finite_mean(np.array(list(self.sparsities.values())))

    @property
    def accuracy(self) -> float:
        """The mean over seeds."""
        return finite_mean(np.array(list(self.accuracies.values())))

    @property
    def label(self) -> str:
        """Its name in tables."""
        where = f"round {self.round}" if self.method != PARALLEL else ""
        gates = "" if self.start is None else f"start {self.start:g}"
        return ", ".join(part for part in (self.method, gates, where) if part)


class TicketFindings:
    """The final accuracies of a run, sorted."""

    def __init__(self, rows: Sequence[Row], plan: TicketPlan) -> None:
        """Sorts the rows.

        Args:
            rows: All rows of the run.
            plan: What was searched.
        """
        self.plan = plan
        epochs = plan.recipe.epochs
        self.final = [row for row in rows if row["epoch"] == epochs and not row["failed"]]
        self.untrained = [row for row in rows if row.get("untrained_because")]
        self.diverged = [row for row in rows if row["epoch"] == epochs and row["failed"]]
        self._seconds: dict[tuple, float] = {}
        for row in rows:
            key = (row["method"], row["round"], row["start"], row["seed"])
            self._seconds[key] = self._seconds.get(key, 0.0) + row["seconds"]
        self.dense = {row["seed"]: row["test_accuracy"] for row in self.final if row["method"] == DENSE}

    def tickets(self, method: str) -> list[Found]:
        """A method's tickets that were trained for every seed, the densest first.

        Args:
            method: Its name.
        """
        places = sorted(
            {(row["round"], row["start"]) for row in self.final if row["method"] == method},
            key=lambda place: (place[0], place[1] or 0.0),
        )
        tickets = (self._ticket(method, round, start) for round, start in places)
        whole = (ticket for ticket in tickets if len(ticket.accuracies) == self.plan.seeds)
        return sorted(whole, key=lambda ticket: ticket.sparsity)

    def against_dense(self, ticket: Found) -> Estimate:
        """A ticket's accuracy minus the dense network's, paired by seed.

        Args:
            ticket: Any.
        """
        return estimate(
            {(seed, 0.0): value - self.dense[seed] for seed, value in ticket.accuracies.items()}
        )

    def matches(self, ticket: Found) -> bool:
        """Whether a ticket is at least as good as the dense network, in the mean over seeds."""
        return self.against_dense(ticket).mean >= 0

    def sparsest_matching(self, method: str) -> Found | None:
        """A method's sparsest ticket that matches the dense network.

        Args:
            method: Its name.
        """
        matching = [ticket for ticket in self.tickets(method) if self.matches(ticket)]
        return max(matching, key=lambda ticket: ticket.sparsity, default=None)

    def cheapest_matching(self, method: str) -> Found | None:
        """A method's first ticket, in epochs of search, that matches the dense network.

        Args:
            method: Its name.
        """
        matching = [ticket for ticket in self.tickets(method) if self.matches(ticket)]
        return min(matching, key=lambda ticket: (ticket.epochs, -ticket.sparsity), default=None)

    def against_imp(self, ticket: Found) -> Estimate:
        """A ticket's accuracy minus that of IMP at the same sparsity, paired by seed.

        IMP's accuracy between two of its rounds is interpolated, linearly in the logarithm of what is
        kept; outside of its rounds there is no comparison.

        Args:
            ticket: Any.
        """
        gaps = {}
        for seed, accuracy in ticket.accuracies.items():
            imp = [(1 - row["sparsity"], row["test_accuracy"]) for row in self._imp(seed)]
            kept = 1 - ticket.sparsities[seed]
            if imp and min(imp)[0] <= kept <= max(imp)[0]:
                known = sorted(imp)
                logs = [math.log(k) for k, _ in known]
                gaps[seed, 0.0] = accuracy - np.interp(math.log(kept), logs, [a for _, a in known])
        return estimate(gaps)

    def imp_epochs_to(self, sparsity: float) -> float:
        """Epochs of search after which IMP has a ticket of a sparsity; NaN if it never has.

        Args:
            sparsity: Fraction removed.
        """
        reached = [ticket.epochs for ticket in self.tickets(IMP) if ticket.sparsity >= sparsity]
        return min(reached, default=math.nan)

    def imp_within(self, epochs: float) -> Found | None:
        """The sparsest ticket that IMP has after some epochs of search.

        Args:
            epochs: The budget.
        """
        affordable = [ticket for ticket in self.tickets(IMP) if ticket.epochs <= epochs]
        return max(affordable, key=lambda ticket: ticket.sparsity, default=None)

    def _imp(self, seed: int) -> list[Row]:
        dense = [row for row in self.final if (row["method"], row["seed"]) == (DENSE, seed)]
        return dense + [row for row in self.final if (row["method"], row["seed"]) == (IMP, seed)]

    def _ticket(self, method: str, round: int, start: float | None) -> Found:
        place = (method, round, start)
        rows = [row for row in self.final if (row["method"], row["round"], row["start"]) == place]
        seconds = [self._search_seconds(method, round, start, row["seed"]) for row in rows]
        return Found(
            method=method,
            round=round,
            start=start,
            sparsities={row["seed"]: row["sparsity"] for row in rows},
            accuracies={row["seed"]: row["test_accuracy"] for row in rows},
            epochs=self.plan.search_epochs(method, round),
            seconds=float(np.mean(seconds)),
        )

    def _search_seconds(self, method: str, round: int, start: float | None, seed: int) -> float:
        """What was trained before the ticket was known."""
        if method in (PARALLEL, SEQUENTIAL):
            before = [(SEARCH, r, start, seed) for r in range(1, round + 1)]
        else:
            chain = CHAIN_OF[method]
            before = [(DENSE, 0, None, seed), *((chain, r, None, seed) for r in range(1, round))]
        return sum(self._seconds.get(key, math.nan) for key in before)
