"""Masks with structure: N of every M weights, as many for every unit, whole blocks, whole units.

Each layer is selected by itself, by the same rule as everywhere: the highest scores are kept, and of
equal ones the lower index. What a structure lies along follows from the layout
(``pruning.trees.layout``): groups of N:M and the fan-in of a unit lie along the *contracting* axes, those
that a product sums over, since that is what sparse hardware skips; a convolution's groups lie along its
input channels at each position.

A leaf whose axes do not fit is an error; leave it dense by ``prunable=`` where the scores are made
(``prunable_except("conv1")``). Leaves that hold several layers are told by the layout.
"""

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from pruning.masks.counting import check_sparsity, pruned_count
from pruning.masks.rankable import check_rankable
from pruning.masks.selection import check_scores, keep_highest
from pruning.trees.counts import is_whole
from pruning.trees.layout import LayerAxes, Layout, axes_of, flax_layout
from pruning.trees.leaves import PyTree, Scalar, is_traced
from pruning.trees.precision import at_least_float32
from pruning.trees.rows import group_rows, over_rows, unit_rows


def n_m_masks(scores: PyTree, n: int, m: int, *, layout: Layout = flax_layout) -> PyTree:
    """Keeps the n highest of every m consecutive scores along the axes that a product sums over.

    For a Flax kernel (in, out) the groups are m inputs of one output; where several axes lead in, as
    heads and their dimensions do, they are one axis of all of them.

    Args:
        scores: A tree like masks with float leaves.
        n: How many are kept, from 1 to m.
        m: The size of a group.
        layout: ``layout(path, leaf)`` says which axes lead in.

    Returns:
        Masks of sparsity 1 - n / m, exactly, in every group.

    Raises:
        ValueError: If n is not in [1, m], m does not divide the inputs of a leaf, or the scores rank
            nothing (``check_rankable``).

    Source: Zhou et al. 2021 (arXiv 2102.04010), where of equal weights the higher index is kept.

    >>> n_m_masks({"w": jnp.array([[4.0], [1.0], [3.0], [2.0]])}, 2, 4)["w"].ravel()
    Array([ True, False,  True, False], dtype=bool)
    """
    check_group(n, m)

    def of_leaf(where: str, leaf: jax.Array, axes: LayerAxes) -> jax.Array:
        return over_rows(lambda groups: _ranks(groups) < n, group_rows(axes, m, where), leaf)

    return _map_leaves(of_leaf, scores, 1 - n / m, layout)


def constant_fan_in_masks(scores: PyTree, sparsity: Scalar, *, layout: Layout = flax_layout) -> PyTree:
    """Keeps as many of the highest scores for every unit of a layer.

    Args:
        scores: A tree like masks with float leaves.
        sparsity: Fraction of each unit's incoming weights to remove, in [0, 1).
        layout: ``layout(path, leaf)`` says which axes are units.

    Returns:
        Masks that remove ``floor(sparsity * f + 1e-6)`` of the f weights that lead into each unit.

    Raises:
        ValueError: If the sparsity is outside [0, 1), or the scores rank nothing (``check_rankable``).

    Source: Lasby et al. 2024 (arXiv 2305.02299).

    >>> constant_fan_in_masks({"w": jnp.array([[4.0, 1.0], [1.0, 2.0]])}, 0.5)["w"]
    Array([[ True, False],
           [False,  True]], dtype=bool)
    """
    check_sparsity(sparsity)

    def of_leaf(where: str, leaf: jax.Array, axes: LayerAxes) -> jax.Array:
        del where
        rows = unit_rows(axes)
        pruned = pruned_count(sparsity, rows.length)
        return over_rows(lambda units: _highest(units, pruned), rows, leaf)

    return _map_leaves(of_leaf, scores, sparsity, layout)


def channel_masks(scores: PyTree, sparsity: Scalar, *, layout: Layout = flax_layout) -> PyTree:
    """Keeps whole units of each layer, those whose weights score highest together.

    A unit (a column of a Flax kernel, an output channel of a convolution) is judged by the sum of its
    scores. The last layer's units are the classes: leave it dense by ``prunable_except``.

    Args:
        scores: A tree like masks with float leaves.
        sparsity: Fraction of the units of each layer to remove, in [0, 1).
        layout: ``layout(path, leaf)`` says which axes are units.

    Returns:
        Masks that remove all weights of ``floor(sparsity * u + 1e-6)`` of a layer's u units.

    Raises:
        ValueError: If the sparsity is outside [0, 1), or the scores rank nothing (``check_rankable``).

    Source: Li et al. 2017 (arXiv 1608.08710), for magnitudes.

    >>> channel_masks({"w": jnp.array([[4.0, 1.0], [1.0, 2.0]])}, 0.5)["w"]
    Array([[ True, False],
           [ True, False]], dtype=bool)
    """
    check_sparsity(sparsity)

    def of_leaf(where: str, leaf: jax.Array, axes: LayerAxes) -> jax.Array:
        del where
        along = (*axes.spatial, *axes.inputs)
        units = jnp.sum(_to_sum(leaf), axis=along, keepdims=True)
        pruned = pruned_count(sparsity, axes.fan_out)
        kept = _highest(units.reshape(axes.layers, axes.fan_out), pruned)
        return jnp.broadcast_to(kept.reshape(units.shape), leaf.shape)

    return _map_leaves(of_leaf, scores, sparsity, layout)


