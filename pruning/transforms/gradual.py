"""Gradual magnitude pruning: the smallest weights go while training, on a schedule of sparsities.

The standard method "during training". Like dissipating gradients it is the last member of an optax
chain, judges the weights after that step's update, and holds what it removed at exactly zero.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from pruning.masks.apportioning import apportioned, quotas
from pruning.masks.counting import check_rising, check_sparsity, check_steps, pruned_count
from pruning.masks.reading import as_bool, fit_masks
from pruning.masks.selection import check_by_layer, keep_highest
from pruning.masks.tree import count_prunable, map_masks
from pruning.transforms.conditions import compute_where
from pruning.transforms.states import first_masks, is_placeholder, without_hidden
from pruning.transforms.updates import after_update, require_params, zero_pruned
from pruning.trees.layout import over_layers
from pruning.trees.leaves import Prunable, PyTree, is_traced
from pruning.trees.placement import zero_count
from pruning.trees.precision import check_precise


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
    lower index. What is removed stays so. With an allocation too the network loses exactly
    :math:`\lfloor s n + 10^{-6} \rfloor` weights: each layer its share rounded down, and those of the
    largest remainders one more, as far as that empties no layer. (``random_masks`` and
    ``layerwise_masks`` round down in every layer.)

    Args:
        sparsities: Sparsity after each check, non-decreasing, in [0, 1), shape (checks,); may be
            traced. ``cubic_sparsities`` makes the usual ones.
        check_every: Steps between checks, >= 1.
        start_after: Steps before the first interval begins, >= 0.
        allocation: ``allocation(params, sparsity, prunable=...)`` gives each layer its sparsity
            (``pruning.uniform`` is Zhu and Gupta's); None ranks all weights of the network together.
            It gives one for each leaf that has a mask, or an array of them for its stacked layers. One
            whose sparsities do not add up to that of the network, by more than rounding, is
            followed layer by layer, rounded down.
        masks: Where to begin; its removed weights count, and the leaves without a mask are not pruned.
            None for the dense network.
        prunable: ``prunable(path, leaf)``, where masks are None; None for ``pruning.prunable``.

    Returns:
        A transformation for the end of a chain. It needs ``params`` in ``update``; read the masks
        with ``pruning.get_masks``.

    Raises:
        ValueError: If the sparsities are empty, out of range, decreasing or shorter than float32
            (``optax.inject_hyperparams`` casts arrays to the params' dtype; a list it leaves alone;
            functions need ``static_args=("allocation", "prunable")`` there), check_every < 1 or
            start_after < 0; from ``init`` if nothing is prunable or the masks do not fit; from
            ``update`` without params, or where an allocation needs a concrete sparsity, or gives what
            does not fit the masks.

    Source: Zhu and Gupta 2017 (arXiv 1710.01878), whose layers all have the same sparsity.

    >>> params = {"w": jnp.array([[3.0, 1.0, 2.0, 4.0]])}
    >>> tx = optax.chain(optax.sgd(1.0), gradual_magnitude([0.25, 0.5], check_every=1))
    >>> state = tx.init(params)
    >>> updates, state = tx.update({"w": jnp.zeros((1, 4))}, state, params)
    >>> optax.apply_updates(params, updates)["w"]
    Array([[3., 0., 2., 4.]], dtype=float32)
    """
    check_precise(sparsities=sparsities)
    check_rising(sparsities)
    check_steps(check_every=(check_every, 1), start_after=(start_after, 0))
    checks = len(sparsities)
    steps = checks * check_every
    check_steps(**{"start_after + len(sparsities) * check_every": (start_after + steps, 1)})
    if not isinstance(sparsities, list | tuple) and not is_traced(sparsities):
        sparsities = np.asarray(sparsities)  # Inside the check's branch a jax.Array's items were traced.

    def prune(check: jax.Array, masks: PyTree, params: PyTree, weights: PyTree) -> PyTree:
        scores = map_masks(lambda _, weight: jnp.abs(weight), masks, weights)
        if allocation is None:
            size = count_prunable(masks)
            counts = jnp.stack([jnp.asarray(pruned_count(s, size)) for s in sparsities])
            return keep_highest(scores, counts[check], masks=masks)
        covered = {path for path, _ in jax.tree_util.tree_leaves_with_path(masks)}
        by_check = [
            _allocated(allocation(params, s, prunable=lambda path, _: path in covered), masks)
            for s in sparsities
        ]
        # Where the allocation gives a leaf several sparsities, its leading axes are layers.
        stacks = [np.shape(of_leaf) for of_leaf in by_check[0]]
        leaves, structure = jax.tree.flatten(masks)
        layers = [
            leaf[place]
            for leaf, stacked in zip(leaves, stacks, strict=True)
            for place in np.ndindex(stacked)
        ]
        sizes = [layer.size for layer in layers]
        asked = [
            quotas(s, [part for of_leaf in found for part in _flat(of_leaf)], sizes)
            for s, found in zip(sparsities, by_check, strict=True)
        ]
        removed = jnp.stack([jnp.sum(~layer, dtype=jnp.int32) for layer in layers])
        now = jax.tree.map(lambda *checks: jnp.stack(checks)[check], *asked)
        ends = np.cumsum([math.prod(stacked) for stacked in stacks])[:-1]
        counts = jnp.split(apportioned(now, sizes, removed), ends)
        return structure.unflatten(
            [
                over_layers(_keep_largest, stacked)(mask, score, of_leaf.reshape(stacked))
                for mask, score, of_leaf, stacked in zip(
                    leaves, jax.tree.leaves(scores), counts, stacks, strict=True
                )
            ]
        )

    def init_fn(params: PyTree) -> GradualMagnitudeState:
        count = zero_count(params)
        if is_placeholder(params):
            return GradualMagnitudeState(count, params)
        return GradualMagnitudeState(count, first_masks(masks, params, prunable))

    def update_fn(updates, state, params=None, **extra_args):
        del extra_args
        require_params(params, "gradual_magnitude")
        count = jnp.asarray(optax.safe_increment(state.count))
        since = count - start_after
        is_check = (since > 0) & (since % check_every == 0) & (since <= steps)

        before = as_bool(state.masks)

        def pruned() -> PyTree:
            weights = after_update(params, updates, before)
            return prune(since // check_every - 1, before, without_hidden(params), weights)

        kept = compute_where(is_check, pruned, before)
        return zero_pruned(updates, params, kept), GradualMagnitudeState(count, kept)

    return optax.GradientTransformationExtraArgs(init_fn, update_fn)


def _allocated(sparsities: PyTree, masks: PyTree) -> list[Any]:
    """What an allocation gives each leaf of the masks, if it fits."""
    sparsities = fit_masks(sparsities, masks)
    check_by_layer(sparsities, masks, "sparsity")
    for path, of_leaf in jax.tree_util.tree_leaves_with_path(sparsities):
        for sparsity in _flat(of_leaf):
            check_sparsity(sparsity, f"the sparsity of {jax.tree_util.keystr(path)}")
    return jax.tree.leaves(sparsities)


def _flat(sparsities: Any) -> list[Any]:
    """The sparsities of one leaf's layers."""
    return [sparsities] if np.ndim(sparsities) == 0 else list(sparsities.ravel())


def _keep_largest(mask: jax.Array, score: jax.Array, pruned: jax.Array) -> jax.Array:
    return keep_highest(score, pruned, masks=mask)
