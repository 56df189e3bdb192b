"""Products, convolutions and look-ups that weights enter: what a path goes through from unit to unit.

A use has G groups, in each of which I input units lead to O output units, through P weights each (the
positions of a kernel; 1 in a product). The dimension numbers of the primitive say which axis is which,
so no layout is asked for: kernels may lie in any order, in or out first, or be made of leaves by moves
(``weight_moves.py``). A leaf that is used twice has two uses. A kernel that is gathered along its first
axis, as that of an expert, ``kernels[chosen]``, cannot be told from a table of which rows are looked up,
and is taken for one.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from pruning.connectivity.signals import Kind, Value, there

Moves = Callable[[Any], Any]


class Layer(NamedTuple):
    """Weights between units: all of a use that a walk needs to know.

    Attributes:
        weights: A function of all leaves by index that gives the weights, of shape (G, I, O, P).
        shape: (G, I, O, P).
    """

    weights: Moves
    shape: tuple[int, int, int, int]


class Use(NamedTuple):
    """Weights that enter a product, and where the units are in its operand and in its result.

    Attributes:
        weights: A function of all leaves by index that gives the weights, of shape (G, I, O, P).
        shape: (G, I, O, P).
        units_in: From an array like the other operand (what is there in it) to the input units, (G * I,).
        spread_out: From output units, (G * O,), to an array like the result.
        summed: Over how many axes of the weights it sums, positions left out.
    """

    weights: Moves
    shape: tuple[int, int, int, int]
    units_in: Callable[[Any], jax.Array]
    spread_out: Callable[[Any], jax.Array]
    summed: int = 1


def find_use(equation: Any, operands: Sequence[Value]) -> tuple[Use, Value] | None:
    """The use of weights that an equation makes.

    Args:
        equation: A ``jax.extend.core.JaxprEqn``.
        operands: The values of its operands.

    Returns:
        The use and the operand that it transforms; None if the equation makes none, or the operand that
        is made of weights is not made by moving entries.
    """
    name = equation.primitive.name
    if name == "dot_general":
        for side in (0, 1):
            kernel, other = operands[side], operands[1 - side]
            if kernel.moves and _is_kernel_for(kernel, other):
                return _in_product(equation, kernel.moves, side), other
        return None
    if name == "conv_general_dilated":
        images, kernel = operands
        one_batch = equation.params["batch_group_count"] == 1
        if kernel.moves and _is_kernel_for(kernel, images) and one_batch:
            return _in_convolution(equation, kernel.moves), images
        return None
    if name == "gather" and operands[0].moves and operands[1].kind is Kind.CONSTANT:
        return (
            (_in_look_up(equation, operands[0].moves), operands[1]) if _looks_up_rows(equation) else None
        )
    return None


def _is_kernel_for(kernel: Value, other: Value) -> bool:
    """Whether it is what transforms the other operand: not where both are made of weights alike."""
    if kernel.kind is other.kind:
        return not other.moves and kernel.kind is Kind.INPUT
    return kernel.kind < other.kind or other.kind is Kind.CONSTANT


def _in_product(equation: Any, move: Moves, side: int) -> Use:
    numbers = equation.params["dimension_numbers"]
    (summed, batch), (summed_other, batch_other) = (
        (numbers[0][place], numbers[1][place]) for place in (side, 1 - side)
    )
    shape, other = (equation.invars[place].aval.shape for place in (side, 1 - side))
    free = [axis for axis in range(len(shape)) if axis not in (*summed, *batch)]
    beside = len(other) - len(summed) - len(batch)  # the free axes of the other operand
    sizes = [[shape[axis] for axis in axes] for axes in (batch, summed, free)]
    groups, inputs, outputs = map(math.prod, sizes)

    def weights(leaves: Any) -> Any:
        return jnp.transpose(move(leaves), (*batch, *summed, *free)).reshape(groups, inputs, outputs, 1)

    def units_in(array: Any) -> jax.Array:
        return _kept_axes(array, (*batch_other, *summed_other))

    def spread_out(units: Any) -> jax.Array:
        first = len(batch) + (beside if side else 0)
        axes = [*range(len(batch)), *range(first, first + len(free))]
        result = equation.outvars[0].aval.shape
        return lax.broadcast_in_dim(units.reshape(*sizes[0], *sizes[2]), result, axes)

    return Use(weights, (groups, inputs, outputs, 1), units_in, spread_out, len(summed))


def _in_convolution(equation: Any, move: Moves) -> Use:
    numbers, groups = equation.params["dimension_numbers"], equation.params["feature_group_count"]
    shape = equation.invars[1].aval.shape
    outputs, inputs, *sizes = (shape[axis] for axis in numbers.rhs_spec)
    outputs, positions = outputs // groups, math.prod(sizes)

    def weights(leaves: Any) -> Any:
        kernel = jnp.transpose(move(leaves), numbers.rhs_spec)
        return jnp.swapaxes(kernel.reshape(groups, outputs, inputs, positions), 1, 2)

    def units_in(array: Any) -> jax.Array:
        return _kept_axes(array, (numbers.lhs_spec[1],))

    def spread_out(units: Any) -> jax.Array:
        return lax.broadcast_in_dim(units, equation.outvars[0].aval.shape, (numbers.out_spec[1],))

    return Use(weights, (groups, inputs, outputs, positions), units_in, spread_out)


def _looks_up_rows(equation: Any) -> bool:
    numbers, table = equation.params["dimension_numbers"], equation.invars[0].aval.shape
    return (
        0 in numbers.start_index_map
        and numbers.collapsed_slice_dims in ((), (0,))
        and not numbers.operand_batching_dims
        and tuple(equation.params["slice_sizes"]) == (1, *table[1:])
        and len(table) > 1
    )


def _in_look_up(equation: Any, move: Moves) -> Use:
    """Each row is an input unit of its own: the network's input says which, and it may be any."""
    rows, *sizes = equation.invars[0].aval.shape
    outputs = math.prod(sizes)

    def spread_out(units: Any) -> jax.Array:
        result, numbers = equation.outvars[0].aval.shape, equation.params["dimension_numbers"]
        row = sizes if numbers.collapsed_slice_dims else (1, *sizes)
        return lax.broadcast_in_dim(units.reshape(row), result, numbers.offset_dims)

    return Use(
        lambda leaves: move(leaves).reshape(1, rows, outputs, 1),
        (1, rows, outputs, 1),
        lambda array: jnp.broadcast_to(jnp.max(array), (rows,)),
        spread_out,
    )


def _kept_axes(array: Any, axes: Sequence[int]) -> jax.Array:
    """What is there along some axes, in their order, flat."""
    others = tuple(axis for axis in range(array.ndim) if axis not in axes)
    order = [sum(other < axis for other in axes) for axis in axes]
    return there(jnp.transpose(jnp.sum(array, axis=others), order)).ravel()
