"""How fit candidates are: by their weights, by their accumulated gradients, or by both.

Shapes: K candidates on the leading axis of every stacked tree.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from pruning.masks.reading import plain_path
from pruning.trees.leaves import PyTree
from pruning.trees.precision import at_least_float32, sum_of

Fitness = Callable[[PyTree, PyTree, PyTree], jax.Array]


def weight_fitness(params: PyTree, gradient_sums: PyTree, masks: PyTree) -> jax.Array:
    r"""Mean magnitude of the kept weights: :math:`f_c = \frac{1}{n_c} \sum_{i\,kept} |w_{c,i}|`.

    Args:
        params: Stacked trained params, leading axis K.
        gradient_sums: Not used.
        masks: Stacked masks, leading axis K.

    Returns:
        The fitness of each candidate, shape (K,), float32 at least.

    Source: Haroon 2022 (arXiv 2209.02201), "magnitude of the weights".
    """
    del gradient_sums
    return _mean_of_kept(params, masks)


def gradient_fitness(params: PyTree, gradient_sums: PyTree, masks: PyTree) -> jax.Array:
    r"""Mean accumulated gradient of the kept weights: :math:`\frac{1}{n_c} \sum_{i\,kept} |G_{c,i}|`.

    With :math:`G = \sum_t |g_t|` from ``accumulate_gradients``, or :math:`G = \sum_t g_t` from
    ``accumulate_signed_gradients``: the two readings of "the gradient accumulated over an epoch".

    Args:
        params: Not used.
        gradient_sums: Stacked sums, leading axis K.
        masks: Stacked masks, leading axis K.

    Returns:
        The fitness of each candidate, shape (K,), float32 at least.

    Source: Haroon 2022 (arXiv 2209.02201).
    """
    del params
    return _mean_of_kept(gradient_sums, masks)


def combined_fitness(params: PyTree, gradient_sums: PyTree, masks: PyTree) -> jax.Array:
    r"""Weights and gradients together, each standardised over the candidates, then added.

    .. math:: f_c = \frac{a_c - \bar a}{\sigma_a} + \frac{b_c - \bar b}{\sigma_b}

    with a the ``weight_fitness`` and b the ``gradient_fitness``. A part that is the same for all
    candidates adds nothing; a candidate with a part that is not finite is left out of mean and
    deviation and gets NaN.

    Args:
        params: Stacked trained params, leading axis K.
        gradient_sums: Stacked sums, leading axis K.
        masks: Stacked masks, leading axis K.

    Returns:
        The fitness of each candidate, shape (K,), float32 at least.

    Source: Haroon 2022 (arXiv 2209.02201), "a combination of both"; the standardisation is ours.
    """
    return add_standardised(
        weight_fitness(params, gradient_sums, masks), gradient_fitness(params, gradient_sums, masks)
    )


def add_standardised(first: jax.Array, second: jax.Array) -> jax.Array:
    """Adds two fitnesses after bringing each to mean 0 and deviation 1 over the candidates.

    The sum under ``combined_fitness``, for fitnesses that are known already.

    Args:
        first: Shape (K,).
        second: Shape (K,).

    Returns:
        Shape (K,); NaN where either is not finite.

    Raises:
        ValueError: If they are not of one shape (K,).
    """
    first, second = jnp.asarray(first), jnp.asarray(second)
    if first.ndim != 1 or first.shape != second.shape:
        raise ValueError(
            f"expected two fitnesses of one shape (K,), got {first.shape} and {second.shape}"
        )
    return sum_of([_standardised(first), _standardised(second)])


def _mean_of_kept(values: PyTree, masks: PyTree) -> jax.Array:
    """Mean of ``|value|`` over the kept weights of each candidate, shape (K,)."""
    of_path = {plain_path(path): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(values)}
    sums, counts = [], []
    for path, mask in jax.tree_util.tree_leaves_with_path(masks):
        value = of_path.get(plain_path(path))
        if value is None or jnp.shape(value) != mask.shape:
            got = f"{', '.join(list(of_path)[:4])}, ..." if value is None else f"shape {jnp.shape(value)}"
            raise ValueError(
                f"expected values of shape {mask.shape} at {plain_path(path)}, where the masks are, got "
                f"{got}; train_fn returns params, and gradient sums, shaped like the params that the "
                "search was given"
            )
        axes = tuple(range(1, mask.ndim))
        size = jnp.abs(value.astype(at_least_float32(value.dtype)))
        sums.append(jnp.sum(jnp.where(mask, size, 0), axis=axes))
        counts.append(jnp.sum(mask, axis=axes, dtype=jnp.int32))
    if not sums:
        raise ValueError("expected masks of at least one leaf, over which fitness is a mean, got none")
    total = sum_of(sums)
    return total / sum(counts, start=jnp.int32(0)).astype(total.dtype)


def _standardised(values: jax.Array) -> jax.Array:
    values = values.astype(at_least_float32(values.dtype))
    values = jnp.where(jnp.isfinite(values), values, jnp.nan)
    # Of two candidates each becomes exactly 1 or -1, so that fitnesses which disagree about them tie;
    # without this, rounding of nearly equal values would decide.
    values = values - jnp.nanmin(values)
    # Into [0, 1), since squares of what is far from 1 leave the range of float32; a power of two rounds
    # nothing.
    _, exponent = jnp.frexp(jnp.nanmax(values))
    values = jnp.ldexp(values, -exponent)
    deviation = jnp.nanstd(values)
    centred = values - jnp.nanmean(values)
    return jnp.where(deviation > 0, centred / jnp.where(deviation > 0, deviation, 1), centred * 0)
