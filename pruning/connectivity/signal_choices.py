"""What choices and moves do to signals: by a constant exactly what they do, by a signal anything.

An integer or a truth value that depends on params may be anything where a signal arrives at it. So what
it chooses from is all taken, wherever it puts something it may, and a path leads through it as well.
Sorting chooses too.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax.numpy as jnp
from jax import lax

from pruning.connectivity.equations import bind_one
from pruning.connectivity.signals import (
    Kind,
    Signal,
    Value,
    added,
    anywhere,
    chosen,
    constant,
    is_inexact,
    joined,
    mapped,
    of_kind,
    read,
    read_number,
    side_by_side,
    spread,
    total,
    varying,
)


def choose(which: Value, cases: Sequence[Value], aval: Any) -> Value:
    """The result of one of several branches.

    Args:
        which: The number of the branch, an integer.
        cases: What each branch gives.
        aval: Shape and dtype of that.

    Returns:
        A value that each branch may have given.
    """
    kind = max(which.kind, *(value.kind for value in cases))
    if kind is Kind.CONSTANT:
        return constant(lax.select_n(which.array, *(value.array for value in cases)))
    signal = _selected(which, cases, side_by_side(cases), aval.shape)
    array = None if is_inexact(aval) else lax.select_n(which.array, *(value.array for value in cases))
    leaves = frozenset[int]().union(*(value.leaves for value in cases if kind < Kind.SIGNAL))
    return Value(array, kind, of_kind(signal, kind, aval.shape), leaves)


def select(equation: Any, operands: Sequence[Value]) -> list[Signal]:
    """Constants that a constant choice fills in are no signal."""
    which, *cases = operands
    signals = side_by_side(cases) if which.kind is Kind.CONSTANT else [read(value) for value in cases]
    if which.kind is Kind.CONSTANT:
        pairs = zip(cases, signals, strict=True)
        signals = [Signal() if value.kind is Kind.CONSTANT else signal for value, signal in pairs]
    return [_selected(which, cases, signals, equation.outvars[0].aval.shape)]


def _selected(
    which: Value, cases: Sequence[Value], signals: Sequence[Signal], shape: tuple[int, ...]
) -> Signal:
    base = joined(functools.partial(lax.select_n, which.array), signals, [shape] * len(cases))
    if which.kind is Kind.CONSTANT:
        return base
    return chosen(base, read(which), added(*map(read_number, cases)), [which, *cases])


def gather(equation: Any, operands: Sequence[Value]) -> list[Signal]:
    """A look-up: weights that are looked up are an input through weights."""
    table, indices = operands
    numbers = equation.params["dimension_numbers"]

    def look_up(array: Any) -> Any:
        return bind_one(equation, array, indices.array, fill_value=0)

    def looked_up(signal: Signal) -> Signal:
        weights = table.kind in (Kind.WEIGHTS, Kind.INPUT)
        return mapped(look_up, Signal(path=anywhere(signal)) if weights else signal)

    if indices.kind is Kind.CONSTANT:
        return [looked_up(read(table))]
    shape, axes = equation.invars[0].aval.shape, numbers.start_index_map
    options = mapped(lambda part: spread(part, axes, shape), read_number(table))
    result = equation.outvars[0].aval.shape
    batch = [axis for axis in range(len(result)) if axis not in numbers.offset_dims]
    choice = mapped(
        lambda part: lax.broadcast_in_dim(jnp.sum(part, axis=-1), result, batch), read(indices)
    )
    return [chosen(looked_up(read(table)), choice, looked_up(options), operands)]


def dynamic_slice(equation: Any, operands: Sequence[Value]) -> list[Signal]:
    """At a fixed place, or at any along the axes whose place depends on params."""
    array, *places = operands
    shape = equation.invars[0].aval.shape

    def cut(part: Any) -> Any:
        return bind_one(equation, part, *(place.array for place in places))

    base = mapped(cut, read(array))
    axes = [axis for axis, place in enumerate(places) if place.kind is not Kind.CONSTANT]
    if not axes:
        return [base]
    options = mapped(lambda part: cut(spread(part, axes, shape)), read_number(array))
    return [chosen(base, total(places), options, operands)]


def dynamic_update_slice(equation: Any, operands: Sequence[Value]) -> list[Signal]:
    """What is put at a place that depends on params may come anywhere."""
    array, update, *places = operands

    def put(one: Any, other: Any) -> Any:
        return bind_one(equation, one, other, *(place.array for place in places))

    shapes = [atom.aval.shape for atom in equation.invars[:2]]
    return [_put(put, array, update, places, shapes)]


def scatter(equation: Any, operands: Sequence[Value]) -> list[Signal]:
    """What is put, added or compared at places: both may be there."""
    array, indices, updates = operands
    parameters = equation.params
    operation = lax.scatter if equation.primitive.name == "scatter" else lax.scatter_add

    def put(one: Any, other: Any) -> Any:
        return operation(
            one,
            indices.array,
            other,
            parameters["dimension_numbers"],
            indices_are_sorted=parameters["indices_are_sorted"],
            unique_indices=parameters["unique_indices"],
            mode=parameters["mode"],
        )

    shapes = [atom.aval.shape for atom in equation.invars[::2]]
    return [_put(put, array, updates, [indices], shapes)]


def _put(
    put: Callable[[Any, Any], Any],
    array: Value,
    update: Value,
    places: Sequence[Value],
    shapes: Sequence[tuple[int, ...]],
) -> Signal:
    """An array with an update put somewhere into it."""
    base = joined(put, side_by_side([array, update]), shapes)
    if all(place.kind is Kind.CONSTANT for place in places):
        return base
    options = added(read_number(array), mapped(jnp.sum, read_number(update)))
    return chosen(base, total(places), options, [array, update, *places])


def sort(equation: Any, operands: Sequence[Value]) -> list[Signal]:
    """Any entry along the axis may come anywhere, and the keys decide."""
    axis, keys = equation.params["dimension"], equation.params["num_keys"]

    def anywhere_along(signal: Signal) -> Signal:
        return mapped(lambda part: spread(part, (axis,), part.shape), signal)

    order = anywhere_along(varying(operands[:keys]))
    return [
        chosen(anywhere_along(read(v)), order, anywhere_along(read_number(v)), operands) for v in operands
    ]


def top(equation: Any, operands: Sequence[Value], *, axis: str) -> list[Signal]:
    """Any entry along the axis may be among the first."""
    place, shape = equation.params.get(axis, -1), equation.outvars[0].aval.shape
    signal = mapped(lambda part: spread(part, (place,), shape), read(operands[0]))
    return [signal, signal]
