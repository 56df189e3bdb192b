"""Signals: values that say only whether a network's input arrives, and what primitives do to them.

A signal is ``_THERE`` or 0 and is reduced to that again at every use, as is its gradient. So nothing
grows, shrinks or cancels with depth, width or sign, in any dtype, and a gradient is 0 exactly where
no path leads on. Every value has a kind:

- a *constant* depends on no param and is computed as it is: the input, statistics, a dropout mask;
- *weights* depend on params alone: leaves, reshaped, cast, scaled, or combined with each other;
- a *signal* is what a product, a convolution or a look-up with weights makes of either of the others
  or of a signal.

What is done otherwise than the network does it, so that a path is a path:

- weights that are added to a signal (a bias) let it pass and start none;
- differences add up, quotients multiply, signs are lost at the next use: nothing cancels;
- a maximum is the sum of what it chooses from: for some inputs each entry is the largest;
- a threshold (``max(x, 0)``, ``clip``), learned or not, lets its signal pass; a choice that depends
  on a signal adds up its branches; the constants that a mask or padding fills in are no signal.

All else is computed as it is. So a constant that is added, and a function whose value at 0 is not 0
(a sigmoid), start a signal.
"""

import enum
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

# Below 1: away from the edges of clips (hard tanh) and from where a logarithm is zero.
_THERE = 0.5


class Kind(enum.IntEnum):
    """What a value depends on; a result has the highest kind among its operands, or a higher one."""

    CONSTANT = 0
    WEIGHTS = 1
    SIGNAL = 2


class Value(NamedTuple):
    """A value of the network; ``leaves`` are the params that weights are made of, by index."""

    array: Any
    kind: Kind
    leaves: frozenset[int] = frozenset()


def constant(array: Any) -> Value:
    """A value that depends on no param."""
    return Value(array, Kind.CONSTANT)


def is_inexact(value: Any) -> bool:
    """Whether a value, or what has a dtype, can carry a signal and its gradient."""
    dtype = value.dtype if hasattr(value, "dtype") else jnp.result_type(value)
    return jnp.issubdtype(dtype, jnp.inexact)


@jax.custom_vjp
def there(array: jax.Array) -> jax.Array:
    """Reduces an array, and the gradient that comes back, to where they are not zero."""
    return jnp.where(array != 0, _THERE, 0).astype(array.dtype)


there.defvjp(lambda array: (there(array), None), lambda _, gradient: (there(gradient),))


def apply(equation: Any, operands: Sequence[Value]) -> list[Value]:
    """The values of one equation of a jaxpr that calls no other.

    Args:
        equation: A ``jax.extend.core.JaxprEqn``.
        operands: The values of its operands.

    Returns:
        The values of its results.
    """
    name = equation.primitive.name
    kind = max((value.kind for value in operands), default=Kind.CONSTANT)
    if kind is Kind.CONSTANT:
        return [constant(array) for array in _compute(equation, operands)]
    rule = _RULES.get(name, _compute) if is_inexact(equation.outvars[0].aval) else _compute
    arrays = rule(equation, operands)
    if name in PRODUCTS or name == "gather" or (name in _SUMS and _starts(operands)):
        kind = Kind.SIGNAL
    leaves = [value.leaves for value in operands if kind is Kind.WEIGHTS]
    return [Value(array, kind, frozenset().union(*leaves)) for array in arrays]


def _compute(equation: Any, operands: Sequence[Value]) -> list[Any]:
    """As the network does it."""
    return _bind(equation, [_operand(value) for value in operands])


def _bind(equation: Any, arrays: Sequence[Any]) -> list[Any]:
    parameters = equation.primitive.get_bind_params(equation.params)
    results = equation.primitive.bind(*arrays, **parameters)
    return results if equation.primitive.multiple_results else [results]


def _operand(value: Value) -> Any:
    """Reduced, if it is more than a constant."""
    exact = value.kind is Kind.CONSTANT or not is_inexact(value.array)
    return value.array if exact else there(value.array)


def _varying(operands: Sequence[Value]) -> list[jax.Array]:
    """The signals among what is chosen from; weights where there are none."""
    kind = max(Kind.WEIGHTS, *(value.kind for value in operands))
    return [there(value.array) for value in operands if value.kind is kind]


def _product(equation: Any, operands: Sequence[Value]) -> list[Any]:
    return _bind(equation, [there(value.array) for value in operands])


def _quotient(equation: Any, operands: Sequence[Value]) -> list[Any]:
    del equation
    above, below = operands
    return [there(above.array) * there(below.array)]


def _sum(equation: Any, operands: Sequence[Value]) -> list[Any]:
    del equation
    one, other = operands
    if one.kind is Kind.WEIGHTS:
        one, other = other, one
    if _adds_weights(one, other):
        return [there(one.array) * (1 + there(other.array))]
    return [there(one.array) + there(other.array)]


def _adds_weights(one: Value, other: Value) -> bool:
    """Whether `other` is a bias of `one`: weights added to a signal, or to an array (the input)."""
    scalar = one.kind is Kind.CONSTANT and jnp.ndim(one.array) == 0  # as in `1 + scale`
    return other.kind is Kind.WEIGHTS and one.kind is not Kind.WEIGHTS and not scalar


def _starts(operands: Sequence[Value]) -> bool:
    one, other = operands
    return _adds_weights(one, other) or _adds_weights(other, one)


def _same(equation: Any, operands: Sequence[Value]) -> list[Any]:
    del equation
    return [there(operands[0].array)]


def _extremum(equation: Any, operands: Sequence[Value]) -> list[Any]:
    total = sum(_varying(operands))
    return [jnp.broadcast_to(total, equation.outvars[0].aval.shape)]


def _reduce_extremum(equation: Any, operands: Sequence[Value]) -> list[Any]:
    return [jnp.sum(there(operands[0].array), axis=equation.params["axes"])]


def _window_extremum(equation: Any, operands: Sequence[Value]) -> list[Any]:
    array = there(operands[0].array)
    return [lax.reduce_window(array, jnp.zeros((), array.dtype), lax.add, **equation.params)]


def _cumulative_extremum(equation: Any, operands: Sequence[Value]) -> list[Any]:
    return [lax.cumsum(there(operands[0].array), equation.params["axis"], equation.params["reverse"])]


def _select(equation: Any, operands: Sequence[Value]) -> list[Any]:
    which, *cases = operands
    if which.kind is not Kind.CONSTANT and _varying(cases):
        return [sum(_varying(cases))]
    filled = [jnp.zeros_like(c.array) if c.kind is Kind.CONSTANT else there(c.array) for c in cases]
    return _bind(equation, [which.array, *filled])


def _pad(equation: Any, operands: Sequence[Value]) -> list[Any]:
    array, filling = operands
    return _bind(equation, [_operand(array), jnp.zeros_like(filling.array)])


PRODUCTS = ("dot_general", "conv_general_dilated")
_SUMS = ("add", "sub", "add_any")
_RULES: dict[str, Callable[[Any, Sequence[Value]], list[Any]]] = {
    **dict.fromkeys((*PRODUCTS, "mul"), _product),
    "div": _quotient,
    **dict.fromkeys(_SUMS, _sum),
    "stop_gradient": _same,
    **dict.fromkeys(("max", "min", "clamp"), _extremum),
    **dict.fromkeys(("reduce_max", "reduce_min"), _reduce_extremum),
    **dict.fromkeys(("reduce_window_max", "reduce_window_min"), _window_extremum),
    **dict.fromkeys(("cummax", "cummin"), _cumulative_extremum),
    "select_n": _select,
    "pad": _pad,
}
