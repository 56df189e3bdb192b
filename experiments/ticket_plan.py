"""Who is trained in ``experiments.ticket_search``, where each begins, and what its mask comes from.

Iterative pruning is a chain of networks a seed: round r is trained under the mask that the end of round
r - 1 gives (round 0 is the dense network). Two chains are enough: in one, weights are rewound between
rounds (imp), in the other they go on (learning-rate rewinding); IMP-Continued takes its masks from the
second. Continuous Sparsification has a chain for each start of its gates; the parallel search is their
first rounds.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

import pruning
from experiments.run_folder import Row
from experiments.soft_programs import Gated
from experiments.stages import NamedMember
from train.populations.population import Member
from train.recipes import Recipe

PyTree = Any

IMP, LRR, IMP_CONTINUED, REINIT = "imp", "learning-rate-rewinding", "imp-continued", "imp-reinit"
PARALLEL, SEQUENTIAL = "cs-parallel", "cs-sequential"
METHODS = (IMP, IMP_CONTINUED, LRR, REINIT, PARALLEL, SEQUENTIAL)
ITERATIVE = (IMP, IMP_CONTINUED, LRR, REINIT)
DENSE, SEARCH = "dense", "cs-search"
# Whose rounds a method's masks come from.
CHAIN_OF = {IMP: IMP, REINIT: IMP, LRR: LRR, IMP_CONTINUED: LRR}

# criterion(key, trained params, initial params) -> scores
CRITERIA: dict[str, Callable[[jax.Array, PyTree, PyTree], PyTree]] = {
    "magnitude": lambda key, params, initial: pruning.magnitude_scores(params),
    "magnitude-increase": lambda key, params, initial: pruning.magnitude_increase_scores(params, initial),
    "movement": lambda key, params, initial: pruning.movement_scores(params, initial),
    "random": lambda key, params, initial: pruning.random_scores(key, params),
}


class TicketKeys(NamedTuple):
    """The keys of one seed; whatever is compared in pairs shares init and order."""

    init: jax.Array
    order: jax.Array
    other_init: jax.Array
    scores: jax.Array


class Place(NamedTuple):
    """What tells networks apart.

    Attributes:
        method: Its method; round 0 of a chain is the dense network.
        round: Its round.
        start: Of the gates, if there are any.
        seed: Its seed.
    """

    method: str
    round: int
    start: float | None
    seed: int

    @property
    def name(self) -> str:
        """What its snapshots and its ticket are called."""
        gates = "" if self.start is None else f"-start-{self.start + 0.0}"
        return f"{self.method}{gates}-round-{self.round}-seed-{self.seed}"


class Start(NamedTuple):
    """Where a network begins: the weights of a snapshot, and a place in the schedule.

    Attributes:
        snapshot: Its name.
        snapshot_step: And its step.
        step: The step of the training at which they begin.
    """

    snapshot: str
    snapshot_step: int
    step: int


def ticket_keys(seed: int) -> TicketKeys:
    """The keys of one seed.

    Args:
        seed: Counting from 0.

    Returns:
        Typed keys.
    """
    return TicketKeys(*jax.random.split(jax.random.key(seed), len(TicketKeys._fields)))


@dataclass(frozen=True, kw_only=True)
class TicketPlan:
    """The settings of a search that decide its members.

    Attributes:
        methods: Names in ``METHODS``.
        seeds: How many.
        rounds: Of iterative pruning.
        fraction: Of what is left, removed in a round.
        by_layer: Whether layers are ranked by themselves.
        output_fraction: With ``by_layer``, of the output layer.
        criterion: A name in ``CRITERIA``.
        starts: Of the gates in the parallel search.
        sequential_start: Of the gates in the sequential search.
        sequential_rounds: Of the sequential search.
        penalty: Weight of the soft masks' sum.
        final_temperature: Of the soft masks.
        gate_learning_rate: Of the gates.
        rewind_step: Whose weights tickets begin with.
        steps_per_epoch: Of the recipe on the data set.
        recipe: How every network is trained.
    """

    methods: tuple[str, ...]
    seeds: int
    rounds: int
    fraction: float
    by_layer: bool
    output_fraction: float
    criterion: str
    starts: tuple[float, ...]
    sequential_start: float
    sequential_rounds: int
    penalty: float
    final_temperature: float
    gate_learning_rate: float
    rewind_step: int
    steps_per_epoch: int
    recipe: Recipe

    @property
    def last_step(self) -> int:
        """The end of a training."""
        return self.recipe.epochs * self.steps_per_epoch

    @property
    def chains(self) -> tuple[str, ...]:
        """The chains of iterative pruning that the methods need."""
        return tuple(dict.fromkeys(CHAIN_OF[method] for method in self.methods if method in CHAIN_OF))

    @property
    def member_epochs(self) -> int:
        """Epochs of all networks together."""
        networks = len(self.dense()) + len(self.tickets()) + self.rounds * len(self.iterative(1))
        networks += sum(len(self.searches(round)) for round in range(1, self.soft_rounds + 1))
        return networks * self.recipe.epochs

    @property
    def soft_rounds(self) -> int:
        """How many rounds of training with gates there are."""
        return self.sequential_rounds if SEQUENTIAL in self.methods else int(PARALLEL in self.methods)

    def dense(self) -> list[NamedMember]:
        """The dense networks, one a seed."""
        return [self._static(DENSE, 0, None, seed) for seed in range(self.seeds)]

    def iterative(self, round: int) -> list[NamedMember]:
        """The networks of one round of iterative pruning, of all methods and of the chains they need.

        Args:
            round: From 1.
        """
        needed = dict.fromkeys((*self.chains, *(m for m in self.methods if m in ITERATIVE)))
        return [
            self._static(method, round, None, seed) for method in needed for seed in range(self.seeds)
        ]

    def searches(self, round: int) -> list[NamedMember]:
        """The networks with gates of one round of Continuous Sparsification.

        Args:
            round: From 1.
        """
        starts = self.starts if PARALLEL in self.methods and round == 1 else ()
        if SEQUENTIAL in self.methods:
            starts = tuple(dict.fromkeys((*starts, self.sequential_start)))
        return [self.gated(round, start, seed) for start in starts for seed in range(self.seeds)]

    def tickets(self) -> list[NamedMember]:
        """The tickets of Continuous Sparsification, to be trained by themselves."""
        places = [(PARALLEL, 1, start) for start in self.starts if PARALLEL in self.methods]
        if SEQUENTIAL in self.methods:
            rounds = range(1, self.sequential_rounds + 1)
            places += [(SEQUENTIAL, round, self.sequential_start) for round in rounds]
        return [self._static(*place, seed) for place in places for seed in range(self.seeds)]

    def start_of(self, named: NamedMember) -> Start:
        """Where a network with masks begins.

        Args:
            named: Which.
        """
        place = place_of(named.columns)
        if place.method == REINIT:
            return Start(Place(REINIT, 0, None, place.seed).name, 0, 0)
        if place.method == LRR:
            return Start(mask_source(place).name, self.last_step, 0)
        gated = place.method in (PARALLEL, SEQUENTIAL) and self.rewind_step > 0
        # At step 0 the search's weights are the dense network's.
        source = Place(SEARCH, 1, place.start, place.seed) if gated else Place(DENSE, 0, None, place.seed)
        return Start(source.name, self.rewind_step, self.rewind_step)

    def is_needed(self, place: Place, step: int) -> bool:
        """Whether other networks begin with the state of this one.

        Args:
            place: Which.
            step: Training steps taken.
        """
        is_source = place.method in (DENSE, SEARCH, *self.chains)
        return is_source and step in (self.rewind_step, self.last_step)

    def search_epochs(self, method: str, round: int) -> float:
        """Epochs that were trained until a ticket was known, its own training not counted.

        Args:
            method: Who searched; the parallel search's are those of all its starts, since which of them
                to choose is known after all.
            round: In which round it was found.
        """
        epochs = self.recipe.epochs
        if method in (IMP, REINIT):
            return epochs + (round - 1) * (epochs - self.rewind_step / self.steps_per_epoch)
        return float(epochs * (len(self.starts) if method == PARALLEL else round))

    def gated(self, round: int, start: float, seed: int) -> NamedMember:
        """A network with gates.

        Args:
            round: From 1.
            start: Of its gates.
            seed: Its seed.
        """
        named = self._static(SEARCH, round, start, seed)
        gated = Gated(
            initial=jnp.float32(start),
            penalty=jnp.float32(self.penalty),
            learning_rate=jnp.float32(self.gate_learning_rate),
            weights_learn=jnp.float32(1),
        )
        return NamedMember(columns=named.columns, member=named.member._replace(method=gated))

    def _static(self, method: str, round: int, start: float | None, seed: int) -> NamedMember:
        keys, recipe = ticket_keys(seed), self.recipe
        rate, decay = jnp.float32(recipe.learning_rate), jnp.float32(recipe.weight_decay)
        member = Member(keys.init, keys.order, rate, decay, ())
        return NamedMember(columns=_columns(method, round, start, seed), member=member)


def place_of(columns: Row) -> Place:
    """Which network a row, or a named member's columns, are of."""
    return Place(columns["method"], columns["round"], columns["start"], columns["seed"])


def mask_source(place: Place) -> Place:
    """The network whose end gives this one its mask, or its gates.

    Args:
        place: A network with masks, or with gates beyond the first round.
    """
    if place.method in CHAIN_OF:
        before = place.round - 1
        return Place(CHAIN_OF[place.method] if before else DENSE, before, None, place.seed)
    return Place(SEARCH, place.round - int(place.method == SEARCH), place.start, place.seed)


def _columns(method: str, round: int, start: float | None, seed: int) -> dict[str, Any]:
    return {"method": method, "variant": "none", "round": round, "start": start, "seed": seed}
