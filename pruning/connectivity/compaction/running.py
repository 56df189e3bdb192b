"""Runs a program on arrays that lack some entries of their axes.

What belongs together lacks the same entries, so most primitives are as they were, on smaller arrays;
those that say a size say another one. A step of which all operands are whole and the result is not is
computed whole, and its result cut. Derivatives that functions have of their own stay theirs: they are
taken of the whole step, and are such a program themselves.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from pruning.connectivity.compaction.axis_relations import (
    Flattened,
    Picked,
    Position,
    Whole,
)
from pruning.connectivity.compaction.axis_rules import relations_of
from pruning.connectivity.compaction.parts import Axes, axes_of, cut
from pruning.connectivity.compaction.programs import Program, Step, program_of
from pruning.connectivity.equations import bind
from pruning.connectivity.signals import is_inexact


class Smaller(NamedTuple):
    """A program that runs on arrays that lack entries.

    Attributes:
        program: The steps, for arrays that are whole.
        kept: What is there, for every axis of every value.
        picks: For an axis that is sliced or padded, and its result, where the result's entries come from.
    """

    program: Program
    kept: dict[Position, np.ndarray]
    picks: dict[tuple[Position, Position], np.ndarray]

    def axes(self, value: int) -> Axes:
        """What is there of a value."""
        return axes_of(self.kept, value, self.program)

    def size(self, value: int) -> tuple[int, ...]:
        """The shape that it has."""
        return tuple(int(axis.sum()) for axis in self.axes(value))


def without(program: Program, kept: Mapping[int, Axes]) -> Smaller:
    """Finds what is there of every value where some arguments lack entries.

    Args:
        program: The network's, or that of another function of its variables.
        kept: What is there of its arguments, by number; those that are not named are whole.

    Returns:
        The program with what is there.

    Raises:
        ValueError: If a step needs an entry that is not there; it names the primitive.
    """
    relations = relations_of(program)
    places = relations.start(program, kept=True)
    for value, axes in kept.items():
        places.update({Position(value, axis): is_there for axis, is_there in enumerate(axes)})
    changed = True
    while changed:
        before = {place: array.sum() for place, array in places.items()}
        for relation in relations.between:
            if not isinstance(relation, Whole):
                relation.join(places, np.logical_and)
        changed = any(places[place].sum() != count for place, count in before.items())
    for relation in relations.between:
        if isinstance(relation, Whole) and not places[relation.position].all():
            raise _refusal(relation.primitive)
        if isinstance(relation, Flattened) and (relation.pairs(places) != places[relation.whole]).any():
            raise _refusal("reshape")
    for argument in program.arguments:
        whole = tuple(np.ones(size, bool) for size in program.shape(argument))
        expected, found = kept.get(argument, whole), axes_of(places, argument, program)
        if any((one != other).any() for one, other in zip(expected, found, strict=True)):
            raise _refusal("an operation with an input, or with other variables,")
    picked = [relation for relation in relations.between if isinstance(relation, Picked)]
    return Smaller(program, places, {(each.source, each.result): each.index for each in picked})


def _refusal(what: str) -> ValueError:
    return ValueError(
        "expected a function that uses the variables as the compacted one does, in which removed units "
        f"are in no other part, but {what!r} needs entries that were removed: compact that function"
    )


def run(smaller: Smaller, arguments: Sequence[Any]) -> list[Any]:
    """Runs a program.

    Args:
        smaller: What is run.
        arguments: Arrays of the shapes that its arguments have in it.

    Returns:
        Its outputs.
    """
    values = dict(zip(smaller.program.arguments, arguments, strict=True))
    _run_steps(smaller, smaller.program.steps, values)
    return [_read(smaller, values, value) for value in smaller.program.outputs]


def _read(smaller: Smaller, values: Mapping[int, Any], value: int) -> Any:
    if value in values:
        return values[value]
    return cut(smaller.program.constants[value], smaller.axes(value))


def _run_steps(smaller: Smaller, steps: Sequence[Step], values: dict[int, Any]) -> None:
    for step in steps:
        operands = [_read(smaller, values, value) for value in step.operands]
        whole = all(smaller.size(value) == smaller.program.shape(value) for value in step.operands)
        if step.has_body and whole:
            results = _as_it_is(smaller, step, operands)
        elif step.has_body:
            results = _DERIVATIVES[step.name](smaller, step, operands)
        else:
            results = _RULES.get(step.name, _as_it_is)(smaller, step, operands)
        values.update(zip(step.results, results, strict=True))


def _as_it_is(smaller: Smaller, step: Step, operands: list[Any]) -> list[Any]:
    """On smaller arrays; what comes out whole is cut."""
    results = bind(step.equation, operands)
    return [
        result if np.shape(result) == smaller.size(value) else cut(result, smaller.axes(value))
        for value, result in zip(step.results, results, strict=True)
    ]


def _resized(name: str) -> Callable[[Smaller, Step, list[Any]], list[Any]]:
    """Primitives of which a parameter is the shape of the result."""

    def rule(smaller: Smaller, step: Step, operands: list[Any]) -> list[Any]:
        # A reshape that permutes axes too is not followed, and so is whole.
        if step.equation.params.get("dimensions") is not None:
            return _as_it_is(smaller, step, operands)
        return bind(step.equation, operands, **{name: smaller.size(step.results[0])})

    return rule


def _picked(smaller: Smaller, step: Step, operands: list[Any]) -> list[Any]:
    """Slices, and padding: by the places of entries in the smaller array, what is none is filled."""
    if smaller.size(step.operands[0]) == smaller.program.shape(step.operands[0]):
        return _as_it_is(smaller, step, operands)
    results = []
    for value in step.results:
        array = operands[0]
        for axis, is_there in enumerate(smaller.axes(value)):
            source = Position(step.operands[0], axis)
            entries = smaller.picks[source, Position(value, axis)][is_there]
            places = np.where(
                entries < 0, array.shape[axis], (np.cumsum(smaller.kept[source]) - 1)[entries]
            )
            if (entries < 0).any():
                fill = jnp.full(np.delete(array.shape, axis), operands[1], array.dtype)
                array = jnp.concatenate([array, jnp.expand_dims(fill, axis)], axis=axis)
            if not np.array_equal(places, np.arange(array.shape[axis])):
                array = jnp.take(array, places, axis=axis)
        results.append(array)
    return results


def _convolved(smaller: Smaller, step: Step, operands: list[Any]) -> list[Any]:
    groups = step.equation.params["feature_group_count"]
    if groups > 1:
        channel = step.equation.params["dimension_numbers"].lhs_spec[1]
        inputs = step.equation.params["dimension_numbers"].rhs_spec[1]
        groups = operands[0].shape[channel] // operands[1].shape[inputs]
    return bind(step.equation, operands, feature_group_count=groups)


def _with_slices(smaller: Smaller, step: Step, operands: list[Any]) -> list[Any]:
    """Parts of an array: along an axis that lacks entries they are complete."""
    sizes = list(step.equation.params["slice_sizes"])
    for axis, is_there in enumerate(smaller.axes(step.operands[0])):
        sizes[axis] = int(is_there.sum()) if sizes[axis] == len(is_there) else sizes[axis]
    return bind(step.equation, operands, slice_sizes=tuple(sizes))


_RULES: dict[str, Callable[[Smaller, Step, list[Any]], list[Any]]] = {
    "broadcast_in_dim": _resized("shape"),
    "reshape": _resized("new_sizes"),
    **dict.fromkeys(("slice", "split", "pad"), _picked),
    "conv_general_dilated": _convolved,
    **dict.fromkeys(("gather", "dynamic_slice"), _with_slices),
}


def _of_body(smaller: Smaller, step: Step) -> Callable[..., list[Any]]:
    """The steps within a call as a function of its operands."""

    def function(*operands: Any) -> list[Any]:
        values = dict(zip(step.operands, operands, strict=True))
        _run_steps(smaller, step.body, values)
        return [_read(smaller, values, value) for value in step.results]

    return function


class _Differentiable(NamedTuple):
    """Which operands and results of a call have derivatives: those of floats."""

    operands: list[bool]
    results: list[bool]

    def call(self, step: Step, others: Sequence[Any]) -> Callable[..., list[Any]]:
        """The whole call, of those operands that have derivatives, to such results."""

        def function(*floats: Any) -> list[Any]:
            results = bind(step.equation, _merged(self.operands, floats, others))
            return _chosen(self.results, results)

        return function


def _differentiable(smaller: Smaller, step: Step) -> _Differentiable:
    def floats(values: Sequence[int]) -> list[bool]:
        return [is_inexact(smaller.program.avals[value]) for value in values]

    return _Differentiable(floats(step.operands), floats(step.results))


def _chosen(which: Sequence[bool], items: Sequence[Any]) -> list[Any]:
    return [item for is_one, item in zip(which, items, strict=True) if is_one]


def _others(which: Sequence[bool], items: Sequence[Any]) -> list[Any]:
    return [item for is_one, item in zip(which, items, strict=True) if not is_one]


def _merged(which: Sequence[bool], ones: Sequence[Any], others: Sequence[Any]) -> list[Any]:
    first, second = iter(ones), iter(others)
    return [next(first) if is_one else next(second) for is_one in which]


def _no_derivative(array: Any) -> np.ndarray:
    return np.zeros(np.shape(array), jax.dtypes.float0)


def _small_derivative(
    smaller: Smaller, step: Step, whole: Callable[..., Any], floats: Sequence[int]
) -> Callable[..., Any]:
    """A derivative of the whole call, of its operands and of further arrays, run on smaller arrays."""
    avals = smaller.program.avals
    values = [*step.operands, *floats]
    program, _ = program_of(whole, [avals[v] for v in step.operands], [avals[v] for v in floats])
    axes = [smaller.axes(value) for value in values]
    there = without(program, dict(zip(program.arguments, axes, strict=True)))
    return lambda operands, further: run(there, [*operands, *further])


def _forward(smaller: Smaller, step: Step, operands: list[Any]) -> list[Any]:
    """A call with a derivative of its own, forwards."""
    have = _differentiable(smaller, step)
    floats = _chosen(have.operands, step.operands)

    def whole(operands: Any, tangents: Any) -> Any:
        call = have.call(step, _others(have.operands, operands))
        return jax.jvp(call, tuple(_chosen(have.operands, operands)), tuple(tangents))[1]

    def derivative(primals: Any, tangents: Any) -> Any:
        small = _small_derivative(smaller, step, whole, floats)
        found = iter(small(primals, _chosen(have.operands, tangents)))
        results = function(*primals)
        return results, [
            next(found) if is_float else _no_derivative(result)
            for is_float, result in zip(have.results, results, strict=True)
        ]

    function = jax.custom_jvp(_of_body(smaller, step))
    function.defjvp(derivative)
    return function(*operands)


def _backward(smaller: Smaller, step: Step, operands: list[Any]) -> list[Any]:
    """A call with a derivative of its own, backwards."""
    have = _differentiable(smaller, step)
    floats = _chosen(have.results, step.results)

    def whole(operands: Any, gradients: Any) -> Any:
        call = have.call(step, _others(have.operands, operands))
        return jax.vjp(call, *_chosen(have.operands, operands))[1](list(gradients))

    def backwards(operands: Any, gradients: Any) -> Any:
        small = _small_derivative(smaller, step, whole, floats)
        found = small(operands, _chosen(have.results, gradients))
        nothing = [_no_derivative(operand) for operand in _others(have.operands, operands)]
        return tuple(_merged(have.operands, found, nothing))

    function = jax.custom_vjp(_of_body(smaller, step))
    function.defvjp(lambda *operands: (_of_body(smaller, step)(*operands), operands), backwards)
    return function(*operands)


_DERIVATIVES = {"custom_jvp_call": _forward, "custom_vjp_call": _backward}
