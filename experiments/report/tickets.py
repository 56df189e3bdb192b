"""What ``experiments.ticket_search`` found: tickets by method and round, their cost, and who matches.

Everything is computed from the rows. The seed is the unit: accuracies are compared with the dense
network, and with IMP at the same sparsity, seed by seed.
"""

import math
from dataclasses import dataclass

import numpy as np

from experiments.methods.iterative import Ticketed
from experiments.methods.point import DENSE, Point, point_of
from experiments.methods.registry import find_method
from experiments.report.paired import Estimate, at_same_kept, estimate, finite_mean
from experiments.report.table import Results, as_rows, label

Row = dict
IMP, PARALLEL, SEQUENTIAL = "imp", "cs-parallel", "cs-sequential"


@dataclass(frozen=True, kw_only=True)
class Found:
    """One ticket of a method: what all seeds gave in one round from one start.

    Attributes:
        method: Who found it.
        round: In which round.
        setting: Where gates began, for Continuous Sparsification.
        sparsities: By seed.
        accuracies: Final test accuracies (fractions) by seed, trained by itself.
        epochs: Of the search until it was known; of all starts, for the parallel search.
        seconds: Likewise, epochs times their median length, mean over seeds; those of a chunk are shared
            out among its networks.
    """

    method: str
    round: int
    setting: float | None
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
        gates = "" if self.setting is None else f"start {self.setting:g}"
        return ", ".join(part for part in (label(self.method), gates, where) if part)