def block_masks(
    scores: PyTree, sparsity: Scalar, *, block: tuple[int, int], layout: Layout = flax_layout
) -> PyTree:
    """Keeps whole blocks of inputs by outputs of each layer, those that score highest together.

    In a convolution each position has its own blocks.

    Args:
        scores: A tree like masks with float leaves.
        sparsity: Fraction of the blocks of each layer to remove, in [0, 1).
        block: Inputs and outputs of a block.
        layout: ``layout(path, leaf)`` says which axes lead in and which are units.

    Returns:
        Masks that remove all weights of ``floor(sparsity * b + 1e-6)`` of a layer's b blocks.

    Raises:
        ValueError: If the sparsity is outside [0, 1), a block's sides are below 1 or do not divide a
            leaf's, or the scores rank nothing (``check_rankable``).

    >>> scores = {"w": jnp.array([[4.0, 0.0, 1.0, 1.0], [0.0, 0.0, 1.0, 1.0]])}
    >>> block_masks(scores, 0.5, block=(2, 2))["w"][0]
    Array([ True,  True, False, False], dtype=bool)
    """
    check_sparsity(sparsity)
    if not isinstance(block, tuple | list) or len(block) != 2 or not all(map(_is_size, block)):
        raise ValueError(
            f"expected a block as two whole numbers, inputs and outputs, of 1 or more, got {block}"
        )
    rows, columns = block

    def of_leaf(where: str, leaf: jax.Array, axes: LayerAxes) -> jax.Array:
        if axes.fan_in % rows or axes.fan_out % columns:
            raise ValueError(
                f"expected blocks of {block} to divide the {axes.fan_in} inputs and {axes.fan_out} "
                f"outputs of {where}; leave it dense by prunable= where the scores are made"
            )
        order = (*range(len(axes.stacked)), *axes.spatial, *axes.inputs, *axes.outputs)
        moved = jnp.transpose(leaf, order)
        outer = (*axes.stacked, math.prod(axes.kernel))
        parts = moved.reshape(*outer, axes.fan_in // rows, rows, axes.fan_out // columns, columns)
        sums = jnp.sum(_to_sum(parts), axis=(-3, -1), keepdims=True)
        blocks = sums.reshape(axes.layers, -1)
        kept = _highest(blocks, pruned_count(sparsity, blocks.shape[1])).reshape(sums.shape)
        whole = jnp.broadcast_to(kept, parts.shape).reshape(moved.shape)
        return jnp.transpose(whole, tuple(order.index(axis) for axis in range(len(order))))

    return _map_leaves(of_leaf, scores, sparsity, layout)


def check_group(n: int, m: int) -> None:
    """Checks how many of every m are kept.

    Args:
        n: How many are kept.
        m: The size of a group.

    Raises:
        ValueError: Unless both are whole numbers and n lies in [1, m].
    """
    if not (_is_size(n) and _is_size(m) and n <= m):
        raise ValueError(f"expected whole numbers, n from 1 to m, got n = {n} and m = {m}")


def _is_size(number: Any) -> bool:
    return is_whole(number) and bool(number >= 1)


def _map_leaves(
    function: Callable[[str, jax.Array, LayerAxes], jax.Array],
    scores: PyTree,
    sparsity: Scalar,
    layout: Layout,
) -> PyTree:
    check_scores(scores)
    if not is_traced(sparsity) and float(sparsity) > 0:
        check_rankable(scores)
    leaves, structure = jax.tree_util.tree_flatten_with_path(scores)
    both = zip(leaves, axes_of(layout, scores), strict=True)
    return structure.unflatten(
        [function(jax.tree_util.keystr(path), jnp.asarray(leaf), axes) for (path, leaf), axes in both]
    )


def _to_sum(scores: jax.Array) -> jax.Array:
    """What is summed in a short dtype ties, or overflows."""
    return scores.astype(at_least_float32(scores.dtype))


@jax.jit
def _ranks(groups: jax.Array) -> jax.Array:
    """How many of its group, the last axis, come before each score."""
    scores = jnp.where(jnp.isnan(groups), -jnp.inf, groups)
    places = jnp.arange(groups.shape[-1]).reshape((1,) * (groups.ndim - 1) + (-1,))
    ranks = jnp.zeros(groups.shape, jnp.int32)
    for place in range(groups.shape[-1]):
        other = scores[..., place : place + 1]
        before = (other > scores) | ((other == scores) & (place < places))
        ranks += before.astype(jnp.int32)
    return ranks


def _highest(rows: jax.Array, pruned: Any) -> jax.Array:
    """Removes the lowest of each row, so many of each."""
    return jax.vmap(lambda row: keep_highest(row, pruned))(rows)
