"""Scores: what each method thinks a weight is worth. The highest are kept, for every method.

A tree of scores is shaped like masks: a float array where a leaf is prunable, ``None`` elsewhere.
"""

import jax
import jax.numpy as jnp

from pruning.allocation import uniform
from pruning.binary_scaling import score_dtype
from pruning.leaves import Prunable, PyTree, Scalar, prunable, prunable_pair, prunable_params
from pruning.placement import placed_as
from pruning.precision import at_least_float32
from pruning.selection import layerwise_masks


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


def magnitude_scores(params: PyTree, *, prunable: Prunable = prunable) -> PyTree:
    r"""How large a weight is: :math:`z_i = |w_i|`.

    Args:
        params: Any pytree of arrays, at initialization or after training.
        prunable: ``prunable(path, leaf)`` says which leaves may be pruned.

    Returns:
        A tree of scores in the dtype of the params.

    Raises:
        ValueError: If no leaf is prunable.

    Source: Han et al. 2015 (arXiv 1506.02626).
    """
    return jax.tree.map(jnp.abs, prunable_params(params, prunable))


def displacement_scores(
    params: PyTree, initial_params: PyTree, *, prunable: Prunable = prunable
) -> PyTree:
    r"""How far a weight has moved, relative to where it began: :math:`z_i = |w_i - w^0_i| / |w^0_i|`.

    A weight that began at 0 scores 0 while it is there and infinity once it has left. Dissipating
    gradients removes the lowest; a band of ``fraction`` holds the weights with
    :math:`z_i \le` ``fraction``.

    Args:
        params: Any pytree of arrays, as they are now.
        initial_params: The same tree at the start.
        prunable: ``prunable(path, leaf)`` says which leaves may be pruned.

    Returns:
        A tree of scores in the dtype of the params, at least float32.

    Raises:
        ValueError: If the two trees do not match, or no leaf is prunable.

    Source: Haroon 2022 (arXiv 2209.02201), "within a fraction of their initial value". Unlike
    ``movement_scores``, relative to the initial weight.
    """
    now, initial = prunable_pair(params, initial_params, "initial_params", prunable)
    return jax.tree.map(relative_displacement, now, initial)


def movement_scores(params: PyTree, initial_params: PyTree, *, prunable: Prunable = prunable) -> PyTree:
    r"""How far a weight has moved: :math:`z_i = |w_i - w^0_i|`.

    ``displacement_scores`` are these relative to the initial weight.

    Args:
        params: Any pytree of arrays, as they are now.
        initial_params: The same tree at the start.
        prunable: ``prunable(path, leaf)`` says which leaves may be pruned.

    Returns:
        A tree of scores in the dtype of the params; float32 where that has 8 bits.

    Raises:
        ValueError: If the two trees do not match, or no leaf is prunable.

    Source: Zhou et al. 2019 (arXiv 1905.01067), criterion "movement".
    """
    now, initial = prunable_pair(params, initial_params, "initial_params", prunable)
    return jax.tree.map(lambda w, w0: jnp.abs(_wide_enough(w) - _wide_enough(w0)), now, initial)


def magnitude_increase_scores(
    params: PyTree, initial_params: PyTree, *, prunable: Prunable = prunable
) -> PyTree:
    r"""How much larger a weight has become: :math:`z_i = |w_i| - |w^0_i|`, of either sign.

    Args:
        params: Any pytree of arrays, as they are now.
        initial_params: The same tree at the start.
        prunable: ``prunable(path, leaf)`` says which leaves may be pruned.

    Returns:
        A tree of scores in the dtype of the params; float32 where that has 8 bits.

    Raises:
        ValueError: If the two trees do not match, or no leaf is prunable.

    Source: Zhou et al. 2019 (arXiv 1905.01067), criterion "magnitude increase".
    """
    now, initial = prunable_pair(params, initial_params, "initial_params", prunable)
    return jax.tree.map(lambda w, w0: jnp.abs(_wide_enough(w)) - jnp.abs(_wide_enough(w0)), now, initial)


def _wide_enough(leaf: jax.Array) -> jax.Array:
    """In a dtype that holds differences: those of 8-bit floats are few, and may be NaN."""
    return leaf.astype(score_dtype(leaf.dtype))


def relative_displacement(weights: jax.Array, initial: jax.Array) -> jax.Array:
    """The displacement score of one leaf, computed in float32 at least.

    Args:
        weights: A float array.
        initial: The same array at the start.

    Returns:
        ``|weights - initial| / |initial|``, 0 where nothing moved.

    Raises:
        ValueError: If the shapes differ.
    """
    if weights.shape != initial.shape:
        raise ValueError(f"expected weights of shape {initial.shape}, got {weights.shape}")
    dtype = at_least_float32(weights.dtype)
    moved = jnp.abs(weights.astype(dtype) - initial.astype(dtype))
    # Nothing is divided by 0 that has not moved: 0 / 0 is an alarm under jax_debug_nans.
    return moved / jnp.where(moved == 0, 1, jnp.abs(initial.astype(dtype)))


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
