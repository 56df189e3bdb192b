"""NTK-SAP: what a weight's mask does to the spectrum of the neural tangent kernel, without data.

Shapes: trees of scores are shaped like masks; B draws.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from pruning.masks.reading import fit_masks
from pruning.masks.tree import check_alike, check_masks
from pruning.scores.binary_scaling import widened
from pruning.scores.checking import check_scores
from pruning.trees.counts import check_counts, may_be
from pruning.trees.leaves import PyTree, Scalar, is_none
from pruning.trees.precision import at_least_float32, sum_of


class NtkSapDraw(NamedTuple):
    """What one term of NTK-SAP's sum is computed from.

    Attributes:
        params: Any pytree of arrays.
        inputs: What ``output_fn`` takes.
        perturbation: A tree like masks, n.
    """

    params: PyTree
    inputs: Any
    perturbation: PyTree


def ntk_sap_scores(
    key: jax.Array,
    init_fn: Callable[[jax.Array], PyTree],
    output_fn: Callable[..., jax.Array],
    inputs: jax.Array,
    masks: PyTree,
    *,
    draws: int = 1,
    noise: Scalar = 0.01,
    statistics_fn: Callable[[PyTree, Any], PyTree] | None = None,
) -> PyTree:
    r"""NTK-SAP's score with new weights, inputs and perturbations for each draw (``ntk_sap_draws``).

    The paper prunes in rounds, each with other draws: pass the round's masks and a key of its own. The
    params that are trained in the end play no part and stay as they are.

    Args:
        key: A PRNG key (``jax.random.key``).
        init_fn: ``init_fn(key)`` draws the params of a network.
        output_fn: ``output_fn(params, inputs)`` gives the outputs, in inference mode; with
            ``statistics_fn``, ``output_fn(params, inputs, statistics)``.
        inputs: An array of the shape and dtype of a batch; every entry is drawn from the standard normal
            distribution, and nothing else is read of it.
        masks: A tree of masks for the params; full ones before anything is pruned.
        draws: How many, B >= 1; computed one after the other, in the memory of one.
        noise: :math:`\epsilon > 0`, the standard deviation of the perturbation.
        statistics_fn: ``statistics_fn(params, inputs)`` gives the batch statistics of the masked network,
            which count as constants, and serve it and its perturbed copy.

    Returns:
        A tree of scores, at least 0, and 0 where the masks prune.

    Raises:
        ValueError: If the masks do not fit the params, ``draws`` is below 1, ``noise`` is not above 0, a
            score is not finite, or all are 0 though nothing is pruned (the last two when nothing is
            traced).

    Source: Wang et al. 2023 (arXiv 2304.02840), equation 5 and algorithm 1. The released code trains the
    weights of the last draw; here the caller's are not touched.
    """
    check_counts(draws=draws)
    _check_noise(noise)
    shapes = jax.eval_shape(init_fn, key)
    masks = fit_masks(masks, shapes)
    check_masks(masks, shapes)

    def add(total: PyTree, key: jax.Array) -> tuple[PyTree, None]:
        init_key, input_key, noise_key = jax.random.split(key, 3)
        params = init_fn(init_key)
        draw = NtkSapDraw(
            params,
            jax.random.normal(input_key, jnp.shape(inputs), inputs.dtype),
            _normal_like(noise_key, _masked_leaves(params, masks)),
        )
        term = _derivative(output_fn, draw, masks, noise, statistics_fn)
        return jax.tree.map(jnp.add, total, term), None

    like = _masked_leaves(shapes, masks)
    zeros = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, at_least_float32(leaf.dtype)), like)
    total, _ = jax.lax.scan(add, zeros, jax.random.split(key, draws))
    return _scores(total, masks)


def ntk_sap_draws(
    output_fn: Callable[..., jax.Array],
    draws: Sequence[NtkSapDraw],
    masks: PyTree,
    noise: Scalar,
    *,
    statistics_fn: Callable[[PyTree, Any], PyTree] | None = None,
) -> PyTree:
    r"""NTK-SAP's score of given draws: :math:`z_i = |\sum_b \partial J_b / \partial m_i|`.

    :math:`J_b = \sum_x \lVert f(x; m \odot w_b) - f(x; m \odot (w_b + \epsilon n_b)) \rVert^2`, summed
    over the examples of a draw. It estimates, up to a factor, the trace of the neural tangent kernel of
    the masked network, which is the sum of the kernel's eigenvalues: weights are kept whose removal would
    change that the most. Params that are not prunable are in both networks as they are.

    Args:
        output_fn: As for ``ntk_sap_scores``.
        draws: B of them: params, inputs and a perturbation, which may be plain tuples.
        masks: m, a tree of masks.
        noise: :math:`\epsilon > 0`.
        statistics_fn: As for ``ntk_sap_scores``.

    Returns:
        A tree of scores, at least 0, and 0 where the masks prune.

    Raises:
        ValueError: As ``ntk_sap_scores``, or if there are no draws, or a perturbation is not shaped like
            the masks.

    Source: Wang et al. 2023 (arXiv 2304.02840), equation 5. Sums, not means, as in the released code.

    >>> output = lambda params, x: x @ params["w"]
    >>> w, ones = {"w": jnp.array([[1.0], [2.0]])}, {"w": jnp.ones((2, 1))}
    >>> full = {"w": jnp.ones((2, 1), bool)}
    >>> ntk_sap_draws(output, [(w, jnp.array([[3.0, 1.0]]), ones)], full, 1.0)
    {'w': Array([[24.],
           [ 8.]], dtype=float32)}
    """
    if not draws:
        raise ValueError("expected one draw or more, got none")
    _check_noise(noise)
    total = None
    for draw in draws:
        found = NtkSapDraw(*draw)
        masks = fit_masks(masks, found.params)
        check_masks(masks, found.params)
        check_alike(masks, found.perturbation)
        term = _derivative(output_fn, found, masks, noise, statistics_fn)
        total = term if total is None else jax.tree.map(jnp.add, total, term)
    return _scores(total, masks)


def _derivative(
    output_fn: Callable[..., jax.Array],
    draw: NtkSapDraw,
    masks: PyTree,
    noise: Scalar,
    statistics_fn: Callable[[PyTree, Any], PyTree] | None,
) -> PyTree:
    """The derivative of one draw's J by the masks."""
    params, inputs, perturbation = draw
    moved = jax.tree.map(
        lambda n, leaf: (
            leaf if n is None else leaf + (jnp.asarray(noise, n.dtype) * n).astype(leaf.dtype)
        ),
        perturbation,
        params,
        is_leaf=is_none,
    )
    given = ()
    if statistics_fn is not None:
        given = (jax.lax.stop_gradient(statistics_fn(_times(params, masks), inputs)),)

    def distance(masks: PyTree) -> jax.Array:
        here, there = (output_fn(_times(tree, masks), inputs, *given) for tree in (params, moved))
        gaps = jax.tree.map(lambda a, b: jnp.sum(jnp.square(widened(a) - widened(b))), here, there)
        return sum_of(jax.tree.leaves(gaps))

    like = _masked_leaves(params, masks)
    ones = jax.tree.map(lambda leaf, mask: mask.astype(at_least_float32(leaf.dtype)), like, masks)
    return jax.grad(distance)(ones)


