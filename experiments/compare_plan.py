"""Who is trained in ``experiments.compare``: the members, their keys, and the three programs.

A member is a few numbers: keys, a sparsity, a schedule. Its masks are drawn inside the compiled
program from its own key, so every sparsity and seed shares the program.
"""

from dataclasses import dataclass
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh

import pruning
from experiments.combination import search_sparsity, sparsities_after_search
from experiments.programs import (
    RandomMask,
    SeedKeys,
    Target,
    dissipating_to,
    held_random_masks,
    param_shapes,
    seed_keys,
)
from experiments.stages import NamedMember
from train.data.datasets import Dataset
from train.populations.devices import dataset_on_every_device
from train.populations.population import Member, Population
from train.recipes import Recipe


class Band(NamedTuple):
    """A member from which weights within a fraction of their initial value dissipate."""

    fraction: jax.Array


@dataclass(frozen=True, kw_only=True)
class Plan:
    """The settings of the comparison that decide its members.

    Attributes:
        sparsities: Fractions removed.
        seeds: How many.
        k: Candidates of a search.
        search_epochs: Length of a search.
        fractions: Bands of dissipating gradients.
        dissipate_epochs: Checks, one at the end of each of the first epochs.
        recipe: How every member is trained.
    """

    sparsities: tuple[float, ...]
    seeds: int
    k: int
    search_epochs: int
    fractions: tuple[float, ...]
    dissipate_epochs: int
    recipe: Recipe

    def static(self) -> list[NamedMember]:
        """Dense, random, and every K-starts candidate, all trained to the end."""
        members = []
        for seed in range(self.seeds):
            keys = seed_keys(seed)
            dense = RandomMask(keys.random_mask, jnp.float32(0))
            members.append(self._member("dense", None, 0.0, seed, keys, dense))
            for sparsity in self.sparsities:
                drawn = RandomMask(keys.random_mask, jnp.float32(sparsity))
                members.append(self._member("random", None, sparsity, seed, keys, drawn))
            for sparsity in self.sparsities:
                members += self._candidates("candidate", sparsity, sparsity, seed, keys)
        return members

    def combination_searches(self) -> list[NamedMember]:
        """The candidates among which the combination searches, at its first sparsity."""
        return [
            member
            for seed in range(self.seeds)
            for sparsity in self.sparsities
            for member in self._candidates(
                "search", sparsity, search_sparsity(sparsity), seed, seed_keys(seed)
            )
        ]

    def retrained(self, winners: dict[tuple[int, float], int]) -> list[NamedMember]:
        """The winners, trained again from their initial weights in a new order of the data.

        Args:
            winners: (seed, sparsity) -> the candidate.
        """
        members = []
        for (seed, sparsity), candidate in winners.items():
            keys = seed_keys(seed)
            data = RandomMask(self._candidate_keys(keys)[candidate], jnp.float32(sparsity))
            again = keys._replace(order=keys.retrain_order)
            members.append(self._member("retrained", None, sparsity, seed, again, data))
        return members

    def bands(self) -> list[NamedMember]:
        """Dissipating gradients with a fixed fraction."""
        return [
            self._member(
                "dissipate", f"{fraction:g}", None, seed, seed_keys(seed), Band(jnp.float32(fraction))
            )
            for seed in range(self.seeds)
            for fraction in self.fractions
        ]

    def targets(self, winners: dict[tuple[int, float], int]) -> list[NamedMember]:
        """Dissipating gradients to a sparsity, from three starts, with checks at the same epochs.

        The starts: the dense network; the winner of a K-starts search; one random mask of the
        sparsity at which K-starts searches. The last is the control that tells what K-starts adds
        from what an early start at a higher sparsity adds.

        Args:
            winners: (seed, sparsity) -> the winner of the combination's search.
        """
        members = []
        for seed in range(self.seeds):
            keys = seed_keys(seed)
            for sparsity in self.sparsities:
                schedule = pruning.exponential_sparsities(sparsity, self.dissipate_epochs)
                data = Target(keys.random_mask, jnp.float32(0), jnp.asarray(schedule, jnp.float32))
                members.append(self._member("dissipate-to", None, sparsity, seed, keys, data))
                start = search_sparsity(sparsity)
                rising = sparsities_after_search(
                    sparsity, search_epochs=self.search_epochs, dissipate_epochs=self.dissipate_epochs
                )
                schedule = jnp.asarray(rising, jnp.float32)
                winner_key = self._candidate_keys(keys)[winners[seed, sparsity]]
                for method, variant, mask_key in (
                    ("k-starts+dissipate-to", "combined", winner_key),
                    ("random+dissipate-to", None, keys.random_mask),
                ):
                    data = Target(mask_key, jnp.float32(start), schedule)
                    members.append(self._member(method, variant, sparsity, seed, keys, data))
        return members

    def _candidates(
        self, method: str, target: float, sparsity: float, seed: int, keys: SeedKeys
    ) -> list[NamedMember]:
        return [
            self._member(
                method, None, target, seed, keys, RandomMask(key, jnp.float32(sparsity)), candidate
            )
            for candidate, key in enumerate(self._candidate_keys(keys))
        ]

    def _candidate_keys(self, keys: SeedKeys) -> jax.Array:
        """The keys with which ``pruning.candidate_masks`` draws its k masks."""
        return jax.random.split(keys.candidates, self.k)

    def _member(
        self,
        method: str,
        variant: str | None,
        sparsity_target: float | None,
        seed: int,
        keys: SeedKeys,
        data: NamedTuple,
        candidate: int | None = None,
    ) -> NamedMember:
        rates = (jnp.float32(self.recipe.learning_rate), jnp.float32(self.recipe.weight_decay))
        columns = {
            "method": method,
            "variant": variant,
            "sparsity_target": sparsity_target,
            "seed": seed,
            "candidate": candidate,
        }
        return NamedMember(columns=columns, member=Member(keys.init, keys.order, *rates, data))


class Programs(NamedTuple):
    """The three training programs of the comparison."""

    static: Population
    band: Population
    target: Population


def make_programs(model: nn.Module, dataset: Dataset, plan: Plan, mesh: Mesh) -> Programs:
    """One program for each kind of method; see ``Programs``.

    Args:
        model: From images to logits.
        dataset: What is learned.
        plan: Says when gradients are summed and weights dissipate.
        mesh: Where members train.

    Returns:
        The programs, not compiled yet.
    """
    steps = plan.recipe.steps_per_epoch(len(dataset.train.labels) - plan.recipe.validation_examples)
    shapes = param_shapes(model, dataset)
    last = plan.search_epochs * steps

    def band(optimizer: optax.GradientTransformation, data: Band):
        window = plan.dissipate_epochs * steps
        dissipate = pruning.dissipate(data.fraction, check_every=steps, stop_after=window)
        return optax.chain(optimizer, dissipate)

    shared = dataset_on_every_device(dataset, mesh)
    make = lambda method: Population(  # noqa: E731
        model=model, dataset=shared, recipe=plan.recipe, method=method, mesh=mesh
    )
    static = held_random_masks(shapes, first=last - steps + 1, last=last)
    return Programs(make(static), make(band), make(dissipating_to(shapes, check_every=steps)))
