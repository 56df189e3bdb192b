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

from pruning.leaves import Prunable, PyTree, is_traced, prunable, prunable_pair, split_prunable

LossFn = Callable[[PyTree, Any], jax.Array]


def snip_scores(
    loss_fn: LossFn, params: PyTree, batches: Sequence[Any], *, prunable: Prunable = prunable
) -> PyTree:
    r"""Connection sensitivity: :math:`z_i = |w_i \, \partial L / \partial w_i|`.

    That is the derivative of the loss by a mask on the weight, :math:`|\partial L / \partial m_i|` at
    :math:`m = 1`. Not divided by its sum, as the paper has it: no ranking depends on that.

    Args:
        loss_fn: ``loss_fn(params, batch)`` gives the mean loss of a batch, a float scalar.
        params: Any pytree of arrays. Leaves that are not prunable take no part.
        batches: A list of batches (or a tuple, but not of bare arrays: that is taken for one batch);
            where there are several, the leaves of each share their leading axis, its size n_b.
        prunable: ``prunable(path, leaf)`` says which leaves may be pruned.

    Returns:
        A tree of scores in the dtype of the params.

    Raises:
        ValueError: If the loss is no float scalar, a batch has no size, there are no batches, no
            leaf is prunable, or a score is not finite (when nothing is traced).

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
        A tree of scores in the dtype of the params.

    Raises:
        ValueError: As ``snip_scores``, or if the two trees do not match.

    Source: de Jorge et al. 2021 (arXiv 2006.09081), equation 6 and algorithm 1.
    """
    weights, at = prunable_pair(params, masked_params, "masked_params", prunable)
    _, merge = split_prunable(masked_params, prunable)
    gradients = _mean_over_batches(lambda batch: _gradient(loss_fn, merge, batch)(at), batches)
    scores = jax.tree.map(lambda w, g: jnp.abs(w * g), weights, gradients)
    return _check_finite(scores, "the loss or its gradient")


def grasp_scores(
    loss_fn: LossFn, params: PyTree, batches: Sequence[Any], *, prunable: Prunable = prunable
) -> PyTree:
    r"""Gradient signal preservation: :math:`z_i = w_i \, (H g)_i`, of either sign.

    With :math:`g = \nabla L`, H the Hessian, both over the prunable weights alone:
    :math:`-z_i` is, to first order, what removing the weight adds to
    :math:`\tfrac12 \lVert g \rVert^2`. The highest are kept: weights whose removal would weaken the
    gradient most. (The paper's own score is the negative, and its highest are pruned.)

    Args:
        loss_fn: As for ``snip_scores``. The paper divides the logits by a temperature of 200.
        params: Any pytree of arrays. Leaves that are not prunable take no part.
        batches: As for ``snip_scores``; g is the gradient over all of them.
        prunable: ``prunable(path, leaf)`` says which leaves may be pruned.

    Returns:
        A tree of scores in the dtype of the params.

    Raises:
        ValueError: As ``snip_scores``.

    Source: Wang et al. 2020 (arXiv 2002.07376), equation 8.
    """
    at, merge = split_prunable(params, prunable)
    gradients = _mean_over_batches(lambda batch: _gradient(loss_fn, merge, batch)(at), batches)

    def product(batch: Any) -> PyTree:
        """The Hessian of one batch times the gradient of all, reverse over reverse."""
        gradient = _gradient(loss_fn, merge, batch)
        return jax.grad(lambda weights: _dot(gradient(weights), gradients))(at)

    products = _mean_over_batches(product, batches)
    scores = jax.tree.map(lambda w, hg: w * hg, at, products)
    return _check_finite(scores, "the loss or its derivatives")


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
        A tree of scores in the dtype of the params.

    Raises:
        ValueError: As ``snip_scores``.

    Source: Frankle et al. 2021 (arXiv 2009.08576), section 5.
    """
    return jax.tree.map(jnp.abs, grasp_scores(loss_fn, params, batches, prunable=prunable))


def _check_finite(scores: PyTree, what: str) -> PyTree:
    """Refuses scores that are not finite, if they can be read; selection ranks NaN lowest."""
    for path, leaf in jax.tree_util.tree_leaves_with_path(scores):
        if not is_traced(leaf) and not bool(jnp.all(jnp.isfinite(leaf))):
            raise ValueError(
                f"expected finite scores, got NaN or infinity at {jax.tree_util.keystr(path)}: {what} "
                f"is not finite in {leaf.dtype}; look for NaN in the params and the data, or compute "
                "in float64 (float64 params under jax.enable_x64(True))"
            )
    return scores


def _gradient(
    loss_fn: LossFn, merge: Callable[[PyTree], PyTree], batch: Any
) -> Callable[[PyTree], PyTree]:
    def loss(weights: PyTree) -> jax.Array:
        value = loss_fn(merge(weights), batch)
        dtype, shape = getattr(value, "dtype", type(value).__name__), getattr(value, "shape", None)
        if shape != () or not jnp.issubdtype(dtype, jnp.floating):
            raise ValueError(
                "expected loss_fn(params, batch) to return a float scalar, the mean loss of the batch, "
                f"got {dtype}" + ("" if shape is None else f" of shape {shape}")
            )
        return value

    return jax.grad(loss)


def _mean_over_batches(derivative: Callable[[Any], PyTree], batches: Sequence[Any]) -> PyTree:
    """The mean over all examples of a derivative that is itself a mean over a batch."""
    # (x, y) is one batch in most code, and would pass for two.
    bare = isinstance(batches, tuple) and any(hasattr(batch, "ndim") for batch in batches)
    if bare or not isinstance(batches, list | tuple):
        raise ValueError(
            f"expected a sequence of batches, got a {type(batches).__name__}"
            + (" of arrays" if bare else "")
            + "; a single batch goes in a list: [batch]"
        )
    if not batches:
        raise ValueError("expected at least one batch, got an empty sequence")
    if len(batches) == 1:
        if 0 in _leading_sizes(batches[0]):
            raise ValueError("expected batches of one or more examples, got one batch without any")
        return derivative(batches[0])
    sizes = [_batch_size(batch, place) for place, batch in enumerate(batches)]
    total = None
    for batch, size in zip(batches, sizes, strict=True):
        part = jax.tree.map(lambda leaf, n=size: leaf * (n / sum(sizes)), derivative(batch))
        total = part if total is None else jax.tree.map(jnp.add, total, part)
    return total


def _leading_sizes(batch: Any) -> set[int]:
    return {jnp.shape(leaf)[0] for leaf in jax.tree.leaves(batch) if jnp.ndim(leaf)}


def _batch_size(batch: Any, place: int) -> int:
    sizes = _leading_sizes(batch)
    if len(sizes) != 1 or 0 in sizes:
        raise ValueError(
            "expected every batch to hold arrays that share a leading axis of one or more examples, got "
            f"leading sizes {sorted(sizes)} in batch {place}; a single batch goes in a list: [batch]"
        )
    return sizes.pop()


def _dot(left: PyTree, right: PyTree) -> jax.Array:
    products = jax.tree.map(lambda a, b: jnp.sum(a * b), left, right)
    return jax.tree.reduce(jnp.add, products)
