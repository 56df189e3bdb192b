"""Rows of masks and their trees, and ablations of them."""

import jax
import jax.numpy as jnp
from jax.tree_util import DictKey

import pruning
from tests.contracts import checks
from tests.contracts.calls import (
    network,
    redrawn,
    scores,
)
from tests.contracts.containers import every_other
from tests.contracts.rows.row import Row

ROWS = {
    # Masks
    "full_masks": Row(lambda _, p: pruning.full_masks(p), checks.masks(0, 0)),
    "apply_masks": Row(lambda _, p: pruning.apply_masks(p, every_other(p)), checks.applied, grads=True),
    "check_masks": Row(lambda _, p: pruning.check_masks(every_other(p), p), checks.equal(None)),
    "check_rankable": Row(
        lambda _, p: pruning.check_rankable(scores(p), every_other(p)), checks.equal(None)
    ),
    "intersect_masks": Row(
        lambda _, p: pruning.intersect_masks(every_other(p, 0), every_other(p, 1)), checks.masks(1, 1)
    ),
    "count_kept": Row(lambda _, p: pruning.count_kept(every_other(p)), checks.equal(16)),
    "count_prunable": Row(lambda _, p: pruning.count_prunable(every_other(p)), checks.equal(32)),
    "sparsity": Row(lambda _, p: pruning.sparsity(every_other(p)), checks.equal(0.5)),
    "layer_report": Row(
        lambda _, p: pruning.layer_report(p, every_other(p)), checks.report, traced=False
    ),
    "prunable": Row(
        lambda _, p: [pruning.prunable((), leaf) for leaf in jax.tree.leaves(p)],
        lambda result, p: checks.equal([leaf.ndim >= 2 for leaf in jax.tree.leaves(p)])(result, p),
    ),
    "prunable_by_shape": Row(
        lambda _, p: [pruning.prunable_by_shape((), leaf) for leaf in jax.tree.leaves(p)],
        lambda result, p: checks.equal([leaf.ndim >= 2 for leaf in jax.tree.leaves(p)])(result, p),
    ),
    "prunable_under": Row(
        lambda _, p: pruning.prunable_under("head")((DictKey("head"),), jnp.ones((2, 2))),
        checks.equal(True),
    ),
    "prunable_except": Row(
        lambda _, p: pruning.prunable_except("head")((DictKey("head"),), jnp.ones((2, 2))),
        checks.equal(False),
    ),
    "Axes": Row(lambda _, p: jnp.int32(pruning.Axes(2).stacked), checks.equal(2)),
    "flax_layout": Row(
        lambda _, p: pruning.flax_layout((), jnp.ones((2, 3))).outputs, checks.equal([-1])
    ),
    "equinox_layout": Row(
        lambda _, p: pruning.equinox_layout((), jnp.ones((2, 3))).outputs, checks.equal([0])
    ),
    "stacked_layout": Row(
        lambda _, p: pruning.stacked_layout()((), jnp.ones((4, 2, 3))).stacked, checks.equal(1)
    ),
    "network_layout": Row(
        lambda _, p: pruning.constant_fan_in_masks(
            scores(p), 0.5, layout=pruning.network_layout(network, p)
        ),
        checks.masks(0.5, 0.5),
        heavy=True,
    ),
    # Ablations
    "shuffle_masks": Row(
        lambda key, p: pruning.shuffle_masks(key, every_other(p)), checks.masks(0.5, 0.5), keyed=True
    ),
    "invert_scores": Row(lambda _, p: pruning.invert_scores(scores(p)), checks.scores(None)),
    "reinitialise": Row(
        lambda key, p: (
            pruning.reinitialise(key, lambda key: redrawn(key, p), every_other(p)),
            every_other(p),
        ),
        checks.trained_to(0.5),
        keyed=True,
    ),
    "sparse_kaiming_normal": Row(
        lambda key, p: (pruning.sparse_kaiming_normal(key, p, every_other(p)), every_other(p)),
        checks.trained_to(0.5),
        keyed=True,
        heavy=True,
    ),
    "random_masks": Row(
        lambda key, p: pruning.random_masks(key, p, 0.3), checks.masks(0.3, 0.3), keyed=True
    ),
    "global_masks": Row(lambda _, p: pruning.global_masks(scores(p), 0.7), checks.masks(None, 0.7)),
    "layerwise_masks": Row(
        lambda _, p: pruning.layerwise_masks(scores(p), pruning.uniform(p, 0.7)), checks.masks(0.7, None)
    ),
    "n_m_masks": Row(lambda _, p: pruning.n_m_masks(scores(p), 1, 1), checks.masks(0, 0)),
    "constant_fan_in_masks": Row(
        lambda _, p: pruning.constant_fan_in_masks(scores(p), 0.5), checks.masks(0.5, 0.5)
    ),
    "channel_masks": Row(
        lambda _, p: pruning.channel_masks(scores(p), 0.0), checks.masks(0, 0), heavy=True
    ),
    "block_masks": Row(
        lambda _, p: pruning.block_masks(scores(p), 0.5, block=(1, 1)),
        checks.masks(0.5, None),
        heavy=True,
    ),
}
