"""Rows of records, which are pytrees and survive jit and vmap."""

import jax.numpy as jnp

import pruning
from tests.contracts import checks
from tests.contracts.calls import (
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
