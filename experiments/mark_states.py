"""Where the static members of ``experiments.missing_the_mark`` begin: a network, and its mask."""

from collections.abc import Callable
from functools import lru_cache
from typing import Any

import jax
import jax.numpy as jnp

import pruning
from experiments.mark_masks import MaskMaker, Seen
from experiments.mark_plan import AFTER_TRAINING, Plan, mark_keys
from experiments.programs import with_masks
from experiments.snapshots import Snapshots
from experiments.stages import NamedMember
from train.population import Member, MemberState, Population, stack_members

PyTree = Any


class StartingStates:
    """Builds the state from which a member's training begins."""

    def __init__(
        self,
        plan: Plan,
        population: Population,
        maker: MaskMaker,
        snapshots: Snapshots,
        winners: Callable[[], dict[tuple[int, float], int]],
    ) -> None:
        """Prepares; nothing is computed yet.

        Args:
            plan: What is trained.
            population: The program of the static members.
            maker: Makes their masks.
            snapshots: Of the dense networks.
            winners: Once the searches are finished, (seed, sparsity) -> K-starts' choice.
        """
        self.plan, self.population, self.maker = plan, population, maker
        self.snapshots, self._winners = snapshots, lru_cache(maxsize=1)(winners)
        self.last_step = plan.recipe.epochs * population.steps_per_epoch
        self._initial = lru_cache(maxsize=4)(self._compute_initial)
        self._seen = lru_cache(maxsize=2)(self._compute_seen)
        # A variant that keeps the masks comes a round of sparsities after the one that made them.
        self._masks = lru_cache(maxsize=len(plan.sparsities))(self._compute_masks)
        self._shuffle = jax.jit(pruning.shuffle_masks)

    def state(self, named: NamedMember) -> MemberState:
        """The state of a member at its first step, under its masks.

        Args:
            named: A static member of the plan.

        Returns:
            The state.
        """
        columns = named.columns
        method, variant, seed = columns["method"], columns["variant"], columns["seed"]
        step, sparsity = columns["pruned_at_step"], columns["sparsity_target"]
        if variant == "reinit":
            network = self._initial(seed, other=True)
        elif method == "magnitude-after-training":
            final = self.snapshots.load(seed, self.last_step)
            network = self._initial(seed)._replace(params=final.params, batch_stats=final.batch_stats)
        else:
            network = self._network(seed, step)
        masks = self._masks(method, variant == "invert", seed, step, sparsity)
        if variant == "shuffle":
            masks = self._shuffle(mark_keys(seed).shuffle, masks)
        return with_masks(network, masks)

    def _compute_masks(self, method: str, invert: bool, seed: int, step: int, sparsity: float) -> PyTree:
        if method in AFTER_TRAINING:
            final = self.snapshots.load(seed, self.last_step)
            return pruning.global_masks(pruning.magnitude_scores(final.params), sparsity)
        if method == "k-starts":
            key = self.plan.candidate_key(seed, self._winners()[seed, sparsity])
            return pruning.random_masks(key, self._initial(seed).params, sparsity)
        return self.maker.masks(method, self._seen(seed, step), sparsity, invert=invert)

    def _network(self, seed: int, step: int) -> MemberState:
        return self.snapshots.load(seed, step) if step else self._initial(seed)

    def _compute_seen(self, seed: int, step: int) -> Seen:
        other = self._initial(seed, other=True).params
        return self.maker.seen(seed, mark_keys(seed).scores, self._network(seed, step), other)

    def _compute_initial(self, seed: int, other: bool = False) -> MemberState:
        """The dense network at step 0, of the seed's own or its other draw of weights."""
        keys, zero = mark_keys(seed), jnp.float32(0)
        init = keys.other_init if other else keys.init
        states = self.population.start(stack_members([Member(init, keys.order, zero, zero, ())]))
        return jax.tree.map(lambda leaf: leaf[0], states)
