"""Tickets of Continuous Sparsification: searched for with gates, then trained under plain masks.

The parallel search is one round for each start of the gates, side by side; the sequential one goes on
from round to round. Tickets are rewound to an early step of their own search (the authors' code divides
them by sigmoid(s0) besides); one that leaves nothing of a layer is not trained, and ends its chain.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pruning
from experiments.methods.gated import WithGates, check_soft_masks
from experiments.methods.iterative import Ticketed, why_useless
from experiments.methods.method import Given, Look, When
from experiments.methods.point import Need, Point, dense
from experiments.methods.study import Study
from experiments.options.training import TrainingOptions
from train.populations.population import MemberState

PyTree = Any
SEARCH = "cs-search"


@dataclass(frozen=True, kw_only=True)
class GateSearch(WithGates):
    """The networks with gates whose ends are tickets; nobody asks for them by themselves."""

    def points(self, study: Study, seed: int) -> Iterator[Point]:
        """None by itself."""
        yield from ()

    def needs(self, point: Point, study: Study) -> tuple[Need, ...]:
        """The round before."""
        return () if point.round == 1 else (before(point, study),)

    def why_useless(self, point: Point, given: Given) -> str | None:
        """Nothing is left to search in."""
        return None if point.round == 1 else why_useless(before(point, given.study), given)

    def start(self, point: Point, given: Given) -> MemberState | None:
        """A further round goes on from the weights, with the gates of the round before, pulled back."""
        if point.round == 1:
            return None
        last = given.state(before(point, given.study))
        gates = pruning.next_round(
            last.params.gates,
            given.study.knobs.gates.final_temperature,
            initial=point.setting or 0.0,
        )
        return given.begin(point, pruning.SoftMasked(last.params.params, gates), last.batch_stats)


@dataclass(frozen=True, kw_only=True)
class Parallel(Ticketed):
    """One round for each start of the gates."""

    def check(self, options: TrainingOptions) -> None:
        """Raises a ValueError if gates cannot be computed; warns of those that cannot open."""
        check_soft_masks(options, "--starts", options.knobs.gates.starts)

    def points(self, study: Study, seed: int) -> Iterator[Point]:
        """One a start."""
        for start in study.knobs.gates.starts:
            yield Point(self.name, setting=start, round=1, seed=seed)

    def mask_source(self, point: Point, study: Study) -> Need:
        """The end of its search."""
        return Need(search_of(point), study.last_step)

    def weight_source(self, point: Point, study: Study) -> Need:
        """The first round of its search; at step 0 its weights are the dense network's."""
        source = search_of(point)._replace(round=1) if study.rewind_step else dense(point)
        return Need(source, study.rewind_step)

    def searched(self, point: Point, study: Study) -> list[Point]:
        """Those of all starts, since which of them to choose is known after all."""
        search = search_of(point)
        return [search._replace(setting=start) for start in study.knobs.gates.starts]


@dataclass(frozen=True, kw_only=True)
class Sequential(Parallel):
    """Several rounds from one start."""

    def check(self, options: TrainingOptions) -> None:
        """Raises a ValueError if gates cannot be computed; warns of those that cannot open."""
        check_soft_masks(options, "--sequential-start", (options.knobs.rounds.sequential_start,))

    def points(self, study: Study, seed: int) -> Iterator[Point]:
        """One a round."""
        knobs = study.knobs.rounds
        for round in range(1, knobs.sequential_rounds + 1):
            yield Point(self.name, setting=knobs.sequential_start, round=round, seed=seed)

    def searched(self, point: Point, study: Study) -> list[Point]:
        """Those of its rounds so far."""
        return [search_of(point)._replace(round=r) for r in range(1, (point.round or 0) + 1)]


def search_of(ticket: Point) -> Point:
    """The network with gates whose end is a ticket."""
    return ticket._replace(method=SEARCH)


def before(search: Point, study: Study) -> Need:
    """The end of the round before, of a network with gates."""
    return Need(search._replace(round=(search.round or 0) - 1), study.last_step)


METHODS = (
    Parallel(
        name="cs-parallel",
        look=Look("CS, parallel", "#D55E00", "D"),
        when=When.AFTER,
        functions=("soft_masks", "ticket_masks"),
        source="Savarese et al. 2020 (arXiv 1912.04427)",
    ),
    Sequential(
        name="cs-sequential",
        look=Look("CS, sequential", "#CC79A7", "P"),
        when=When.AFTER,
        functions=("soft_masks", "ticket_masks", "next_round"),
        source="Savarese et al. 2020 (arXiv 1912.04427)",
    ),
)
