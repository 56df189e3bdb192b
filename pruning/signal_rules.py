"""What each primitive of JAX does to signals (``pruning.signals``), so that a path is a path.

Exact, entry by entry: what moves entries about, sums, products and convolutions, functions of single
entries. Differences add up, quotients multiply, a maximum is the sum of what it chooses from (for some
inputs each entry is the largest), and a threshold (``max(x, 0)``, ``clip``) lets its signal pass. The
constants that a mask or padding fills in are no signal.

A path is assumed, from every entry to every entry along the axes concerned: Fourier transforms, linear
algebra, sorting, cumulative and other products, and whatever an integer or a truth value that depends
on params chooses or moves.

A function of single entries whose value at 0 is not 0 (a sigmoid) feeds what follows. A primitive
that is not in the table is refused by name.
"""

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from pruning.signals import (
    Kind,
    Signal,
    Value,
    added,
    anywhere,
    constant,
    contracted,
    is_inexact,
    joined,
    mapped,
    mixed,
    multiplied,
    plus,
    present,
    product_of_likes,
    read,
    read_number,
)

Rule = Callable[[Any, Sequence[Value]], list[Signal]]

PRODUCTS = ("dot_general", "conv_general_dilated", "ragged_dot_general")
# Results are the operands: of one entry nothing changes.
_SAME = (
    "stop_gradient",
    "reduce_precision",
    "copy",
    "copy_p",
    "name",
    "optimization_barrier",
    "sharding_constraint",
    "layout_constraint",
    "with_memory_space_constraint",
    "reshard",
    "mesh_cast",
    "device_put",
)
_SUMS = ("add", "sub", "add_any")
_JOINING = (*_SUMS, "mul", "div", "concatenate", "stack", "dynamic_update_slice")
_SCATTERS = ("scatter", "scatter-add", "scatter-sub", "scatter-mul", "scatter-min", "scatter-max")


def apply(equation: Any, operands: Sequence[Value]) -> list[Value]:
    """The values of one equation of a jaxpr that calls no other.

    Args:
        equation: A ``jax.extend.core.JaxprEqn``.
        operands: The values of its operands.

    Returns:
        The values of its results.

    Raises:
        ValueError: If the primitive is not known and its operands depend on params.
    """
    name = equation.primitive.name
    if all(value.kind is Kind.CONSTANT for value in operands):
        return [constant(array) for array in _bind(equation, [value.array for value in operands])]
    if name in _SAME:
        return list(operands)
    if name not in _RULES:
        raise _refusal(name)
    kind = _kind(name, operands)
    signals = _RULES[name](equation, operands)
    leaves = frozenset[int]()
    if name not in PRODUCTS and kind < Kind.SIGNAL and not _is_shifted_input(name, operands):
        leaves = leaves.union(*(value.leaves for value in operands))
    avals = [variable.aval for variable in equation.outvars]
    exact = [not is_inexact(aval) for aval in avals]
    numbers = _without_signals(equation, operands) if any(exact) else [None] * len(avals)
    return [
        Value(number if is_exact else None, kind, _of_kind(signal, kind, aval.shape), leaves)
        for number, is_exact, signal, aval in zip(numbers, exact, signals, avals, strict=True)
    ]


def stack(values: Sequence[Value], aval: Any) -> Value:
    """Puts what the steps of a scan give along a new first axis.

    Args:
        values: What each step gives.
        aval: Shape and dtype of one of them.

    Returns:
        The value of that shape with an axis in front.
    """
    if all(value.kind is Kind.CONSTANT for value in values):
        return constant(jnp.stack([value.array for value in values]))
    signal = joined(lambda *parts: jnp.stack(parts), _side_by_side(values), [aval.shape] * len(values))
    leaves = frozenset[int]().union(*(value.leaves for value in values))
    array = None if is_inexact(aval) else jnp.stack([value.array for value in values])
    kind = _kind("stack", values)
    return Value(array, kind, _of_kind(signal, kind, (len(values), *aval.shape)), leaves)


def _refusal(name: str) -> ValueError:
    if name == "shard_map":
        return ValueError(
            "expected an output_fn for one device, got params in the primitive 'shard_map': give the "
            "network without it, since for the paths through it only shapes matter"
        )
    return ValueError(
        "expected an output_fn of operations whose paths are known, got params in the primitive "
        f"{name!r}: for this call write it in output_fn with operations of jax.numpy that connect the "
        "same entries, since only what depends on what matters and no value does"
    )