def _times(params: PyTree, masks: PyTree) -> PyTree:
    """A product, since the derivative is by the mask."""
    return jax.tree.map(
        lambda mask, leaf: leaf if mask is None else leaf * mask.astype(leaf.dtype),
        masks,
        params,
        is_leaf=is_none,
    )


def _masked_leaves(params: PyTree, masks: PyTree) -> PyTree:
    return jax.tree.map(lambda mask, leaf: None if mask is None else leaf, masks, params, is_leaf=is_none)


def _normal_like(key: jax.Array, weights: PyTree) -> PyTree:
    leaves, structure = jax.tree.flatten(weights)
    keys = jax.random.split(key, len(leaves))
    return structure.unflatten(
        [jax.random.normal(k, leaf.shape, leaf.dtype) for k, leaf in zip(keys, leaves, strict=True)]
    )


def _scores(total: PyTree, masks: PyTree) -> PyTree:
    scores = jax.tree.map(lambda leaf, mask: jnp.where(mask, jnp.abs(leaf), 0), total, masks)
    # Where the masks prune, zeros are to be expected.
    weights = jax.tree.map(lambda mask: mask.astype(jnp.float32), masks)
    return check_scores(scores, weights, "the outputs or their derivative")


def _check_noise(noise: Scalar) -> None:
    if not may_be(noise, lambda number: 0 < number < math.inf):
        raise ValueError(f"expected a finite noise > 0, got {noise!r}")
