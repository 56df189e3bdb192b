"""SynFlow-L2: the flow through squared weights.

Shapes: trees of scores are shaped like masks.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from pruning.scores.binary_scaling import score_dtype, widened
from pruning.scores.checking import check_scores
from pruning.scores.synflow import sum_of_floats
from pruning.trees.leaves import Prunable, PyTree, is_float, prunable, split_prunable


def synflow_l2_scores(
    output_fn: Callable[[PyTree], PyTree], params: PyTree, *, prunable: Prunable = prunable
) -> PyTree:
    r"""Flow of squares: :math:`z_i = |w_i \; \partial R / \partial w_i^2|`, :math:`R = \sum f(1; w^2)`.

    R, the sum of all outputs for an input of ones with every param squared, is the sum over paths of
    the squared products of their weights, the data-independent part of the path kernel's trace. Pass it
    to ``iterative_masks`` with ``rounds=100``, as SynFlow.

    The factor is :math:`|w_i|` in the released codes; with :math:`w_i^2`, the saliency of the paper's
    argument, every layer's scores would add up to R: multiply the scores by ``magnitude_scores``.

    R grows or shrinks exponentially with depth, twice as fast as SynFlow's: deep networks need float64
    params under ``jax.enable_x64(True)``.

    Args:
        output_fn: ``output_fn(params)`` gives the network's output for an input of ones, in inference
            mode. Statistics that it holds itself are not squared.
        params: Any pytree of arrays; the floats are squared, prunable or not.
        prunable: ``prunable(path, leaf)`` says which leaves may be pruned.

    Returns:
        A tree of scores in the dtype of the params (float32 where that has 8 bits), at least 0.

    Raises:
        ValueError: If no leaf is prunable, the output has no floats, a score is not finite, or all are 0
            though nothing is pruned (the last two when nothing is traced).

    Source: Patil and Dovrolis 2021 (arXiv 2010.11354), section 3, and their released code.

    >>> output = lambda params: jnp.ones((1, 2)) @ params["w"]
    >>> synflow_l2_scores(output, {"w": jnp.array([[3.0], [-2.0]])})
    {'w': Array([[3.],
           [2.]], dtype=float32)}
    """
    at, _ = split_prunable(params, prunable)
    squares, merge = split_prunable(
        jax.tree.map(lambda leaf: leaf * leaf if is_float(leaf) else leaf, params), prunable
    )
    gradients = jax.grad(lambda squares: sum_of_floats(output_fn(merge(squares))))(squares)

    def score(weight: jax.Array, gradient: jax.Array) -> jax.Array:
        product = jnp.abs(widened(weight) * widened(gradient))
        return jnp.where(weight == 0, 0, product).astype(score_dtype(weight.dtype))

    return check_scores(jax.tree.map(score, at, gradients), at, "the flow through the network")
