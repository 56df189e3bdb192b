"""Which leaves of a tree may be pruned, and how they are told from the rest."""

from collections.abc import Callable
from typing import Any

import jax
import jax.core
import jax.numpy as jnp

from pruning.trees.differences import first_difference
from pruning.trees.naming import are_names, is_auxiliary, is_named, leaf_paths

PyTree = Any
Path = tuple[Any, ...]
Prunable = Callable[[Path, Any], bool]
Scalar = float | jax.Array


def is_none(leaf: Any) -> bool:
    """Whether ``leaf`` is ``None``: the ``is_leaf`` with which trees of masks are mapped over."""
    return leaf is None


def is_float(leaf: Any) -> bool:
    """Whether a leaf is a float or an array of floats; counters, keys and functions are not."""
    if hasattr(leaf, "dtype"):
        return bool(jnp.issubdtype(leaf.dtype, jnp.floating))
    return isinstance(leaf, float)


LIMIT = 2**31
"""Weights that are counted together are fewer: counts are int32, as JAX has them by default."""


def check_countable(size: int) -> None:
    """Checks that so many weights can be counted in compiled code.

    Args:
        size: Of a layer, or of all that are ranked together.

    Raises:
        ValueError: If they are 2**31 or more.
    """
    if size >= LIMIT:
        raise ValueError(
            f"expected fewer than 2**31 weights to be counted together, got {size}: rank them in parts "
            "(pruning.layerwise_masks; a layout that says which axes are layers; another prunable)"
        )


def check_is_array(path: Path, leaf: Any) -> None:
    """Checks that a leaf with weights is an array itself, and no variable that holds one.

    Args:
        path: The leaf's key path.
        leaf: What is there.

    Raises:
        ValueError: If it has no dtype, as functions and numbers, or no size, as Keras's variables.
    """
    if all(hasattr(leaf, name) for name in ("dtype", "shape", "size")):
        return
    holds_one = hasattr(leaf, "dtype")
    mend = "give what it holds (variable.value)" if holds_one else "leave it out by prunable(path, leaf)"
    where = jax.tree_util.keystr(path)
    raise ValueError(f"expected an array at {where}, got a {type(leaf).__name__}: {mend}")


def is_traced(value: Any) -> bool:
    """Whether ``value`` is abstract (inside ``jit``, ``vmap``, ...), so that it cannot be read."""
    return isinstance(value, jax.core.Tracer)


def prunable(path: Path, leaf: Any) -> bool:
    """The default predicate: the kernels of a network, by shape and by name.

    Floating-point leaves of at least two dimensions whose name is not that of a bias, the scale or a
    running statistic of a normalisation layer, a class token or a position embedding. The names are those
    of Flax, Equinox, Haiku, Keras and PyTorch (``naming.py`` lists them); a leaf called ``b`` is a bias
    only beside a ``w``. The embeddings of words are kernels.

    Others to pass as ``prunable=`` wherever there is one: ``prunable_by_shape``, ``prunable_under`` and
    ``prunable_except`` of names, or any function with this signature.

    Args:
        path: The leaf's key path, as ``jax.tree_util.tree_map_with_path`` gives it. The functions of this
            library pass one that also knows the names beside it, without which ``b`` is a kernel.
        leaf: An array, or anything with ``ndim`` and ``dtype``.

    Returns:
        Whether the leaf may be pruned.

    >>> attention = {"kernel": jnp.ones((16, 4, 4)), "bias": jnp.ones((4, 4))}
    >>> jax.tree_util.tree_map_with_path(prunable, attention)
    {'bias': False, 'kernel': True}
    """
    return prunable_by_shape(path, leaf) and not is_auxiliary(path)


def prunable_by_shape(path: Path, leaf: Any) -> bool:
    """A predicate that no name matters to: all floating-point leaves of at least two dimensions.

    Args:
        path: Not used.
        leaf: An array, or anything with ``ndim`` and ``dtype``.

    Returns:
        Whether the leaf may be pruned.

    >>> prunable_by_shape((), jnp.ones((1, 4)))
    True
    """
    del path
    return getattr(leaf, "ndim", 0) >= 2 and jnp.issubdtype(leaf.dtype, jnp.floating)


