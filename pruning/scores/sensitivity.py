"""Scores from data: SNIP, FORCE and GraSP ask what a loss would do without a weight.

All take ``loss_fn(params, batch)``, the mean loss of a batch, and a sequence of batches. Derivatives
are averaged over all examples first, each batch weighted by its size, and only then multiplied and
made absolute: several batches score as one batch of all their examples would (as far as the loss lets
a batch be divided; batch normalisation in training mode does not). Everything that is a choice about
the network (its mode, its temperature, augmentation) is made inside ``loss_fn``.

Derivatives are reverse mode only, so that functions with a custom backward pass can be scored.

Shapes: trees of scores are shaped like masks; n_b examples in batch b, N in all.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from pruning.scores.batches import mean_over_batches
from pruning.scores.binary_scaling import (
    exponent,
    is_narrow,
    power_of_two,
    score_dtype,
    widened,
    within_range,
)
from pruning.scores.checking import check_scalar, check_scores
from pruning.trees.leaves import Prunable, PyTree, prunable, prunable_pair, split_prunable
from pruning.trees.precision import sum_of

LossFn = Callable[[PyTree, Any], jax.Array]


def snip_scores(
    loss_fn: LossFn, params: PyTree, batches: Sequence[Any], *, prunable: Prunable = prunable
) -> PyTree:
    r"""Connection sensitivity: :math:`z_i = |w_i \, \partial L / \partial w_i|`.

    That is the derivative of the loss by a mask on the weight, :math:`|\partial L / \partial m_i|` at
    :math:`m = 1`. Not divided by its sum, as the paper has it: no ranking depends on that.

    A head that is zero (or LoRA's B) lets no gradient pass: all scores are 0 and rank nothing. Score
    small random values in its place.

    Flax NNX: ``graphdef, params, rest = nnx.split(model, nnx.Param, ...)``, and in ``loss_fn`` call
    ``nnx.merge(graphdef, params, rest)``. A loss that closes over the model itself raises a
    TraceContextError where the model changes its state (batch statistics, dropout); docs/nnx.md has a
    recipe for each.

    Args:
        loss_fn: ``loss_fn(params, batch)`` gives the mean loss of a batch, a float scalar.
        params: Any pytree of arrays. Leaves that are not prunable take no part.
        batches: A list of batches (or a tuple, but not of bare arrays: that is taken for one batch);
            where there are several, the leaves of each share their leading axis, its size n_b. One batch
            goes in a list too: ``[(x, y)]``, or ``[[x, y]]`` as loaders yield it; arrays that stand
            there bare must be alike in dtype and shape but for n_b, each a whole batch.
        prunable: ``prunable(path, leaf)`` says which leaves may be pruned.

    Returns:
        A tree of scores in the dtype of the params (float32 where that has 8 bits). In float16, whose
        range is small, they may be larger by a power of two, which is one for all of them.

    Raises:
        ValueError: If the loss is no float scalar, a batch has no size, there are no batches, no
            leaf is prunable, a score is not finite, or all are 0 though nothing is pruned (the last two
            when nothing is traced; ``check_rankable`` says what can be done where something is).

    Source: Lee et al. 2019 (arXiv 1810.02340), equation 5. The paper scores one draw of weights and
    trains another: score ``params`` of another key for that.

    >>> loss = lambda params, batch: jnp.mean((batch @ params["w"]) ** 2)
    >>> snip_scores(loss, {"w": jnp.array([[1.0], [-2.0]])}, [jnp.array([[1.0, 1.0]])])
    {'w': Array([[2.],
           [4.]], dtype=float32)}
    """
    return force_scores(loss_fn, params, params, batches, prunable=prunable)


def force_scores(
    loss_fn: LossFn,
    params: PyTree,
    masked_params: PyTree,
    batches: Sequence[Any],
    *,
    prunable: Prunable = prunable,
) -> PyTree:
    r"""Foresight sensitivity: :math:`z_i = |w_i \, \partial L / \partial w_i (w \odot m)|`.

    SNIP's score with the gradient of the pruned network and the weights of the dense one, so a pruned
    weight has a score too and may return: pass it to ``iterative_masks(..., may_return=True)`` as
    ``lambda masked: force_scores(loss_fn, params, masked, batches)``.

    Args:
        loss_fn: As for ``snip_scores``.
        params: The weights w.
        masked_params: The same tree with pruned weights at zero; where the gradient is taken.
        batches: As for ``snip_scores``.
        prunable: ``prunable(path, leaf)`` says which leaves may be pruned.

    Returns:
        A tree of scores in the dtype of the params (float32 where that has 8 bits). In float16, whose
        range is small, they may be larger by a power of two, which is one for all of them.

    Raises:
        ValueError: As ``snip_scores``, or if the two trees do not match.

    Source: de Jorge et al. 2021 (arXiv 2006.09081), equation 6 and algorithm 1.
    """
    weights, at = prunable_pair(params, masked_params, "masked_params", prunable)
    _, merge = split_prunable(masked_params, prunable)
    gradients, shift = _mean_gradient(loss_fn, merge, at, batches)
    products = jax.tree.map(lambda w, g: jnp.abs(_times(w, g)), weights, gradients)
    return check_scores(_in_score_dtype(products, at, shift), at, "the loss or its gradient")


def grasp_scores(
    loss_fn: LossFn, params: PyTree, batches: Sequence[Any], *, prunable: Prunable = prunable
) -> PyTree:
    r"""Gradient signal preservation: :math:`z_i = w_i \, (H g)_i`, of either sign.

    With :math:`g = \nabla L`, H the Hessian, both over the prunable weights alone:
    :math:`-z_i` is, to first order, what removing the weight adds to
    :math:`\tfrac12 \lVert g \rVert^2`. The highest are kept: weights whose removal would weaken the
    gradient most. (The paper's own score is the negative, and its highest are pruned.)

    Scores are of the square of the loss's size. Where that is out of the dtype's range (a loss scale, a
    temperature in float16) all are computed with a common factor, a power of two, and keep it.

    Args:
        loss_fn: As for ``snip_scores``. The paper divides the logits by a temperature of 200.
        params: Any pytree of arrays. Leaves that are not prunable take no part.
        batches: As for ``snip_scores``; g is the gradient over all of them.
        prunable: ``prunable(path, leaf)`` says which leaves may be pruned.

    Returns:
        A tree of scores in the dtype of the params (float32 where that has 8 bits). In float16, whose
        range is small, they may be larger by a power of two, which is one for all of them.

    Raises:
        ValueError: As ``snip_scores``.

    Source: Wang et al. 2020 (arXiv 2002.07376), equation 8.
    """
    at, merge = split_prunable(params, prunable)
    gradients, shift = _mean_gradient(loss_fn, merge, at, batches)
    # Scores are of the square of the loss's size: the derivative along g begins with a factor instead.
    unit = _unit(gradients)

    def product(batch: Any) -> PyTree:
        """The Hessian of one batch times the gradient of all, reverse over reverse."""
        gradient = _gradient(loss_fn, merge, batch, shift)
        _, pull_back = jax.vjp(lambda weights: _dot(gradient(weights), gradients), at)
        return pull_back(unit)[0]

    products = jax.tree.map(_times, at, mean_over_batches(product, batches))
    scores = _in_score_dtype(products, at, None if shift is None else jnp.int32(0))
    return check_scores(scores, at, "the loss or its derivatives")


def grasp_absolute_scores(
    loss_fn: LossFn, params: PyTree, batches: Sequence[Any], *, prunable: Prunable = prunable
) -> PyTree:
    r"""GraSP's absolute variant: :math:`z_i = |w_i \, (H g)_i|`.

    Keeps the weights whose removal would change the gradient's norm most, in either direction.

    Args:
        loss_fn: As for ``grasp_scores``.
        params: Any pytree of arrays.
        batches: As for ``snip_scores``.
        prunable: ``prunable(path, leaf)`` says which leaves may be pruned.

    Returns:
        A tree of scores in the dtype of the params (float32 where that has 8 bits). In float16, whose
        range is small, they may be larger by a power of two, which is one for all of them.

    Raises:
        ValueError: As ``snip_scores``.

    Source: Frankle et al. 2021 (arXiv 2009.08576), section 5.
    """
    return jax.tree.map(jnp.abs, grasp_scores(loss_fn, params, batches, prunable=prunable))


def _mean_gradient(
    loss_fn: LossFn, merge: Callable[[PyTree], PyTree], at: PyTree, batches: Sequence[Any]
) -> tuple[PyTree, Any]:
    """The gradient over all examples, and the exponent of the power of two that it is larger by.

    That is 0 but in dtypes of a small range, where a first gradient says how to scale the loss.
    """

    def mean(shift: Any) -> PyTree:
        return mean_over_batches(lambda batch: _gradient(loss_fn, merge, batch, shift)(at), batches)

    gradients = mean(None)
    if not any(is_narrow(leaf.dtype) for leaf in jax.tree.leaves(at)):
        return gradients, None
    shift = jnp.clip(-exponent(gradients), np.int32(-14), np.int32(15))
    return mean(shift), shift


def _gradient(
    loss_fn: LossFn, merge: Callable[[PyTree], PyTree], batch: Any, shift: Any
) -> Callable[[PyTree], PyTree]:
    def loss(weights: PyTree) -> jax.Array:
        value = check_scalar(loss_fn(merge(weights), batch))
        if shift is None:
            return value
        value = widened(value)
        return value * power_of_two(shift, value.dtype)

    return jax.grad(loss)


def _times(weight: jax.Array, derivative: jax.Array) -> jax.Array:
    """In float32 at least: the product of two small numbers is smaller."""
    return widened(weight) * widened(derivative)


def _in_score_dtype(products: PyTree, weights: PyTree, shift: Any) -> PyTree:
    """Products that are larger by a power of two, if there is one, as scores."""
    like = jax.tree.map(lambda w: jax.ShapeDtypeStruct(w.shape, score_dtype(w.dtype)), weights)
    if shift is None:
        return jax.tree.map(lambda product, to: product.astype(to.dtype), products, like)
    return within_range(products, -shift, like)


def _unit(gradients: PyTree) -> jax.Array:
    """1, or the power of two that brings a gradient near 1 whose square is out of range."""
    infos = [jnp.finfo(leaf.dtype) for leaf in jax.tree.leaves(gradients)]
    lowest = max(info.minexp + 2 * info.nmant for info in infos) // 2
    highest = min(info.maxexp for info in infos) * 3 // 8
    found = exponent(gradients)
    inside = (found >= lowest) & (found <= highest)
    dtype = _dot(gradients, gradients).dtype
    return power_of_two(jnp.where(inside, np.int32(0), -found), dtype)


def _dot(left: PyTree, right: PyTree) -> jax.Array:
    pairs = zip(jax.tree.leaves(left), jax.tree.leaves(right), strict=True)
    return sum_of([jnp.sum(widened(a * b)) for a, b in pairs])
