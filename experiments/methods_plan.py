"""Who is trained in ``experiments.pruning_methods``: every network for the same number of epochs."""

from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

import pruning
from experiments.combination import search_sparsity, sparsities_after_search
from experiments.programs import RandomMask, Target
from experiments.soft_programs import Gated
from experiments.stages import NamedMember
from train.populations.population import Member
from train.recipes import Recipe

AT_START = ("random", "magnitude", "snip", "grasp", "synflow")
FINE_TUNED, GRADUAL = "magnitude-fine-tuned", "gradual-magnitude"
DISSIPATING, COMBINED = "dissipating-gradients", "k-starts+dissipating-gradients"
CONTINUOUS, SUPERMASK = "continuous-sparsification", "supermask"
STOCHASTIC = "stochastic-supermask"
GATED = (CONTINUOUS, SUPERMASK, STOCHASTIC)  # they find their own sparsities
PRUNED_LATE = (FINE_TUNED, GRADUAL, DISSIPATING, COMBINED)
METHODS = (*AT_START, *PRUNED_LATE, *GATED)
DENSE, SEARCH = "dense", "search"


class MethodsKeys(NamedTuple):
    """The keys of one seed; whatever is compared in pairs shares init and order."""

    init: jax.Array
    order: jax.Array
    other_init: jax.Array
    scores: jax.Array
    candidates: jax.Array


def methods_keys(seed: int) -> MethodsKeys:
    """The keys of one seed.

    Args:
        seed: Counting from 0.

    Returns:
        Typed keys.
    """
    return MethodsKeys(*jax.random.split(jax.random.key(seed), len(MethodsKeys._fields)))


@dataclass(frozen=True, kw_only=True)
class MethodsPlan:
    """The settings of the comparison that decide its members.

    Attributes:
        methods: Names in ``METHODS``.
        sparsities: Fractions removed.
        seeds: How many.
        prune_epochs: The first epochs, at whose end weights are pruned while training.
        k: Candidates of a K-starts search.
        search_epochs: Length of a search.
        starts: Of gates that become soft masks.
        penalty: Weight of the soft masks' sum.
        gate_learning_rate: Of these gates.
        stochastic_starts: Of gates from which masks are drawn.
        stochastic_learning_rate: Of those.
        recipe: How every network is trained.
    """

    methods: tuple[str, ...]
    sparsities: tuple[float, ...]
    seeds: int
    prune_epochs: int
    k: int
    search_epochs: int
    starts: tuple[float, ...]
    penalty: float
    gate_learning_rate: float
    stochastic_starts: tuple[float, ...]
    stochastic_learning_rate: float
    recipe: Recipe

    def dense(self) -> list[NamedMember]:
        """The dense networks, one a seed."""
        return [self._member(DENSE, None, seed) for seed in range(self.seeds)]

    def at_start(self) -> list[NamedMember]:
        """Networks that are pruned before training."""
        methods = [method for method in AT_START if method in self.methods]
        return [self._member(*place) for place in self._grid(methods)]

    def fine_tuned(self) -> list[NamedMember]:
        """Networks that are pruned by magnitude in the middle, in one shot."""
        return [self._member(*place) for place in self._grid(self._if_asked(FINE_TUNED))]

    def gradual(self) -> list[NamedMember]:
        """Networks that are pruned by magnitude epoch by epoch."""
        return [
            self._member(
                method, sparsity, seed, _float32(pruning.cubic_sparsities(sparsity, self.prune_epochs))
            )
            for method, sparsity, seed in self._grid(self._if_asked(GRADUAL))
        ]

    def searches(self) -> list[NamedMember]:
        """The candidates of the combination's K-starts."""
        return [
            self._member(
                SEARCH,
                sparsity,
                seed,
                RandomMask(self._candidate_key(seed, candidate), jnp.float32(search_sparsity(sparsity))),
                candidate=candidate,
            )
            for _, sparsity, seed in self._grid(self._if_asked(COMBINED))
            for candidate in range(self.k)
        ]

    def dissipating(self, winners: dict[tuple[int, float], int]) -> list[NamedMember]:
        """Dissipating gradients, from the dense network and from the winner of a search.

        Args:
            winners: (seed, sparsity) -> the candidate that won.
        """
        members = []
        for method, sparsity, seed in self._grid(self._if_asked(DISSIPATING)):
            schedule = pruning.exponential_sparsities(sparsity, self.prune_epochs)
            data = Target(methods_keys(seed).scores, jnp.float32(0), _float32(schedule))
            members.append(self._member(method, sparsity, seed, data))
        for method, sparsity, seed in self._grid(self._if_asked(COMBINED)):
            schedule = sparsities_after_search(
                sparsity, search_epochs=self.search_epochs, dissipate_epochs=self.prune_epochs
            )
            key = self._candidate_key(seed, winners[seed, sparsity])
            data = Target(key, jnp.float32(search_sparsity(sparsity)), _float32(schedule))
            members.append(self._member(method, sparsity, seed, data))
        return members

    def gated(self) -> list[NamedMember]:
        """Networks with soft masks: with weights that learn, and with weights that do not."""
        return [
            *self._gated(CONTINUOUS, self.starts, self.gate_learning_rate, weights_learn=True),
            *self._gated(SUPERMASK, self.starts, self.gate_learning_rate, weights_learn=False),
        ]

    def stochastic(self) -> list[NamedMember]:
        """Networks whose masks are drawn anew each step; their weights do not learn."""
        starts, rate = self.stochastic_starts, self.stochastic_learning_rate
        return self._gated(STOCHASTIC, starts, rate, weights_learn=False)

    def _gated(
        self, method: str, starts: tuple[float, ...], rate: float, *, weights_learn: bool
    ) -> list[NamedMember]:
        return [
            self._member(
                asked,
                None,
                seed,
                Gated(*map(jnp.float32, (start, self.penalty, rate, weights_learn))),
                start=start,
            )
            for asked in self._if_asked(method)
            for start in starts
            for seed in range(self.seeds)
        ]

    def _if_asked(self, method: str) -> list[str]:
        return [method] if method in self.methods else []

    def _grid(self, methods: list[str]) -> list[tuple[str, float, int]]:
        return [
            (method, sparsity, seed)
            for seed in range(self.seeds)
            for method in methods
            for sparsity in self.sparsities
        ]

    def _candidate_key(self, seed: int, candidate: int) -> jax.Array:
        """The key with which ``pruning.candidate_masks`` draws a candidate's masks."""
        return jax.random.split(methods_keys(seed).candidates, self.k)[candidate]

    def _member(
        self,
        method: str,
        sparsity: float | None,
        seed: int,
        data: Any = (),
        *,
        start: float | None = None,
        candidate: int | None = None,
    ) -> NamedMember:
        keys = methods_keys(seed)
        rate, decay = jnp.float32(self.recipe.learning_rate), jnp.float32(self.recipe.weight_decay)
        columns = {
            "method": method,
            "variant": "none",
            "sparsity_target": sparsity,
            "start": start,
            "seed": seed,
            "candidate": candidate,
        }
        return NamedMember(columns=columns, member=Member(keys.init, keys.order, rate, decay, data))


def _float32(values: Any) -> jax.Array:
    return jnp.asarray(values, jnp.float32)
