"""One update of masks that keeps their counts: the least of a layer's weights go, others come.

Shapes: n_1 weights are kept of a layer's n.
"""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp

from pruning.masks.counting import counted_share
from pruning.masks.selection import keep_highest
from pruning.trees.layout import Layout, axes_of, over_layers
from pruning.trees.leaves import PyTree, Scalar


class Regrown(NamedTuple):
    """Masks after an update.

    Attributes:
        masks: What is kept now.
        blind: Whether growth had to choose among weights of a layer that all scored 0, a bool scalar.
    """

    masks: PyTree
    blind: jax.Array


def drop_and_grow(
    masks: PyTree, weights: PyTree, growth: PyTree, fraction: Scalar, *, layout: Layout
) -> Regrown:
    r"""Drops the weights of the smallest magnitude and grows as many, in each layer.

    :math:`k = \lfloor f n_1 \rfloor` of a layer's kept weights go, those of the smallest :math:`|w|`;
    then, among all that are not kept, the dropped ones included, the k of the highest growth score come.
    Of equal ones the lower index is kept, or comes. A layer in which growth has nothing to choose by, all
    scores being 0, stays as it was.

    Args:
        masks: A tree of masks.
        weights: A tree like masks.
        growth: A tree like masks, at least 0.
        fraction: f in [0, 1], of the kept weights; may be traced.
        layout: ``layout(path, leaf)`` says which axes are layers.

    Returns:
        The masks, with the same count in every layer.
    """
    leaves, structure = jax.tree.flatten(masks)
    given = leaves, jax.tree.leaves(weights), jax.tree.leaves(growth)
    rows = [
        over_layers(partial(_of_layer, fraction), axes.stacked)(*of_leaf)
        for axes, *of_leaf in zip(axes_of(layout, masks), *given, strict=True)
    ]
    kept, blind = zip(*[(mask, jnp.any(none)) for mask, none in rows], strict=True)
    return Regrown(structure.unflatten(kept), jnp.any(jnp.stack(blind)))


def _of_layer(
    fraction: Scalar, mask: jax.Array, weight: jax.Array, growth: jax.Array
) -> tuple[jax.Array, jax.Array]:
    count = jnp.sum(mask, dtype=jnp.int32)
    drop = counted_share(fraction, count, "drop_fraction")
    stays: jax.Array = keep_highest(jnp.abs(weight), mask.size - count + drop, masks=mask)
    grown: jax.Array = keep_highest(growth, mask.size - drop, masks=~stays)
    # Only pruned weights can tell whether the scores are of the dense network.
    blind = (drop > 0) & ~jnp.all(mask) & ~jnp.any(jnp.where(mask, 0, growth))
    return jnp.where(blind, mask, stays | grown), blind