def _kind(name: str, operands: Sequence[Value]) -> Kind:
    kind = max(value.kind for value in operands)
    if name in PRODUCTS:
        of_weights = all(value.kind is Kind.WEIGHTS for value in operands[:2])
        return Kind.WEIGHTS if of_weights else Kind.SIGNAL
    if name == "gather":
        return Kind.SIGNAL
    beside_array = any(value.kind is Kind.CONSTANT and jnp.ndim(value.array) for value in operands)
    joins = beside_array and (name in _JOINING or name in _SCATTERS)
    return Kind.INPUT if joins and kind is Kind.WEIGHTS else kind


def _of_kind(signal: Signal, kind: Kind, shape: tuple[int, ...]) -> Signal:
    """With scalars broadcast, and for weights everything that is there taken for weights."""
    if kind is Kind.WEIGHTS:
        signal = Signal(weights=plus(*signal))
    return mapped(lambda part: jnp.broadcast_to(part, shape), signal)


def _is_shifted_input(name: str, operands: Sequence[Value]) -> bool:
    """Whether weights are added to an array of constants: these are no weights of a later product."""
    beside = any(value.kind is Kind.CONSTANT and jnp.ndim(value.array) for value in operands)
    return name in _SUMS and beside


def _bind(equation: Any, arrays: Sequence[Any], **changed: Any) -> list[Any]:
    parameters = equation.primitive.get_bind_params({**equation.params, **changed})
    results = equation.primitive.bind(*arrays, **parameters)
    return results if equation.primitive.multiple_results else [results]


def _bind_one(equation: Any, *arrays: Any, **changed: Any) -> Any:
    (result,) = _bind(equation, arrays, **changed)
    return result


def _without_signals(equation: Any, operands: Sequence[Value], *, scalar: bool = False) -> list[Any]:
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
        return _bind(equation, [array(value, atom.aval) for value, atom in pairs])


def _starts(equation: Any, operands: Sequence[Value], *, scalar: bool = False) -> list[Signal]:
    """What feeds the results where no signal arrives. Integers keep their number instead."""
    if not any(is_inexact(variable.aval) for variable in equation.outvars):
        return [Signal()] * len(equation.outvars)
    results = _without_signals(equation, operands, scalar=scalar)
    return [Signal(start=present(result)) if is_inexact(result) else Signal() for result in results]


def _varying(operands: Sequence[Value]) -> Signal:
    """The sum of what depends on params."""
    values = [value for value in operands if value.kind is not Kind.CONSTANT]
    return mixed(values, [read(value) for value in values])


def _side_by_side(values: Sequence[Value]) -> list[Signal]:
    """Read, to be put side by side: weights beside a signal (a class token) feed what follows."""
    signals = [read(value) for value in values]
    if all(value.kind < Kind.SIGNAL for value in values):
        return signals
    return [
        Signal(start=anywhere(signal)) if value.kind < Kind.SIGNAL else signal
        for value, signal in zip(values, signals, strict=True)
    ]


def _chosen(base: Signal, choice: Signal, options: Signal, operands: Sequence[Value]) -> Signal:
    """The choice that is made where nothing arrives to choose, and any option where something does."""
    signals = any(value.kind is Kind.SIGNAL for value in operands)
    return added(base, product_of_likes(choice, options, signals=signals))


def _spread(array: Any, axes: Any, shape: Any) -> jax.Array:
    """From every entry along the axes to every entry."""
    return jnp.broadcast_to(jnp.sum(array, axis=tuple(axes), keepdims=True), shape)


def _total(values: Sequence[Value]) -> Signal:
    """All that is there in values that depend on params, as one scalar."""
    return added(*(mapped(jnp.sum, read(v)) for v in values if v.kind is not Kind.CONSTANT), Signal())


def _entrywise(equation: Any, operands: Sequence[Value]) -> list[Signal]:
    signals = any(value.kind is Kind.SIGNAL for value in operands)
    scalar = all(
        jnp.ndim(value.array) == 0
        if value.array is not None
        else not signals or value.kind is Kind.SIGNAL
        for value in operands
    )
    (start,) = _starts(equation, operands, scalar=scalar)
    return [added(_varying(operands), start)]


