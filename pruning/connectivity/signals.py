"""Signals: values that say only whether a network's input arrives, and by what they are not zero.

An entry of a signal is ``THERE`` or 0. It is reduced to that again at every use, as is the gradient
that comes back, and nothing in a signal is negative. So nothing grows, shrinks or cancels with depth,
width, sign or dtype, and a gradient is 0 exactly where no path leads on. Every value has a kind:

- a *constant* depends on no param and is computed as it is: the input, statistics, a dropout mask;
- *weights* depend on params alone: leaves, reshaped, cast, scaled, or combined with each other;
- an *input* is an array of constants that weights scale or are added to, entry by entry;
- a *signal* is what a product, a convolution or a look-up with weights makes of either of the others.

What is there in it is told apart in three parts (``Signal``), because they do not do the same: weights
that are added (a bias) start no path, but a path goes on through a product with them.

``signal_rules.py`` says what each primitive does to them.
"""

import enum
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

THERE = 0.5
"""What an entry of a signal is that is there."""
# What is there is 1/4 at least wherever it is reduced; less is the rounding of a fast convolution.
_ROUNDING = 1 / 16


class Kind(enum.IntEnum):
    """What a value depends on; a result has the highest kind among its operands, or a higher one."""

    CONSTANT = 0
    WEIGHTS = 1
    INPUT = 2
    SIGNAL = 3


class Signal(NamedTuple):
    """Where a value is not zero, float32 arrays of its shape; ``None`` is nowhere.

    ``path``: where the input arrives through weights. ``start``: where a constant feeds what follows (an
    input, a function that is not 0 at 0). ``weights``: weights, or what nothing but biases feeds.
    """

    path: Any = None
    start: Any = None
    weights: Any = None


class Value(NamedTuple):
    """A value of the network.

    ``array`` is a constant itself. Of an integer or truth value that depends on params it is what the
    value is where no signal is, and ``None`` of any other: 0 is what that is there. ``leaves`` are the
    params that weights, or constants that they scale, are made of, by index; ``moves`` gives the entries
    of these, if each is an entry of a leaf, moved or scaled: a function of all leaves by index
    (``weight_moves.py``).
    """

    array: Any
    kind: Kind
    signal: Signal = Signal()
    leaves: frozenset[int] = frozenset()
    moves: Callable[[Any], Any] | None = None


def constant(array: Any) -> Value:
    """A value that depends on no param."""
    return Value(array, Kind.CONSTANT)


def is_inexact(value: Any) -> bool:
    """Whether a value, or what has a dtype, is of a floating-point or complex dtype."""
    dtype = value.dtype if hasattr(value, "dtype") else jnp.result_type(value)
    return jnp.issubdtype(dtype, jnp.inexact)


@jax.custom_vjp
def there(array: jax.Array) -> jax.Array:
    """Reduces a signal, and the gradient that comes back, to where they are not zero."""
    return _there(array)


@jax.jit
def _there(array: jax.Array) -> jax.Array:
    return jnp.where(array > _ROUNDING, THERE, 0).astype(jnp.float32)


there.defvjp(lambda array: (there(array), None), lambda _, gradient: (there(gradient),))


def present(array: Any) -> jax.Array:
    """Where a constant is not zero."""
    return jnp.where(jnp.asarray(array) != 0, THERE, 0).astype(jnp.float32)


def read(value: Value) -> Signal:
    """The signal of a value, reduced. A constant that is no integer feeds what follows."""
    if value.kind is Kind.CONSTANT:
        return Signal(start=present(value.array)) if is_inexact(value.array) else Signal()
    return mapped(there, value.signal)


def read_number(value: Value) -> Signal:
    """As ``read``, for what multiplies or is chosen: integers too feed what follows."""
    signal = read(value)
    if value.array is None or is_inexact(value.array):
        return signal
    return signal._replace(start=there(plus(signal.start, present(value.array))))


def anywhere(signal: Signal) -> Any:
    """Where there is something, whatever it is."""
    return mapped_or_none(there, plus(*signal))


def plus(*arrays: Any) -> Any:
    """The sum of what is not ``None``; ``None`` if nothing is."""
    given = [array for array in arrays if array is not None]
    return sum(given[1:], given[0]) if given else None


def times(product: Callable[[Any, Any], Any], one: Any, other: Any) -> Any:
    """A product, ``None`` if a factor is."""
    return None if one is None or other is None else product(one, other)


def mapped_or_none(function: Callable[[Any], Any], array: Any) -> Any:
    """The function's value, ``None`` for ``None``."""
    return None if array is None else function(array)


def mapped(function: Callable[[Any], Any], signal: Signal) -> Signal:
    """A linear function of each part."""
    return Signal(*(mapped_or_none(function, part) for part in signal))


def added(*signals: Signal) -> Signal:
    """The sum, part by part."""
    return Signal(*(plus(*parts) for parts in zip(*signals, strict=True)))


def joined(
    function: Callable[..., Any], signals: Sequence[Signal], shapes: Sequence[tuple[int, ...]]
) -> Signal:
    """A linear function of several signals, part by part."""

    def part(arrays: Sequence[Any]) -> Any:
        if all(array is None for array in arrays):
            return None
        pairs = zip(arrays, shapes, strict=True)
        return function(*(jnp.zeros(s, jnp.float32) if a is None else a for a, s in pairs))

    return Signal(*(part(arrays) for arrays in zip(*signals, strict=True)))


