"""K-starts: k random p-sparse networks of one initialization are trained, the fittest is kept.

Axes of the design: the fitness (weights, accumulated gradients, both), the reading of the gradient
sum (of absolute or of signed gradients: ``accumulate_gradients``, ``accumulate_signed_gradients``),
and the search. The search here is the paper's; ``elimination.py`` drops candidates on the way and
``evolution.py`` breeds new ones.

Shapes: K candidates on the leading axis of every stacked tree. What is no array (the functions of a
whole Equinox model) is the same for all and is passed on as it is.

Batch statistics and other states of a network are leaves of the params that have no mask: give the
search all of the variables, ``{"params": ..., "batch_stats": ...}`` or an ``nnx.State``, let
``train_fn`` return them all as its training left them, and the winner's come back with its weights.
The default predicate leaves statistics out; sums of gradients may be missing where there is no mask.

Source: Haroon 2022, "What to Prune and What Not to Prune at Initialization" (arXiv 2209.02201).
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from pruning.allocations.uniform import uniform
from pruning.masks.tree import apply_masks
from pruning.scores.random import random_masks
from pruning.search.candidates import count_candidates, map_candidates, ranked_first, take_candidates
from pruning.search.fitness import Fitness
from pruning.trees.counts import check_counts
from pruning.trees.leaves import Prunable, PyTree, Scalar, prunable

Train = Callable[[PyTree, PyTree], tuple[PyTree, PyTree]]


class KStarts(NamedTuple):
    """The outcome of a search.

    Attributes:
        masks: The winner's masks.
        params: The winner's params as its training left them; it goes on from there.
        winner: Its index among the candidates, an int32 scalar.
        fitness: The fitness of all candidates, shape (K,).
    """

    masks: PyTree
    params: PyTree
    winner: jax.Array
    fitness: jax.Array


def candidate_masks(
    key: jax.Array,
    params: PyTree,
    *,
    k: int,
    sparsity: Scalar,
    allocation=uniform,
    prunable: Prunable = prunable,
    chunk_size: int | None = None,
) -> PyTree:
    """Draws k independent random masks of one network.

    Args:
        key: A typed PRNG key.
        params: The initialization that the candidates share.
        k: Number of candidates, at least 1.
        sparsity: Fraction of prunable weights to remove, in [0, 1).
        allocation: From the sparsity to a sparsity for each layer.
        prunable: ``prunable(path, leaf)`` says which leaves may be pruned.
        chunk_size: How many are drawn at once; None for all. The masks do not depend on it.

    Returns:
        Masks with a leading axis of length k.

    Raises:
        ValueError: If k or chunk_size < 1, the sparsity is outside [0, 1), or no leaf is prunable.
    """
    check_counts(k=k)

    def draw(key: jax.Array) -> PyTree:
        return random_masks(key, params, sparsity, allocation=allocation, prunable=prunable)

    return map_candidates(draw, jax.random.split(key, k), chunk_size)


def k_starts(
    key: jax.Array,
    params: PyTree,
    train_fn: Train,
    *,
    k: int,
    sparsity: Scalar,
    fitness: Fitness,
    allocation=uniform,
    prunable: Prunable = prunable,
    chunk_size: int | None = None,
) -> KStarts:
    """Trains k random masks of one initialization side by side and keeps the fittest.

    Args:
        key: A typed PRNG key; decides the masks.
        params: The initialization that the candidates share.
        train_fn: ``train_fn(params, masks) -> (params, gradient_sums)`` trains one candidate for the
            search's epochs. It gets masked params, holds the masks while it trains (``hold_masks``)
            and returns the sums that ``accumulate_gradients`` kept. It is mapped over the
            candidates, so it must be traceable; what it closes over (batches, keys) is shared. Batch
            statistics travel within ``params``:
            ``train_fn(variables, masks) -> (variables, {"params": sums})``.
        k: Number of candidates, at least 1.
        sparsity: Fraction of prunable weights to remove, in [0, 1).
        fitness: ``fitness(params, gradient_sums, masks) -> (k,)`` over the stacked trees, the
            highest finite one wins: ``weight_fitness``, ``gradient_fitness``, ``combined_fitness``.
        allocation: From the sparsity to a sparsity for each layer.
        prunable: ``prunable(path, leaf)`` says which leaves may be pruned.
        chunk_size: How many candidates train at once; None for all. Bounds what training holds; the
            trained candidates, which the fitness compares, are all kept.

    Returns:
        The winner and the fitness of all.

    Raises:
        ValueError: If k or chunk_size < 1, the sparsity is outside [0, 1), no leaf is prunable, or
            ``train_fn`` returns something else.

    Source: Haroon 2022 (arXiv 2209.02201). The paper is silent on the allocation (here: uniform,
    exact counts in each layer) and on whether the candidates share weights (here: they do).

    >>> from pruning.search.fitness import weight_fitness
    >>> params = {"w": jnp.array([[3.0, -1.0, 2.0, 0.5]])}
    >>> train_fn = lambda params, masks: (params, params)
    >>> found = k_starts(jax.random.key(0), params, train_fn, k=9, sparsity=0.5,
    ...                  fitness=weight_fitness)
    >>> float(found.fitness[found.winner])
    2.5
    """
    masks = candidate_masks(
        key,
        params,
        k=k,
        sparsity=sparsity,
        allocation=allocation,
        prunable=prunable,
        chunk_size=chunk_size,
    )
    trained, gradient_sums = train_candidates(train_fn, params, masks, chunk_size=chunk_size)
    return fittest(trained, masks, fitness(trained, gradient_sums, masks))


def train_candidates(
    train_fn: Train, params: PyTree, masks: PyTree, *, chunk_size: int | None = None
) -> tuple[PyTree, PyTree]:
    """Trains every candidate from the same params, all at once or in chunks.

    Args:
        train_fn: As for ``k_starts``.
        params: The initialization that the candidates share.
        masks: Masks with a leading axis of length K.
        chunk_size: How many candidates train at once; None for all.

    Returns:
        The stacked trained params and gradient sums.

    Raises:
        ValueError: If chunk_size < 1, or ``train_fn`` does not return a pair.
    """

    def train(candidate: PyTree) -> tuple[PyTree, PyTree]:
        return check_trained(train_fn(apply_masks(params, candidate), candidate))

    return map_candidates(train, masks, chunk_size)


def check_trained(found: Any) -> tuple[PyTree, PyTree]:
    """Checks what a ``train_fn`` has returned.

    Args:
        found: The trained params and the sums of gradients, if it is right.

    Returns:
        The same.

    Raises:
        ValueError: If it is no pair.
    """
    if not isinstance(found, tuple) or len(found) != 2:
        got = f"{len(found)} values" if isinstance(found, tuple) else type(found).__name__
        raise ValueError(
            f"expected train_fn to return (params, gradient_sums), got {got}; batch statistics "
            "belong into the params, as leaves without a mask: "
            '{"params": params, "batch_stats": statistics}'
        )
    return found


def fittest(params: PyTree, masks: PyTree, fitness: jax.Array) -> KStarts:
    """Picks the candidate of the highest fitness; ties go to the lower index.

    A fitness that is not finite, of a candidate that has diverged, ranks below all that are.

    Args:
        params: Stacked params, leading axis K.
        masks: Stacked masks, leading axis K.
        fitness: Shape (K,).

    Returns:
        The winner and the fitness of all.

    Raises:
        ValueError: If params and masks do not have one leading axis, or fitness does not have the shape
            (K,).
    """
    fitness = check_fitness(fitness, count_candidates({"params": params, "masks": masks}))
    winner = fittest_candidate(fitness)
    return KStarts(take_candidates(masks, winner), take_candidates(params, winner), winner, fitness)


def check_fitness(fitness: Any, k: int) -> jax.Array:
    """The fitness of k candidates as an array; raises a ValueError if it is not one number each."""
    found = jnp.asarray(fitness)
    if found.shape != (k,):
        raise ValueError(f"expected a fitness of shape ({k},), got {found.shape}")
    return found


def fittest_candidate(fitness: jax.Array) -> jax.Array:
    """The index of the highest fitness, for candidates that are known by it alone.

    ``fittest`` returns the winner's masks and params as well.

    Args:
        fitness: Shape (K,). What is not finite ranks below all that is.

    Returns:
        An int32 scalar; ties go to the lower index.

    Raises:
        ValueError: If the fitness is not of the shape (K,), with K of at least 1.

    >>> int(fittest_candidate(jnp.array([1.0, jnp.nan, 3.0, 3.0])))
    2
    """
    fitness = jnp.asarray(fitness)
    if fitness.ndim != 1 or not fitness.size:
        raise ValueError(f"expected a fitness of shape (K,), got {fitness.shape}")
    return ranked_first(fitness)[0]
