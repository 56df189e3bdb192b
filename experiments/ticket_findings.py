"""What ``experiments.ticket_search`` found: tickets by method and round, their cost, and who matches.

Everything is computed from the rows. The seed is the unit: accuracies are compared with the dense
network, and with IMP at the same sparsity, seed by seed.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from experiments.engine.run_folder import Row
from experiments.report.paired import Estimate, at_same_kept, estimate, finite_mean
from experiments.ticket_plan import (
    CHAIN_OF,
    DENSE,
    IMP,
    PARALLEL,
    SEARCH,
    SEQUENTIAL,
    Place,
    TicketPlan,
    place_of,
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
        epochs: Of the search until it was known; of all starts, for the parallel search.
        seconds: Likewise, epochs times their median length, mean over seeds; those of a chunk are shared
            out among its networks.
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
        epochs_of: dict[Place, list[float]] = {}
        for row in rows:
            if row["epoch"] > 0:
                epochs_of.setdefault(place_of(row), []).append(row["seconds"])
        # A median epoch for each: the first one of a program is mostly its compilation.
        self._seconds = {place: len(s) * float(np.median(s)) for place, s in epochs_of.items()}
        self.dense = {row["seed"]: row["test_accuracy"] for row in self.final if row["method"] == DENSE}

    def tickets(self, method: str) -> list[Found]:
        """A method's tickets, the densest first; some seeds may lack one.

        Args:
            method: Its name.
        """
        places = sorted(
            {(row["round"], row["start"]) for row in self.final if row["method"] == method},
            key=lambda place: (place[0], place[1] or 0.0),
        )
        tickets = (self._ticket(method, round, start) for round, start in places)
        return sorted(tickets, key=lambda ticket: ticket.sparsity)

    def against_dense(self, ticket: Found) -> Estimate:
        """A ticket's accuracy minus the dense network's, paired by seed.

        Args:
            ticket: Any.
        """
        return estimate(
            {
                (seed, 0.0): accuracy - self.dense[seed]
                for seed, accuracy in ticket.accuracies.items()
                if seed in self.dense
            }
        )

    def matches(self, ticket: Found) -> bool:
        """Whether every seed has the ticket, as good as the dense network in the mean over seeds."""
        return len(ticket.accuracies) == self.plan.seeds and self.against_dense(ticket).mean >= 0

    def is_below(self, ticket: Found) -> bool:
        """Whether a ticket is surely worse than the dense network, or some seed has none."""
        return len(ticket.accuracies) < self.plan.seeds or self.against_dense(ticket).sign < 0

    def sparsest_not_below(self, method: str) -> Found | None:
        """A method's sparsest ticket that is not surely worse than the dense network.

        Args:
            method: Its name.
        """
        level = [ticket for ticket in self.tickets(method) if not self.is_below(ticket)]
        return max(level, key=lambda ticket: ticket.sparsity, default=None)

    def below_from(self, method: str) -> Found | None:
        """The densest ticket from which on all of a method's are surely worse than the dense network.

        Args:
            method: Its name.
        """
        turning = None
        for ticket in reversed(self.tickets(method)):
            if not self.is_below(ticket):
                break
            turning = ticket
        return turning

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
            there = at_same_kept(imp, 1 - ticket.sparsities[seed])
            if there is not None:
                gaps[seed, 0.0] = accuracy - there
        return estimate(gaps)

    def imp_epochs_to(self, sparsity: float) -> float:
        """Epochs of search after which IMP has a ticket of a sparsity; NaN if it never has.

        Args:
            sparsity: Fraction removed.
        """
        reached = [ticket.epochs for ticket in self.tickets(IMP) if ticket.sparsity >= sparsity]
        return min(reached, default=math.nan)

    def imp_within(self, epochs: float = math.inf, seconds: float = math.inf) -> Found | None:
        """The sparsest ticket that IMP has after a search of some length.

        Args:
            epochs: The budget in epochs.
            seconds: The budget in seconds.
        """
        affordable = [t for t in self.tickets(IMP) if t.epochs <= epochs and t.seconds <= seconds]
        return max(affordable, key=lambda ticket: ticket.sparsity, default=None)

    def _imp(self, seed: int) -> list[Row]:
        dense = [row for row in self.final if (row["method"], row["seed"]) == (DENSE, seed)]
        return dense + [row for row in self.final if (row["method"], row["seed"]) == (IMP, seed)]

    def _ticket(self, method: str, round: int, start: float | None) -> Found:
        rows = [row for row in self.final if place_of(row)[:3] == (method, round, start)]
        seconds = [self._search_seconds(place_of(row)) for row in rows]
        return Found(
            method=method,
            round=round,
            start=start,
            sparsities={row["seed"]: row["sparsity"] for row in rows},
            accuracies={row["seed"]: row["test_accuracy"] for row in rows},
            epochs=self.plan.search_epochs(method, round),
            seconds=float(np.mean(seconds)),
        )

    def _search_seconds(self, ticket: Place) -> float:
        """What was trained before the ticket was known."""
        method, round, start, seed = ticket
        if method == PARALLEL:
            before = [Place(SEARCH, 1, other, seed) for other in self.plan.starts]
        elif method == SEQUENTIAL:
            before = [Place(SEARCH, r, start, seed) for r in range(1, round + 1)]
        else:
            before = [Place(DENSE, 0, None, seed)]
            before += [Place(CHAIN_OF[method], r, None, seed) for r in range(1, round)]
        return sum(self._seconds.get(place, math.nan) for place in before)
