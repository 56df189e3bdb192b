"""Rows of K-starts and its relatives."""

import jax.numpy as jnp

import pruning
from tests.contracts import checks
from tests.contracts.calls import (
    every_zeroed,
    grow,
    last_bred,
    searched,
    stacked,
    stacked_masks,
)
from tests.contracts.containers import every_other
from tests.contracts.rows.row import Row

ROWS = {
    "add_standardised": Row(
        lambda _, p: pruning.add_standardised(jnp.array([0.0, 1, 2]), jnp.array([4.0, 5, 6])),
        checks.fitness_of_known_parts,
    ),
    "candidate_masks": Row(
        lambda key, p: pruning.candidate_masks(key, p, k=3, sparsity=0.3),
        checks.masks(0.3, None, leading=3),
        keyed=True,
        heavy=True,
    ),
    "train_candidates": Row(
        lambda key, p: pruning.train_candidates(
            grow, p, pruning.candidate_masks(key, p, k=3, sparsity=0.5)
        ),
        checks.stacked_trees,
        keyed=True,
        composed=True,
        heavy=True,
    ),
    "fittest": Row(
        lambda _, p: pruning.fittest(
            stacked(every_zeroed(p)), stacked_masks(p), jnp.array([1.0, 3.0, 2.0])
        ),
        checks.winner,
    ),
    "fittest_candidate": Row(
        lambda _, p: pruning.fittest_candidate(jnp.array([1.0, 3.0, 2.0])),
        lambda winner, p: None if winner == 1 else checks.fail(winner),
    ),
    "weight_fitness": Row(
        lambda _, p: pruning.weight_fitness(stacked(p), None, stacked_masks(p)),
        checks.fitness,
        grads=True,
    ),
    "gradient_fitness": Row(
        lambda _, p: pruning.gradient_fitness(None, stacked(p), stacked_masks(p)),
        checks.fitness,
        grads=True,
    ),
    "combined_fitness": Row(
        lambda _, p: pruning.combined_fitness(stacked(p), stacked(p), stacked_masks(p)),
        checks.fitness,
        grads=True,
    ),
    "k_starts": Row(searched(pruning.k_starts), checks.winner, keyed=True, composed=True),
    "successive_elimination": Row(
        searched(pruning.successive_elimination), checks.winner, keyed=True, composed=True, heavy=True
    ),
    "evolve_masks": Row(
        searched(pruning.evolve_masks, generations=2),
        checks.winner,
        keyed=True,
        composed=True,
        heavy=True,
    ),
    "mutate_masks": Row(
        lambda key, p: pruning.mutate_masks(key, every_other(p), 0.5),
        checks.masks(0.5, 0.5),
        keyed=True,
        heavy=True,
    ),
    "crossover_masks": Row(
        lambda key, p: pruning.crossover_masks(key, every_other(p, 0), every_other(p, 1)),
        checks.masks(0.5, 0.5),
        keyed=True,
        heavy=True,
    ),
    "breed_masks": Row(last_bred, checks.masks(0.5, 0.5), keyed=True, heavy=True),
}
