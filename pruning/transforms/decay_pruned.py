"""SR-STE: weights behind a mask decay, so that the mask comes to rest."""

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax

from pruning.masks.reading import fit_masks
from pruning.masks.tree import check_masks
from pruning.transforms.updates import require_params
from pruning.trees.counts import may_be
from pruning.trees.leaves import PyTree, Scalar, is_none
from pruning.trees.precision import wider


def decay_pruned(
    decay: Scalar, mask_fn: Callable[[PyTree], PyTree]
) -> optax.GradientTransformationExtraArgs:
    r"""Adds to the gradient of pruned weights their decay: :math:`g + \lambda (1 - m) \odot w`.

    First in a chain, with gradients that pass the mask straight through (``straight_through``).

    Args:
        decay: :math:`\lambda \ge 0`. The paper's: 2e-4.
        mask_fn: ``mask_fn(params)`` gives the masks of the step, as the loss made them: of N:M,
            ``lambda params: n_m_masks(magnitude_scores(params), 2, 4)``. (Under
            ``optax.inject_hyperparams`` it needs ``static_args=("mask_fn",)``.)

    Returns:
        A transformation without state. It needs ``params`` in ``update``.

    Raises:
        ValueError: If the decay is below 0, infinite or no number; from ``update`` without params, or if
            the masks do not fit.

    Source: Zhou et al. 2021 (arXiv 2102.04010), equation 7.

    >>> tx = decay_pruned(0.5, lambda params: {"w": jnp.abs(params["w"]) > 1})
    >>> params = {"w": jnp.array([[4.0, 1.0]])}
    >>> tx.update({"w": jnp.ones((1, 2))}, tx.init(params), params)[0]
    {'w': Array([[1. , 1.5]], dtype=float32)}
    """
    if not may_be(decay, lambda number: 0 <= number < math.inf):
        raise ValueError(f"decay must be at least 0 and finite, got {decay!r}")

    def init_fn(params: PyTree) -> optax.EmptyState:
        del params
        return optax.EmptyState()

    def update_fn(updates, state, params=None, **extra_args):
        del extra_args
        require_params(params, "decay_pruned")
        masks = fit_masks(mask_fn(params), params)
        check_masks(masks, params)

        def with_decay(mask, update, weight):
            if mask is None:
                return update
            dtype = wider(weight.dtype, update.dtype)  # In a short one a small decay would round to 0.
            decayed = jnp.asarray(decay, dtype) * weight.astype(dtype)
            return jnp.where(mask, update, update + decayed.astype(update.dtype))

        return jax.tree.map(with_decay, masks, updates, params, is_leaf=is_none), state

    return optax.GradientTransformationExtraArgs(init_fn, update_fn)