class Tickets:
    """The tickets of a run, sorted, and how they compare."""

    def __init__(self, results: Results) -> None:
        """Sorts the rows of a run."""
        self.results, self.study = results, results.study
        rows, epochs = as_rows(results.table), results.epochs
        self.final = [row for row in rows if row["epoch"] == epochs and not row["failed"]]
        self.diverged = [row for row in rows if row["epoch"] == epochs and row["failed"]]
        epochs_of: dict[Point, list[float]] = {}
        for row in rows:
            if row["epoch"] > 0:
                epochs_of.setdefault(point_of(row), []).append(row["seconds"])
        # A median epoch for each: the first one of a program is mostly its compilation.
        self._seconds = {point: len(s) * float(np.median(s)) for point, s in epochs_of.items()}
        self.dense = {row["seed"]: row["test_accuracy"] for row in self.final if row["method"] == DENSE}
        self._seeds: dict[str, set[int]] = {}
        for row in rows:
            self._seeds.setdefault(row["method"], set()).add(row["seed"])

    def seeds(self, method: str) -> int:
        """How many seeds a method was run with; runs that are merged may differ in theirs."""
        return len(self._seeds[method])

    def tickets(self, method: str) -> list[Found]:
        """A method's tickets, the densest first; some seeds may lack one."""
        places = sorted(
            {(row["round"], row["setting"]) for row in self.final if row["method"] == method},
            key=lambda place: (place[0], place[1] or 0.0),
        )
        tickets = (self._ticket(method, round, start) for round, start in places)
        return sorted(tickets, key=lambda ticket: ticket.sparsity)

    def against_dense(self, ticket: Found) -> Estimate:
        """A ticket's accuracy minus the dense network's, paired by seed."""
        return estimate(
            {
                (seed, 0.0): accuracy - self.dense[seed]
                for seed, accuracy in ticket.accuracies.items()
                if seed in self.dense
            }
        )

    def whole(self, method: str) -> list[Found]:
        """The tickets that every seed has with which the method was run, the densest first."""
        return [t for t in self.tickets(method) if len(t.accuracies) == self.seeds(method)]

    def of_some(self, method: str) -> list[Found]:
        """The tickets that some seed lacks with which the method was run, the densest first."""
        return [t for t in self.tickets(method) if len(t.accuracies) < self.seeds(method)]

    def matches(self, ticket: Found) -> bool:
        """Whether every seed has the ticket, as good as the dense network in the mean over seeds."""
        is_whole = len(ticket.accuracies) == self.seeds(ticket.method)
        return is_whole and self.against_dense(ticket).mean >= 0

    def is_below(self, ticket: Found) -> bool:
        """Whether a ticket is surely worse than the dense network."""
        return self.against_dense(ticket).sign < 0

    def sparsest_not_below(self, method: str) -> Found | None:
        """The sparsest ticket that every seed has and that is not surely worse than the dense network."""
        level = [ticket for ticket in self.whole(method) if not self.is_below(ticket)]
        return max(level, key=lambda ticket: ticket.sparsity, default=None)

    def below_from(self, method: str) -> Found | None:
        """The densest ticket from which on all are surely worse than the dense network.

        Tickets that some seed lacks are passed over.
        """
        turning = None
        for ticket in reversed(self.whole(method)):
            if not self.is_below(ticket):
                break
            turning = ticket
        return turning

    def sparsest_matching(self, method: str) -> Found | None:
        """A method's sparsest ticket that matches the dense network."""
        matching = [ticket for ticket in self.tickets(method) if self.matches(ticket)]
        return max(matching, key=lambda ticket: ticket.sparsity, default=None)

    def cheapest_matching(self, method: str) -> Found | None:
        """A method's first ticket, in epochs of search, that matches the dense network."""
        matching = [ticket for ticket in self.tickets(method) if self.matches(ticket)]
        return min(matching, key=lambda ticket: (ticket.epochs, -ticket.sparsity), default=None)

    def against_imp(self, ticket: Found) -> Estimate:
        """A ticket's accuracy minus that of IMP at the same sparsity, paired by seed.

        IMP's accuracy between two of its rounds is interpolated, linearly in the logarithm of what is
        kept; outside of its rounds there is no comparison.
        """
        gaps = {}
        for seed, accuracy in ticket.accuracies.items():
            imp = [(1 - row["sparsity"], row["test_accuracy"]) for row in self._imp(seed)]
            there = at_same_kept(imp, 1 - ticket.sparsities[seed])
            if there is not None:
                gaps[seed, 0.0] = accuracy - there
        return estimate(gaps)

    def imp_epochs_to(self, sparsity: float) -> float:
        """Epochs of search after which IMP has a ticket of a sparsity; NaN if it never has."""
        reached = [ticket.epochs for ticket in self.tickets(IMP) if ticket.sparsity >= sparsity]
        return min(reached, default=math.nan)

    def imp_within(self, epochs: float = math.inf, seconds: float = math.inf) -> Found | None:
        """The sparsest ticket that IMP has after a search of some length."""
        affordable = [t for t in self.tickets(IMP) if t.epochs <= epochs and t.seconds <= seconds]
        return max(affordable, key=lambda ticket: ticket.sparsity, default=None)

    def _imp(self, seed: int) -> list[Row]:
        dense = [row for row in self.final if (row["method"], row["seed"]) == (DENSE, seed)]
        return dense + [row for row in self.final if (row["method"], row["seed"]) == (IMP, seed)]

    def _ticket(self, method: str, round: int, setting: float | None) -> Found:
        rows = [
            row
            for row in self.final
            if (row["method"], row["round"], row["setting"]) == (method, round, setting)
        ]
        return Found(
            method=method,
            round=round,
            setting=setting,
            sparsities={row["seed"]: row["sparsity"] for row in rows},
            accuracies={row["seed"]: row["test_accuracy"] for row in rows},
            epochs=sum(map(self._epochs, self._searched(point_of(rows[0])))),
            seconds=float(np.mean([self._search_seconds(point_of(row)) for row in rows])),
        )

    def _searched(self, ticket: Point) -> list[Point]:
        method = find_method(ticket.method)
        return method.searched(ticket, self.study) if isinstance(method, Ticketed) else []

    def _search_seconds(self, ticket: Point) -> float:
        """What was trained before the ticket was known."""
        return sum(self._seconds.get(point, math.nan) for point in self._searched(ticket))

    def _epochs(self, point: Point) -> float:
        """The length of a network's training."""
        first = find_method(point.method).first_step(point, self.study)
        return self.study.epochs - first / self.study.steps_per_epoch