def _bits(equation: Any, operands: Sequence[Value]) -> list[Signal]:
    """A cast of bits, if to numbers of the same width."""
    if equation.invars[0].aval.shape != equation.outvars[0].aval.shape:
        raise _refusal(equation.primitive.name)
    return _entrywise(equation, operands)


def _linear(equation: Any, operands: Sequence[Value]) -> list[Signal]:
    """What sums and moves entries with coefficients of 1."""
    shapes = [atom.aval.shape for atom in equation.invars]
    count = len(equation.outvars)
    read_ = _side_by_side(operands)
    parts = joined(lambda *arrays: _bind(equation, arrays), read_, shapes)
    return [mapped(lambda part, index=index: part[index], parts) for index in range(count)]


def _contraction(equation: Any, operands: Sequence[Value]) -> list[Signal]:
    def product(one: Any, other: Any) -> Any:
        return _bind_one(
            equation, one, other, precision=None, preferred_element_type=jnp.dtype("float32")
        )

    return [contracted(product, *operands)]


def _ragged_contraction(equation: Any, operands: Sequence[Value]) -> list[Signal]:
    one, other, groups = operands
    if groups.kind is Kind.CONSTANT:

        def product(a: Any, b: Any) -> Any:
            changed = {"precision": None, "preferred_element_type": jnp.dtype("float32")}
            return _bind_one(equation, a, b, groups.array, **changed)

        return [contracted(product, one, other)]
    total = contracted(lambda a, b: jnp.sum(a) * jnp.sum(b), one, other)
    return [_chosen(total, _total([groups]), total, operands)]


def _product(equation: Any, operands: Sequence[Value]) -> list[Signal]:
    del equation
    return [multiplied(*operands)]


def _sum(equation: Any, operands: Sequence[Value]) -> list[Signal]:
    del equation
    return [mixed(operands, [read(value) for value in operands])]


def _extremum(equation: Any, operands: Sequence[Value]) -> list[Signal]:
    del equation
    return [_varying(operands)]


def _reduction(equation: Any, operands: Sequence[Value]) -> list[Signal]:
    axes = equation.params["axes"]
    (start,) = _starts(equation, operands)
    return [added(mapped(lambda part: jnp.sum(part, axis=axes), read(operands[0])), start)]


def _general_reduction(equation: Any, operands: Sequence[Value]) -> list[Signal]:
    """By a function of its own: any of the arrays may enter any result."""
    axes, count = equation.params["dimensions"], len(operands) // 2
    summed = [mapped(lambda part: jnp.sum(part, axis=axes), read(value)) for value in operands[:count]]
    signals = [*summed, *(read(value) for value in operands[count:])]
    pairs = [(v, s) for v, s in zip(operands, signals, strict=True) if v.kind is not Kind.CONSTANT]
    signal = mixed([v for v, _ in pairs], [s for _, s in pairs])
    return [added(signal, start) for start in _starts(equation, operands)]


def _window_extremum(equation: Any, operands: Sequence[Value]) -> list[Signal]:
    zero = jnp.zeros((), jnp.float32)
    signal = read(operands[0])
    return [mapped(lambda part: lax.reduce_window(part, zero, lax.add, **equation.params), signal)]


def _cumulation(equation: Any, operands: Sequence[Value]) -> list[Signal]:
    axis, backwards = equation.params["axis"], equation.params["reverse"]
    signal = mapped(lambda part: lax.cumsum(part, axis, backwards), read(operands[0]))
    return [added(signal, *_starts(equation, operands))]


def _fourier_transform(equation: Any, operands: Sequence[Value]) -> list[Signal]:
    shape, rank = equation.outvars[0].aval.shape, len(equation.params["fft_lengths"])
    axes = range(len(shape) - rank, len(shape))

    return [mapped(lambda part: _spread(part, axes, shape), read(operands[0]))]