def prunable_under(*names: str) -> Prunable:
    """A predicate for parts of a network: what ``prunable`` takes, at or below the given names.

    Args:
        *names: Of modules or leaves, as they stand in the path: ``"encoder"``, ``"kernel"``,
            ``"mlp/~/linear_1"``.

    Returns:
        A predicate.

    Raises:
        ValueError: If there is no name.

    >>> params = {"encoder": {"kernel": jnp.ones((2, 2))}, "head": {"kernel": jnp.ones((2, 2))}}
    >>> jax.tree_util.tree_map_with_path(prunable_under("encoder"), params)
    {'encoder': {'kernel': True}, 'head': {'kernel': False}}
    """
    _check_names(names)
    return lambda path, leaf: prunable(path, leaf) and is_named(path, names)


def prunable_except(*names: str) -> Prunable:
    """A predicate that leaves parts of a network dense: what ``prunable`` takes, elsewhere.

    Args:
        *names: Of modules or leaves, as they stand in the path: ``"head"``, ``"embedding"``,
            ``"mlp/~/linear_1"``.

    Returns:
        A predicate.

    Raises:
        ValueError: If there is no name.

    >>> params = {"encoder": {"kernel": jnp.ones((2, 2))}, "head": {"kernel": jnp.ones((2, 2))}}
    >>> jax.tree_util.tree_map_with_path(prunable_except("head"), params)
    {'encoder': {'kernel': True}, 'head': {'kernel': False}}
    """
    _check_names(names)
    return lambda path, leaf: prunable(path, leaf) and not is_named(path, names)


def _check_names(names: tuple[str, ...]) -> None:
    if not names or not are_names(names):
        raise ValueError(f'expected names of modules or leaves, such as "head", got {names}')


def map_with_leaf_path(function: Callable[..., Any], tree: PyTree, *others: PyTree) -> PyTree:
    """As ``jax.tree_util.tree_map_with_path``, with paths that know what stands beside the leaf.

    Args:
        function: ``function(path, leaf, *leaves)``.
        tree: Any pytree.
        *others: Trees that have the same structure.

    Returns:
        The tree of the results.
    """
    found, structure = jax.tree_util.tree_flatten_with_path(tree)
    paths = leaf_paths([path for path, _ in found])
    columns = [[leaf for _, leaf in found], *(structure.flatten_up_to(other) for other in others)]
    return structure.unflatten([function(*row) for row in zip(paths, *columns, strict=True)])


def prunable_params(params: PyTree, prunable: Prunable = prunable) -> PyTree:
    """Replaces every leaf that is not prunable, or has no weights at all, by ``None``.

    Args:
        params: Any pytree of arrays.
        prunable: ``prunable(path, leaf)`` says which leaves may be pruned.

    Returns:
        A tree shaped like masks, with the prunable leaves of ``params`` in it.

    Raises:
        ValueError: If no leaf is prunable, or one is no array.
    """

    def choose(path: Path, leaf: Any) -> Any:
        if not prunable(path, leaf):
            return None
        check_is_array(path, leaf)
        return leaf if leaf.size else None

    chosen = map_with_leaf_path(choose, params)
    if not jax.tree.leaves(chosen):
        paths = [jax.tree_util.keystr(path) for path, _ in jax.tree_util.tree_leaves_with_path(params)]
        raise ValueError(
            "expected params with at least one prunable leaf (by default: a kernel, that is "
            "floating point, ndim >= 2, and no bias, scale or position embedding by its name), "
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
    if other is None and params is not None:
        raise ValueError(f"expected {name} of the structure of params, got None")
    first, second = (prunable_params(tree, prunable) for tree in (params, other))
    if jax.tree.structure(first) != jax.tree.structure(second):
        raise ValueError(
            f"expected params and {name} of one structure, got {first_difference(first, second)}"
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
