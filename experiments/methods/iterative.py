"""Lottery tickets found in rounds of training: iterative magnitude pruning and its variants.

Round r is trained under the mask that the end of round r - 1 gives; round 0 is the dense network. Two
chains are enough: in one, weights are rewound between rounds (imp), in the other they go on
(learning-rate rewinding). IMP-Continued takes its masks from the second. Rewound networks begin with a
new optimizer at their place in the schedule, so that a ticket's file is all that
``experiments.train_ticket`` needs.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import pruning
from experiments.methods.method import Given, Look, Method, When
from experiments.methods.point import Need, Point, dense
from experiments.methods.seeds import seed_keys
from experiments.methods.study import Study
from experiments.options.training import TrainingOptions
from train.lookup import lookup
from train.populations.population import MemberState

PyTree = Any
OTHER_INIT = "other_init"

# criterion(key, trained params, initial params) -> scores
CRITERIA: dict[str, Callable[[jax.Array, PyTree, PyTree], PyTree]] = {
    "magnitude": lambda key, params, initial: pruning.magnitude_scores(params),
    "magnitude-increase": lambda key, params, initial: pruning.magnitude_increase_scores(params, initial),
    "movement": lambda key, params, initial: pruning.movement_scores(params, initial),
    "random": lambda key, params, initial: pruning.random_scores(key, params),
}


@dataclass(frozen=True, kw_only=True)
class Ticketed(Method, ABC):
    """A method whose networks are tickets: a mask of one network on the weights of another."""

    at_sparsities: bool = False
    in_rounds: bool = True

    @abstractmethod
    def mask_source(self, point: Point, study: Study) -> Need:
        """The network whose end gives a ticket its mask."""

    def weight_source(self, point: Point, study: Study) -> Need | None:
        """The network whose weights a ticket begins with; None for other initial weights of the seed."""
        return Need(dense(point), study.rewind_step)

    @abstractmethod
    def searched(self, point: Point, study: Study) -> list[Point]:
        """The networks that were trained until a ticket was known."""

    def needs(self, point: Point, study: Study) -> tuple[Need, ...]:
        """Where its mask and its weights come from; weights at step 0 follow from the seed."""
        sources = self.mask_source(point, study), self.weight_source(point, study)
        return tuple(need for need in sources if need is not None and need.step)

    def first_step(self, point: Point, study: Study) -> int:
        """Its place in the schedule."""
        return study.rewind_step

    def why_useless(self, point: Point, given: Given) -> str | None:
        """The mask empties a layer, or what it comes from has diverged."""
        return why_useless(self.mask_source(point, given.study), given)

    def start(self, point: Point, given: Given) -> MemberState:
        """The weights of one network under the mask of another; the ticket is stored."""
        masks = masks_of(self.mask_source(point, given.study), given)
        source, step = self.weight_source(point, given.study), self.first_step(point, given.study)
        weights = given.initial(point.seed, OTHER_INIT) if source is None else given.state(source)
        # Of a network with gates the weights alone are rewound.
        params = getattr(weights.params, "params", weights.params)
        given.save_ticket(point, masks, source, step)
        return given.begin(point, params, weights.batch_stats, masks, step)


@dataclass(frozen=True, kw_only=True)
class Iterative(Ticketed):
    """Rounds of: train, remove a fraction of what is left, go back to earlier weights.

    Attributes:
        chain: The method whose rounds its masks come from; its own or another's.
    """

    chain: str

    def check(self, options: TrainingOptions) -> None:
        """Raises a ValueError if there is no such criterion."""
        lookup(CRITERIA, options.knobs.rounds.criterion, "criterion")

    def points(self, study: Study, seed: int) -> Iterator[Point]:
        """One a round."""
        for round in range(1, study.knobs.rounds.rounds + 1):
            yield Point(self.name, round=round, seed=seed)

    def mask_source(self, point: Point, study: Study) -> Need:
        """The round before in its chain."""
        before = (point.round or 0) - 1
        source = point.of_same_seed(self.chain, round=before) if before else dense(point)
        return Need(source, study.last_step)

    def searched(self, point: Point, study: Study) -> list[Point]:
        """The rounds before in its chain."""
        before = range(1, point.round or 0)
        return [dense(point), *(point.of_same_seed(self.chain, round=r) for r in before)]


@dataclass(frozen=True, kw_only=True)
class RateRewound(Iterative):
    """Weights are not rewound at all, only the schedule begins anew."""

    def weight_source(self, point: Point, study: Study) -> Need:
        """The network that the mask is of."""
        return self.mask_source(point, study)

    def first_step(self, point: Point, study: Study) -> int:
        """The beginning of the schedule."""
        return 0


@dataclass(frozen=True, kw_only=True)
class Reinitialised(Iterative):
    """The tickets of another method with other initial weights."""

    def weight_source(self, point: Point, study: Study) -> None:
        """Other initial weights."""

    def first_step(self, point: Point, study: Study) -> int:
        """The beginning of the schedule."""
        return 0


def why_useless(source: Need, given: Given) -> str | None:
    """Why there is no use in training under the mask of a network's end; None if there is."""
    final = given.state(source)
    weights = getattr(final.params, "params", final.params)
    gates = getattr(final.params, "gates", ())
    finite = all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(weights))
    # A gate may be infinite: wide open, or closed.
    if not finite or any(np.isnan(leaf).any() for leaf in jax.tree.leaves(gates)):
        return "the training that the mask comes from has diverged"
    empty = pruning.collapsed_layers(masks_of(source, given))
    return f"the mask leaves nothing of {', '.join(empty)}" if empty else None