def mixed(operands: Sequence[Value], signals: Sequence[Signal]) -> Signal:
    """The sum of values: weights that are added let a signal pass, and start none.

    Args:
        operands: The values, which say what is a signal and what are weights.
        signals: What is read of them, in the same order.

    Returns:
        Their sum. Its gradient reaches the added weights where the sum is there.
    """
    total = added(*signals)
    biases = [s.weights for v, s in zip(operands, signals, strict=True) if v.kind < Kind.SIGNAL]
    bias = plus(*biases)
    if bias is None:
        return total
    passed = mapped(lambda part: part * (1 + bias), total)
    return passed._replace(weights=total.weights)


def multiplied(one: Value, other: Value) -> Signal:
    """The product of two values entry by entry: what multiplies a signal is a gate or a statistic."""
    first, second = read_number(one), read_number(other)
    if one.kind is Kind.CONSTANT or (one.kind < Kind.SIGNAL and other.kind is Kind.SIGNAL):
        one, other, first, second = other, one, second, first
    if other.kind is Kind.CONSTANT:
        if one.kind is Kind.WEIGHTS and jnp.ndim(other.array):
            return Signal(start=times(jnp.multiply, first.weights, second.start))
        return mapped(lambda part: part * second.start, first)
    if other.kind < one.kind is Kind.SIGNAL:
        factor = anywhere(second)
        return mapped(lambda part: times(jnp.multiply, part, factor), first)
    return product_of_likes(first, second, signals=one.kind is Kind.SIGNAL)


def product_of_likes(first: Signal, second: Signal, *, signals: bool) -> Signal:
    """The product entry by entry of two signals, or of two values of lower kinds.

    Args:
        first: One factor.
        second: The other.
        signals: Whether they are signals. A constant times what only biases feed is no input then, as
            it is where an input is scaled by weights.

    Returns:
        The product.
    """

    def product(a: Any, b: Any) -> Any:
        return times(jnp.multiply, a, b)

    path = plus(
        product(first.path, anywhere(second)), product(plus(first.start, first.weights), second.path)
    )
    start = product(first.start, second.start)
    weights = product(first.weights, second.weights)
    scaled = plus(product(first.start, second.weights), product(first.weights, second.start))
    if signals:
        return Signal(path, start, plus(weights, scaled))
    return Signal(path, plus(start, scaled), weights)


def contracted(product: Callable[[Any, Any], Any], one: Value, other: Value) -> Signal:
    """A product that sums over axes: an input or a constant that feeds becomes a path.

    Args:
        product: Bilinear: a matrix product or a convolution.
        one: Its first operand.
        other: Its second operand.

    Returns:
        The product.
    """
    first, second = read_number(one), read_number(other)
    if one.kind is Kind.SIGNAL and other.kind < Kind.SIGNAL:
        second = Signal(weights=anywhere(second))
    elif other.kind is Kind.SIGNAL and one.kind < Kind.SIGNAL:
        first = Signal(weights=anywhere(first))
    arriving = plus(first.path, first.start), plus(second.path, second.start)
    path = plus(times(product, arriving[0], anywhere(second)), times(product, first.weights, arriving[1]))
    return Signal(path, None, times(product, first.weights, second.weights))


def varying(operands: Sequence[Value]) -> Signal:
    """The sum of what depends on params."""
    values = [value for value in operands if value.kind is not Kind.CONSTANT]
    return mixed(values, [read(value) for value in values])


def side_by_side(values: Sequence[Value]) -> list[Signal]:
    """Read, to be put side by side: weights beside a signal (a class token) feed what follows."""
    signals = [read(value) for value in values]
    if all(value.kind < Kind.SIGNAL for value in values):
        return signals
    return [
        Signal(start=anywhere(signal)) if value.kind < Kind.SIGNAL else signal
        for value, signal in zip(values, signals, strict=True)
    ]


def chosen(base: Signal, choice: Signal, options: Signal, operands: Sequence[Value]) -> Signal:
    """The choice that is made where nothing arrives to choose, and any option where something does."""
    signals = any(value.kind is Kind.SIGNAL for value in operands)
    return added(base, product_of_likes(choice, options, signals=signals))


def spread(array: Any, axes: Any, shape: Any) -> jax.Array:
    """From every entry along the axes to every entry."""
    return jnp.broadcast_to(jnp.sum(array, axis=tuple(axes), keepdims=True), shape)


def total(values: Sequence[Value]) -> Signal:
    """All that is there in values that depend on params, as one scalar."""
    return added(*(mapped(jnp.sum, read(v)) for v in values if v.kind is not Kind.CONSTANT), Signal())


def of_kind(signal: Signal, kind: Kind, shape: tuple[int, ...]) -> Signal:
    """With scalars broadcast, and for weights everything that is there taken for weights."""
    if kind is Kind.WEIGHTS:
        signal = Signal(weights=plus(*signal))
    return mapped(lambda part: jnp.broadcast_to(part, shape), signal)
