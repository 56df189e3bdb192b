"""A network cut at every use of prunable weights: what goes on from a use, and what arrives at one.

In place of what a use computes stands a signal whose ``path`` is there where chosen output units are.
It goes on through whatever follows (``signal_rules.py``) to the operands of other uses, and to the
output. Its ``start`` is there everywhere, so that each of two factors lets the other one pass. The
network's input is there only if it is asked for.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from pruning.connectivity.equations import bind_one
from pruning.connectivity.interpreter import OutputFn, Watch, interpret, whole_signals
from pruning.connectivity.layer_uses import Use, find_use
from pruning.connectivity.signal_rules import apply
from pruning.connectivity.signals import (
    THERE,
    Kind,
    Signal,
    Value,
    anywhere,
    is_inexact,
    plus,
    read_number,
    there,
    times,
)
from pruning.connectivity.weight_moves import with_moves
from pruning.trees.leaves import PyTree, is_traced


class Cut(NamedTuple):
    """One pass through the network that is cut.

    Attributes:
        uses: In the order in which they are computed.
        unread: The leaves, by index, that enter products in which it is not known which weight is where.
        arrived: For each the input units that something arrives at, (G * I,).
        output: What arrives at the output, flat.
    """

    uses: list[Use]
    unread: set[int]
    arrived: list[jax.Array]
    output: jax.Array


def pass_through(
    output_fn: OutputFn,
    params: PyTree,
    cut_leaves: frozenset[int],
    units_of: Callable[[int, Use], Any],
    is_fed: Any,
) -> Cut:
    """Passes signals through the network that is cut.

    Args:
        output_fn: ``output_fn(params)`` is the network's output at its input, of any structure.
        params: Its params; only their shapes and dtypes matter.
        cut_leaves: The leaves, by index, whose uses are cut.
        units_of: ``units_of(number, use)`` is where a use's output units are there, (G * O,).
        is_fed: Whether the network's input is there, 0 or 1, float32 of shape (1,).

    Returns:
        The uses, and what arrives where.

    Raises:
        ValueError: If the interpreter refuses the network.
    """
    uses: list[Use] = []
    unread: set[int] = set()
    arrived: list[jax.Array] = []
    is_fed = is_fed[0]

    def evaluate(equation: Any, operands: list[Value]) -> list[Value]:
        operands = [
            value if value.leaves & cut_leaves else value._replace(moves=None) for value in operands
        ]
        found = find_use(equation, operands)
        if found is not None:
            use, operand = found
            chosen = there(use.spread_out(units_of(len(uses), use)))
            signal = Signal(path=chosen, start=jnp.full_like(chosen, THERE))
            arrived.append(_arrived(equation, use, operand, is_fed))
            uses.append(use)
            return [Value(None, Kind.SIGNAL, signal)]
        if equation.primitive.name in ("dot_general", "conv_general_dilated"):
            unread.update(*(value.leaves & cut_leaves for value in operands if not value.moves))
            return _passed(equation, operands, is_fed)
        results = with_moves(equation, operands, apply(equation, operands))
        if equation.primitive.name == "gather" and operands[0].kind < Kind.SIGNAL:
            return [_scaled_path(value, is_fed) for value in results]
        return results

    found, avals = interpret(output_fn, params, whole_signals(params), Watch([], evaluate, _known))
    pairs = zip(found, avals, strict=True)
    signals = [value.signal.path for value, aval in pairs if is_inexact(aval)]
    paths = [there(path).ravel() for path in signals if path is not None]
    return Cut(uses, unread, arrived, jnp.concatenate([jnp.zeros(0, jnp.float32), *paths]))


def _known(array: Any) -> Any:
    """Numbers that are traced may be any: the units are those that they could connect."""
    if not is_traced(array):
        return array
    if not is_inexact(array):
        raise ValueError(
            f"expected arrays of {array.dtype} that output_fn holds to be known when it is traced, since "
            "paths go where they say: close over concrete ones, not over arguments of a compiled function"
        )
    return jnp.ones(array.shape, array.dtype)


def _arrived(equation: Any, use: Use, operand: Value, is_fed: Any) -> jax.Array:
    if equation.primitive.name == "gather":
        return use.units_in(jnp.ones((1,), jnp.float32)) * is_fed
    signal = read_number(operand)
    if operand.kind < Kind.SIGNAL:
        everything = anywhere(signal)
        fed = everything * is_fed
        return use.units_in(fed)
    parts = plus(signal.path, None if signal.start is None else signal.start * is_fed)
    if parts is None:
        return jnp.zeros(use.shape[0] * use.shape[1], jnp.float32)
    return use.units_in(parts)


def _passed(equation: Any, operands: Sequence[Value], is_fed: Any) -> list[Value]:
    """A product that is not cut; what constants feed is there only if it is asked for."""
    (result,) = apply(equation, operands)
    if result.kind is not Kind.SIGNAL:
        return [result]

    def product(one: Any, other: Any) -> Any:
        return bind_one(equation, one, other, precision=None, preferred_element_type=jnp.dtype("float32"))

    first, second = (read_number(value) for value in operands)
    both = anywhere(first), anywhere(second)
    feeding = [
        signal.start if value.kind is Kind.SIGNAL else anywhere(signal)
        for value, signal in zip(operands, (first, second), strict=True)
    ]
    is_signal = [value.kind is Kind.SIGNAL for value in operands]
    if is_signal[0] != is_signal[1]:  # of weights, or a constant, only what is a signal arrives
        feeding[is_signal.index(False)] = None
    fed = plus(times(product, feeding[0], both[1]), times(product, both[0], feeding[1]))
    path = plus(times(product, first.path, both[1]), times(product, both[0], second.path))
    total = plus(path, None if fed is None else fed * is_fed)
    return [result._replace(signal=Signal(total, None, result.signal.weights))]


def _scaled_path(value: Value, is_fed: Any) -> Value:
    """What is looked up in a table of weights is an input."""
    path = value.signal.path
    return value._replace(signal=value.signal._replace(path=None if path is None else path * is_fed))
