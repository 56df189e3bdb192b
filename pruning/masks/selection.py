"""Selection: from scores and sparsities to masks, with exact counts.

The highest scores are kept. Of equal scores the one with the lower flat index is kept. NaN ranks
below every number. Nothing is sorted: the threshold is searched for (``threshold.py``) among
integers that are ordered as the scores are, which takes a few passes over them, no copy of the scores
beyond those integers, and works on any tree under ``jit`` and ``vmap`` with a traced sparsity.
"""

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from pruning.masks.counting import check_sparsity, pruned_count
from pruning.masks.rankable import check_rankable
from pruning.masks.reading import fit_masks
from pruning.masks.threshold import without_lowest
from pruning.masks.tree import check_alike, count_kept, count_prunable
from pruning.trees.differences import first_difference
from pruning.trees.layout import Layout, axes_of, flax_layout, over_layers
from pruning.trees.leaves import PyTree, Scalar, check_countable, check_is_array, is_traced


def global_masks(scores: PyTree, sparsity: Scalar, *, masks: PyTree = None) -> PyTree:
    """Keeps the highest scores over all layers together: one threshold for the network.

    A layer may lose all its weights; ``layerwise_masks`` gives each layer its own threshold.

    Args:
        scores: A tree like masks with float leaves.
        sparsity: Fraction of all prunable weights to remove, in [0, 1); may be traced.
        masks: Weights that are pruned already: they stay pruned and count towards the sparsity.

    Returns:
        Masks with exactly ``floor(sparsity * n + 1e-6)`` weights removed (of a traced float32, which has
        24 bits only: as ``pruned_count`` reads it). Where weights are to be removed and traced scores
        rank nothing, since all are 0 or infinite, no weight at all is kept: no ranking gives that.

    Raises:
        ValueError: If the sparsity is outside [0, 1) or below that of ``masks``, the scores rank nothing
            (``check_rankable``), a score is NaN, or the trees do not match.

    >>> global_masks({"a": jnp.array([[3.0, 1.0]]), "b": jnp.array([[2.0, 0.0]])}, 0.5)
    {'a': Array([[ True, False]], dtype=bool), 'b': Array([[ True, False]], dtype=bool)}
    """
    masks = fit_masks(masks, scores)
    size = check_scores(scores, masks)
    pruned = pruned_count(sparsity, size)
    if masks is not None:
        _check_reachable(masks, pruned, f"sparsity {sparsity}")
    if not is_traced(pruned) and pruned > 0:
        check_rankable(scores, masks)
    kept, level = _keep_highest(scores, pruned, masks)
    return jax.tree.map(lambda mask: mask & ~level, kept) if is_traced(level) else kept


def layerwise_masks(
    scores: PyTree, sparsities: PyTree, *, masks: PyTree = None, layout: Layout = flax_layout
) -> PyTree:
    """Keeps the highest scores of each layer: a threshold and an exact count for every layer.

    Args:
        scores: A tree like masks with float leaves.
        sparsities: A sparsity in [0, 1) for each layer, as an allocation returns them: an array of them
            for a leaf of stacked layers, which needs no layout then; one number is for all of them.
        masks: Weights that are pruned already: they stay pruned and count towards the sparsities.
        layout: ``layout(path, leaf)`` says which axes are layers (``pruning.trees.layout``).

    Returns:
        Masks with exactly ``floor(sparsity * n + 1e-6)`` weights removed in each layer (of a traced
        float32: as ``pruned_count`` reads it).

    Raises:
        ValueError: If a sparsity is outside [0, 1) or below that of ``masks``, the scores of all layers
            rank nothing (``check_rankable``), one is NaN, or the trees do not match.
    """

    def count(where: str, sparsity: Any, size: int, mask: Any) -> Any:
        check_sparsity(sparsity, f"the sparsity of {where}")
        pruned = pruned_count(sparsity, size)
        if mask is not None:
            _check_reachable(mask, pruned, f"sparsity {sparsity} at {where}")
        return pruned

    return select_by_layer(count, scores, sparsities, masks, "sparsity", layout)


def select_by_layer(
    count: Callable[[str, Any, int, Any], Any],
    scores: PyTree,
    values: PyTree,
    masks: PyTree,
    what: str,
    layout: Layout,
) -> PyTree:
    """Selects in each layer by itself, with a value of its own.

    Args:
        count: ``count(path, value, size, mask)`` is how many of a layer's weights are pruned then; mask
            may be None.
        scores: A tree like masks with float leaves.
        values: A number for each layer; an array of them for a leaf of stacked layers.
        masks: Weights that are pruned already, or None.
        what: The number, for the error.
        layout: Which axes are layers, where a value does not say it.

    Returns:
        Masks.

    Raises:
        ValueError: If the trees do not match, the scores rank nothing, or one is NaN.
    """
    masks, values = fit_masks(masks, scores), fit_masks(values, scores)
    check_scores(scores, masks)
    check_by_layer(values, scores, what)
    if any(not is_traced(value) and np.any(value) for value in jax.tree.leaves(values)):
        check_rankable(scores, masks)
    layers, structure = jax.tree_util.tree_flatten_with_path(scores)
    before = [None] * len(layers) if masks is None else jax.tree.leaves(masks)
    kept = []
    for (path, leaf), value, mask, axes in zip(
        layers, jax.tree.leaves(values), before, axes_of(layout, scores), strict=True
    ):
        where, stacked = jax.tree_util.keystr(path), np.shape(value) or axes.stacked
        select = _selector(partial(count, where), math.prod(leaf.shape[len(stacked) :]))
        value = np.broadcast_to(value, stacked) if stacked and not is_traced(value) else value
        kept.append(select(leaf, value, mask, stacked))
    return structure.unflatten(kept)


