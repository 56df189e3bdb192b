"""Random scores, and masks at random: what every method is compared with."""

import jax
import jax.numpy as jnp

from pruning.allocations.uniform import uniform
from pruning.masks.selection import layerwise_masks
from pruning.trees.leaves import Prunable, PyTree, Scalar, prunable, prunable_params
from pruning.trees.placement import placed_as


def random_scores(key: jax.Array, params: PyTree, *, prunable: Prunable = prunable) -> PyTree:
    r"""Scores without information: :math:`z_i \sim U(0, 1)`.

    Args:
        key: A typed PRNG key (``jax.random.key``).
        params: Any pytree of arrays.
        prunable: ``prunable(path, leaf)`` says which leaves may be pruned.

    Returns:
        A tree of float32 scores; a layer's scores depend on the key and the layer's place in the
        tree alone.

    Raises:
        ValueError: If no leaf is prunable.
    """
    leaves, structure = jax.tree.flatten(prunable_params(params, prunable))
    return structure.unflatten(
        [
            placed_as(jax.random.uniform(jax.random.fold_in(key, index), leaf.shape, jnp.float32), leaf)
            for index, leaf in enumerate(leaves)
        ]
    )


def random_masks(
    key: jax.Array,
    params: PyTree,
    sparsity: Scalar,
    *,
    allocation=uniform,
    prunable: Prunable = prunable,
) -> PyTree:
    """Prunes at random, with an exact number of weights removed in each layer.

    Args:
        key: A typed PRNG key (``jax.random.key``).
        params: Any pytree of arrays.
        sparsity: Fraction of prunable weights to remove, in [0, 1).
        allocation: ``allocation(params, sparsity, prunable=prunable)`` gives each layer its
            sparsity; ``pruning.uniform`` gives all the same.
        prunable: ``prunable(path, leaf)`` says which leaves may be pruned.

    Returns:
        A tree of masks.

    Raises:
        ValueError: If the sparsity is outside [0, 1) or no leaf is prunable.

    >>> masks = random_masks(jax.random.key(0), {"kernel": jnp.ones((4, 5))}, 0.75)
    >>> int(masks["kernel"].sum())
    5
    """
    sparsities = allocation(params, sparsity, prunable=prunable)
    return layerwise_masks(random_scores(key, params, prunable=prunable), sparsities)
