"""An evolutionary form of K-starts: masks mutate and cross over at exactly constant sparsity.

Every operation keeps the number of kept weights of each layer, to the weight.
"""

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp

from pruning.allocations.uniform import uniform
from pruning.masks.counting import counted_share
from pruning.masks.drawn_layers import each_layer
from pruning.masks.reading import fit_masks
from pruning.masks.selection import keep_highest
from pruning.masks.tree import check_alike
from pruning.search.candidates import count_candidates, ranked_first
from pruning.search.fitness import Fitness
from pruning.search.kstarts import (
    KStarts,
    Train,
    candidate_masks,
    check_fitness,
    fittest,
    train_candidates,
)
from pruning.trees.counts import check_counts, check_fractions
from pruning.trees.layout import Layout, flax_layout
from pruning.trees.leaves import Prunable, PyTree, Scalar, check_countable, prunable


def mutate_masks(
    key: jax.Array, masks: PyTree, fraction: float, *, layout: Layout = flax_layout
) -> PyTree:
    """Moves a fraction of each layer's kept weights to places that were pruned.

    Args:
        key: A typed PRNG key.
        masks: A tree of masks.
        fraction: Fraction of the kept weights that move, in [0, 1], or traced. A layer with fewer
            pruned than moving weights moves as many as it has pruned.
        layout: ``layout(path, leaf)`` says which axes are layers (``pruning.trees.layout``).

    Returns:
        Masks with the same count in each layer.

    Raises:
        ValueError: If the fraction is no number in [0, 1].
    """
    check_fractions(fraction=fraction)

    def mutate(key: jax.Array, mask: jax.Array) -> jax.Array:
        check_countable(mask.size)
        kept = jnp.sum(mask, dtype=jnp.int32)
        moving = jnp.minimum(counted_share(fraction, kept, "fraction"), mask.size - kept)
        leave, enter = jax.random.uniform(key, (2, *mask.shape))
        stay = keep_highest(leave, mask.size - kept + moving, masks=mask)
        arrive = keep_highest(enter, mask.size - moving, masks=~mask)
        return jnp.logical_or(stay, arrive)

    return _over_layers(mutate, layout, key, masks)


def crossover_masks(
    key: jax.Array, masks: PyTree, others: PyTree, *, layout: Layout = flax_layout
) -> PyTree:
    """A child keeps what both parents keep, and a random choice of what one of them keeps.

    Args:
        key: A typed PRNG key.
        masks: One parent.
        others: The other, with the same count in each layer.
        layout: ``layout(path, leaf)`` says which axes are layers (``pruning.trees.layout``).

    Returns:
        Masks with the count of ``masks`` in each layer.

    Raises:
        ValueError: If the parents differ in structure or shapes.
    """
    others = fit_masks(others, masks)
    check_alike(others, masks)

    def cross(key: jax.Array, mask: jax.Array, other: jax.Array) -> jax.Array:
        check_countable(mask.size)
        kept = jnp.sum(mask, dtype=jnp.int32)
        # In both parents: above every random score. In one: the score decides. In none: pruned.
        scores = jax.random.uniform(key, mask.shape, jnp.float32) + (mask & other).astype(jnp.float32)
        return keep_highest(scores, mask.size - kept, masks=mask | other)

    return _over_layers(cross, layout, key, masks, others)


