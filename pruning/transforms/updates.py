"""What transformations do in ``update``: updates that take pruned weights to zero."""

from typing import Any

import jax
import jax.numpy as jnp

from pruning.masks.tree import map_masks
from pruning.trees.leaves import PyTree, is_none
from pruning.trees.precision import wider


def require_params(params: PyTree, name: str) -> None:
    """Checks that ``update`` was given the params.

    Args:
        params: What it was given.
        name: The transformation.

    Raises:
        ValueError: If they are None.
    """
    if params is None:
        raise ValueError(
            f"{name} needs the params: call update(updates, state, params), also on the chain around it"
        )


def zero_pruned(updates: PyTree, params: PyTree, masks: PyTree) -> PyTree:
    """Replaces the updates of pruned weights by what takes them to zero.

    Args:
        updates: The updates of all params.
        params: The params.
        masks: A tree of masks.

    Returns:
        The updates, ``-w`` where pruned; in the longer of the dtypes of update and weight. (Updates
        in a shorter dtype than the weights cannot both keep it and be exact; a wrapper that
        branches on dtypes, such as ``optax.apply_if_finite``, refuses that combination.)
    """

    def zeroed(mask: Any, update: Any, weight: Any) -> Any:
        if mask is None:
            return update
        # Promoted, not cast: -w rounded to a shorter dtype would not take w to zero.
        dtype = wider(update.dtype, weight.dtype)
        return jnp.where(mask, update.astype(dtype), -weight.astype(dtype))

    return jax.tree.map(zeroed, masks, updates, params, is_leaf=is_none)


def after_update(params: PyTree, updates: PyTree, masks: PyTree) -> PyTree:
    """The weights as the optimizer's update alone would leave them.

    Args:
        params: The params.
        updates: The updates of all params.
        masks: A tree of masks; only leaves that have one are computed.

    Returns:
        A tree like masks, in the params' dtypes.
    """

    def added(_: Any, weight: Any, update: Any) -> Any:
        dtype = wider(update.dtype, weight.dtype)
        return (weight.astype(dtype) + update.astype(dtype)).astype(weight.dtype)

    return map_masks(added, masks, params, updates)
