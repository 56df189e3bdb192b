"""Evolution: K-starts over generations of masks, the fitter half of each bred into the next."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

import pruning
from experiments.methods.method import Given, Look, When
from experiments.methods.point import Need, Point
from experiments.methods.searched import Candidates, Searching, candidates_of
from experiments.methods.seeds import seed_keys
from experiments.methods.study import Study

PyTree = Any


@dataclass(frozen=True, kw_only=True)
class Evolving(Searching):
    """The fittest of the last generation is trained to the end.

    A candidate's round is its generation. Every one is trained from the initial weights for the epochs
    of a search.
    """

    def needs(self, point: Point, study: Study) -> tuple[Need, ...]:
        """The candidates of the generations before, of the network itself those of all."""
        last = study.knobs.search.generations
        before = last if point.candidate is None else (point.round or 1) - 1
        return tuple(
            Need(one) for round in range(1, before + 1) for one in self._generation(point, round, study)
        )

    def masks(self, point: Point, given: Given) -> PyTree:
        """That of a candidate, or of the fittest of the last generation."""
        round, candidate = point.round, point.candidate
        if candidate is None:
            round = given.study.knobs.search.generations
            candidate = int(pruning.fittest_candidate(self._fitness(point, round, given)))
        found = self._masks(point, round or 1, given)
        return jax.tree.map(lambda leaf: leaf[candidate], found)

    def _masks(self, point: Point, round: int, given: Given) -> PyTree:
        """Those of a generation, stacked, as ``pruning.evolve_masks`` has them."""
        knobs = given.study.knobs.search

        def make() -> PyTree:
            first, key = jax.random.split(seed_keys(point.seed).candidates)
            if round == 1:
                params, sparsity = given.initial(point.seed).params, jnp.float32(point.sparsity_target)
                return first_generation(first, params, sparsity, k=knobs.k)
            key = jax.random.split(key, knobs.generations - 1)[round - 2]
            before, fitness = self._masks(point, round - 1, given), self._fitness(point, round - 1, given)
            return next_generation(key, before, fitness, mutation=knobs.mutation)

        return given.kept_masks(point._replace(variant="none", candidate=None, round=round), make)

    def _fitness(self, point: Point, round: int, given: Given) -> jax.Array:
        rows = [given.rows(one) for one in self._generation(point, round, given.study)]
        candidates = Candidates(rows, given.study.knobs.search.search_epochs)
        return jnp.asarray(candidates.fitness["combined"])

    def _generation(self, point: Point, round: int, study: Study) -> Iterator[Point]:
        yield from candidates_of(point._replace(round=round), study)


@partial(jax.jit, static_argnames="k")
def first_generation(key: jax.Array, params: PyTree, sparsity: jax.Array, *, k: int) -> PyTree:
    """The masks that evolution begins with, as ``pruning.candidate_masks`` draws them."""
    return pruning.candidate_masks(key, params, k=k, sparsity=sparsity)


@partial(jax.jit, static_argnames="mutation")
def next_generation(key: jax.Array, masks: PyTree, fitness: jax.Array, *, mutation: float) -> PyTree:
    """The masks that are bred from a generation, as ``pruning.breed_masks`` has them."""
    return pruning.breed_masks(key, masks, fitness, mutation=mutation)


METHODS = (
    Evolving(
        name="evolved-masks",
        look=Look("Evolved masks", "#5030A0", "D"),
        when=When.BEFORE,
        functions=("evolve_masks", "combined_fitness"),
        source="Ours, after Haroon 2022 (arXiv 2209.02201)",
    ),
)
