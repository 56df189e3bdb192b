"""ProsPr: what a weight's mask does to the loss after a few steps of training.

Shapes: trees of scores are shaped like masks; T inner steps.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from pruning.scores.batches import check_batches
from pruning.scores.binary_scaling import widened
from pruning.scores.checking import check_scalar, check_scores
from pruning.trees.counts import may_be
from pruning.trees.leaves import Prunable, PyTree, Scalar, is_float, prunable, split_prunable

LossFn = Callable[[PyTree, Any], jax.Array]


def prospr_scores(
    loss_fn: LossFn,
    params: PyTree,
    batches: Sequence[Any],
    *,
    learning_rate: Scalar,
    momentum: Scalar = 0.0,
    prunable: Prunable = prunable,
) -> PyTree:
    r"""Prospect pruning: :math:`z_i = |\partial L(f_T) / \partial m_i|`, through T steps of SGD.

    From :math:`f_0 = m \odot w` at :math:`m = 1` (all other params as they are), step t takes
    :math:`v_t = \mu v_{t-1} + \nabla L(f_{t-1}; b_t)`, :math:`f_t = f_{t-1} - \eta v_t`; the loss of
    the last batch is differentiated through all of them. With one batch and no step it is SNIP's score.

    The steps are one ``lax.scan``, which is compiled once however many there are. It takes T + 1
    gradients and T products with the Hessian, and the memory of T gradients: the activations of every
    inner step are kept until the derivative has passed it.

    Args:
        loss_fn: ``loss_fn(params, batch)`` gives the mean loss of a batch, a float scalar.
        params: Any pytree of arrays. All floats take the inner steps, the prunable ones are scored.
        batches: T + 1 of them, the last for the loss that counts. Those of the steps are of one size.
            New data each, or the same batch again: ``[batch] * (T + 1)``.
        learning_rate: :math:`\eta > 0`, of the inner steps.
        momentum: :math:`\mu` in [0, 1).
        prunable: ``prunable(path, leaf)`` says which leaves may be pruned.

    Returns:
        A tree of scores, at least 0, in float32, or in the params' dtype where that is longer.

    Raises:
        ValueError: If the loss is no float scalar, the batches of the steps are not alike, a rate is out
            of range, no leaf is prunable, a score is not finite, or all are 0 though nothing is
            pruned (the last two when nothing is traced).

    Source: Alizadeh et al. 2022 (arXiv 2202.08132), equation 5 and algorithm 1. With momentum the
    released code takes the first step's gradient for a constant, and so loses the second-order term of
    that step; here every step is differentiated.

    >>> loss = lambda params, x: jnp.mean((x @ params["w"]) ** 2)
    >>> params, batch = {"w": jnp.array([[1.0], [-2.0]])}, jnp.array([[1.0, 0.0], [0.0, 1.0]])
    >>> prospr_scores(loss, params, [batch, batch], learning_rate=0.25)
    {'w': Array([[0.5625],
           [2.25  ]], dtype=float32)}
    """
    at, merge = split_prunable(params, prunable)
    inner, outer = _divided(batches)
    _check_rates(learning_rate, momentum)

    def loss(weights: PyTree) -> jax.Array:
        trained = _inner_steps(loss_fn, merge(weights), inner, learning_rate, momentum)
        return check_scalar(loss_fn(trained, outer))

    return _scores(at, jax.grad(loss)(at))


def prospr_first_order_scores(
    loss_fn: LossFn,
    params: PyTree,
    batches: Sequence[Any],
    *,
    learning_rate: Scalar,
    momentum: Scalar = 0.0,
    prunable: Prunable = prunable,
) -> PyTree:
    r"""ProsPr without second derivatives: :math:`z_i = |w_i \, \partial L / \partial w_i (f_T)|`.

    The gradients of the inner steps count as constants.

    SNIP's score with the gradient of the network after T steps and the weights from before them. It
    takes T + 1 gradients, and the memory of one.

    Args:
        loss_fn: As for ``prospr_scores``.
        params: Any pytree of arrays. All floats take the inner steps, the prunable ones are scored.
        batches: As for ``prospr_scores``.
        learning_rate: As there.
        momentum: As there.
        prunable: ``prunable(path, leaf)`` says which leaves may be pruned.

    Returns:
        A tree of scores, at least 0, in float32, or in the params' dtype where that is longer.

    Raises:
        ValueError: As ``prospr_scores``.

    Source: Alizadeh et al. 2022 (arXiv 2202.08132), section 3.2.
    """
    at, _ = split_prunable(params, prunable)
    inner, outer = _divided(batches)
    _check_rates(learning_rate, momentum)
    trained = _inner_steps(loss_fn, params, inner, learning_rate, momentum)
    end, merge = split_prunable(trained, prunable)
    gradients = jax.grad(lambda weights: check_scalar(loss_fn(merge(weights), outer)))(end)
    return _scores(at, gradients)


def _divided(batches: Sequence[Any]) -> tuple[PyTree | None, Any]:
    """The batches of the steps, stacked (None for no step), and that of the loss."""
    check_batches(batches)
    *inner, outer = batches
    if not inner:
        return None, outer
    kinds = [
        (jax.tree.structure(b), [(jnp.shape(leaf), jnp.result_type(leaf)) for leaf in jax.tree.leaves(b)])
        for b in inner
    ]
    if any(kind != kinds[0] for kind in kinds):
        raise ValueError(
            "expected the batches of the inner steps to be alike in structure, shapes and dtypes, got "
            f"{len(inner)} that differ: leave a smaller last one out"
        )
    return jax.tree.map(lambda *leaves: jnp.stack([jnp.asarray(leaf) for leaf in leaves]), *inner), outer


def _check_rates(learning_rate: Scalar, momentum: Scalar) -> None:
    if not may_be(learning_rate, lambda number: 0 < number < math.inf):
        raise ValueError(f"expected a finite learning_rate > 0, got {learning_rate!r}")
    if not may_be(momentum, lambda number: 0 <= number < 1):
        raise ValueError(f"expected momentum in [0, 1), got {momentum!r}")


def _inner_steps(
    loss_fn: LossFn, params: PyTree, batches: PyTree | None, rate: Scalar, momentum: Scalar
) -> PyTree:
    """The params after a step of SGD for each batch; other leaves than floats stay as they are."""
    if batches is None:
        return params
    leaves, structure = jax.tree.flatten(params)
    learns = [is_float(leaf) for leaf in leaves]
    floats = [leaf for leaf, learn in zip(leaves, learns, strict=True) if learn]

    def whole(fast: list[jax.Array]) -> PyTree:
        found = iter(fast)
        both = zip(leaves, learns, strict=True)
        return structure.unflatten([next(found) if learn else leaf for leaf, learn in both])

    def step(carry: Any, batch: Any) -> tuple[Any, None]:
        fast, buffers = carry
        gradients = jax.grad(lambda fast: check_scalar(loss_fn(whole(fast), batch)))(fast)
        buffers = [_moved(g, momentum, v) for g, v in zip(gradients, buffers, strict=True)]
        fast = [_moved(f, -rate, v) for f, v in zip(fast, buffers, strict=True)]
        return (fast, buffers), None

    (fast, _), _ = jax.lax.scan(step, (floats, [jnp.zeros_like(leaf) for leaf in floats]), batches)
    return whole(fast)


def _moved(start: jax.Array, rate: Scalar, direction: jax.Array) -> jax.Array:
    """``start + rate * direction``, computed in float32 at least."""
    moved = widened(start)
    moved = moved + jnp.asarray(rate, moved.dtype) * widened(direction)
    return moved.astype(start.dtype)


def _scores(weights: PyTree, gradients: PyTree) -> PyTree:
    def score(weight: jax.Array, gradient: jax.Array) -> jax.Array:
        return jnp.abs(widened(weight) * widened(gradient))

    scores = jax.tree.map(score, weights, gradients)
    return check_scores(scores, weights, "the loss after the inner steps, or its derivative,")
