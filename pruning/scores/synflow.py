"""SynFlow: scores without data, from the flow that passes through a weight."""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import checkify
from jax.extend import core

from pruning.connectivity.homogeneity import homogeneous
from pruning.masks.rankable import zero_leaves
from pruning.scores.binary_scaling import power_of_two, score_dtype, widened
from pruning.scores.layer_gains import balance
from pruning.trees.leaves import Prunable, PyTree, is_float, is_traced, prunable, split_prunable


def synflow_scores(
    output_fn: Callable[[PyTree], PyTree], params: PyTree, *, prunable: Prunable = prunable
) -> PyTree:
    r"""Synaptic flow: :math:`z_i = |w_i \; \partial R / \partial |w_i||`, :math:`R = \sum f(1; |w|)`.

    R is the sum of all outputs for an input of ones, with every param, prunable or not, replaced by
    its absolute value. In a network without biases the scores of each layer add up to R, so no layer
    is emptied before its turn if weights are removed in many rounds:
    ``iterative_masks(lambda masked: synflow_scores(output_fn, masked), params, s, rounds=100)``.

    R grows or shrinks exponentially with depth. Where the network only grows by a factor when a layer
    does (no biases but zeros, no branches of different depth) it is computed with layers of like gain,
    and the scores are those of the params themselves, or those times a power of two where R is out of
    the dtype's range. Where it does not (biases, residual connections, normalisation by statistics of
    the input) deep networks need float64: float64 params under ``jax.enable_x64(True)``, which need not
    be on in the rest of the process.

    Args:
        output_fn: ``output_fn(params)`` gives the network's output for an input of ones, in inference
            mode. Statistics that it holds itself (batch normalisation's means) are not made
            absolute; the reference implementation does so.
        params: Any pytree of arrays; other leaves (the functions of an Equinox model) are left alone.
        prunable: ``prunable(path, leaf)`` says which leaves may be pruned.

    Returns:
        A tree of scores in the dtype of the params, at least 0; all NaN where R is not finite and
        traced.

    Raises:
        ValueError: If no leaf is prunable, the output has no floats, R is not finite, all scores are 0
            though nothing is pruned, or those of a layer are 0 by underflow (the last three when
            nothing is traced; ``check_rankable`` says what can be done where something is).

    Source: Tanaka et al. 2020 (arXiv 2006.05467), equation 2 and algorithm 1; the absolute value as in
    the reference implementation: where a network subtracts (centring normalisation) the product may be
    negative.

    >>> output = lambda params: jnp.ones((1, 2)) @ params["w"]
    >>> synflow_scores(output, {"w": jnp.array([[3.0], [-2.0]])})
    {'w': Array([[3.],
           [2.]], dtype=float32)}
    """
    weights, merge = split_prunable(
        jax.tree.map(lambda leaf: jnp.abs(leaf) if is_float(leaf) else leaf, params), prunable
    )
    leaves, structure = jax.tree.flatten(weights)

    def flow(leaves: list[jax.Array]) -> jax.Array:
        return sum_of_floats(output_fn(merge(structure.unflatten(leaves))))

    program = jax.make_jaxpr(flow)(leaves)
    same = homogeneous(program, len(leaves))
    scaled, shift = (leaves, None) if same is None else balance(leaves, same.degree, same.holds)
    total, pull_back = jax.vjp(_call(program), scaled)
    # Into the derivative at its start, so that the scores need no product of their own.
    factor = jnp.ones_like(total) if shift is None else _undoing(total, shift, leaves)
    (gradients,) = pull_back(factor)
    scores = [_score(weight, gradient) for weight, gradient in zip(scaled, gradients, strict=True)]
    if is_traced(total):
        checkify.debug_check(jnp.isfinite(total), "expected a finite sum of SynFlow's outputs")
    else:
        _check_total(total, leaves)
        _check_scores(structure.unflatten(scores), weights, _call(program))
    scores = [jnp.where(jnp.isfinite(total), score, jnp.nan) for score in scores]
    return structure.unflatten(scores)


