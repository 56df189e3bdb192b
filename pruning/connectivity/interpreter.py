"""Interprets a network's jaxpr with signals in place of numbers, and counts its multiply-adds.

The network is any ``output_fn(params)``; it is traced once. Calls (``jit``, ``custom_jvp``,
``custom_vjp``, ``checkpoint``) are followed and a ``scan`` is unrolled, so every primitive is seen.
``signals.py`` says what each of them does.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.extend import core

from pruning.connectivity.signal_choices import choose
from pruning.connectivity.signal_rules import KNOWN, PRODUCTS, apply, stack
from pruning.connectivity.signals import Kind, Signal, Value, anywhere, constant, is_inexact, mapped
from pruning.trees.leaves import PyTree, is_none

OutputFn = Callable[[PyTree], PyTree]

# Primitives that call one function, and the parameter that holds it.
CALLS = {
    "jit": "jaxpr",
    "pjit": "jaxpr",
    "closed_call": "call_jaxpr",
    "core_call": "call_jaxpr",
    "remat": "jaxpr",
    "remat2": "jaxpr",
    "checkpoint": "jaxpr",
    "custom_jvp_call": "call_jaxpr",
    "custom_vjp_call": "call_jaxpr",
    "custom_vmap_call": "call",
    "composite": "jaxpr",
}

# Primitives without a result, which no path leads through: what they print or check are no signals.
EFFECTS = ("debug_callback", "debug_print", "check", "inspect_sharding", "shape_assertion")


class _Use(NamedTuple):
    """Weights made of a leaf enter a product or convolution."""

    leaf: int
    weights: int
    multiply_adds: int


def as_it_is(array: Any) -> Any:
    """The array itself."""
    return array


class Watch(NamedTuple):
    """What watches an interpretation.

    Attributes:
        uses: Where the products and convolutions that leaves enter are written down.
        evaluate: The values of one equation that calls no other; some operand depends on params.
        known: What is taken for an array that the network holds itself.
    """

    uses: list[_Use]
    evaluate: Callable[[Any, list[Value]], list[Value]] = apply
    known: Callable[[Any], Any] = as_it_is


def is_array(leaf: Any) -> bool:
    """Whether a leaf is an array, or says what one is like: other leaves (functions) stay as they are."""
    return hasattr(leaf, "shape") and hasattr(leaf, "dtype")


def propagate(output_fn: OutputFn, params: PyTree, signals: PyTree) -> list[jax.Array]:
    """The signals that arrive at the output.

    Args:
        output_fn: ``output_fn(params)`` is the network's output at its input, of any structure.
        params: Its params; only their shapes and dtypes matter. Leaves that are no arrays are as they
            are.
        signals: A tree like params: for leaves that are weights a float array of their shape, 0 where a
            weight is cut and 1 where it is there; ``None`` for leaves that are taken as they are.

    Returns:
        The floating-point leaves of the output as float32 signals, 0 exactly where none arrives. The
        gradient of their sum with respect to ``signals`` is 0 exactly where a weight is on no path.

    Raises:
        ValueError: If params enter control flow (``cond``, ``while_loop``) or a primitive that is not
            known, or no floating-point output depends on them.
    """
    found, avals = interpret(output_fn, params, signals, Watch([]))
    varying = [
        (value, aval) for value, aval in zip(found, avals, strict=True) if value.kind > Kind.CONSTANT
    ]
    if not varying:
        raise ValueError(
            "expected output_fn(params) to depend on params, but its output does not: "
            "apply the model to the params that output_fn is given"
        )
    outputs = [value for value, aval in varying if is_inexact(aval)]
    if not outputs:
        raise ValueError(
            "expected output_fn(params) to return floating-point outputs, such as logits, got only "
            f"{', '.join(str(aval.dtype) for _, aval in varying)}"
        )
    return [array for array in map(_arrived, outputs) if array is not None]


def _arrived(value: Value) -> Any:
    """Of a signal, what only biases feed is no path from the input."""
    signal = value.signal
    return anywhere(signal if value.kind < Kind.SIGNAL else signal._replace(weights=None))


def multiply_adds(output_fn: OutputFn, params: PyTree, masks: PyTree = None) -> PyTree:
    """Counts the multiply-adds of the products and convolutions that each leaf enters.

    A leaf that enters several (tied weights, the steps of a scan) has their sum.

    Args:
        output_fn: ``output_fn(params)`` is the network's output at its input, of any structure.
        params: Its params; only their shapes and dtypes matter. Leaves that are no arrays are as they
            are.
        masks: Masks of that tree, if leaves of integers have one and are weights too.

    Returns:
        A tree like params with a count, an int, for each leaf; 0 for leaves that enter none.

    Raises:
        ValueError: If params enter control flow (``cond``, ``while_loop``) or a primitive that is not
            known.
    """
    uses: list[_Use] = []
    weights = whole_signals(params, masks)

    def interpreted(signals: PyTree) -> Any:
        return [value.signal for value in interpret(output_fn, params, signals, Watch(uses))[0]]

    jax.eval_shape(interpreted, weights)
    leaves, structure = jax.tree.flatten(params)
    totals = [0] * len(leaves)
    for use in uses:
        # A part of a leaf is counted whole, a leaf that is a part of the weights by its share.
        share = min(use.weights, math.prod(jnp.shape(leaves[use.leaf])))
        totals[use.leaf] += use.multiply_adds * share // max(use.weights, 1)
    return structure.unflatten(totals)


def whole_signals(params: PyTree, masks: PyTree = None) -> PyTree:
    """The signals of a network that is whole: 1 for every weight.

    Args:
        params: Any pytree.
        masks: Masks of that tree; leaves with a mask are weights in any dtype.

    Returns:
        A tree like params with a float32 array for floating-point leaves and those with a mask, and
        ``None`` for the others, which are taken as they are.
    """

    def whole(leaf: Any, mask: Any = None) -> Any:
        weights = is_array(leaf) and (mask is not None or is_inexact(leaf))
        return jnp.ones(jnp.shape(leaf), jnp.float32) if weights else None

    trees = (params,) if masks is None else (params, masks)
    return jax.tree.map(whole, *trees, is_leaf=is_none)


def interpret(
    output_fn: OutputFn, params: PyTree, signals: PyTree, watch: Watch
) -> tuple[list[Value], list[Any]]:
    """The values of the outputs, with their shapes and dtypes.

    Args:
        output_fn: ``output_fn(params)`` is the network's output at its input, of any structure.
        params: Its params.
        signals: A tree like params, as ``propagate`` takes it.
        watch: What is done at each equation.
    """
    paths, structure = jax.tree_util.tree_flatten_with_path(params)
    given = structure.flatten_up_to(signals)

    def of_arrays(arrays: dict[int, Any]) -> PyTree:
        leaves = [arrays.get(index, leaf) for index, (_, leaf) in enumerate(paths)]
        return output_fn(structure.unflatten(leaves))

    arrays = {index: leaf for index, (_, leaf) in enumerate(paths) if is_array(leaf)}
    closed = jax.make_jaxpr(of_arrays)(arrays)
    arguments = [_argument(index, *paths[index], given[index], watch) for index in sorted(arrays)]
    avals: list[Any] = list(closed.out_avals)
    return _call(closed, arguments, watch), avals


def _argument(index: int, path: Any, leaf: Any, signal: Any, watch: Watch) -> Value:
    if signal is not None:
        array = None if is_inexact(leaf) else jnp.zeros(jnp.shape(leaf), leaf.dtype)
        return Value(
            array, Kind.WEIGHTS, Signal(weights=signal), frozenset({index}), lambda leaves: leaves[index]
        )
    if isinstance(leaf, jax.ShapeDtypeStruct):
        raise ValueError(
            f"expected an array of {leaf.dtype} at {jax.tree_util.keystr(path)}, whose numbers matter, "
            "got a ShapeDtypeStruct: only leaves of floats may be given by shape alone"
        )
    return constant(jnp.asarray(watch.known(leaf)))


def _call(closed: Any, arguments: Sequence[Value], watch: Watch) -> list[Value]:
    """Interprets a jaxpr; one without constants may come as it is, without the list of them."""
    jaxpr = getattr(closed, "jaxpr", closed)
    constants = [constant(watch.known(array)) for array in getattr(closed, "consts", ())]
    values = dict(zip(jaxpr.constvars, constants, strict=True))
    values.update(zip(jaxpr.invars, arguments, strict=True))

    def read(atom: Any) -> Value:
        return (
            constant(jnp.asarray(atom.val, getattr(atom.aval, "dtype", None)))
            if isinstance(atom, core.Literal)
            else values[atom]
        )

    for equation in jaxpr.eqns:
        results = _evaluate(equation, [read(atom) for atom in equation.invars], watch)
        values.update(zip(equation.outvars, results, strict=True))
    return [read(atom) for atom in jaxpr.outvars]


def _evaluate(equation: Any, operands: list[Value], watch: Watch) -> list[Value]:
    name, parameters = equation.primitive.name, equation.params
    if name in EFFECTS:
        return []
    if all(value.kind is Kind.CONSTANT for value in operands):
        return apply(equation, operands)
    if name in CALLS:
        return _call(parameters[CALLS[name]], operands, watch)
    if name == "scan":
        return _scan(equation, operands, watch)
    if name == "cond":
        return _branches(equation, operands, watch)
    if name == "custom_linear_solve":
        return _solve(equation, operands, watch)
    if name != "shard_map" and name not in KNOWN and list(core.jaxprs_in_params(parameters)):
        raise ValueError(
            f"expected no params inside control flow, got them in the primitive {name!r}: let "
            "output_fn choose and repeat in Python, with jnp.where or with jax.lax.scan"
        )
    if name in PRODUCTS:
        watch.uses.extend(_uses(equation, operands))
    return watch.evaluate(equation, operands)


def _scan(equation: Any, operands: list[Value], watch: Watch) -> list[Value]:
    """Unrolled: what a carry is, a constant or a signal, may change from step to step."""
    body, length, backwards = (equation.params[name] for name in ("jaxpr", "length", "reverse"))

    def more_axes(outer: Sequence[Any], inner: Sequence[Any]) -> int:
        pairs = zip(outer, inner, strict=True)
        return sum(len(one.aval.shape) > len(other.aval.shape) for one, other in pairs)

    # Operands are what is fixed, the carry, and what is sliced: that has one axis more outside.
    first_slice = len(operands) - more_axes(equation.invars, body.invars)
    carried = len(equation.outvars) - more_axes(equation.outvars, body.outvars)
    first_carry = first_slice - carried
    carry, collected = operands[first_carry:first_slice], []
    for step in range(length)[:: -1 if backwards else 1]:
        slices = [_at(value, step) for value in operands[first_slice:]]
        results = _call(body, [*operands[:first_carry], *carry, *slices], watch)
        carry = results[:carried]
        collected.append(results[carried:])
    if not collected:
        stacked = [constant(jnp.zeros(v.aval.shape, v.aval.dtype)) for v in equation.outvars[carried:]]
        return [*carry, *stacked]
    in_order = zip(*(collected[::-1] if backwards else collected), strict=True)
    avals = [variable.aval for variable in body.outvars[carried:]]
    return [*carry, *(stack(values, aval) for values, aval in zip(in_order, avals, strict=True))]


def _at(value: Value, step: int) -> Value:
    array = None if value.array is None else value.array[step]
    move = value.moves
    moves = None if move is None else lambda leaves: move(leaves)[step]
    return value._replace(array=array, signal=mapped(lambda part: part[step], value.signal), moves=moves)


def _branches(equation: Any, operands: list[Value], watch: Watch) -> list[Value]:
    """Any branch may be taken; the multiply-adds are those of the costliest one."""
    which, *arguments = operands
    costs: list[list[_Use]] = [[] for _ in equation.params["branches"]]
    results = [
        _call(branch, arguments, watch._replace(uses=cost))
        for branch, cost in zip(equation.params["branches"], costs, strict=True)
    ]
    watch.uses.extend(max(costs, key=lambda cost: sum(use.multiply_adds for use in cost)))
    which = which._replace(array=jnp.clip(which.array, 0, len(results) - 1))
    avals = [variable.aval for variable in equation.outvars]
    return [choose(which, cases, aval) for *cases, aval in zip(*results, avals, strict=True)]


def _solve(equation: Any, operands: list[Value], watch: Watch) -> list[Value]:
    """Follows the function that solves; the others only check and differentiate it."""
    lengths, functions = equation.params["const_lengths"], equation.params["jaxprs"]
    first = lengths.matvec + lengths.vecmat
    constants = operands[first : first + lengths.solve]
    return _call(functions.solve, [*constants, *operands[sum(lengths) :]], watch)


def _uses(equation: Any, operands: list[Value]) -> Iterable[_Use]:
    left, right = (atom.aval.shape for atom in equation.invars[:2])
    if equation.primitive.name == "dot_general":
        (contracted, _), _ = equation.params["dimension_numbers"]
        per_output = math.prod(left[axis] for axis in contracted)
    elif equation.primitive.name == "ragged_dot_general":
        numbers = equation.params["ragged_dot_dimension_numbers"]
        (contracted, _), _ = numbers.dot_dimension_numbers
        per_output = math.prod(left[axis] for axis in contracted)
        if set(contracted) & set(numbers.lhs_ragged_dimensions):  # each group has a part of that axis
            per_output //= max(equation.outvars[0].aval.shape[0], 1)
    else:  # the weights of one output channel
        channels = right[equation.params["dimension_numbers"].rhs_spec[0]]
        per_output = math.prod(right) // max(channels, 1)
    count = per_output * math.prod(equation.outvars[0].aval.shape)
    for atom, value in zip(equation.invars[:2], operands[:2], strict=True):
        for leaf in value.leaves:
            yield _Use(leaf, math.prod(atom.aval.shape), count)
