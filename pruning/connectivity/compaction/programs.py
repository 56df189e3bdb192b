"""A function as a list of steps: its jaxpr with calls written out, and a number for every value.

A call of a function with a derivative of its own (``custom_jvp``, ``custom_vjp``) stays one step that
knows the steps inside it, since its derivative has to be kept.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.extend import core

from pruning.connectivity.interpreter import CALLS, EFFECTS

CUSTOM_DERIVATIVES = ("custom_jvp_call", "custom_vjp_call")


class Step(NamedTuple):
    """One equation.

    Attributes:
        equation: A ``jax.extend.core.JaxprEqn``.
        operands: Values, by number.
        results: Values, by number.
        body: The steps of a call whose derivative is its own; empty for any other.
    """

    equation: Any
    operands: tuple[int, ...]
    results: tuple[int, ...]
    body: tuple["Step", ...] = ()

    @property
    def name(self) -> str:
        """The name of the primitive."""
        return self.equation.primitive.name

    @property
    def has_body(self) -> bool:
        """Whether it is a call whose derivative is its own."""
        return self.name in CUSTOM_DERIVATIVES


class Program(NamedTuple):
    """The steps of a function.

    Attributes:
        avals: Shape and dtype of every value, by number.
        constants: The arrays that the function holds, by number.
        arguments: The numbers of its arguments, flat.
        outputs: The numbers of its outputs, flat.
        steps: The equations, in the order in which they are evaluated.
    """

    avals: list[Any]
    constants: dict[int, Any]
    arguments: tuple[int, ...]
    outputs: tuple[int, ...]
    steps: tuple[Step, ...]

    def shape(self, value: int) -> tuple[int, ...]:
        """The shape of a value."""
        return self.avals[value].shape

    def plain_steps(self) -> Iterator[Step]:
        """All steps, those within calls in place of the calls."""
        return plain_steps(self.steps)


def plain_steps(steps: Sequence[Step]) -> Iterator[Step]:
    """Steps, those within calls in place of the calls.

    Args:
        steps: Some steps of a program.

    Yields:
        Steps without a body, in their order.
    """
    for step in steps:
        if step.has_body:
            yield from plain_steps(step.body)
        else:
            yield step


def program_of(function: Callable[..., Any], *arguments: Any) -> tuple[Program, Any]:
    """Traces a function.

    Args:
        function: A function of pytrees of arrays.
        *arguments: What it is traced for; arrays or their shapes.

    Returns:
        Its program, and the structure of its output.
    """
    closed, shapes = jax.make_jaxpr(function, return_shape=True)(*arguments)
    program = Program([], {}, (), (), ())
    first = tuple(_new(program, variable.aval) for variable in closed.jaxpr.invars)
    steps, outputs = _written_out(program, closed, first)
    whole = program._replace(arguments=first, outputs=tuple(outputs), steps=tuple(steps))
    return whole, jax.tree.structure(shapes)


def _new(program: Program, aval: Any) -> int:
    program.avals.append(aval)
    return len(program.avals) - 1


def _written_out(program: Program, closed: Any, arguments: Sequence[int]) -> tuple[list[Step], list[int]]:
    """The steps of a jaxpr whose arguments have numbers, and the numbers of its outputs."""
    jaxpr = getattr(closed, "jaxpr", closed)
    numbers: dict[Any, int] = dict(zip(jaxpr.invars, arguments, strict=True))
    for variable, array in zip(jaxpr.constvars, getattr(closed, "consts", ()), strict=True):
        numbers[variable] = _new(program, variable.aval)
        program.constants[numbers[variable]] = array

    def number(atom: Any) -> int:
        if not isinstance(atom, core.Literal):
            return numbers[atom]
        aval: Any = atom.aval
        literal = _new(program, aval)
        program.constants[literal] = np.asarray(atom.val, aval.dtype)
        return literal

    steps: list[Step] = []
    for equation in jaxpr.eqns:
        name = equation.primitive.name
        if name in EFFECTS:
            continue
        operands = tuple(number(atom) for atom in equation.invars)
        if name in CALLS:
            within, results = _written_out(program, equation.params[CALLS[name]], operands)
            if name in CUSTOM_DERIVATIVES:
                steps.append(Step(equation, operands, tuple(results), tuple(within)))
            else:
                steps += within
        else:
            results = [_new(program, variable.aval) for variable in equation.outvars]
            steps.append(Step(equation, operands, tuple(results)))
        numbers.update(zip(equation.outvars, results, strict=True))
    return steps, [number(atom) for atom in jaxpr.outvars]
