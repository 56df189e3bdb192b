"""One update of masks with structure: every unit, or group, has as many weights afterwards.

What goes is ranked over the layer, what comes within each row (``pruning.trees.rows``: the weights that
lead into a unit, or every m of its inputs), until each row has what it must have.

Shapes, of one layer: R rows of F weights.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from pruning.masks.counting import counted_share
from pruning.masks.selection import keep_highest
from pruning.transforms.regrowth import Regrown
from pruning.trees.layout import LayerAxes, Layout, axes_of, over_layers
from pruning.trees.leaves import PyTree, Scalar, is_traced
from pruning.trees.precision import at_least_float32
from pruning.trees.rows import Rows


class Layer(NamedTuple):
    """One layer at a check.

    Attributes:
        mask: Shape (R, F).
        weight: Shape (R, F).
        growth: Scores, at least 0, shape (R, F).
        drop: How many of its weights go, an int32 scalar.
    """

    mask: jax.Array
    weight: jax.Array
    growth: jax.Array
    drop: jax.Array


class Quota(NamedTuple):
    """What a layer's rows must have.

    Attributes:
        open: Which rows may keep weights at all, shape (R,).
        each: How many each of these keeps, an int32 scalar from 0 to F.
    """

    open: jax.Array
    each: jax.Array


def cut(rows_of: Callable[[str, LayerAxes], Rows], layout: Layout, masks: PyTree) -> list[Rows]:
    """The rows of every leaf of a tree of masks.

    Args:
        rows_of: ``rows_of(path, axes)`` of one leaf.
        layout: ``layout(path, leaf)``.
        masks: A tree of masks.

    Returns:
        One for each leaf, in tree order.

    Raises:
        ValueError: If a leaf cannot be cut so.
    """
    leaves = jax.tree_util.tree_leaves_with_path(masks)
    both = zip(leaves, axes_of(layout, masks), strict=True)
    return [rows_of(jax.tree_util.keystr(path), axes) for (path, _), axes in both]


def check_rows(
    rows: list[Rows], masks: PyTree, wrong: Callable[[np.ndarray], bool], expected: str
) -> None:
    """Refuses masks whose rows do not have as many weights as they must; traced ones cannot be read.

    Args:
        rows: From ``cut``.
        masks: A tree of masks.
        wrong: Whether the counts of a layer's rows are not as they must be.
        expected: What they must be, and how to make them so, for the error.

    Raises:
        ValueError: At the first layer where they are not.
    """
    leaves = jax.tree_util.tree_leaves_with_path(masks)
    for cut_so, (path, mask) in zip(rows, leaves, strict=True):
        if is_traced(mask):
            continue
        with jax.ensure_compile_time_eval():  # Known masks can be read, also where something is traced.
            counts = np.asarray(cut_so.of(mask)).sum(-1)
        for place in np.ndindex(cut_so.axes.stacked):
            if wrong(counts[place]):
                where = jax.tree_util.keystr(path) + "".join(f"[{index}]" for index in place)
                low, high = int(counts[place].min()), int(counts[place].max())
                raise ValueError(f"expected {expected}, got {low} to {high} at {where}")


def regrow_rows(
    rows: list[Rows],
    quotas: list[Callable[..., Quota]],
    masks: PyTree,
    weights: PyTree,
    growth: PyTree,
    fraction: Scalar,
    *per_layer: list[jax.Array],
) -> Regrown:
    r"""Drops over each layer, then grows in each row up to its quota.

    Of a layer's :math:`n_1` kept weights the :math:`n_1 - \lfloor f n_1 \rfloor` of the largest
    :math:`|w|` stay, those in closed rows excepted; then in each open row come as many of the highest
    growth score as its quota lacks, of all that do not stay, the dropped ones included. Where scores are
    0, as those of a unit that is never active, what was dropped comes back first. A layer in which
    growth has nothing to choose by stays as it was.

    Args:
        rows: From ``cut``.
        quotas: For each leaf ``quota(layer, *per_layer)`` of one layer.
        masks: A tree of masks.
        weights: A tree like masks.
        growth: A tree like masks, at least 0.
        fraction: f in [0, 1], of the kept weights of a layer; may be traced.
        *per_layer: More for the quotas: an array for each leaf, of the shape of its stacked axes.

    Returns:
        The masks, with exactly the quota in every open row.
    """

    def of_leaf(rows: Rows, quota: Callable[..., Quota], *leaves: jax.Array) -> tuple[jax.Array, ...]:
        def of_layer(mask: jax.Array, weight: jax.Array, growth: jax.Array, *more: jax.Array):
            drop = counted_share(fraction, jnp.sum(mask, dtype=jnp.int32), "drop_fraction")
            layer = Layer(mask, weight, growth, drop)
            return _regrown(layer, quota(layer, *more))

        mask, weight, score, *more = leaves
        kept, blind = over_layers(of_layer, rows.axes.stacked)(
            rows.of(mask), rows.of(weight), rows.of(score), *more
        )
        return rows.leaf(kept), jnp.any(blind)

    leaves, structure = jax.tree.flatten(masks)
    beside = (leaves, jax.tree.leaves(weights), jax.tree.leaves(growth), *per_layer)
    found = [of_leaf(*given) for given in zip(rows, quotas, *beside, strict=True)]
    kept, blind = zip(*found, strict=True)
    return Regrown(structure.unflatten(kept), jnp.any(jnp.stack(blind)))


def _regrown(layer: Layer, quota: Quota) -> tuple[jax.Array, jax.Array]:
    """The mask of one layer after a check, and whether growth had nothing to choose by."""
    mask, weight, growth, drop = layer
    opened = jnp.broadcast_to(quota.open[:, None], mask.shape)
    staying = jnp.sum(mask, dtype=jnp.int32) - drop
    stays = keep_highest(jnp.abs(weight), mask.size - staying, masks=mask & opened)
    # A float16 has no number that is small enough.
    growth = growth.astype(at_least_float32(growth.dtype))
    finite = jnp.finfo(growth.dtype)
    # Before all that may come stands what stays; before what has no gradient, what was there.
    growth = jnp.clip(growth, jnp.where(mask, finite.tiny, 0), finite.max)
    scores = jnp.where(stays, jnp.inf, growth)
    among = jax.vmap(lambda score, row: keep_highest(score, score.size - quota.each, masks=row))
    kept = among(scores, opened)
    candidates = ~mask & jnp.any(mask, axis=1, keepdims=True)
    blind = (drop > 0) & jnp.any(candidates) & ~jnp.any(jnp.where(candidates, layer.growth, 0))
    return jnp.where(blind, mask, kept), blind
