"""Interprets a network's jaxpr with signals in place of numbers, and counts its multiply-adds.

The network is any ``output_fn(params)``; it is traced once. Calls (``jit``, ``custom_jvp``,
``custom_vjp``, ``checkpoint``) are followed and a ``scan`` is unrolled, so every primitive is seen.
``pruning.signals`` says what each of them does.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.extend import core

from pruning.leaves import PyTree
from pruning.signals import PRODUCTS, Kind, Value, apply, constant, is_inexact, there

OutputFn = Callable[[PyTree], PyTree]

# Primitives that call one function, and the parameter that holds it.
_CALLS = {
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
}


class _Use(NamedTuple):
    """Weights made of a leaf enter a product or convolution."""

    leaf: int
    weights: int
    multiply_adds: int


def propagate(output_fn: OutputFn, params: PyTree, signals: PyTree) -> list[Any]:
    """The signals that arrive at the output.

    Args:
        output_fn: ``output_fn(params)`` is the network's output at its input, of any structure.
        params: Its params; only their shapes and dtypes matter.
        signals: A tree like params: 0 where a weight is cut, anything else where it is there.
            Leaves that are not floating-point are taken as they are.

    Returns:
        The floating-point leaves of the output, 0 exactly where no signal arrives. The gradient of
        their sum with respect to ``signals`` is 0 exactly where a weight is on no path.

    Raises:
        ValueError: If params enter control flow (``cond``, ``while_loop``), or no floating-point output
            depends on them.
    """
    outputs = _interpret(output_fn, params, signals, [])
    varying = [value.array for value in outputs if value.kind is not Kind.CONSTANT]
    if not varying:
        raise ValueError(
            "expected output_fn(params) to depend on params, but its output does not: "
            "apply the model to the params that output_fn is given"
        )
    arrived = [there(array) for array in varying if is_inexact(array)]
    if not arrived:
        raise ValueError(
            "expected output_fn(params) to return floating-point outputs, such as logits, got only "
            f"{', '.join(str(array.dtype) for array in varying)}"
        )
    return arrived


def multiply_adds(output_fn: OutputFn, params: PyTree) -> PyTree:
    """Counts the multiply-adds of the products and convolutions that each leaf enters.

    A leaf that enters several (tied weights, the steps of a scan) has their sum.

    Args:
        output_fn: ``output_fn(params)`` is the network's output at its input, of any structure.
        params: Its params; only their shapes and dtypes matter.

    Returns:
        A tree like params with a count, an int, for each leaf; 0 for leaves that enter none.

    Raises:
        ValueError: If params enter control flow (``cond``, ``while_loop``).
    """
    uses: list[_Use] = []
    leaves, structure = jax.tree.flatten(params)
    jax.eval_shape(lambda tree: [v.array for v in _interpret(output_fn, params, tree, uses)], params)
    totals = [0] * len(leaves)
    for use in uses:
        # A part of a leaf is counted whole, a leaf that is a part of the weights by its share.
        share = min(use.weights, math.prod(jnp.shape(leaves[use.leaf])))
        totals[use.leaf] += use.multiply_adds * share // max(use.weights, 1)
    return structure.unflatten(totals)


def _interpret(output_fn: OutputFn, params: PyTree, signals: PyTree, uses: list[_Use]) -> list[Value]:
    arguments = [
        Value(leaf, Kind.WEIGHTS, frozenset({index})) if is_inexact(leaf) else constant(leaf)
        for index, leaf in enumerate(jax.tree.leaves(signals))
    ]
    return _call(jax.make_jaxpr(output_fn)(params), arguments, uses)


def _call(closed: Any, arguments: Sequence[Value], uses: list[_Use]) -> list[Value]:
    """Interprets a jaxpr; one without constants may come as it is, without the list of them."""
    jaxpr = getattr(closed, "jaxpr", closed)
    constants = [constant(array) for array in getattr(closed, "consts", ())]
    values = dict(zip(jaxpr.constvars, constants, strict=True))
    values.update(zip(jaxpr.invars, arguments, strict=True))

    def read(atom: Any) -> Value:
        return constant(jnp.asarray(atom.val)) if isinstance(atom, core.Literal) else values[atom]

    for equation in jaxpr.eqns:
        results = _evaluate(equation, [read(atom) for atom in equation.invars], uses)
        values.update(zip(equation.outvars, results, strict=True))
    return [read(atom) for atom in jaxpr.outvars]


def _evaluate(equation: Any, operands: list[Value], uses: list[_Use]) -> list[Value]:
    name, parameters = equation.primitive.name, equation.params
    if all(value.kind is Kind.CONSTANT for value in operands):
        return apply(equation, operands)
    if name in _CALLS:
        return _call(parameters[_CALLS[name]], operands, uses)
    if name == "scan":
        return _scan(equation, operands, uses)
    if list(core.jaxprs_in_params(parameters)):
        raise ValueError(
            f"expected no params inside control flow, got them in the primitive {name!r}: let "
            "output_fn choose and repeat in Python, with jnp.where or with jax.lax.scan"
        )
    if name in PRODUCTS:
        uses.extend(_uses(equation, operands))
    return apply(equation, operands)


def _scan(equation: Any, operands: list[Value], uses: list[_Use]) -> list[Value]:
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
        slices = [value._replace(array=value.array[step]) for value in operands[first_slice:]]
        results = _call(body, [*operands[:first_carry], *carry, *slices], uses)
        carry = results[:carried]
        collected.append(results[carried:])
    stacked = zip(*(collected[::-1] if backwards else collected), strict=True)
    return [*carry, *(_stack(values) for values in stacked)]


def _stack(values: Sequence[Value]) -> Value:
    leaves = frozenset().union(*(value.leaves for value in values))
    kind = max(value.kind for value in values)
    return Value(jnp.stack([value.array for value in values]), kind, leaves)


def _uses(equation: Any, operands: list[Value]) -> Iterable[_Use]:
    left, right = (atom.aval.shape for atom in equation.invars)
    if equation.primitive.name == "dot_general":
        (contracted, _), _ = equation.params["dimension_numbers"]
        per_output = math.prod(left[axis] for axis in contracted)
    else:  # the weights of one output channel
        channels = right[equation.params["dimension_numbers"].rhs_spec[0]]
        per_output = math.prod(right) // channels
    count = per_output * math.prod(equation.outvars[0].aval.shape)
    for atom, value in zip(equation.invars, operands, strict=True):
        for leaf in value.leaves:
            yield _Use(leaf, math.prod(atom.aval.shape), count)
