"""Where the static members of ``experiments.missing_the_mark`` begin: a network, and its mask."""

from collections.abc import Callable
from functools import lru_cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import pruning
from experiments.mark_masks import MaskMaker, Seen
from experiments.mark_plan import AFTER_TRAINING, Plan, mark_keys
from experiments.programs import with_masks
from experiments.snapshots import Snapshots
from experiments.stages import NamedMember
from train.populations.population import Member, MemberState, Population, stack_members

PyTree = Any


def snapshot_name(seed: int) -> str:
    """What the snapshots of a seed's dense network are called."""
    return f"seed-{seed}"


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
        keys = mark_keys(seed)
        scored = self._network(seed, self.last_step if method in AFTER_TRAINING else step)
        if variant == "reinit":
            network = self._initial(seed, "other_init")
        elif method == "magnitude-after-training":
            network = self._network(seed, 0)
            network = network._replace(params=scored.params, batch_stats=scored.batch_stats)
        else:
            network = self._network(seed, step)
        if not all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(scored.params)):
            # The network has diverged: so have those that follow from it, whatever their masks.
            broken = jax.tree.map(lambda leaf: jnp.full_like(leaf, jnp.nan), network.params)
            masks = pruning.global_masks(pruning.random_scores(keys.scores, broken), sparsity)
            return with_masks(network._replace(params=broken), masks)
        masks = self._masks(method, variant == "invert", seed, step, sparsity)
        if variant == "shuffle":
            masks = self._shuffle(keys.shuffle, masks)
        return with_masks(network, masks)

    def _compute_masks(self, method: str, invert: bool, seed: int, step: int, sparsity: float) -> PyTree:
        if method in AFTER_TRAINING:
            final = self._network(seed, self.last_step)
            return pruning.global_masks(pruning.magnitude_scores(final.params), sparsity)
        if method == "k-starts":
            key = self.plan.candidate_key(seed, self._winners()[seed, sparsity])
            # As the search drew it, from a traced float32.
            return pruning.random_masks(key, self._network(seed, 0).params, jnp.float32(sparsity))
        return self.maker.masks(method, self._seen(seed, step), sparsity, invert=invert)

    def _network(self, seed: int, step: int) -> MemberState:
        return self.snapshots.load(snapshot_name(seed), step) if step else self._initial(seed, "init")

    def _compute_seen(self, seed: int, step: int) -> Seen:
        second_draw = self._initial(seed, "second_draw").params
        return self.maker.seen(seed, mark_keys(seed).scores, self._network(seed, step), second_draw)

    def _compute_initial(self, seed: int, key: str) -> MemberState:
        """The dense network at step 0, its weights drawn with one of the seed's keys."""
        keys, zero = mark_keys(seed), jnp.float32(0)
        member = Member(getattr(keys, key), keys.order, zero, zero, ())
        return jax.tree.map(lambda leaf: leaf[0], self.population.start(stack_members([member])))
