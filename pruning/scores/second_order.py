"""Scores from curvature: diagonals of the Fisher and Hessian matrices, and what removal does by them.

Both diagonals are means over *single* examples: ``loss_fn`` gets each as a batch of one, so a network
that normalises by the batch has to be in inference mode.

Shapes: trees of diagonals and scores are shaped like masks; N examples.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from pruning.scores.binary_scaling import widened
from pruning.scores.checking import check_finite, check_scalar
from pruning.trees.counts import check_counts
from pruning.trees.leaves import Prunable, PyTree, prunable, prunable_pair, split_prunable
from pruning.trees.placement import placed_as

LossFn = Callable[[PyTree, Any], jax.Array]


def fisher_diagonal(
    loss_fn: LossFn, params: PyTree, examples: PyTree, *, prunable: Prunable = prunable
) -> PyTree:
    r"""The empirical Fisher diagonal: :math:`F_i = \frac1N \sum_n (\partial L_n / \partial w_i)^2`.

    The gradient of each example is squared before the mean is taken, one example after the other, so
    it takes N gradients of one example and the memory of one.

    Args:
        loss_fn: ``loss_fn(params, batch)`` gives the mean loss of a batch, a float scalar; here of
            batches of one example.
        params: Any pytree of arrays.
        examples: A tree of arrays that share their leading axis, its size N.
        prunable: ``prunable(path, leaf)`` says which leaves may be pruned.

    Returns:
        A tree of diagonals in the dtype of the params (float32 at least), at least 0. As scores they
        are the simplest form: the highest are kept.

    Raises:
        ValueError: If the loss is no float scalar, the examples share no leading axis, no leaf is
            prunable, or a value is not finite (when nothing is traced).

    Source: arXiv 2502.11450 (CPAL 2026), the Fisher diagonal.

    >>> loss = lambda params, x: jnp.mean(x @ params["w"])
    >>> fisher_diagonal(loss, {"w": jnp.ones((2, 1))}, jnp.array([[1.0, 2.0], [3.0, 0.0]]))
    {'w': Array([[5.],
           [2.]], dtype=float32)}
    """
    at, merge = split_prunable(params, prunable)
    gradient = jax.grad(lambda weights, batch: check_scalar(loss_fn(merge(weights), batch)))

    def squared(batch: PyTree) -> PyTree:
        return jax.tree.map(lambda g: jnp.square(widened(g)), gradient(at, batch))

    found = _mean_over_examples(squared, at, examples)
    return check_finite(found, "the loss or its gradient")


def hutchinson_diagonal(
    key: jax.Array,
    loss_fn: LossFn,
    params: PyTree,
    examples: PyTree,
    *,
    probes: int = 10,
    prunable: Prunable = prunable,
) -> PyTree:
    r"""An estimate of the Hessian's diagonal: :math:`H_i = \mathbb{E}[z_i (\nabla^2 L \, z)_i]`.

    The mean over the examples and over random z whose entries are 1 or -1, new ones for every example.
    The Hessian is that of the prunable weights alone. Each probe is a gradient and a product with the
    Hessian, reverse over reverse; they are computed one after the other, in the memory of one.

    Args:
        key: A PRNG key (``jax.random.key``).
        loss_fn: As for ``fisher_diagonal``. The paper divides the logits by a temperature of 200.
        params: Any pytree of arrays.
        examples: A tree of arrays that share their leading axis, its size N.
        probes: How many z for each example, at least 1.
        prunable: ``prunable(path, leaf)`` says which leaves may be pruned.

    Returns:
        A tree of diagonals in the dtype of the params (float32 at least), of either sign.

    Raises:
        ValueError: As ``fisher_diagonal``, or if ``probes`` is below 1.

    Source: arXiv 2502.11450 (CPAL 2026), the Hutchinson diagonal; Hutchinson 1990.
    """
    check_counts(probes=probes)
    at, merge = split_prunable(params, prunable)
    leaves, structure = jax.tree.flatten(at)
    gradient = jax.grad(lambda weights, batch: check_scalar(loss_fn(merge(weights), batch)))

    def probed(key: jax.Array, batch: PyTree) -> PyTree:
        keys = jax.random.split(key, len(leaves))
        signs = [
            placed_as(jax.random.rademacher(k, w.shape, jnp.result_type(w)), w)
            for k, w in zip(keys, leaves, strict=True)
        ]
        z = structure.unflatten(signs)
        _, pull_back = jax.vjp(lambda weights: gradient(weights, batch), at)
        return jax.tree.map(lambda z, product: widened(z) * widened(product), z, pull_back(z)[0])

    def estimate(batch: PyTree, key: jax.Array) -> PyTree:
        def add(total: PyTree, key: jax.Array) -> tuple[PyTree, None]:
            return jax.tree.map(jnp.add, total, probed(key, batch)), None

        total, _ = jax.lax.scan(add, _zeros(at), jax.random.split(key, probes))
        return jax.tree.map(lambda leaf: leaf / probes, total)

    keys = jax.random.split(key, _count(examples))
    found = _mean_over_examples(estimate, at, examples, keys)
    return check_finite(found, "the loss or its derivatives")


def curvature_scores(params: PyTree, diagonal: PyTree, *, prunable: Prunable = prunable) -> PyTree:
    r"""What removal costs at a minimum: :math:`z_i = \tfrac12 d_i w_i^2`.

    Args:
        params: Any pytree of arrays.
        diagonal: d, from ``fisher_diagonal`` or ``hutchinson_diagonal``.
        prunable: ``prunable(path, leaf)`` says which leaves may be pruned.

    Returns:
        A tree of scores of the sign of d, in float32, or in the params' dtype where that is longer.

    Raises:
        ValueError: If the trees do not match, or no leaf is prunable.

    Source: LeCun et al. 1989, *Optimal Brain Damage*, equation 5; arXiv 2502.11450 (CPAL 2026).

    >>> curvature_scores({"w": jnp.array([[2.0, -1.0]])}, {"w": jnp.array([[3.0, 4.0]])})
    {'w': Array([[6., 2.]], dtype=float32)}
    """
    weights, diagonal = prunable_pair(params, diagonal, "diagonal", prunable)
    return jax.tree.map(_half_square, weights, diagonal)


def taylor_scores(
    params: PyTree, gradients: PyTree, diagonal: PyTree, *, prunable: Prunable = prunable
) -> PyTree:
    r"""What removal changes, to second order: :math:`z_i = |w_i g_i + \tfrac12 d_i w_i^2|`.

    Removal changes the loss by :math:`-w_i g_i + \tfrac12 d_i w_i^2`; the sum with the other sign is
    the paper's.

    Args:
        params: Any pytree of arrays.
        gradients: g, the mean gradient: of the loss that ``diagonal`` is of, its temperature included.
        diagonal: d, from ``fisher_diagonal`` or ``hutchinson_diagonal``.
        prunable: ``prunable(path, leaf)`` says which leaves may be pruned.

    Returns:
        A tree of scores, at least 0, in float32, or in the params' dtype where that is longer.

    Raises:
        ValueError: If the trees do not match, or no leaf is prunable.

    Source: arXiv 2502.11450 (CPAL 2026), the Fisher-Taylor and Hutchinson-Taylor forms.

    >>> taylor_scores({"w": jnp.array([[2.0]])}, {"w": jnp.array([[-4.0]])}, {"w": jnp.array([[3.0]])})
    {'w': Array([[2.]], dtype=float32)}
    """
    weights, slopes = prunable_pair(params, gradients, "gradients", prunable)
    _, diagonal = prunable_pair(params, diagonal, "diagonal", prunable)

    def score(w: jax.Array, g: jax.Array, d: jax.Array) -> jax.Array:
        return jnp.abs(widened(w) * widened(g) + _half_square(w, d))

    return jax.tree.map(score, weights, slopes, diagonal)


def _half_square(weight: jax.Array, diagonal: jax.Array) -> jax.Array:
    return widened(diagonal) * jnp.square(widened(weight)) / 2


def _mean_over_examples(
    value: Callable[..., PyTree], weights: PyTree, examples: PyTree, *others: jax.Array
) -> PyTree:
    """The mean of ``value(batch, *others)`` over batches of one example, one after the other."""
    count = _count(examples)
    batches = jax.tree.map(lambda leaf: jnp.asarray(leaf)[:, None], examples)

    def add(total: PyTree, arguments: Any) -> tuple[PyTree, None]:
        return jax.tree.map(jnp.add, total, value(*arguments)), None

    total, _ = jax.lax.scan(add, _zeros(weights), (batches, *others))
    return jax.tree.map(lambda leaf: leaf / count, total)


def _zeros(weights: PyTree) -> PyTree:
    return jax.tree.map(lambda leaf: placed_as(jnp.zeros_like(widened(leaf)), leaf), weights)


def _count(examples: PyTree) -> int:
    shapes = [jnp.shape(leaf) for leaf in jax.tree.leaves(examples)]
    sizes = {shape[:1] for shape in shapes}
    if len(sizes) != 1 or sizes <= {(), (0,)}:
        raise ValueError(
            f"expected examples that share a leading axis of one or more, got shapes {shapes[:4]}"
        )
    return shapes[0][0]