def evolve_masks(
    key: jax.Array,
    params: PyTree,
    train_fn: Train,
    *,
    k: int,
    sparsity: Scalar,
    fitness: Fitness,
    generations: int,
    mutation: float = 0.1,
    allocation=uniform,
    prunable: Prunable = prunable,
    layout: Layout = flax_layout,
) -> KStarts:
    """Searches masks over generations: train, keep the fitter half, breed the other half from it.

    Every generation trains all k masks from the same initialization. Its fitter half (rounded up)
    survives as it is; each child crosses two survivors drawn at random and mutates. One generation
    is ``k_starts`` with masks of another key.

    Args:
        key: A typed PRNG key.
        params: The initialization that all candidates share.
        train_fn: As for ``k_starts``.
        k: Masks in a generation, at least 1.
        sparsity: Fraction of prunable weights to remove, in [0, 1); constant to the weight.
        fitness: As for ``k_starts``.
        generations: How many times the population is trained, at least 1.
        mutation: Fraction of a child's kept weights that move, in [0, 1].
        allocation: From the sparsity to a sparsity for each layer.
        prunable: ``prunable(path, leaf)`` says which leaves may be pruned.
        layout: Says which axes are layers (``pruning.trees.layout``); the same as in the allocation.

    Returns:
        The winner of the last generation and that generation's fitness.

    Raises:
        ValueError: If k or generations < 1, sparsity or mutation is out of range, or no leaf is
            prunable.

    Source: ours, after "the fittest" of Haroon 2022 (arXiv 2209.02201), which names evolutionary
    algorithms as the model and gives none.
    """
    check_counts(generations=generations)
    check_fractions(mutation=mutation)
    first, key = jax.random.split(key)
    masks = candidate_masks(
        first, params, k=k, sparsity=sparsity, allocation=allocation, prunable=prunable
    )

    def generation(masks: PyTree) -> KStarts:
        trained, sums = train_candidates(train_fn, params, masks)
        return fittest(trained, masks, fitness(trained, sums, masks))

    def breed(masks: PyTree, key: jax.Array) -> tuple[PyTree, None]:
        fitness = generation(masks).fitness
        return breed_masks(key, masks, fitness, mutation=mutation, layout=layout), None

    keys = jax.random.split(key, generations - 1) if generations > 1 else None
    if keys is not None:
        masks, _ = jax.lax.scan(breed, masks, keys)
    return generation(masks)


def breed_masks(
    key: jax.Array,
    masks: PyTree,
    fitness: jax.Array,
    *,
    mutation: float = 0.1,
    layout: Layout = flax_layout,
) -> PyTree:
    """The next generation of ``evolve_masks``, for masks whose fitness is known.

    The fitter half (rounded up) survives; each child crosses two survivors drawn at random and mutates.

    Args:
        key: A typed PRNG key.
        masks: Masks with a leading axis of length K.
        fitness: Shape (K,); what is not finite is the least fit.
        mutation: Fraction of a child's kept weights that move, in [0, 1].
        layout: Says which axes are layers (``pruning.trees.layout``), of one mask.

    Returns:
        Masks like those given: the survivors, the fittest first, then their children.

    Raises:
        ValueError: If masks do not have one leading axis, fitness does not have the shape (K,), or
            mutation is out of range.

    >>> masks = {"w": jnp.array([[[True, False]], [[False, True]]])}
    >>> breed_masks(jax.random.key(0), masks, jnp.array([1.0, 2.0]), mutation=0.0)["w"][:, 0]
    Array([[False,  True],
           [False,  True]], dtype=bool)
    """
    check_fractions(mutation=mutation)
    k = count_candidates(masks)
    order = ranked_first(check_fitness(fitness, k))
    survivors = math.ceil(k / 2)
    children = k - survivors
    elite = jax.tree.map(lambda leaf: leaf[order[:survivors]], masks)
    if children == 0:
        return elite

    def child(key: jax.Array) -> PyTree:
        choose, cross, mutate = jax.random.split(key, 3)
        one, two = jax.random.randint(choose, (2,), 0, survivors)
        parents = [jax.tree.map(lambda leaf, i=i: leaf[i], elite) for i in (one, two)]
        crossed = crossover_masks(cross, *parents, layout=layout)
        return mutate_masks(mutate, crossed, mutation, layout=layout)

    born = jax.vmap(child)(jax.random.split(key, children))
    return jax.tree.map(lambda old, new: jnp.concatenate([old, new]), elite, born)


def _over_layers(
    function: Callable[..., jax.Array], layout: Layout, key: jax.Array, masks: PyTree, *others: PyTree
) -> PyTree:
    structure = jax.tree.structure(masks)
    keys = list(jax.random.split(key, structure.num_leaves))
    return structure.unflatten(each_layer(function, keys, layout, masks, *others))
