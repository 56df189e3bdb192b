"""Who is trained in ``experiments.missing_the_mark``: the points of its figures, and their keys.

A point is a method, a variant (``none`` or an ablation), the step at which it prunes, a sparsity and a
seed. All points with a static mask are members of one program, whatever made the mask.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

import pruning
from experiments.programs import RandomMask, Target
from experiments.score_methods import SCORE_METHODS
from experiments.stages import NamedMember
from train.populations.population import Member
from train.recipes import Recipe

ABLATIONS = ("shuffle", "reinit", "invert")
AFTER_TRAINING = ("magnitude-after-training", "lottery-ticket-rewinding")
DURING_TRAINING = ("k-starts", "dissipating-gradients")
RANDOM_BY_LAYER = tuple(name for name, method in SCORE_METHODS.items() if method.allocation is not None)
METHODS = (*SCORE_METHODS, *DURING_TRAINING, *AFTER_TRAINING)
# A random mask has no ablation, and what comes of training has no other end that was looked at.
_WITHOUT_ABLATIONS = ("random", *RANDOM_BY_LAYER, *DURING_TRAINING)


class MarkKeys(NamedTuple):
    """The keys of one seed; whatever is compared in pairs shares init and order."""

    init: jax.Array
    order: jax.Array
    other_init: jax.Array
    second_draw: jax.Array
    scores: jax.Array
    shuffle: jax.Array
    candidates: jax.Array


def mark_keys(seed: int) -> MarkKeys:
    """The keys of one seed.

    Args:
        seed: Counting from 0.

    Returns:
        Typed keys.
    """
    return MarkKeys(*jax.random.split(jax.random.key(seed), len(MarkKeys._fields)))


@dataclass(frozen=True, kw_only=True)
class Plan:
    """The settings of the assessment that decide its members.

    Attributes:
        methods: Names in ``METHODS``.
        ablations: Names in ``ABLATIONS``.
        sparsities: Fractions removed.
        seeds: How many.
        steps: Steps after initialization at which methods prune as well.
        step_sparsities: The sparsities at which they do.
        rewind_step: Where lottery-ticket rewinding goes back to.
        k: Candidates of a K-starts search.
        search_epochs: Length of a search.
        dissipate_epochs: Checks, one at the end of each of the first epochs.
        recipe: How every member is trained.
    """

    methods: tuple[str, ...]
    ablations: tuple[str, ...]
    sparsities: tuple[float, ...]
    seeds: int
    steps: tuple[int, ...]
    step_sparsities: tuple[float, ...]
    rewind_step: int
    k: int
    search_epochs: int
    dissipate_epochs: int
    recipe: Recipe

    def dense(self) -> list[NamedMember]:
        """The dense networks, one a seed."""
        return [self._member("dense", "none", 0, 0.0, seed) for seed in range(self.seeds)]

    def at_start(self) -> list[NamedMember]:
        """Static masks of networks that begin at step 0, however the mask was made."""
        return [
            self._member(method, variant, 0, sparsity, seed)
            for seed in range(self.seeds)
            for method in self.methods
            if method != "dissipating-gradients"
            for variant in self._variants(method)
            if not self._is_rewound(method, variant)
            for sparsity in self.sparsities
        ]

    def rewound(self) -> list[NamedMember]:
        """Networks that go on from the step to which lottery-ticket rewinding goes back."""
        return [
            self._member(method, variant, self.rewind_step, sparsity, seed)
            for seed in range(self.seeds)
            for method in self.methods
            for variant in self._variants(method)
            if self._is_rewound(method, variant)
            for sparsity in self.sparsities
        ]

    def pruned_at(self, step: int) -> list[NamedMember]:
        """Networks that are pruned at a step of their training.

        Args:
            step: Above 0.
        """
        return [
            self._member(method, "none", step, sparsity, seed)
            for seed in range(self.seeds)
            for method in self.methods
            if method in SCORE_METHODS and not SCORE_METHODS[method].at_init_only
            for sparsity in self.step_sparsities
        ]

    def searches(self) -> list[NamedMember]:
        """The candidates of K-starts, for the length of a search."""
        return [
            self._member("search", "none", 0, sparsity, seed, candidate=index, data=data)
            for seed in range(self.seeds)
            for sparsity in self.sparsities
            for index, data in enumerate(self._candidates(seed, sparsity))
            if "k-starts" in self.methods
        ]

    def dissipating(self) -> list[NamedMember]:
        """Dissipating gradients to each sparsity, from the dense network."""
        return [
            self._member("dissipating-gradients", "none", 0, sparsity, seed, data=data)
            for seed in range(self.seeds)
            for sparsity in self.sparsities
            for data in [self._target(seed, sparsity)]
            if "dissipating-gradients" in self.methods
        ]

    def candidate_key(self, seed: int, candidate: int) -> jax.Array:
        """The key with which ``pruning.candidate_masks`` draws a candidate's masks.

        Args:
            seed: Counting from 0.
            candidate: Its index.
        """
        return jax.random.split(mark_keys(seed).candidates, self.k)[candidate]

    def _variants(self, method: str) -> Iterator[str]:
        yield "none"
        for ablation in self.ablations:
            inverted_end = ablation == "invert" and method in AFTER_TRAINING
            if method not in _WITHOUT_ABLATIONS and not inverted_end:
                yield ablation

    def _is_rewound(self, method: str, variant: str) -> bool:
        return method == "lottery-ticket-rewinding" and variant != "reinit"

    def _candidates(self, seed: int, sparsity: float) -> list[RandomMask]:
        keys = jax.random.split(mark_keys(seed).candidates, self.k)
        return [RandomMask(key, jnp.float32(sparsity)) for key in keys]

    def _target(self, seed: int, sparsity: float) -> Target:
        schedule = pruning.exponential_sparsities(sparsity, self.dissipate_epochs)
        return Target(mark_keys(seed).scores, jnp.float32(0), jnp.asarray(schedule, jnp.float32))

    def _member(
        self,
        method: str,
        variant: str,
        pruned_at_step: int,
        sparsity_target: float,
        seed: int,
        *,
        candidate: int | None = None,
        data: Any = (),
    ) -> NamedMember:
        keys = mark_keys(seed)
        rates = (jnp.float32(self.recipe.learning_rate), jnp.float32(self.recipe.weight_decay))
        columns = {
            "method": method,
            "variant": variant,
            "pruned_at_step": pruned_at_step,
            "sparsity_target": sparsity_target,
            "seed": seed,
            "candidate": candidate,
        }
        return NamedMember(columns=columns, member=Member(keys.init, keys.order, *rates, data))
