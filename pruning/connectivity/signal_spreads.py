"""What goes along whole axes does to signals: a path is assumed from every entry to every entry.

Coefficients that are fixed but of any sign (a Fourier transform's, those of a solution of equations)
would cancel equal signals, and which entries of a decomposition depend on which is not worked out.
"""

from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
from jax import lax

from pruning.connectivity.equations import starts
from pruning.connectivity.signals import Kind, Signal, Value, added, chosen, mapped, mixed, read, spread


def reduction(equation: Any, operands: Sequence[Value]) -> list[Signal]:
    """The largest, the product, all or any along axes: each entry may decide it."""
    axes = equation.params["axes"]
    (start,) = starts(equation, operands)
    return [added(mapped(lambda part: jnp.sum(part, axis=axes), read(operands[0])), start)]


def general_reduction(equation: Any, operands: Sequence[Value]) -> list[Signal]:
    """By a function of its own: any of the arrays may enter any result."""
    axes, count = equation.params["dimensions"], len(operands) // 2
    summed = [mapped(lambda part: jnp.sum(part, axis=axes), read(value)) for value in operands[:count]]
    signals = [*summed, *(read(value) for value in operands[count:])]
    signals = [Signal() if v.kind is Kind.CONSTANT else s for v, s in zip(operands, signals, strict=True)]
    return [added(mixed(operands, signals), start) for start in starts(equation, operands)]


def window_extremum(equation: Any, operands: Sequence[Value]) -> list[Signal]:
    """Any entry of a window may be the largest."""
    zero = jnp.zeros((), jnp.float32)
    signal = read(operands[0])
    return [mapped(lambda part: lax.reduce_window(part, zero, lax.add, **equation.params), signal)]


def cumulation(equation: Any, operands: Sequence[Value]) -> list[Signal]:
    """The largest, the product or the sum of exponentials so far: each entry so far may decide it."""
    axis, backwards = equation.params["axis"], equation.params["reverse"]
    signal = mapped(lambda part: lax.cumsum(part, axis, backwards), read(operands[0]))
    return [added(signal, *starts(equation, operands))]


def fourier_transform(equation: Any, operands: Sequence[Value]) -> list[Signal]:
    """Every entry along the axes reaches every other, and of a complex one both parts."""
    shape, rank = equation.outvars[0].aval.shape, len(equation.params["fft_lengths"])
    axes = range(len(shape) - rank, len(shape))

    return [mapped(lambda part: spread(part, axes, shape), read(operands[0]))]


def matrix_function(equation: Any, operands: Sequence[Value], *, rank: int = 2) -> list[Signal]:
    """Every entry of the matrices (arrays of `rank`) may reach every entry of the results."""
    batch = len(equation.invars[0].aval.shape) - rank

    def whole(value: Value) -> Signal:
        return mapped(lambda part: jnp.sum(part, axis=tuple(range(batch, part.ndim))), read(value))

    values = [value for value in operands if value.kind is not Kind.CONSTANT]
    all_there = mixed(values, [whole(value) for value in values])

    def result(start: Signal, aval: Any) -> Signal:
        axes = tuple(range(batch, len(aval.shape)))
        return added(
            mapped(lambda p: jnp.broadcast_to(jnp.expand_dims(p, axes), aval.shape), all_there), start
        )

    pairs = zip(starts(equation, operands), equation.outvars, strict=True)
    return [result(start, variable.aval) for start, variable in pairs]


def triangular_solution(equation: Any, operands: Sequence[Value]) -> list[Signal]:
    """Linear in the second operand, along its rows or its columns; any entry of the first one enters."""
    matrix, other = operands
    shape, axis = equation.outvars[0].aval.shape, -2 if equation.params["left_side"] else -1
    solved = mapped(lambda part: spread(part, (axis,), shape), read(other))
    entering = mapped(lambda part: jnp.sum(part, axis=(-2, -1), keepdims=True), read(matrix))
    if matrix.kind is Kind.CONSTANT:
        return [solved]
    return [chosen(solved, entering, solved, operands)]
