"""By how much layers of positive weights let a flow grow, and powers of two that undo it."""

import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from pruning.scores.binary_scaling import power_of_two, widened

# Added before rounding, in turn, so that what rounding leaves does not add up with depth. Few, so that
# XLA compiles the same program for most layers of one shape.
_DITHER = (-0.375, 0.125, -0.125, 0.375)


def balance(leaves: Sequence[jax.Array], degree: Sequence[int], holds: jax.Array) -> tuple:
    """Multiplies layers by powers of two that give every one a gain near 1.

    Args:
        leaves: Weights, none negative.
        degree: How many times a path passes through each leaf: a stack of layers has several.
        holds: Whether to do so, a bool scalar; else all are multiplied by 1.

    Returns:
        The layers, and the exponent of the power of two that a product along a path is larger by.
    """
    shifts = [
        jnp.where(holds, _shift(leaf, times, _DITHER[place % len(_DITHER)]), np.int32(0))
        for place, (leaf, times) in enumerate(zip(leaves, degree, strict=True))
    ]
    # Or XLA would compute them once more wherever they are used.
    shifts = jax.lax.optimization_barrier(shifts)
    balanced = [
        leaf * power_of_two(shift, leaf.dtype) for leaf, shift in zip(leaves, shifts, strict=True)
    ]
    return balanced, jnp.sum(jnp.stack(shifts) * np.asarray(degree, np.int32), dtype=jnp.int32)


def _shift(leaf: jax.Array, times: int, dither: float) -> jax.Array:
    """The exponent for one layer, such that its dtype holds the power."""
    info = jnp.finfo(leaf.dtype)
    shift = -jnp.round(_log2_gain(leaf, times) + np.float32(dither))
    return jnp.clip(shift, max(info.minexp, -126), min(info.maxexp - 1, 127)).astype(jnp.int32)


def _log2_gain(leaf: jax.Array, times: int) -> jax.Array:
    """Near the logarithm of the largest singular value of a layer; 0 of a layer of zeros.

    So of whichever axis is the input, and of one path or a diagonal as of a dense layer.
    """
    leaf = widened(leaf).astype(jnp.float32)
    largest = jnp.max(leaf)
    scaled = leaf / jnp.where(largest > 0, largest, jnp.ones_like(largest))
    stacked = times == leaf.shape[0] > 1 and leaf.ndim > 2
    matrix = _to_matrix(jnp.mean(scaled, 0) if stacked else scaled)
    means = _weighted_mean(jnp.sum(matrix, 0)) * _weighted_mean(jnp.sum(matrix, 1))
    found = jnp.log2(largest) + jnp.log2(means) / 2
    return jnp.where(jnp.isfinite(found), found, jnp.zeros_like(found))


def _to_matrix(kernel: jax.Array) -> jax.Array:
    """Summed over all axes but channels: the last two of a kernel, or the first two."""
    shape = kernel.shape
    if len(shape) < 2:
        return kernel.reshape(-1, 1)
    before, after = math.prod(shape[:-2]), math.prod(shape[2:])
    if before <= after:
        return jnp.sum(kernel, tuple(range(len(shape) - 2)))
    return jnp.sum(kernel, tuple(range(2, len(shape))))


def _weighted_mean(sums: jax.Array) -> jax.Array:
    """The mean of sums along an axis, weighted by themselves: what most of the flow sees."""
    total = jnp.sum(sums)
    return jnp.sum(sums * sums) / jnp.where(total == 0, jnp.ones_like(total), total)