def check_by_layer(values: PyTree, layers: PyTree, what: str) -> None:
    """Checks that there is a number for each layer of a tree.

    Args:
        values: A number for each layer; an array of them for a leaf of stacked layers.
        layers: A tree like masks.
        what: The number, for the error.

    Raises:
        ValueError: If the trees do not match, or an array has not the shape of a leaf's leading axes.
    """
    leaves, structure = jax.tree_util.tree_flatten_with_path(layers)
    if structure != jax.tree.structure(values):
        raise ValueError(
            f"expected a {what} for each layer, got (layers against these) "
            f"{first_difference(layers, values)}; make them with an allocation such as pruning.uniform, "
            "or with jax.tree.map over scores or masks"
        )
    for (path, leaf), value in zip(leaves, jax.tree.leaves(values), strict=True):
        stacked = np.shape(value)
        if leaf.shape[: len(stacked)] != stacked:
            raise ValueError(
                f"expected one {what} at {jax.tree_util.keystr(path)}, or an array of them for its "
                f"leading axes that are layers, got shape {stacked} for {leaf.shape}"
            )


def _selector(count: Callable[[Any, int, Any], Any], size: int) -> Callable[..., jax.Array]:
    """Selects among the scores of a leaf: of one layer, or of several."""

    def of_one(leaf: Any, value: Any, mask: Any) -> jax.Array:
        return keep_highest(leaf, count(value, size, mask), masks=mask)

    def of_all(leaf: Any, value: Any, mask: Any, stacked: tuple[int, ...]) -> jax.Array:
        if not stacked:
            return of_one(leaf, value, mask)
        select = lambda leaf, pruned, mask: keep_highest(leaf, pruned, masks=mask)  # noqa: E731
        if is_traced(value) or is_traced(mask):
            value, select = jnp.broadcast_to(value, stacked), of_one
        else:
            each = [
                count(value[place], size, None if mask is None else mask[place])
                for place in np.ndindex(stacked)
            ]
            value = jnp.array(each, jnp.int32).reshape(stacked)
        return over_layers(select, stacked)(jnp.asarray(leaf), value, mask)

    return of_all


def keep_highest(scores: PyTree, pruned: Any, *, masks: PyTree = None) -> PyTree:
    """Removes the ``pruned`` lowest scores of a tree; the rank runs over all its leaves.

    The step under ``global_masks``, for callers that count weights themselves.

    Args:
        scores: A tree like masks with float leaves.
        pruned: How many weights to remove, an int (traced or not) from 0 to the number of scores.
            Where it is less than ``masks`` remove already, those remain removed and no others.
        masks: Weights that are pruned already.

    Returns:
        A tree of masks.
    """
    return _keep_highest(scores, pruned, masks)[0]


def _keep_highest(scores: PyTree, pruned: Any, masks: PyTree) -> tuple[PyTree, jax.Array]:
    """The masks, and whether the scores rank nothing."""
    check_countable(sum(leaf.size for leaf in jax.tree.leaves(scores)))
    leaves, structure = jax.tree.flatten(jax.tree.map(jnp.asarray, scores))
    before: list[Any] = [None] * len(leaves) if masks is None else jax.tree.leaves(masks)
    kept, level = without_lowest(leaves, before, jnp.asarray(pruned, jnp.int32))
    return structure.unflatten(kept), level


def check_scores(scores: PyTree, masks: PyTree = None) -> int:
    """Checks scores (and masks beside them) and counts them.

    Args:
        scores: A tree like masks with float leaves.
        masks: Masks of the same network, or None.

    Returns:
        The number of scores.

    Raises:
        ValueError: If a leaf is not floating point, the concrete score of a kept weight is NaN, there
            are no scores, or the masks do not match.
    """
    leaves = jax.tree_util.tree_leaves_with_path(scores)
    for path, leaf in leaves:
        check_is_array(path, leaf)
        if not jnp.issubdtype(jnp.result_type(leaf), jnp.floating):
            where = jax.tree_util.keystr(path)
            raise ValueError(f"expected float scores at {where}, got {jnp.result_type(leaf)}")
    if masks is not None:
        check_alike(masks, scores)
    kept = [True] * len(leaves) if masks is None else jax.tree.leaves(masks)
    for (path, leaf), mask in zip(leaves, kept, strict=True):
        if is_traced(leaf) or is_traced(mask):
            continue
        if np.any(np.isnan(np.asarray(leaf, np.float64)) & np.asarray(mask)):
            where = jax.tree_util.keystr(path)
            raise ValueError(f"expected scores that can be ranked, got NaN at {where}")
    return count_prunable(scores)


def _check_reachable(masks: PyTree, pruned: Any, what: str) -> None:
    removed = count_prunable(masks) - count_kept(masks)
    if not is_traced(removed) and not is_traced(pruned) and removed > pruned:
        raise ValueError(
            f"{what} removes {pruned} weights, but the masks given remove {removed} already and "
            "pruned weights do not return; ask for a higher sparsity or pass no masks"
        )
