"""K candidates side by side: trees of arrays with a leading axis, and what is the same for all.

A whole model (an Equinox module, say) has functions among its leaves. No mapping takes those: here they
are set aside, and put back.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from pruning.trees.counts import check_counts
from pruning.trees.leaves import PyTree


def map_candidates(
    function: Callable[[PyTree], PyTree], stacked: PyTree, chunk_size: int | None = None
) -> PyTree:
    """A function of each of the K, all at once or in chunks; what is no array is the same for all.

    Args:
        function: Of one candidate's part of ``stacked``.
        stacked: A tree of arrays with a leading axis of length K, and other leaves.
        chunk_size: How many at once; None for all.

    Returns:
        What the function returns, its arrays stacked.

    Raises:
        ValueError: If chunk_size < 1.
    """
    arrays, rest = _split(stacked)
    constant: list[Any] = []

    def arrays_of(one: PyTree) -> PyTree:
        found, others = _split(function(_joined(one, rest)))
        # Traced once or twice, with the same functions each time.
        constant[:] = [others]
        return found

    if chunk_size is None:
        found = jax.vmap(arrays_of)(arrays)
    else:
        check_counts(chunk_size=chunk_size)
        found = jax.lax.map(arrays_of, arrays, batch_size=chunk_size)
    return _joined(found, constant[0])


def take_candidates(stacked: PyTree, places: jax.Array) -> PyTree:
    """Some of the candidates, or one.

    Args:
        stacked: As for ``map_candidates``.
        places: Their indices, shape (n,) or ().

    Returns:
        The tree with the arrays of those.
    """
    return jax.tree.map(lambda leaf: leaf[places] if _is_array(leaf) else leaf, stacked)


def count_candidates(stacked: PyTree) -> int:
    """How many candidates a tree holds.

    Args:
        stacked: As for ``map_candidates``.

    Returns:
        K, the length of the leading axis of its arrays.

    Raises:
        ValueError: If there is no array, or they do not have one leading axis, or it is empty.
    """
    shapes = {
        jax.tree_util.keystr(path): np.shape(leaf)
        for path, leaf in jax.tree_util.tree_leaves_with_path(stacked)
        if _is_array(leaf)
    }
    lengths = {shape[:1] for shape in shapes.values()}
    if len(lengths) != 1 or lengths & {(), (0,)}:
        # Of each length one that has it, which says more than all arrays of a network.
        examples = {shape[:1]: f"{shape} at {path}" for path, shape in reversed(shapes.items())}
        raise ValueError(
            "expected arrays that have one leading axis with an entry for each candidate, "
            f"got {', '.join(examples.values()) or 'no arrays'}"
        )
    ((count,),) = lengths
    return count


def ranked_first(fitness: jax.Array) -> jax.Array:
    """The candidates from the fittest on; ties stay in their order, and what is not finite comes last.

    Args:
        fitness: Shape (K,), of any real dtype.

    Returns:
        Their indices, shape (K,), int32.
    """
    is_float = jnp.issubdtype(fitness.dtype, jnp.inexact)
    ranked = jnp.where(jnp.isfinite(fitness), fitness, -jnp.inf) if is_float else fitness
    return jnp.argsort(ranked, stable=True, descending=True).astype(jnp.int32)


class _Constant(NamedTuple):
    """What is no array in a tree, flat; None where an array was."""

    structure: Any
    leaves: list[Any]


def _split(tree: PyTree) -> tuple[list[Any], _Constant]:
    leaves, structure = jax.tree.flatten(tree)
    arrays = [leaf for leaf in leaves if _is_array(leaf)]
    return arrays, _Constant(structure, [None if _is_array(leaf) else leaf for leaf in leaves])


def _joined(arrays: list[Any], constant: _Constant) -> PyTree:
    left = iter(arrays)
    return constant.structure.unflatten(
        [next(left) if other is None else other for other in constant.leaves]
    )


def _is_array(leaf: Any) -> bool:
    return isinstance(leaf, jax.Array | np.ndarray | np.generic | bool | int | float | complex)