def masks_of(source: Need, given: Given) -> PyTree:
    """The mask that the end of a network gives: its ticket, or a fraction less than it has kept."""

    def make() -> PyTree:
        final = given.state(source)
        if isinstance(final.params, pruning.SoftMasked):
            return pruning.ticket_masks(jax.tree.map(jnp.asarray, final.params.gates))
        seed, knobs = source.point.seed, given.study.knobs.rounds
        fractions = (knobs.fraction, knobs.output_fraction) if knobs.by_layer else knobs.fraction
        return _prune_a_round(
            jax.random.fold_in(seed_keys(seed).scores, source.point.round or 0),
            final.params,
            given.initial(seed).params,
            jax.tree.map(jnp.asarray, pruning.get_masks(final.opt_state)),
            criterion=knobs.criterion,
            fractions=fractions,
            output=given.maker.layers[-1],
        )

    return given.kept_masks(source.point, make)


@partial(jax.jit, static_argnames=("criterion", "fractions", "output"))
def _prune_a_round(
    key: jax.Array,
    params: PyTree,
    initial: PyTree,
    masks: PyTree,
    *,
    criterion: str,
    fractions: Any,
    output: str,
) -> PyTree:
    """Removes a fraction of what is left: of the network, or two numbers, of layers and of the output."""
    scores = CRITERIA[criterion](key, params, initial)
    if isinstance(fractions, float):
        return pruning.prune_remaining(scores, masks, fractions)
    fraction, of_output = fractions
    of_layers = jax.tree_util.tree_map_with_path(
        lambda path, _: (
            of_output if of_output is not None and jax.tree_util.keystr(path) == output else fraction
        ),
        masks,
    )
    return pruning.prune_remaining_by_layer(scores, masks, of_layers)


METHODS = (
    Iterative(
        name="imp",
        look=Look("IMP", "#0072B2", "o"),
        when=When.AFTER,
        functions=("prune_remaining", "prune_remaining_by_layer"),
        source="Frankle and Carbin 2019 (arXiv 1803.03635)",
        chain="imp",
    ),
    Iterative(
        name="imp-continued",
        look=Look("IMP-Continued", "#56B4E9", "s"),
        when=When.AFTER,
        functions=("prune_remaining", "prune_remaining_by_layer"),
        source="Savarese et al. 2020 (arXiv 1912.04427)",
        chain="learning-rate-rewinding",
    ),
    RateRewound(
        name="learning-rate-rewinding",
        look=Look("Learning-rate rewinding", "#009E73", "^"),
        when=When.AFTER,
        functions=("prune_remaining", "prune_remaining_by_layer"),
        source="Renda et al. 2020 (arXiv 2003.02389)",
        chain="learning-rate-rewinding",
    ),
    Reinitialised(
        name="imp-reinit",
        look=Look("IMP, other weights", "#999999", "v"),
        when=When.AFTER,
        functions=("prune_remaining", "reinitialise"),
        source="Frankle and Carbin 2019 (arXiv 1803.03635)",
        chain="imp",
    ),
)
