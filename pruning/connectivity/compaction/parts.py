"""The arrays of a network's variables, and parts of arrays."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from pruning.connectivity.compaction.axis_relations import Position
from pruning.connectivity.compaction.programs import Program
from pruning.connectivity.interpreter import is_array
from pruning.masks.reading import plain_path
from pruning.trees.differences import first_difference
from pruning.trees.leaves import PyTree, is_none

Axes = tuple[np.ndarray, ...]
"""For each axis of an array a bool for each entry: whether it is there."""


def axes_of(kept: Mapping[Position, np.ndarray], value: int, program: Program) -> Axes:
    """What is kept of a value.

    Args:
        kept: A bool for each entry of every axis.
        value: The number of a value.
        program: The steps in which it occurs, which know its shape.

    Returns:
        A bool array for each of its axes.
    """
    return tuple(kept[Position(value, axis)] for axis in range(len(program.shape(value))))


def cut(array: Any, axes: Axes) -> Any:
    """A whole array without what is not there.

    Args:
        array: An array of any dtype.
        axes: For each of its axes a bool for each entry: whether it stays.

    Returns:
        A smaller array, or the same.
    """
    for axis, is_there in enumerate(axes):
        if not is_there.all():
            array = jnp.take(array, np.flatnonzero(is_there), axis=axis)
    return array


class Arrays(NamedTuple):
    """The arrays of a tree; other leaves stay where they are.

    Attributes:
        tree: The network's variables, pruned weights being 0.
        places: Which of its leaves are arrays.
        arrays: Those leaves.
        paths: The paths of those leaves.
    """

    tree: PyTree
    places: list[int]
    arrays: list[Any]
    paths: list[str]

    def with_arrays(self, arrays: Sequence[Any]) -> PyTree:
        """The tree with others in their place."""
        leaves, structure = jax.tree.flatten(self.tree)
        for place, array in zip(self.places, arrays, strict=True):
            leaves[place] = array
        return structure.unflatten(leaves)

    def of_arrays(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """A function of the arrays and inputs, from one of the tree and inputs."""
        return lambda arrays, *inputs: function(self.with_arrays(arrays), *inputs)

    def arrays_in(self, other: PyTree, axes: Sequence[Axes]) -> list[Any]:
        """The arrays of the same tree in the compacted size.

        Args:
            other: A tree of the same structure, whose arrays are smaller.
            axes: Which entries each array has.

        Raises:
            ValueError: If it is another tree, or an array has another shape.
        """
        leaves, structure = jax.tree.flatten(other)
        if structure != jax.tree.structure(self.tree):
            raise ValueError(
                "expected a tree like the compacted variables, got (this against those) "
                f"{first_difference(other, self.tree)}"
            )
        arrays = [leaves[place] for place in self.places]
        for path, array, there in zip(self.paths, arrays, axes, strict=True):
            shape = tuple(int(axis.sum()) for axis in there)
            if jnp.shape(array) != shape:
                raise ValueError(
                    f"expected the compacted array at {path}, of shape {shape}, got {jnp.shape(array)}"
                )
        return arrays

    def masks_in(self, masks: PyTree) -> list[Any]:
        """The masks of the arrays in a tree of masks, None where there is none."""
        leaves, found = (
            jax.tree.leaves(self.tree, is_leaf=is_none),
            jax.tree.leaves(masks, is_leaf=is_none),
        )
        of_leaves = [mask for leaf, mask in zip(leaves, found, strict=True) if leaf is not None]
        return [of_leaves[place] for place in self.places]

    def cut_masks(self, masks: PyTree, axes: Sequence[Axes]) -> PyTree:
        """Masks of the tree in the compacted size."""
        found = self.masks_in(masks)
        smaller = (
            cut(jnp.asarray(mask), there)
            for mask, there in zip(found, axes, strict=True)
            if mask is not None
        )
        return jax.tree.map(lambda mask: None if mask is None else next(smaller), masks, is_leaf=is_none)


def arrays_of(tree: PyTree) -> Arrays:
    """Finds the arrays of a tree.

    Args:
        tree: A network's variables, with or without other leaves among them.

    Returns:
        Its arrays, with their places and paths.

    Raises:
        ValueError: If a leaf is a number: other values of it, and gradients, would be ignored.
    """
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    for path, leaf in leaves:
        if isinstance(leaf, bool | int | float | complex) and not is_array(leaf):
            raise ValueError(
                f"expected an array at {plain_path(path)}, got the number {leaf!r}: pass jnp.asarray of "
                "it, or let apply_fn close over it"
            )
    places = [place for place, (_, leaf) in enumerate(leaves) if is_array(leaf)]
    arrays = [jnp.asarray(leaves[place][1]) for place in places]
    return Arrays(tree, places, arrays, [plain_path(leaves[place][0]) for place in places])