def _matrix_function(equation: Any, operands: Sequence[Value], *, rank: int = 2) -> list[Signal]:
    """Every entry of the matrices (arrays of `rank`) may reach every entry of the results."""
    batch = len(equation.invars[0].aval.shape) - rank

    def whole(value: Value) -> Signal:
        return mapped(lambda part: jnp.sum(part, axis=tuple(range(batch, part.ndim))), read(value))

    varying = [value for value in operands if value.kind is not Kind.CONSTANT]
    total = mixed(varying, [whole(value) for value in varying])

    def result(start: Signal, aval: Any) -> Signal:
        axes = tuple(range(batch, len(aval.shape)))
        return added(
            mapped(lambda p: jnp.broadcast_to(jnp.expand_dims(p, axes), aval.shape), total), start
        )

    pairs = zip(_starts(equation, operands), equation.outvars, strict=True)
    return [result(start, variable.aval) for start, variable in pairs]


def _triangular_solution(equation: Any, operands: Sequence[Value]) -> list[Signal]:
    """Linear in the second operand, along its rows or its columns; any entry of the first one enters."""
    matrix, other = operands
    shape, axis = equation.outvars[0].aval.shape, -2 if equation.params["left_side"] else -1
    solved = mapped(lambda part: _spread(part, (axis,), shape), read(other))
    entering = mapped(lambda part: jnp.sum(part, axis=(-2, -1), keepdims=True), read(matrix))
    if matrix.kind is Kind.CONSTANT:
        return [solved]
    return [_chosen(solved, entering, solved, operands)]


def _select(equation: Any, operands: Sequence[Value]) -> list[Signal]:
    which, *cases = operands
    shapes = [atom.aval.shape for atom in equation.invars[1:]]

    def choose(*arrays: Any) -> Any:
        return _bind_one(equation, which.array, *arrays)

    if which.kind is Kind.CONSTANT:
        filled = [
            Signal() if value.kind is Kind.CONSTANT else signal
            for value, signal in zip(cases, _side_by_side(cases), strict=True)
        ]
        return [joined(choose, filled, shapes)]
    base = joined(choose, [read(value) for value in cases], shapes)
    return [_chosen(base, read(which), added(*map(read_number, cases)), operands)]


def _pad(equation: Any, operands: Sequence[Value]) -> list[Signal]:
    array, filling = operands
    filled = Signal() if filling.kind is Kind.CONSTANT else read(filling)
    shapes = [atom.aval.shape for atom in equation.invars]
    return [joined(functools.partial(_bind_one, equation), [read(array), filled], shapes)]


def _gather(equation: Any, operands: Sequence[Value]) -> list[Signal]:
    """A look-up: weights that are looked up are an input through weights."""
    table, indices = operands
    numbers = equation.params["dimension_numbers"]

    def look_up(array: Any) -> Any:
        return _bind_one(equation, array, indices.array, fill_value=0)

    def looked_up(signal: Signal) -> Signal:
        weights = table.kind in (Kind.WEIGHTS, Kind.INPUT)
        return mapped(look_up, Signal(path=anywhere(signal)) if weights else signal)

    if indices.kind is Kind.CONSTANT:
        return [looked_up(read(table))]
    shape, axes = equation.invars[0].aval.shape, numbers.start_index_map
    options = mapped(lambda part: _spread(part, axes, shape), read_number(table))
    result = equation.outvars[0].aval.shape
    batch = [axis for axis in range(len(result)) if axis not in numbers.offset_dims]
    choice = mapped(
        lambda part: lax.broadcast_in_dim(jnp.sum(part, axis=-1), result, batch), read(indices)
    )
    return [_chosen(looked_up(read(table)), choice, looked_up(options), operands)]


def _dynamic_slice(equation: Any, operands: Sequence[Value]) -> list[Signal]:
    array, *places = operands
    shape = equation.invars[0].aval.shape

    def cut(part: Any) -> Any:
        return _bind_one(equation, part, *(place.array for place in places))

    base = mapped(cut, read(array))
    axes = [axis for axis, place in enumerate(places) if place.kind is not Kind.CONSTANT]
    if not axes:
        return [base]
    options = mapped(lambda part: cut(_spread(part, axes, shape)), read_number(array))
    return [_chosen(base, _total(places), options, operands)]


def _dynamic_update_slice(equation: Any, operands: Sequence[Value]) -> list[Signal]:
    array, update, *places = operands

    def put(one: Any, other: Any) -> Any:
        return _bind_one(equation, one, other, *(place.array for place in places))

    shapes = [atom.aval.shape for atom in equation.invars[:2]]
    return [_put(put, array, update, places, shapes)]


