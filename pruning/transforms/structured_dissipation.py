"""Dissipating gradients with structure: what sets of weights have moved, and which of them stay."""

from typing import Any

import jax
import jax.numpy as jnp

from pruning.masks.iterative import Select
from pruning.masks.tree import count_kept, intersect_masks, map_masks
from pruning.scores.movement import relative_displacement
from pruning.trees.leaves import PyTree


def least_displaced_removed(
    select: Select, sparsity: jax.Array, masks: PyTree, weights: PyTree, initial: PyTree
) -> PyTree:
    """The masks that a selection makes of the relative displacements of what is kept.

    Args:
        select: ``select(scores, sparsity) -> masks``.
        sparsity: At this check; a scalar.
        masks: What is kept.
        weights: A tree like masks, the weights now.
        initial: A tree like masks, those at the start.

    Returns:
        Masks that prune what ``masks`` do, and what is not selected; the same masks where the selection
        keeps no weight at all, which says that the displacements rank nothing: no weight has moved.

    Raises:
        ValueError: If what is selected does not fit.
    """
    kept = intersect_masks(masks, select(map_masks(_score, masks, weights, initial), sparsity))
    some = count_kept(kept) > 0
    return map_masks(lambda now, before: jnp.where(some, now, before), kept, masks)


def _score(mask: Any, weight: Any, initial: Any) -> Any:
    """The displacement of a kept weight; of a pruned one a number just below 0.

    So it ranks below what is kept, also below a weight that has not moved, and adds nothing to the sum of
    a block or a unit, which of those that are pruned altogether is the lowest of all. A weight that
    began at 0 is displaced infinitely: it counts as what keeps the sum of its leaf finite.
    """
    displacement = relative_displacement(weight, initial)
    limits = jnp.finfo(displacement.dtype)
    finite = jnp.minimum(displacement, limits.max / (2 * displacement.size))
    return jnp.where(mask, finite, -limits.tiny).astype(displacement.dtype)
