"""Whether a function only grows by a factor when its arguments do: the degree of a network in its layers.

A network of products, convolutions, ReLUs and pooling, without biases, is homogeneous in each of its
layers: weights of one layer times c > 0 give the output times c to a fixed degree. Its jaxpr says so,
equation by equation. Constants that meet such a value in a sum or a comparison (biases, a running mean)
must be zero for it; they are computed, so whether they are may depend on traced values.

What is not understood, and what is no homogeneous function (two paths of different depth that join),
has no degree. So the answer errs on the side of no.
"""

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend import core

from pruning.connectivity.interpreter import CALLS

Degree = tuple[int, ...]


class Homogeneous(NamedTuple):
    """A function is homogeneous where ``holds``, a bool scalar; ``degree`` is that in each argument."""

    degree: Degree
    holds: jax.Array


@dataclass(frozen=True)
class _Constant:
    """What depends on no argument; computed when it is asked for."""

    read: Callable[[], Any]


_Value = Degree | _Constant | None
"""None: not homogeneous, or not understood."""

# The result has the degree of the first operand; the others, if any, are indices.
_FOLLOWS = {
    "abs", "broadcast_in_dim", "convert_element_type", "copy", "copy_p", "cumsum", "dynamic_slice",
    "expand_dims", "gather", "neg", "pcast", "pvary", "real", "reduce_max", "reduce_min",
    "reduce_precision", "reduce_sum", "reduce_window_max", "reduce_window_min", "reduce_window_sum",
    "reshape", "rev", "sharding_constraint", "slice", "split", "squeeze", "transpose",
}  # fmt: skip
# All operands have one degree; constants are zero, or infinite.
_JOINS = {"add", "add_any", "concatenate", "max", "min", "pad", "sub"}
_COMPARES = {"eq", "ge", "gt", "le", "lt", "ne"}
_PRODUCTS = {"mul", "dot_general", "conv_general_dilated"}
_POWERS = {"square": 2, "integer_pow": 1, "sqrt": 0.5, "rsqrt": -0.5}
_LONGEST_SCAN = 1024


def homogeneous(function: core.ClosedJaxpr, arguments: int) -> Homogeneous | None:
    """The degree of a scalar function in each of its arguments, taken by itself.

    Args:
        function: Its jaxpr, with that many float arguments and one result.
        arguments: How many.

    Returns:
        The degrees and under which condition they hold, or None if it has none.
    """
    must_vanish: list[Any] = []
    own = [tuple(int(i == j) for i in range(arguments)) for j in range(arguments)]
    (result,) = _call(function, own, must_vanish)
    if not isinstance(result, tuple):
        return None
    holds = [jnp.all((value == 0) | jnp.isinf(value)) for value in must_vanish]
    together = jnp.all(jnp.stack(holds)) if holds else jnp.bool(True)
    # Inside shard_map: not where it depends on the device.
    return Homogeneous(result, together) if together.aval == jnp.bool(True).aval else None


def _call(closed: Any, operands: Sequence[_Value], must_vanish: list[Any]) -> list[_Value]:
    jaxpr = getattr(closed, "jaxpr", closed)
    values: dict[Any, _Value] = dict(zip(jaxpr.invars, operands, strict=True))
    for variable, array in zip(jaxpr.constvars, getattr(closed, "consts", ()), strict=True):
        values[variable] = _Constant(functools.partial(_same, array))

    def read(atom: Any) -> _Value:
        if isinstance(atom, core.Literal):
            return _Constant(functools.partial(_same, atom.val))
        return values[atom]

    for equation in jaxpr.eqns:
        results = _evaluate(equation, [read(atom) for atom in equation.invars], must_vanish)
        values.update(zip(equation.outvars, results, strict=True))
    return [read(atom) for atom in jaxpr.outvars]


def _same(array: Any) -> Any:
    return array


