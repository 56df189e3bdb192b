"""SynFlow: scores without data, from the flow that passes through a weight."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from pruning.leaves import Prunable, PyTree, is_traced, prunable, split_prunable


def synflow_scores(
    output_fn: Callable[[PyTree], PyTree], params: PyTree, *, prunable: Prunable = prunable
) -> PyTree:
    r"""Synaptic flow: :math:`z_i = |w_i| \; \partial R / \partial |w_i|`, :math:`R = \sum f(1; |w|)`.

    R is the sum of all outputs for an input of ones, with every param, prunable or not, replaced by
    its absolute value. In a network without biases the scores of each layer add up to R, so no layer
    is emptied before its turn if weights are removed in many rounds:
    ``iterative_masks(lambda masked: synflow_scores(output_fn, masked), params, s, rounds=100)``.

    R grows or shrinks exponentially with depth. Where float32 does not hold it (an error says so, when
    nothing is traced and no weight is zero yet) compute in float64: float64 params under
    ``jax.enable_x64(True)``, which need not be on in the rest of the process.

    Args:
        output_fn: ``output_fn(params)`` gives the network's output for an input of ones, in inference
            mode. Statistics that it holds itself (batch normalisation's means) are not made
            absolute; the reference implementation does so.
        params: Any pytree of arrays.
        prunable: ``prunable(path, leaf)`` says which leaves may be pruned.

    Returns:
        A tree of scores in the dtype of the params; all NaN where R is not finite and traced.

    Raises:
        ValueError: If no leaf is prunable, the output has no floats, R is not finite, or R is 0 though
            no weight is (the last two when nothing is traced).

    Source: Tanaka et al. 2020 (arXiv 2006.05467), equation 2 and algorithm 1.

    >>> output = lambda params: jnp.ones((1, 2)) @ params["w"]
    >>> synflow_scores(output, {"w": jnp.array([[3.0], [-2.0]])})
    {'w': Array([[3.],
           [2.]], dtype=float32)}
    """
    weights, merge = split_prunable(jax.tree.map(_magnitude, params), prunable)

    def flow(weights: PyTree) -> jax.Array:
        outputs = jax.tree.leaves(output_fn(merge(weights)))
        if not any(jnp.issubdtype(jnp.result_type(output), jnp.floating) for output in outputs):
            raise ValueError(
                "expected output_fn(params) to return the network's output, one or more arrays of "
                f"floats, got {[str(jnp.result_type(output)) for output in outputs] or 'nothing'}"
            )
        return sum((jnp.sum(output) for output in outputs), start=jnp.zeros(()))

    total, gradients = jax.value_and_grad(flow)(weights)
    if not is_traced(total):
        _check_flow(total, weights)
    # Not 0 * infinity: a pruned weight between large ones scores 0.
    scores = jax.tree.map(lambda w, g: jnp.where(w == 0, 0, w * g), weights, gradients)
    return jax.tree.map(lambda score: jnp.where(jnp.isfinite(total), score, jnp.nan), scores)


def _check_flow(total: jax.Array, weights: PyTree) -> None:
    leaves = jax.tree.leaves(weights)
    mend = "compute in float64 (float64 params under jax.enable_x64(True))"
    if jnp.isnan(total):
        broken = any(jnp.any(jnp.isnan(leaf)) for leaf in leaves)
        where = "there is NaN in the params" if broken else "output_fn makes it of finite params"
        raise ValueError(f"expected a finite sum of outputs, got NaN: {where}")
    if not jnp.isfinite(total):
        raise ValueError(
            f"expected a finite sum of outputs, got {total} in {total.dtype}: the flow through the "
            f"network overflows; {mend}"
        )
    if total == 0 and all(jnp.all(leaf != 0) for leaf in leaves):
        raise ValueError(
            f"expected a positive sum of outputs, got 0 in {total.dtype} although no weight is 0: the "
            f"flow through the network underflows ({mend}), or the outputs do not depend on the params"
        )


def _magnitude(leaf: jax.Array) -> jax.Array:
    return jnp.abs(leaf) if jnp.issubdtype(jnp.result_type(leaf), jnp.floating) else leaf
