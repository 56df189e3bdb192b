"""What transformations do in ``init``: masks and prunable leaves with which a state begins."""

import contextlib
from typing import Any

import jax
import jax.numpy as jnp
import optax

from pruning.masks.reading import fit_masks
from pruning.masks.tree import check_masks, map_masks
from pruning.trees.leaves import Prunable, PyTree, is_none, prunable_params
from pruning.trees.leaves import prunable as default_prunable
from pruning.trees.placement import placed_as
from pruning.trees.precision import check_zero


def is_placeholder(params: PyTree) -> bool:
    """Whether optax is only asking for the structure of a state (``optax.tree.map_params``).

    It does so with one node without children in the place of the params, and the state must hold it
    wherever it holds something shaped like the params.
    """
    containers = (dict, list, tuple, type(None))
    return not isinstance(params, containers) and not jax.tree.leaves(params)


def without_hidden(params: PyTree) -> PyTree:
    """Puts ``None`` where ``optax.masked`` or ``optax.partition`` hides a leaf from a transformation.

    Args:
        params: What ``init`` was given.

    Returns:
        The params that are this transformation's to prune.
    """

    def is_hidden(node: Any) -> bool:
        return isinstance(node, optax.MaskedNode)

    return jax.tree.map(lambda leaf: None if is_hidden(leaf) else leaf, params, is_leaf=is_hidden)


def first_masks(masks: PyTree, params: PyTree, prunable: Prunable | None) -> PyTree:
    """The masks with which a transformation's state begins.

    Args:
        masks: The caller's, or None for those of the dense network.
        params: What ``init`` was given.
        prunable: The caller's predicate, or None for ``pruning.prunable``.

    Returns:
        Masks that lie on devices as the params do and share no buffer with the caller's.

    Raises:
        ValueError: If they do not fit, or nothing is prunable.
    """
    if masks is not None:
        return own_masks(masks, without_hidden(params))
    chosen = own_prunable(params, prunable)
    return jax.tree.map(lambda leaf: jnp.ones_like(leaf, dtype=bool), chosen)


def own_prunable(params: PyTree, prunable: Prunable | None) -> PyTree:
    """The prunable leaves of what ``init`` was given.

    Args:
        params: What ``init`` was given.
        prunable: The caller's predicate, or None for ``pruning.prunable``.

    Returns:
        A tree like masks.

    Raises:
        ValueError: If nothing is prunable, or the dtype of a weight has no zero.
    """
    params = without_hidden(params)
    try:
        chosen = prunable_params(params, default_prunable if prunable is None else prunable)
    except ValueError as error:
        raise ValueError(_flat_message(params)) if _is_flat(params) else error from None
    jax.tree_util.tree_map_with_path(check_zero, chosen)
    return chosen


def own_masks(masks: PyTree, params: PyTree) -> PyTree:
    """The caller's masks for a transformation's state: checked, copied, and placed as the params are.

    Copied, because a step that donates the state would otherwise delete the caller's masks.

    Args:
        masks: A tree of masks.
        params: From ``without_hidden``; a mask of what is hidden is left out.

    Returns:
        Masks of the params.

    Raises:
        ValueError: If the masks do not fit.
    """
    if _is_flat(params) and getattr(masks, "shape", None) != params.shape:
        raise ValueError(_flat_message(params))
    if any(leaf is None for leaf in jax.tree.leaves(params, is_leaf=is_none)):
        # Hidden may be a leaf or all of a subtree. Masks of another structure are refused below.
        with contextlib.suppress(ValueError):
            masks = jax.tree.map(lambda p, m: None if p is None else m, params, masks, is_leaf=is_none)
    masks = fit_masks(masks, params)
    check_masks(masks, params)
    jax.tree_util.tree_map_with_path(check_zero, map_masks(lambda _, leaf: leaf, masks, params))
    return map_masks(placed_as, masks, params)


def _is_flat(params: PyTree) -> bool:
    return getattr(params, "ndim", 0) == 1


def _flat_message(params: PyTree) -> str:
    return (
        f"expected a tree of params, got one flat array of shape {params.shape}: if that is "
        "optax.flatten's, put the pruning transformation around it, optax.chain(optax.flatten("
        "optimizer), ...), where it sees the layers"
    )
