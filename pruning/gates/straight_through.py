"""Straight through: what is computed with is masked, what learns is not.

Each function gives masked params; their derivatives pass the mask as if it were not there. Forward and
reverse mode both work.
"""

import jax
import jax.numpy as jnp

from pruning.masks.reading import fit_masks
from pruning.masks.selection import layerwise_masks
from pruning.masks.tree import check_alike, check_masks
from pruning.trees.layout import Layout, flax_layout
from pruning.trees.leaves import PyTree, Scalar, is_none
from pruning.trees.precision import wider


def straight_through(params: PyTree, masks: PyTree) -> PyTree:
    r"""Masked params whose gradient goes to the dense ones: :math:`w \odot m`, and :math:`dw` unmasked.

    Inside a loss, in the place of ``apply_masks``: the weights behind the mask go on learning, and may
    pass it where masks are made anew of them, as in ``straight_through(params, n_m_masks(...))``. Do not
    hold these masks in the optimizer.

    Args:
        params: Any pytree of arrays; the dense weights.
        masks: A tree of masks.

    Returns:
        The params, exactly 0 where pruned.

    Raises:
        ValueError: If the masks do not fit the params.

    Source: Bengio et al. 2013 (arXiv 1308.3432); Zhou et al. 2021 (arXiv 2102.04010), equation 5.

    >>> masks = {"w": jnp.array([[True, False]])}
    >>> loss = lambda params: jnp.sum(straight_through(params, masks)["w"] * 3)
    >>> jax.grad(loss)({"w": jnp.ones((1, 2))})
    {'w': Array([[3., 3.]], dtype=float32)}
    """
    masks = fit_masks(masks, params)
    check_masks(masks, params)
    return jax.tree.map(
        lambda mask, leaf: leaf if mask is None else _behind(leaf, mask), masks, params, is_leaf=is_none
    )


def edge_popup(
    params: PyTree, scores: PyTree, sparsity: Scalar, *, layout: Layout = flax_layout
) -> PyTree:
    r"""Frozen weights under the mask of learned scores: :math:`w \odot \mathrm{top}_{1-s}(|z|)`.

    The fraction 1 - s of each layer with the largest :math:`|z|` is kept. The derivative by a score is
    :math:`\partial L / \partial z_i = \partial L / \partial (w m)_i \; w_i \, \mathrm{sign}(z_i)`, for
    pruned weights too. The weights are constants; params without scores are not, and learn.

    Args:
        params: Any pytree of arrays.
        scores: z, a tree like masks with float leaves: what is trained.
        sparsity: Fraction of each layer to remove, in [0, 1).
        layout: ``layout(path, leaf)`` says which axes are layers (``pruning.trees.layout``).

    Returns:
        The params, exactly 0 where pruned.

    Raises:
        ValueError: If the trees do not match, or the sparsity is outside [0, 1).

    Source: Ramanujan et al. 2020 (arXiv 1911.13299), with the absolute value of the released code. Its
    count is rounded from what is kept, and its ties are ordered by an unstable sort; here the lower index
    is kept.

    >>> loss = lambda z: jnp.sum(edge_popup({"w": jnp.array([[2.0, 4.0]])}, z, 0.5)["w"])
    >>> jax.value_and_grad(loss)({"w": jnp.array([[-0.3, 0.1]])})
    (Array(2., dtype=float32), {'w': Array([[-2.,  4.]], dtype=float32)})
    """
    sizes = jax.tree.map(jnp.abs, fit_masks(scores, params))
    everywhere = jax.tree.map(lambda _: sparsity, sizes)
    kept = layerwise_masks(jax.lax.stop_gradient(sizes), everywhere, layout=layout)
    check_masks(kept, params)
    return jax.tree.map(
        lambda z, leaf, mask: leaf if z is None else _popped(z, jax.lax.stop_gradient(leaf), mask),
        sizes,
        params,
        kept,
        is_leaf=is_none,
    )


def rounded_gates(params: PyTree, gates: PyTree, masks: PyTree) -> PyTree:
    r"""Frozen weights under rounded gates: :math:`w_i \, [p_i > \tfrac12] \, m_i`.

    What Rare Gems trains: gates p in [0, 1], which the caller clips after each step, of a network that is
    pruned in rounds by the smallest p. The derivative by a gate is that by the masked weight times
    :math:`w_i m_i`, on both sides of one half. The weights are constants; params without gates learn.

    Args:
        params: Any pytree of arrays.
        gates: p, a tree like masks with float leaves: what is trained.
        masks: What earlier rounds have kept.

    Returns:
        The params, exactly 0 where a gate is at most one half, or pruned.

    Raises:
        ValueError: If the trees do not match.

    Source: Sreenivasan et al. 2022 (arXiv 2202.12002), algorithm 1, and their released code.

    >>> gates, full = {"w": jnp.array([[0.7, 0.2]])}, {"w": jnp.array([[True, True]])}
    >>> loss = lambda gates: jnp.sum(rounded_gates({"w": jnp.array([[3.0, 4.0]])}, gates, full)["w"])
    >>> jax.value_and_grad(loss)(gates)
    (Array(3., dtype=float32), {'w': Array([[3., 4.]], dtype=float32)})
    """
    gates, masks = fit_masks(gates, params), fit_masks(masks, params)
    check_masks(masks, params)
    check_alike(masks, gates)

    def of_leaf(gate: jax.Array, leaf: jax.Array, mask: jax.Array) -> jax.Array:
        weights = jnp.where(mask, jax.lax.stop_gradient(leaf), 0)
        return _popped(gate, weights, mask & (gate > 0.5))

    return jax.tree.map(
        lambda gate, leaf, mask: leaf if gate is None else of_leaf(gate, leaf, mask),
        gates,
        params,
        masks,
        is_leaf=is_none,
    )


@jax.custom_jvp
def _behind(weight: jax.Array, mask: jax.Array) -> jax.Array:
    return jnp.where(mask, weight, jnp.zeros_like(weight))


@_behind.defjvp
def _behind_jvp(primals, tangents):
    return _behind(*primals), tangents[0]


@jax.custom_jvp
def _popped(score: jax.Array, weight: jax.Array, mask: jax.Array) -> jax.Array:
    """The weight where kept; the derivative by the score is the weight."""
    return jnp.where(mask, weight, jnp.zeros_like(weight))


@_popped.defjvp
def _popped_jvp(primals, tangents):
    score, weight, mask = primals
    dtype = wider(weight.dtype, score.dtype)
    tangent = tangents[0].astype(dtype) * weight.astype(dtype)
    return _popped(score, weight, mask), tangent.astype(weight.dtype)
