"""Rows of soft masks and what is straight through."""

import jax
import jax.numpy as jnp
import optax

import pruning
from tests.contracts import checks
from tests.contracts.calls import (
    found_and_trained,
    gates,
    scores,
    updates_together,
)
from tests.contracts.containers import every_other
from tests.contracts.rows.row import Row

ROWS = {
    # Continuous Sparsification
    "initial_gates": Row(lambda _, p: pruning.initial_gates(p, 0.5), checks.scores(None)),
    "soft_masks": Row(
        lambda _, p: pruning.soft_masks(pruning.initial_gates(p, 0.5), 1.0, initial=0.5),
        checks.all_prunable(1),
        promotes=True,
    ),
    "apply_soft_masks": Row(
        lambda _, p: pruning.apply_soft_masks(
            p, pruning.soft_masks(pruning.initial_gates(p, 0.0), 200.0)
        ),
        checks.unchanged,
        grads=True,
        promotes=True,
    ),
    "gate_penalty": Row(
        lambda _, p: pruning.gate_penalty(pruning.initial_gates(p, 0.0), 3.0),
        checks.equal(32),
        promotes=True,
    ),
    "ticket_masks": Row(lambda _, p: pruning.ticket_masks(gates(p)), checks.masks(0.5, 0.5)),
    "next_round": Row(
        lambda _, p: pruning.next_round(gates(p), 4.0, initial=-2.0),
        checks.all_prunable(-2),
        promotes=True,
    ),
    "next_round_as_released": Row(
        lambda _, p: pruning.next_round_as_released(gates(p), initial=-0.5),
        checks.all_prunable(-0.5),
        promotes=True,
    ),
    "temperature_schedule": Row(
        lambda _, p: jnp.float32(pruning.temperature_schedule(100.0, steps=3)(1)), checks.equal(10)
    ),
    "soft_masked_optimizer": Row(updates_together, checks.moved_together),
    "SoftMasked": Row(lambda _, p: pruning.SoftMasked(p, gates(p)), checks.record("params gates")),
    "sampled_masks": Row(
        lambda key, p: pruning.sampled_masks(key, pruning.initial_gates(p, 0.0)),
        checks.scores(None),
        keyed=True,
        promotes=True,
    ),
    "rescaled_masks": Row(
        lambda _, p: pruning.rescaled_masks(pruning.initial_gates(p, 0.25)),
        checks.all_prunable(1),
        promotes=True,
    ),
    # Straight through
    "straight_through": Row(
        lambda _, p: pruning.straight_through(p, every_other(p)), checks.applied, grads=True
    ),
    "edge_popup": Row(
        lambda _, p: (
            pruning.edge_popup(p, scores(p), 0.5),
            pruning.layerwise_masks(scores(p), pruning.uniform(p, 0.5)),
        ),
        checks.trained_to(0.5),
    ),
    "rounded_gates": Row(
        lambda _, p: pruning.rounded_gates(p, jax.tree.map(jnp.ones_like, gates(p)), every_other(p)),
        checks.applied,
    ),
    "rare_gems": Row(found_and_trained, checks.trained_to(0.5), heavy=True),
    "RareGemsState": Row(
        lambda _, p: pruning.rare_gems(optax.sgd(0.1), optax.sgd(0.1), [0.5], check_every=1).init(
            pruning.SoftMasked(p, gates(p))
        ),
        checks.record("count masks params gates"),
    ),
    "decay_pruned": Row(
        lambda _, p: pruning.decay_pruned(0.5, every_other).update(p, optax.EmptyState(), p)[0],
        lambda result, p: checks.like(result, p),
    ),
}
