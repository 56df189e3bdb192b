"""Rows of records, which are pytrees and survive jit and vmap."""

import jax.numpy as jnp

import pruning
from tests.contracts import checks
from tests.contracts.calls import (
    linear_output,
    scores,
)
from tests.contracts.containers import every_other
from tests.contracts.rows.row import Row

ROWS = {
    "AccumulateGradientsState": Row(
        lambda _, p: pruning.AccumulateGradientsState(jnp.int32(0), p),
        checks.record("count gradient_sums"),
    ),
    "DissipateState": Row(
        lambda _, p: pruning.DissipateState(jnp.int32(0), p, every_other(p)),
        checks.record("count initial masks"),
    ),
    "HoldMasksState": Row(lambda _, p: pruning.HoldMasksState(every_other(p)), checks.record("masks")),
    "NtkSapDraw": Row(
        lambda _, p: pruning.NtkSapDraw(p, jnp.ones(3), scores(p)),
        checks.record("params inputs perturbation"),
    ),
    "KStarts": Row(
        lambda _, p: pruning.KStarts(every_other(p), p, jnp.int32(0), jnp.zeros(3)),
        checks.record("masks params winner fitness"),
    ),
    "Compacted": Row(
        lambda _, p: pruning.Compacted(linear_output, p, every_other(p), None, None),
        checks.record("apply_fn variables masks report rewrite"),
        traced=False,
    ),
    "CompactionReport": Row(
        lambda _, p: pruning.CompactionReport((), ("a loop",)),
        checks.record("arrays left_whole"),
        traced=False,
    ),
    "CompactedArray": Row(
        lambda _, p: pruning.CompactedArray("['a']", (2,), (1,), (jnp.array([0]),), 2, 1),
        checks.record("path shape compacted_shape entries kept compacted_kept"),
        traced=False,
    ),
    "LayerRow": Row(
        lambda _, p: pruning.LayerRow("['a']", (2, 2), 1, 4, 0.75),
        checks.record("path shape kept size sparsity"),
        traced=False,
    ),
    "NetworkRow": Row(
        lambda _, p: pruning.NetworkRow("['a']", (2, 2), 4, 2, 0.5, 1, 0.75, 8, 4),
        checks.record(
            "path shape size kept sparsity effective_kept effective_sparsity dense_flops sparse_flops"
        ),
        traced=False,
    ),
}