def _scatter(equation: Any, operands: Sequence[Value]) -> list[Signal]:
    array, indices, updates = operands
    parameters = equation.params
    scatter = lax.scatter if equation.primitive.name == "scatter" else lax.scatter_add

    def put(one: Any, other: Any) -> Any:
        return scatter(
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
    base = joined(put, _side_by_side([array, update]), shapes)
    if all(place.kind is Kind.CONSTANT for place in places):
        return base
    options = added(read_number(array), mapped(jnp.sum, read_number(update)))
    return _chosen(base, _total(places), options, [array, update, *places])


def _sort(equation: Any, operands: Sequence[Value]) -> list[Signal]:
    """Any entry along the axis may come anywhere, and the keys decide."""
    axis, keys = equation.params["dimension"], equation.params["num_keys"]

    def anywhere_along(signal: Signal) -> Signal:
        return mapped(lambda part: _spread(part, (axis,), part.shape), signal)

    order = anywhere_along(_varying(operands[:keys]))
    return [
        _chosen(anywhere_along(read(v)), order, anywhere_along(read_number(v)), operands)
        for v in operands
    ]


def _top(equation: Any, operands: Sequence[Value], *, axis: str) -> list[Signal]:
    """Any entry along the axis may be among the first."""
    place, shape = equation.params.get(axis, -1), equation.outvars[0].aval.shape
    signal = mapped(lambda part: _spread(part, (place,), shape), read(operands[0]))
    return [signal, signal]


_ENTRYWISE = """
    abs acos acosh and asin asinh atan atan2 atanh bessel_i0e bessel_i1e cbrt ceil clz
    complex conj convert_element_type cos cosh digamma eq eq_to erf erf_inv erfc exp exp2 expm1 floor ge gt
    igamma igamma_grad_a igammac imag integer_pow is_finite le le_to lgamma log log1p logistic lt lt_to ne
    neg nextafter not or polygamma population_count pow real regularized_incomplete_beta rem round rsqrt
    shift_left shift_right_arithmetic shift_right_logical sign sin sinh sqrt square tan tanh xor zeta
""".split()
_LINEAR = """
    broadcast broadcast_in_dim broadcast_to concatenate cumsum expand_dims reduce_sum reduce_window_sum
    reshape rev slice split squeeze stack tile transpose unstack
""".split()
_MATRIX_FUNCTIONS = """
    cholesky cholesky_update eig eigh geqp3 geqrf hessenberg householder_product lu ormqr qr schur svd
    symmetric_product tridiagonal
""".split()
_REDUCTIONS = """
    argmax argmin reduce_and reduce_max reduce_min reduce_or reduce_prod reduce_xor
""".split()
_RULES: dict[str, Rule] = {
    **dict.fromkeys(_ENTRYWISE, _entrywise),
    **dict.fromkeys(_LINEAR, _linear),
    **dict.fromkeys(_MATRIX_FUNCTIONS, _matrix_function),
    **dict.fromkeys(
        ("lu_pivots_to_permutation", "tridiagonal_solve"), functools.partial(_matrix_function, rank=1)
    ),
    "bitcast_convert_type": _bits,
    "triangular_solve": _triangular_solution,
    "fft": _fourier_transform,
    **dict.fromkeys(PRODUCTS, _contraction),
    "ragged_dot_general": _ragged_contraction,
    **dict.fromkeys(("mul", "div"), _product),
    **dict.fromkeys(_SUMS, _sum),
    **dict.fromkeys(("max", "min", "clamp"), _extremum),
    **dict.fromkeys(_REDUCTIONS, _reduction),
    "reduce": _general_reduction,
    **dict.fromkeys(("reduce_window_max", "reduce_window_min"), _window_extremum),
    **dict.fromkeys(("cummax", "cummin", "cumprod", "cumlogsumexp"), _cumulation),
    "select_n": _select,
    "pad": _pad,
    "gather": _gather,
    "dynamic_slice": _dynamic_slice,
    "dynamic_update_slice": _dynamic_update_slice,
    **dict.fromkeys(_SCATTERS, _scatter),
    "sort": _sort,
    "top_k": functools.partial(_top, axis="axis"),
    "approx_top_k": functools.partial(_top, axis="reduction_dimension"),
}

KNOWN = frozenset((*_RULES, *_SAME))
