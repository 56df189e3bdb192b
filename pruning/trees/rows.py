"""A leaf as rows of weights that compete, or are counted, together.

The rows of structures lie along the *contracting* axes, those that a product sums over: all weights that
lead into a unit, or every m of its inputs. ``over_rows`` applies a function of (rows, weights of a row)
to a leaf, and to each of its layers where it holds several.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax.numpy as jnp

from pruning.trees.layout import LayerAxes, over_layers


class Rows(NamedTuple):
    """How a leaf is cut into rows.

    Attributes:
        axes: The leaf's axes.
        order: The axes in the order in which the entries of rows follow each other.
        length: How many weights a row has.
    """

    axes: LayerAxes
    order: tuple[int, ...]
    length: int

    def of(self, leaf: Any) -> Any:
        """The leaf's entries, shape (*stacked, rows, length)."""
        return jnp.transpose(leaf, self.order).reshape(*self.axes.stacked, -1, self.length)

    def leaf(self, rows: Any) -> Any:
        """The leaf of such entries."""
        moved = rows.reshape([self.axes.shape[axis] for axis in self.order])
        return jnp.transpose(moved, [self.order.index(axis) for axis in range(len(self.order))])


def unit_rows(axes: LayerAxes) -> Rows:
    """A row for each unit: all weights that lead into it.

    Args:
        axes: The leaf's axes.

    Returns:
        The rows.
    """
    along = sorted((*axes.spatial, *axes.inputs))
    return _rows(axes, tuple(along), math.prod(axes.shape[axis] for axis in along))


def group_rows(axes: LayerAxes, m: int, where: str) -> Rows:
    """A row for every m consecutive inputs of a unit, in a convolution at each position.

    Args:
        axes: The leaf's axes.
        m: The size of a group.
        where: The leaf's path, for the error.

    Returns:
        The rows.

    Raises:
        ValueError: If m does not divide the inputs.
    """
    if axes.fan_in % m:
        raise ValueError(
            f"expected {m} to divide the {axes.fan_in} inputs of {where} (axes {axes.inputs} of "
            f"{axes.shape}); choose another m, or leave it dense by prunable= in its scores"
        )
    return _rows(axes, axes.inputs, m)


def over_rows(function: Callable[..., Any], rows: Rows, *leaves: Any) -> Any:
    """A function of rows, applied to each layer of a leaf.

    Args:
        function: Of arrays of shape (rows, length), one a leaf; it returns one of that shape.
        rows: How the leaves are cut.
        *leaves: Arrays of one shape.

    Returns:
        What it returns, in the place of the leaf.
    """
    return rows.leaf(over_layers(function, rows.axes.stacked)(*map(rows.of, leaves)))


def _rows(axes: LayerAxes, along: tuple[int, ...], length: int) -> Rows:
    first = [axis for axis in range(len(axes.shape)) if axis not in along]
    return Rows(axes, (*first, *along), length)
