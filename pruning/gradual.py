"""Gradual magnitude pruning: the smallest weights go while training, on a schedule of sparsities.

The standard method "during training". Like dissipating gradients it is the last member of an optax
chain, judges the weights after that step's update, and holds what it removed at exactly zero.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from pruning.conditions import compute_where
from pruning.counting import check_rising, check_steps, pruned_count
from pruning.leaves import Prunable, PyTree
from pruning.leaves import prunable as default_prunable
from pruning.masks import count_prunable, full_masks, map_masks
from pruning.selection import keep_highest
from pruning.transforms import (
    is_placeholder,
    own_masks,
    require_params,
    without_hidden,
    zero_pruned,
)


class GradualMagnitudeState(NamedTuple):
    """State of gradual magnitude pruning.

    Attributes:
        count: Steps seen, an int32 scalar.
        masks: What is kept.
    """

    count: jax.Array
    masks: PyTree


def gradual_magnitude(
    sparsities: Sequence[float] | np.ndarray | jax.Array,
    *,
    check_every: int,
    start_after: int = 0,
    allocation: Callable[..., PyTree] | None = None,
    masks: PyTree = None,
    prunable: Prunable | None = None,
) -> optax.GradientTransformationExtraArgs:
    r"""Removes the weights of the smallest magnitude, up to a given sparsity at each check.

    At step ``start_after + i * check_every``, after its update, the weights of the smallest
    :math:`|w_t|` are removed until the sparsity is exactly ``sparsities[i - 1]``; ties are kept by the
    lower index. What is removed stays so.

    Args:
        sparsities: Sparsity after each check, non-decreasing, in [0, 1), shape (checks,); may be
            traced. ``cubic_sparsities`` makes the usual ones.
        check_every: Steps between checks, >= 1.
        start_after: Steps before the first interval begins, >= 0.
        allocation: ``allocation(params, sparsity, prunable=...)`` gives each layer its sparsity
            (``pruning.uniform`` is Zhu and Gupta's); None ranks all weights of the network together.
        masks: Where to begin; its removed weights count. None for the dense network.
        prunable: ``prunable(path, leaf)``; None for ``pruning.prunable``.

    Returns:
        A transformation for the end of a chain. It needs ``params`` in ``update``; read the masks
        with ``pruning.get_masks``.

    Raises:
        ValueError: If the sparsities are empty, out of range or decreasing, check_every < 1 or
            start_after < 0; from ``init`` if nothing is prunable or the masks do not fit; from
            ``update`` without params, or where an allocation needs a concrete sparsity.

    Source: Zhu and Gupta 2017 (arXiv 1710.01878), whose layers all have the same sparsity.

    >>> params = {"w": jnp.array([[3.0, 1.0, 2.0, 4.0]])}
    >>> tx = optax.chain(optax.sgd(1.0), gradual_magnitude([0.25, 0.5], check_every=1))
    >>> state = tx.init(params)
    >>> updates, state = tx.update({"w": jnp.zeros((1, 4))}, state, params)
    >>> optax.apply_updates(params, updates)["w"]
    Array([[3., 0., 2., 4.]], dtype=float32)
    """
    check_rising(sparsities)
    check_steps(check_every=(check_every, 1), start_after=(start_after, 0))
    checks = len(sparsities)
    chosen = default_prunable if prunable is None else prunable

    def prune(check: jax.Array, masks: PyTree, params: PyTree, weights: PyTree) -> PyTree:
        scores = map_masks(lambda _, weight: jnp.abs(weight), masks, weights)
        if allocation is None:
            counts = _counts(sparsities, count_prunable(masks))
            return keep_highest(scores, counts[check], masks=masks)
        by_check = [allocation(params, sparsity, prunable=chosen) for sparsity in sparsities]

        def keep(mask: jax.Array, score: jax.Array, *layer: Any) -> jax.Array:
            return keep_highest(score, _counts(layer, mask.size)[check], masks=mask)

        return map_masks(keep, masks, scores, *by_check)

    def init_fn(params: PyTree) -> GradualMagnitudeState:
        count = jnp.zeros([], jnp.int32)
        if is_placeholder(params):
            return GradualMagnitudeState(count, params)
        params = without_hidden(params)
        start = full_masks(params, prunable=chosen) if masks is None else own_masks(masks, params)
        return GradualMagnitudeState(count, start)

    def update_fn(updates, state, params=None, **extra_args):
        del extra_args
        require_params(params, "gradual_magnitude")
        count = jnp.asarray(optax.safe_increment(state.count))
        since = count - start_after
        is_check = (since > 0) & (since % check_every == 0) & (since <= checks * check_every)

        def pruned() -> PyTree:
            weights = map_masks(
                lambda _, weight, update: (weight + update).astype(weight.dtype),
                state.masks,
                params,
                updates,
            )
            return prune(since // check_every - 1, state.masks, without_hidden(params), weights)

        kept = compute_where(is_check, pruned, state.masks)
        return zero_pruned(updates, params, kept), GradualMagnitudeState(count, kept)

    return optax.GradientTransformationExtraArgs(init_fn, update_fn)


def _counts(sparsities: Any, size: int) -> jax.Array:
    return jnp.stack([jnp.asarray(pruned_count(sparsity, size)) for sparsity in sparsities])
