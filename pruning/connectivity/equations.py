"""Evaluates an equation of a jaxpr, on constants or where no signal arrives."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from pruning.connectivity.signals import Kind, Signal, Value, anywhere, is_inexact, present


def bind(equation: Any, arrays: Sequence[Any], **changed: Any) -> list[Any]:
    """The results of an equation, with other arrays in it and some of its parameters changed."""
    parameters = equation.primitive.get_bind_params({**equation.params, **changed})
    results = equation.primitive.bind(*arrays, **parameters)
    return results if equation.primitive.multiple_results else [results]


def bind_one(equation: Any, *arrays: Any, **changed: Any) -> Any:
    """The one result of an equation."""
    (result,) = bind(equation, arrays, **changed)
    return result


def without_signals(equation: Any, operands: Sequence[Value], *, scalar: bool = False) -> list[Any]:
    """The results where no signal arrives: what is none is 0 there, and weights beside it are not."""
    signals = any(value.kind is Kind.SIGNAL for value in operands)

    def array(value: Value, aval: Any) -> Any:
        if value.array is not None:
            return value.array
        weights = anywhere(value.signal) if signals and value.kind < Kind.SIGNAL else None
        if weights is not None:
            return lax.stop_gradient(weights).astype(aval.dtype)
        return jnp.zeros(() if scalar else aval.shape, aval.dtype)

    pairs = zip(operands, equation.invars, strict=True)
    with jax.debug_nans(False), jax.debug_infs(False):  # of zeros a logarithm or an inverse is neither
        return bind(equation, [array(value, atom.aval) for value, atom in pairs])


def starts(equation: Any, operands: Sequence[Value], *, scalar: bool = False) -> list[Signal]:
    """What feeds the results where no signal arrives. Integers keep their number instead."""
    if not any(is_inexact(variable.aval) for variable in equation.outvars):
        return [Signal()] * len(equation.outvars)
    results = without_signals(equation, operands, scalar=scalar)
    return [Signal(start=present(result)) if is_inexact(result) else Signal() for result in results]
