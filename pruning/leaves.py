"""Which leaves of a tree may be pruned, and how they are told from the rest."""

from collections.abc import Callable
from typing import Any

import jax
import jax.core
import jax.numpy as jnp

PyTree = Any
Path = tuple[Any, ...]
Prunable = Callable[[Path, Any], bool]
Scalar = float | jax.Array


def is_none(leaf: Any) -> bool:
    """Whether ``leaf`` is ``None``: the ``is_leaf`` with which trees of masks are mapped over."""
    return leaf is None


def is_traced(value: Any) -> bool:
    """Whether ``value`` is abstract (inside ``jit``, ``vmap``, ...), so that it cannot be read."""
    return isinstance(value, jax.core.Tracer)


def prunable(path: Path, leaf: Any) -> bool:
    """The default predicate: floating-point leaves of at least two dimensions.

    This takes in the kernels of dense and convolutional layers and leaves out biases, the scales of
    normalisation layers, counters and keys. Write your own with the same signature to choose
    otherwise.

    Args:
        path: The leaf's key path, as ``jax.tree_util.tree_map_with_path`` gives it.
        leaf: An array, or anything with ``ndim`` and ``dtype``.

    Returns:
        Whether the leaf may be pruned.
    """
    del path
    return getattr(leaf, "ndim", 0) >= 2 and jnp.issubdtype(leaf.dtype, jnp.floating)


def prunable_params(params: PyTree, prunable: Prunable = prunable) -> PyTree:
    """Replaces every leaf that is not prunable, or has no weights at all, by ``None``.

    Args:
        params: Any pytree of arrays.
        prunable: ``prunable(path, leaf)`` says which leaves may be pruned.

    Returns:
        A tree shaped like masks, with the prunable leaves of ``params`` in it.

    Raises:
        ValueError: If no leaf is prunable.
    """
    chosen = jax.tree_util.tree_map_with_path(
        lambda path, leaf: leaf if prunable(path, leaf) and leaf.size else None, params
    )
    if not jax.tree.leaves(chosen):
        paths = [jax.tree_util.keystr(path) for path, _ in jax.tree_util.tree_leaves_with_path(params)]
        raise ValueError(
            "expected params with at least one prunable leaf (by default: floating point, ndim >= 2), "
            + (f"but none of {', '.join(paths[:8])} is one" if paths else "got a tree without leaves")
            + "; pass the params collection itself, or your own prunable(path, leaf)"
        )
    return chosen


def prunable_pair(
    params: PyTree, other: PyTree, name: str, prunable: Prunable = prunable
) -> tuple[PyTree, PyTree]:
    """The prunable leaves of two trees that must match.

    Args:
        params: Any pytree of arrays.
        other: The same tree with other values.
        name: What an error calls it.
        prunable: ``prunable(path, leaf)`` says which leaves may be pruned.

    Returns:
        Two trees shaped like masks.

    Raises:
        ValueError: If the trees differ in structure or shapes, or no leaf is prunable.
    """
    first, second = (prunable_params(tree, prunable) for tree in (params, other))
    if jax.tree.structure(first) != jax.tree.structure(second):
        raise ValueError(
            f"expected params and {name} of one structure, got {jax.tree.structure(first)} and "
            f"{jax.tree.structure(second)}"
        )
    found = jax.tree_util.tree_leaves_with_path(second)
    for leaf, (path, counterpart) in zip(jax.tree.leaves(first), found, strict=True):
        if leaf.shape != counterpart.shape:
            where = jax.tree_util.keystr(path)
            raise ValueError(f"expected {name} of shape {leaf.shape} at {where}, got {counterpart.shape}")
    return first, second


def split_prunable(
    params: PyTree, prunable: Prunable = prunable
) -> tuple[PyTree, Callable[[PyTree], PyTree]]:
    """Takes the prunable leaves out, and says how to put others in their place.

    Args:
        params: Any pytree of arrays.
        prunable: ``prunable(path, leaf)`` says which leaves may be pruned.

    Returns:
        The prunable leaves, a tree shaped like masks, and ``merge(weights) -> params`` with such a tree
        in the place of the prunable leaves.

    Raises:
        ValueError: If no leaf is prunable.
    """

    def merge(weights: PyTree) -> PyTree:
        return jax.tree.map(
            lambda weight, leaf: leaf if weight is None else weight, weights, params, is_leaf=is_none
        )

    return prunable_params(params, prunable), merge
