"""The mask pytree: which weights of a network are kept.

A tree of masks is shaped like the params: a bool array (True = kept) where a leaf is prunable,
``None`` where it is not. Masks are data: they pass through ``jit``, ``vmap``, ``scan`` and ``grad``
like any array, and every function here is pure.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.core
import jax.numpy as jnp
import numpy as np

from pruning.masks.reading import fit_masks
from pruning.trees.differences import first_difference
from pruning.trees.layout import Layout, flax_layout, unstacked
from pruning.trees.leaves import (
    Prunable,
    PyTree,
    check_countable,
    check_is_array,
    is_none,
    is_traced,
    prunable,
    prunable_params,
)
from pruning.trees.placement import copied


def map_masks(function: Callable[..., Any], masks: PyTree, *trees: PyTree) -> PyTree:
    """Maps ``function`` over the masks that are there, and keeps ``None`` where there is none.

    Args:
        function: Called as ``function(mask, *leaves)``.
        masks: A tree of masks, or any tree that is ``None`` where a leaf is not prunable.
        *trees: Trees shaped like ``masks`` or like the params.

    Returns:
        A tree shaped like ``masks``.
    """
    return jax.tree.map(
        lambda mask, *leaves: None if mask is None else function(mask, *leaves),
        masks,
        *trees,
        is_leaf=is_none,
    )


def full_masks(params: PyTree, *, prunable: Prunable = prunable) -> PyTree:
    """The masks of the dense network: every prunable weight is kept.

    Args:
        params: Any pytree of arrays.
        prunable: ``prunable(path, leaf)`` says which leaves may be pruned.

    Returns:
        A tree of masks, all True.

    Raises:
        ValueError: If no leaf is prunable.

    >>> full_masks({"kernel": jnp.ones((1, 2)), "bias": jnp.ones(2)})
    {'bias': None, 'kernel': Array([[ True,  True]], dtype=bool)}
    """
    return jax.tree.map(lambda leaf: jnp.ones_like(leaf, dtype=bool), prunable_params(params, prunable))


def check_masks(masks: PyTree, params: PyTree) -> None:
    """Checks that ``masks`` fit ``params``: same structure, same shapes, bool leaves.

    Looks at structure, shapes and dtypes alone, so it costs nothing under ``jit``.

    Args:
        masks: A tree of masks.
        params: The params that they are meant for.

    Raises:
        ValueError: At the first leaf that does not fit, with its path.
    """
    flatten = jax.tree_util.tree_flatten_with_path
    found, mask_structure = flatten(masks, is_leaf=is_none)
    expected, params_structure = flatten(params, is_leaf=is_none)
    keystr = jax.tree_util.keystr
    if mask_structure != params_structure:
        raise ValueError(
            "expected masks with the structure of the params, got (masks against params) "
            f"{first_difference(masks, params)}; make them with pruning.full_masks(params) or from "
            "scores of the same params"
        )
    for (path, mask), (_, leaf) in zip(found, expected, strict=True):
        if mask is None:
            continue
        if leaf is None:
            raise ValueError(
                f"expected no mask at {keystr(path)}, where the other tree (params, or scores) has None: "
                "if one was made with a predicate of yours, pass the same prunable= everywhere"
            )
        dtype = getattr(mask, "dtype", type(mask).__name__)
        if dtype != jnp.bool_:
            raise ValueError(f"expected a bool mask at {keystr(path)}, got {dtype}")
        check_is_array(path, leaf)
        if jnp.shape(mask) != jnp.shape(leaf):
            raise ValueError(
                f"expected a mask of shape {jnp.shape(leaf)} at {keystr(path)}, got {jnp.shape(mask)}"
            )
    if all(mask is None for _, mask in found):
        raise ValueError("expected at least one mask, got a tree with none: nothing is prunable")


def check_alike(masks: PyTree, other: PyTree) -> None:
    """Checks that masks fit another tree of masks, or scores, of the same prunable leaves.

    Args:
        masks: A tree of masks.
        other: A tree like masks; unlike for params, ``None`` must stand at the same places.

    Raises:
        ValueError: At the first leaf that does not fit, with its path.
    """
    check_masks(masks, other)
    found = jax.tree_util.tree_leaves_with_path(masks, is_leaf=is_none)
    expected = jax.tree.leaves(other, is_leaf=is_none)
    for (path, mask), leaf in zip(found, expected, strict=True):
        if mask is None and leaf is not None:
            where = jax.tree_util.keystr(path)
            raise ValueError(
                f"expected a mask at {where}, where the other tree has a leaf, got None: if one was made "
                "with a predicate of yours, pass the same prunable= everywhere"
            )


def apply_masks(params: PyTree, masks: PyTree) -> PyTree:
    r"""Sets pruned weights to exactly zero: :math:`w_i \mapsto w_i` if kept, else :math:`0`.

    A selection, not a product: NaN and -0.0 would leak through a product. The gradient of a pruned
    weight through it is zero.

    Args:
        params: Any pytree of arrays.
        masks: Masks of that tree.

    Returns:
        The masked params. No array in them is one of ``params``, so a step that donates them leaves
        ``params`` to be masked, and rewound to, again; leaves that are no arrays are passed on.

    Raises:
        ValueError: If the masks do not fit the params (``check_masks``).

    >>> apply_masks({"w": jnp.array([[1.0, 2.0]])}, {"w": jnp.array([[True, False]])})
    {'w': Array([[1., 0.]], dtype=float32)}
    """
    masks = fit_masks(masks, params)
    check_masks(masks, params)
    return jax.tree.map(
        lambda mask, leaf: (
            copied(leaf) if mask is None else jnp.where(mask, leaf, jnp.zeros_like(leaf, shape=()))
        ),
        masks,
        params,
        is_leaf=is_none,
    )


def intersect_masks(masks: PyTree, *others: PyTree) -> PyTree:
    """Keeps what every one of the given masks keeps.

    Args:
        masks: A tree of masks.
        *others: More masks of the same params.

    Returns:
        A tree of masks, the elementwise conjunction.

    Raises:
        ValueError: If the trees differ in structure or shapes.
    """
    for other in others:
        other = fit_masks(other, masks)
        check_alike(other, masks)
        masks = map_masks(jnp.logical_and, masks, other)
    return masks


def count_kept(masks: PyTree) -> Any:
    """Counts the kept weights.

    Args:
        masks: A tree of masks.

    Returns:
        An int, or an int32 scalar where the masks are traced.

    Raises:
        ValueError: If they are traced and have 2**31 weights or more.
    """
    leaves = jax.tree.leaves(masks)
    if any(is_traced(mask) for mask in leaves):
        check_countable(sum(math.prod(mask.shape) for mask in leaves))
        return sum((jnp.sum(mask, dtype=jnp.int32) for mask in leaves), start=jnp.int32(0))
    return sum(int(np.count_nonzero(np.asarray(mask))) for mask in leaves)


def count_prunable(masks: PyTree) -> int:
    """Counts the prunable weights, kept or not.

    Args:
        masks: A tree of masks, or of scores.

    Returns:
        The number of weights that have a mask.

    Raises:
        ValueError: If there are none.
    """
    size = sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(masks))
    if size == 0:
        raise ValueError("expected at least one prunable weight, got a tree with none")
    return size


def sparsity(masks: PyTree) -> Any:
    """The fraction of prunable weights that is removed.

    Args:
        masks: A tree of masks.

    Returns:
        A float in [0, 1], or a float32 scalar where the masks are traced.

    Raises:
        ValueError: If there is no mask in the tree.

    >>> sparsity({"kernel": jnp.array([[True, False, False, False]]), "bias": None})
    0.75
    """
    size = count_prunable(masks)
    removed = size - count_kept(masks)
    if is_traced(removed):
        # By a number that it knows XLA divides in a way that may be off in the last digit, and then
        # ``pruned_count`` would not find the count again.
        return removed.astype(jnp.float32) / jax.lax.optimization_barrier(jnp.float32(size))
    return removed / size


class LayerRow(NamedTuple):
    """One layer of a report: counts are weights, sparsity is the fraction removed."""

    path: str
    shape: tuple[int, ...]
    kept: int
    size: int
    sparsity: float


def layer_report(params: PyTree, masks: PyTree, *, layout: Layout = flax_layout) -> Sequence[LayerRow]:
    """What the masks keep in each layer.

    Args:
        params: Any pytree of arrays.
        masks: Concrete masks of that tree.
        layout: ``layout(path, leaf)`` says which axes are layers (``pruning.trees.layout``).

    Returns:
        A row for each layer, in tree order: path, shape, kept, size, sparsity. A leaf is a layer; one of
        stacked layers has a row for each, whose path ends in its index.

    Raises:
        ValueError: If the masks do not fit the params, or are traced.
    """
    masks = fit_masks(masks, params)
    check_masks(masks, params)
    if any(is_traced(mask) for mask in jax.tree.leaves(masks)):
        raise ValueError("layer_report needs concrete masks: call it outside jit and vmap")
    rows = []
    for path, mask in unstacked(layout, masks).items():
        kept, size = count_kept(mask), math.prod(mask.shape)
        removed = 1 - kept / size if size else 0.0
        rows.append(LayerRow(path=path, shape=mask.shape, kept=kept, size=size, sparsity=removed))
    return rows
