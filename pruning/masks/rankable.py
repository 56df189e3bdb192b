"""Whether scores rank anything: the check before a selection, and what it can say inside ``jit``."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import checkify

from pruning.masks.reading import fit_masks
from pruning.masks.tree import check_alike
from pruning.trees.leaves import PyTree, is_traced

_ZERO, _FINITE, _INFINITE, _NAN = range(4)


class Ranking(NamedTuple):
    """What the scores of the weights that compete say of their order; bool scalars.

    Attributes:
        nan: Some score is NaN.
        zero: All scores are 0.
        infinite: No score is finite.
    """

    nan: jax.Array
    zero: jax.Array
    infinite: jax.Array


def check_rankable(scores: PyTree, masks: PyTree = None) -> None:
    """Refuses scores that rank nothing: those of a selection that would go by place in the tree.

    Scores rank nothing if one of them is NaN, none is finite, or all are 0 before any weight is pruned:
    the head of the network is zero (or LoRA's B), or a derivative underflows. Zeros of a layer among
    others pass, and so do those of a network that pruning itself has cut: where ``masks`` remove a
    weight, 0 for all the rest is right.

    Values that are traced cannot be read. There ``jax.experimental.checkify`` makes an error of it, and
    without it this does nothing::

        error, masks = jax.jit(checkify.checkify(lambda p: ...))(params)
        error.throw()

    Or return the scores of a compiled function and call this on them outside. What selects in a
    compiled function says so in its result: masks that keep no weight at all.

    Args:
        scores: A tree like masks with float leaves.
        masks: Weights that are pruned already; they do not compete.

    Raises:
        ValueError: If the scores rank nothing (when nothing is traced), or the masks do not match.

    >>> check_rankable({"w": jnp.array([[0.0, 1.0]])})
    >>> check_rankable({"w": jnp.zeros((1, 2))})
    Traceback (most recent call last):
    ValueError: expected scores that rank the weights, got 0 for all 2 of them: ...
    """
    masks = fit_masks(masks, scores)
    if masks is not None:
        check_alike(masks, scores)
    leaves = jax.tree_util.tree_leaves_with_path(scores)
    if not leaves:
        raise ValueError(
            "expected at least one layer of scores, got a tree with none: score with a prunable= that "
            "takes some leaf"
        )
    found = ranking(scores, masks)
    dense = jnp.bool(True) if masks is None else all_kept(masks)
    if any(is_traced(value) for value in (*found, dense)):
        checkify.debug_check(~found.nan, "expected scores that can be ranked, got NaN")
        checkify.debug_check(~found.infinite | found.nan, _message("infinity", leaves))
        checkify.debug_check(~(found.zero & dense), _message("0", leaves))
    elif found.nan:
        where = next(jax.tree_util.keystr(path) for path, leaf in leaves if jnp.any(jnp.isnan(leaf)))
        raise ValueError(f"expected scores that can be ranked, got NaN at {where}")
    elif found.infinite:
        raise ValueError(_message("infinity", leaves))
    elif found.zero and dense:
        raise ValueError(_message("0", leaves))


def ranking(scores: PyTree, masks: PyTree = None) -> Ranking:
    """Looks once at the scores of the weights that compete.

    Args:
        scores: A tree like masks with float leaves.
        masks: Weights that are pruned already, or None.

    Returns:
        Three bool scalars.
    """
    leaves = [jnp.asarray(leaf) for leaf in jax.tree.leaves(scores)]
    before = [None] * len(leaves) if masks is None else jax.tree.leaves(masks)
    return _ranking(leaves, before)


@jax.jit
def _ranking(leaves: list[jax.Array], masks: list[jax.Array | None]) -> Ranking:
    found = [_extremes(leaf, mask) for leaf, mask in zip(leaves, masks, strict=True)]
    largest, smallest = (jnp.stack(extremes) for extremes in zip(*found, strict=True))
    return Ranking(
        nan=jnp.any(largest == _NAN),
        zero=jnp.all(largest == _ZERO),
        infinite=jnp.all(smallest > _FINITE) & jnp.any(largest > _FINITE),  # Some compete.
    )


def all_kept(masks: PyTree) -> jax.Array:
    """Whether masks prune nothing.

    Args:
        masks: A tree of masks.

    Returns:
        A bool scalar.
    """
    return _all_kept(jax.tree.leaves(masks))


@jax.jit
def _all_kept(masks: list[jax.Array]) -> jax.Array:
    return jnp.all(jnp.stack([jnp.all(mask) for mask in masks]))


def _extremes(scores: jax.Array, mask: jax.Array | None) -> tuple[jax.Array, jax.Array]:
    """The largest and the smallest kind of score in a leaf: zero, finite, infinite, NaN."""
    kinds = jnp.where(jnp.isfinite(scores), np.int32(_FINITE), np.int32(_INFINITE))
    kinds = jnp.where(jnp.isnan(scores), np.int32(_NAN), kinds)
    kinds = jnp.where(_is_not_zero(scores), kinds, np.int32(_ZERO))
    competes = jnp.ones_like(scores, dtype=bool) if mask is None else mask
    return (
        jnp.max(kinds, initial=_ZERO, where=competes),
        jnp.min(kinds, initial=_NAN, where=competes),
    )


def _is_not_zero(scores: jax.Array) -> jax.Array:
    """By the bits: subnormal scores rank, but as numbers they are zero on CPUs."""
    unsigned = np.dtype(f"u{scores.dtype.itemsize}")
    bits = jax.lax.bitcast_convert_type(scores, unsigned)
    return jax.lax.shift_left(bits, np.array(1, unsigned)) != np.array(0, unsigned)


def _message(what: str, leaves: list) -> str:
    size = sum(leaf.size for _, leaf in leaves)
    dtypes = ", ".join(sorted({str(leaf.dtype) for _, leaf in leaves}))
    why = {
        "0": "a layer of the network is zero everywhere, so nothing passes it (give it small random "
        "values and score those), or a derivative underflows",
        "infinity": "a derivative overflows, or every weight began at zero",
    }
    return (
        f"expected scores that rank the weights, got {what} for all {size} of them: {why[what]} in "
        f"{dtypes} (compute in float64: float64 params under jax.enable_x64(True))"
    )


def zero_leaves(weights: PyTree) -> list[str] | None:
    """Which leaves of an unpruned network are zero everywhere, as a head may be that begins so.

    Args:
        weights: A tree like masks with concrete weights.

    Returns:
        Their paths; None for a network that looks pruned: a leaf has zeros beside other weights, or is
        one weight alone.
    """
    found = []
    for path, leaf in jax.tree_util.tree_leaves_with_path(weights):
        zeros = int(jnp.sum(leaf == 0))
        if zeros == leaf.size > 1:
            found.append(jax.tree_util.keystr(path))
        elif zeros:
            return None
    return found