def sum_of_floats(outputs: PyTree) -> jax.Array:
    """The sum of a network's outputs, in float32 at least.

    Args:
        outputs: What ``output_fn(params)`` returned; arrays that are no floats do not count.

    Returns:
        A scalar.

    Raises:
        ValueError: If there are no floats.
    """
    arrays = [jnp.asarray(output) for output in jax.tree.leaves(outputs)]
    floats = [array for array in arrays if jnp.issubdtype(array.dtype, jnp.floating)]
    if not floats:
        raise ValueError(
            "expected output_fn(params) to return the network's output, one or more arrays of "
            f"floats, got {[str(array.dtype) for array in arrays] or 'nothing'}"
        )
    sums = [jnp.sum(widened(array)) for array in floats]
    widest = max((each.dtype for each in sums), key=lambda dtype: jnp.finfo(dtype).bits)
    return functools.reduce(jnp.add, [each.astype(widest) for each in sums])


def _call(program: core.ClosedJaxpr) -> Callable[[list[jax.Array]], jax.Array]:
    return lambda leaves: core.jaxpr_as_fun(program)(*leaves)[0]


def _undoing(total: jax.Array, shift: jax.Array, leaves: list[jax.Array]) -> jax.Array:
    """The power of two that undoes a scaling, or as much of it as the scores' dtype holds."""
    infos = [jnp.finfo(score_dtype(leaf.dtype)) for leaf in leaves]
    lowest = max(info.minexp + 2 * info.nmant for info in infos)
    highest = min(info.maxexp - info.maxexp // 4 for info in infos)
    found = jnp.frexp(total)[1].astype(jnp.int32)
    undo = jnp.clip(found - shift, np.int32(lowest), np.int32(highest)) - found
    return power_of_two(jnp.where(shift == 0, np.int32(0), undo), total.dtype)


def _score(weight: jax.Array, gradient: jax.Array) -> jax.Array:
    product = jnp.abs(widened(weight) * widened(gradient))
    # Not 0 * infinity: a pruned weight between large ones scores 0.
    return jnp.where(weight == 0, jnp.zeros_like(product), product).astype(score_dtype(weight.dtype))


_MEND = "compute in float64 (float64 params under jax.enable_x64(True))"


def _check_total(total: jax.Array, leaves: list[jax.Array]) -> None:
    if jnp.isnan(total):
        broken = any(jnp.any(jnp.isnan(leaf)) for leaf in leaves)
        where = "there is NaN in the params" if broken else "output_fn makes it of finite params"
        raise ValueError(f"expected a finite sum of outputs, got NaN: {where}")
    if not jnp.isfinite(total):
        raise ValueError(
            f"expected a finite sum of outputs, got {total} in {total.dtype}: the flow through the "
            f"network overflows; {_MEND}"
        )


def _check_scores(scores: PyTree, weights: PyTree, flow: Callable[[list[jax.Array]], jax.Array]) -> None:
    """Refuses zeros where no pruning has made them."""
    zeros, leaves = zero_leaves(weights), jax.tree.leaves(weights)
    silent = [
        (path, leaf) for path, leaf in jax.tree_util.tree_leaves_with_path(scores) if not jnp.any(leaf)
    ]
    if zeros is None or not silent:
        return
    if zeros and len(silent) == len(leaves):
        raise ValueError(
            f"expected scores that rank the weights, got 0 for all of them: nothing passes {zeros[0]}, "
            "which is zero everywhere; give it small random values and score those"
        )
    if zeros:
        return
    if len(silent) == len(leaves):
        raise ValueError(
            f"expected a positive sum of outputs, got 0 in {silent[0][1].dtype} although no weight is 0: "
            f"the flow through the network underflows ({_MEND}), or the outputs do not depend on the "
            "params"
        )
    # With layers of like gain a flow arrives at each that the output depends on.
    balanced, _ = balance(leaves, [1] * len(leaves), jnp.bool(True))
    arriving = jax.tree.unflatten(jax.tree.structure(weights), jax.grad(flow)(balanced))
    for (path, score), gradient in zip(
        jax.tree_util.tree_leaves_with_path(scores), jax.tree.leaves(arriving), strict=True
    ):
        if not jnp.any(score) and jnp.any(gradient):
            raise ValueError(
                f"expected scores that rank the weights, got 0 for all of "
                f"{jax.tree_util.keystr(path)}: its flow underflows in {score.dtype} ({_MEND}), or an "
                "activation after it is saturated, as relu6 is where large weights follow each other"
            )
