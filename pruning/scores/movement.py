"""Scores from what training has done to a weight since the start.

``movement_scores`` say how far it has moved, ``displacement_scores`` how far relative to where it began,
``magnitude_increase_scores`` how much larger it has become.
"""

import jax
import jax.numpy as jnp

from pruning.scores.binary_scaling import score_dtype
from pruning.trees.leaves import Prunable, PyTree, prunable, prunable_pair
from pruning.trees.precision import at_least_float32


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


def _wide_enough(leaf: jax.Array) -> jax.Array:
    """In a dtype that holds differences: those of 8-bit floats are few, and may be NaN."""
    return leaf.astype(score_dtype(leaf.dtype))
