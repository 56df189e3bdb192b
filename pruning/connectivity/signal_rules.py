"""What each primitive of JAX does to signals (``signals.py``), so that a path is a path.

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
from collections.abc import Callable, Sequence
from typing import Any

import jax.numpy as jnp

from pruning.connectivity import signal_choices, signal_spreads
from pruning.connectivity.equations import bind, bind_one, starts, without_signals
from pruning.connectivity.signals import (
    Kind,
    Signal,
    Value,
    added,
    chosen,
    constant,
    contracted,
    is_inexact,
    joined,
    mapped,
    mixed,
    multiplied,
    of_kind,
    read,
    side_by_side,
    total,
    varying,
)

Rule = Callable[[Any, Sequence[Value]], list[Signal]]

PRODUCTS = ("dot_general", "conv_general_dilated", "ragged_dot_general")
# Results are the operands: of one entry nothing changes.
_MARKS = ("stop_gradient", "reduce_precision", "copy", "copy_p", "name", "optimization_barrier")
_PLACES = ("sharding_constraint", "layout_constraint", "with_memory_space_constraint", "reshard")
UNCHANGED = (*_MARKS, *_PLACES, "mesh_cast", "device_put")
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
        return [constant(array) for array in bind(equation, [value.array for value in operands])]
    if name in UNCHANGED:
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
    numbers = without_signals(equation, operands) if any(exact) else [None] * len(avals)
    return [
        Value(number if is_exact else None, kind, of_kind(signal, kind, aval.shape), leaves)
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
    signal = joined(lambda *parts: jnp.stack(parts), side_by_side(values), [aval.shape] * len(values))
    leaves = frozenset[int]().union(*(value.leaves for value in values))
    array = None if is_inexact(aval) else jnp.stack([value.array for value in values])
    kind = _kind("stack", values)
    return Value(array, kind, of_kind(signal, kind, (len(values), *aval.shape)), leaves)


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


def _is_shifted_input(name: str, operands: Sequence[Value]) -> bool:
    """Whether weights are added to an array of constants: these are no weights of a later product."""
    beside = any(value.kind is Kind.CONSTANT and jnp.ndim(value.array) for value in operands)
    return name in _SUMS and beside


def _entrywise(equation: Any, operands: Sequence[Value]) -> list[Signal]:
    signals = any(value.kind is Kind.SIGNAL for value in operands)
    scalar = all(
        jnp.ndim(value.array) == 0
        if value.array is not None
        else not signals or value.kind is Kind.SIGNAL
        for value in operands
    )
    (start,) = starts(equation, operands, scalar=scalar)
    return [added(varying(operands), start)]


def _bits(equation: Any, operands: Sequence[Value]) -> list[Signal]:
    """A cast of bits, if to numbers of the same width."""
    if equation.invars[0].aval.shape != equation.outvars[0].aval.shape:
        raise _refusal(equation.primitive.name)
    return _entrywise(equation, operands)


def _linear(equation: Any, operands: Sequence[Value]) -> list[Signal]:
    """What sums and moves entries with coefficients of 1."""
    shapes = [atom.aval.shape for atom in equation.invars]
    count = len(equation.outvars)
    parts = joined(lambda *arrays: bind(equation, arrays), side_by_side(operands), shapes)
    return [mapped(lambda part, index=index: part[index], parts) for index in range(count)]


def _contraction(equation: Any, operands: Sequence[Value]) -> list[Signal]:
    def product(one: Any, other: Any) -> Any:
        return bind_one(equation, one, other, precision=None, preferred_element_type=jnp.dtype("float32"))

    return [contracted(product, *operands)]


def _ragged_contraction(equation: Any, operands: Sequence[Value]) -> list[Signal]:
    one, other, groups = operands
    if groups.kind is Kind.CONSTANT:

        def product(a: Any, b: Any) -> Any:
            changed = {"precision": None, "preferred_element_type": jnp.dtype("float32")}
            return bind_one(equation, a, b, groups.array, **changed)

        return [contracted(product, one, other)]
    any_group = contracted(lambda a, b: jnp.sum(a) * jnp.sum(b), one, other)
    return [chosen(any_group, total([groups]), any_group, operands)]


def _product(equation: Any, operands: Sequence[Value]) -> list[Signal]:
    del equation
    return [multiplied(*operands)]


def _sum(equation: Any, operands: Sequence[Value]) -> list[Signal]:
    del equation
    return [mixed(operands, [read(value) for value in operands])]


def _extremum(equation: Any, operands: Sequence[Value]) -> list[Signal]:
    del equation
    return [varying(operands)]


def _pad(equation: Any, operands: Sequence[Value]) -> list[Signal]:
    array, filling = operands
    filled = Signal() if filling.kind is Kind.CONSTANT else read(filling)
    shapes = [atom.aval.shape for atom in equation.invars]
    return [joined(functools.partial(bind_one, equation), [read(array), filled], shapes)]


_TRIGONOMETRIC = ("cos", "sin", "tan", "acos", "asin", "atan", "atan2")
_HYPERBOLIC = ("cosh", "sinh", "tanh", "acosh", "asinh", "atanh", "logistic")
_POWERS = (
    "exp",
    "exp2",
    "expm1",
    "log",
    "log1p",
    "sqrt",
    "rsqrt",
    "cbrt",
    "square",
    "integer_pow",
    "pow",
)
_ERRORS = ("erf", "erfc", "erf_inv", "bessel_i0e", "bessel_i1e", "regularized_incomplete_beta", "zeta")
_GAMMAS = ("digamma", "lgamma", "polygamma", "igamma", "igammac", "igamma_grad_a")
_PARTS = ("integer_pow", "abs", "neg", "sign", "conj", "real", "imag", "complex", "convert_element_type")
_STEPS = ("is_finite", "ceil", "floor", "round", "rem", "nextafter")
_COMPARISONS = ("eq", "ne", "ge", "gt", "le", "lt", "eq_to", "le_to", "lt_to")
_BITS = ("and", "or", "xor", "not", "clz", "population_count")
_SHIFTS = ("shift_left", "shift_right_arithmetic", "shift_right_logical")
ENTRYWISE = (
    *(*_TRIGONOMETRIC, *_HYPERBOLIC, *_POWERS, *_ERRORS, *_GAMMAS),
    *(*_PARTS, *_STEPS, *_COMPARISONS, *_BITS, *_SHIFTS),
)
_SHAPES = (
    "broadcast",
    "broadcast_in_dim",
    "broadcast_to",
    "expand_dims",
    "reshape",
    "squeeze",
    "transpose",
)
_MOVES = ("broadcast", "concatenate", "rev", "slice", "split", "stack", "tile", "unstack")
_TOTALS = ("cumsum", "reduce_sum", "reduce_window_sum")
_DECOMPOSITIONS = ("cholesky", "eig", "eigh", "hessenberg", "lu", "qr", "schur", "svd", "tridiagonal")
_MATRICES = ("cholesky_update", "geqp3", "geqrf", "householder_product", "ormqr", "symmetric_product")
_DIAGONALS = ("lu_pivots_to_permutation", "tridiagonal_solve")
_REDUCTIONS = ("argmax", "argmin", "reduce_and", "reduce_or", "reduce_xor", "reduce_prod")
_EXTREMA = ("reduce_max", "reduce_min")
_RULES: dict[str, Rule] = {
    **dict.fromkeys(ENTRYWISE, _entrywise),
    **dict.fromkeys((*_SHAPES, *_MOVES, *_TOTALS), _linear),
    **dict.fromkeys(("dot_general", "conv_general_dilated"), _contraction),
    "ragged_dot_general": _ragged_contraction,
    **dict.fromkeys(("mul", "div"), _product),
    **dict.fromkeys(_SUMS, _sum),
    **dict.fromkeys(("max", "min", "clamp"), _extremum),
    "pad": _pad,
    "bitcast_convert_type": _bits,
    **dict.fromkeys((*_REDUCTIONS, *_EXTREMA), signal_spreads.reduction),
    "reduce": signal_spreads.general_reduction,
    **dict.fromkeys(("reduce_window_max", "reduce_window_min"), signal_spreads.window_extremum),
    **dict.fromkeys(("cummax", "cummin", "cumprod", "cumlogsumexp"), signal_spreads.cumulation),
    **dict.fromkeys((*_DECOMPOSITIONS, *_MATRICES), signal_spreads.matrix_function),
    **dict.fromkeys(_DIAGONALS, functools.partial(signal_spreads.matrix_function, rank=1)),
    "triangular_solve": signal_spreads.triangular_solution,
    "fft": signal_spreads.fourier_transform,
    "select_n": signal_choices.select,
    "gather": signal_choices.gather,
    "dynamic_slice": signal_choices.dynamic_slice,
    "dynamic_update_slice": signal_choices.dynamic_update_slice,
    **dict.fromkeys(_SCATTERS, signal_choices.scatter),
    "sort": signal_choices.sort,
    "top_k": functools.partial(signal_choices.top, axis="axis"),
    "approx_top_k": functools.partial(signal_choices.top, axis="reduction_dimension"),
}
KNOWN = frozenset((*_RULES, *UNCHANGED))