def _evaluate(equation: Any, operands: list[_Value], must_vanish: list[Any]) -> list[_Value]:
    name, results = equation.primitive.name, len(equation.outvars)
    if all(isinstance(value, _Constant) for value in operands):
        return _constants(equation, operands)
    if any(value is None for value in operands):
        return [None] * results
    if name in CALLS:
        return _call(equation.params[CALLS[name]], operands, must_vanish)
    if name == "scan":
        return _scan(equation, operands, must_vanish)
    return [_degree(equation, operands, must_vanish)] * results


def _constants(equation: Any, operands: Sequence[Any]) -> list[_Value]:
    @functools.cache
    def compute() -> list[Any]:
        parameters = equation.primitive.get_bind_params(equation.params)
        found = equation.primitive.bind(*(value.read() for value in operands), **parameters)
        return found if equation.primitive.multiple_results else [found]

    return [_Constant(lambda i=i: compute()[i]) for i in range(len(equation.outvars))]


def _degree(equation: Any, operands: list[Any], must_vanish: list[Any]) -> _Value:
    """The degree that all results of an equation have."""
    name = equation.primitive.name
    degrees = [value for value in operands if isinstance(value, tuple)]
    none = (0,) * len(degrees[0])
    if set(degrees) == {none}:  # Of what does not change with the arguments' size, any function.
        return none
    if name in _FOLLOWS:
        floats = jnp.issubdtype(equation.outvars[0].aval.dtype, jnp.inexact)
        filled = equation.params.get("fill_value") or 0  # By a look-up outside the array.
        follows = len(degrees) == 1 and degrees[0] is operands[0] and floats
        return operands[0] if follows and not _is_number(filled) else None
    if name in _JOINS or name in _COMPARES:
        joined = _join(operands, must_vanish)
        return none if joined is not None and name in _COMPARES else joined
    if name == "select_n":
        chosen_by_size = isinstance(operands[0], tuple) and operands[0] != none
        return None if chosen_by_size else _join(operands[1:], must_vanish)
    if name in _PRODUCTS:
        return tuple(sum(each) for each in zip(*degrees, strict=True))
    if name == "div":
        above, below = (none if isinstance(value, _Constant) else value for value in operands)
        return tuple(a - b for a, b in zip(above, below, strict=True))
    if name in _POWERS:
        power = equation.params.get("y", _POWERS[name])
        exact = all(each * power == int(each * power) for each in degrees[0])
        return tuple(int(each * power) for each in degrees[0]) if exact else None
    return None


def _join(operands: list[Any], must_vanish: list[Any]) -> _Value:
    degrees = {value for value in operands if isinstance(value, tuple)}
    if len(degrees) != 1:
        return None
    degree = degrees.pop()
    if not any(degree):
        return degree
    for value in (value.read() for value in operands if isinstance(value, _Constant)):
        if isinstance(value, jax.Array):
            must_vanish.append(value)
        elif _is_number(value):  # A literal.
            return None
    return degree


def _is_number(array: Any) -> bool:
    """Whether there is one in it that is other when it is multiplied."""
    return bool(np.any((np.asarray(array) != 0) & np.isfinite(np.asarray(array))))


def _scan(equation: Any, operands: list[_Value], must_vanish: list[Any]) -> list[_Value]:
    """Unrolled, since the degree of the carry grows; what is collected has none."""
    body, length, backwards = (equation.params[name] for name in ("jaxpr", "length", "reverse"))
    fixed, carried = (equation.params[name] for name in ("num_consts", "num_carry"))
    if length > _LONGEST_SCAN:
        return [None] * len(equation.outvars)
    carry = operands[fixed : fixed + carried]
    for step in range(length)[:: -1 if backwards else 1]:
        slices = [_slice(value, step) for value in operands[fixed + carried :]]
        carry = _call(body, [*operands[:fixed], *carry, *slices], must_vanish)[:carried]
    return [*carry, *[None] * (len(equation.outvars) - carried)]


def _slice(value: _Value, step: int) -> _Value:
    return _Constant(lambda: value.read()[step]) if isinstance(value, _Constant) else value
