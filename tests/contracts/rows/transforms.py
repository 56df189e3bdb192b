"""Rows of optax transformations, lottery tickets and gradual pruning."""

import jax
import jax.numpy as jnp
import numpy as np
import optax

import pruning
from tests.contracts import checks
from tests.contracts.calls import (
    dynamically,
    half_of_inputs,
    pruned_by,
    scores,
    sums_of,
)
from tests.contracts.containers import every_other
from tests.contracts.rows.row import Row

ROWS = {
    # Lottery tickets and gradual pruning
    "prune_remaining": Row(
        lambda _, p: pruning.prune_remaining(scores(p), every_other(p), 0.5), checks.masks(None, 0.75)
    ),
    "prune_remaining_by_layer": Row(
        lambda _, p: pruning.prune_remaining_by_layer(
            scores(p), every_other(p), jax.tree.map(lambda mask: 0.5, every_other(p))
        ),
        checks.masks(0.75, None),
    ),
    "cubic_sparsities": Row(
        lambda _, p: jnp.asarray(pruning.cubic_sparsities(0.8, 2), jnp.float32), checks.equal([0.7, 0.8])
    ),
    "gradual_magnitude": Row(
        pruned_by(lambda p: pruning.gradual_magnitude([0.25, 0.5], check_every=1)), checks.trained_to(0.5)
    ),
    "GradualMagnitudeState": Row(
        lambda _, p: pruning.gradual_magnitude([0.5], check_every=1).init(p), checks.record("count masks")
    ),
    # Optax transformations
    "dissipate": Row(
        pruned_by(lambda p: pruning.dissipate(0.3, check_every=2, stop_after=2)), checks.trained
    ),
    "dissipate_settled": Row(
        pruned_by(lambda p: pruning.dissipate_settled(0.3, check_every=2, stop_after=2)), checks.trained
    ),
    "dissipate_to": Row(
        lambda key, p: [
            pruned_by(
                lambda p, s=s: pruning.dissipate_to(np.array([0.25, 0.5]), check_every=1, select=s)
            )(key, p)
            for s in (None, pruning.constant_fan_in_masks)
        ],
        checks.each(checks.trained_to(0.5)),
        heavy=True,
    ),
    "hold_masks": Row(pruned_by(lambda p: pruning.hold_masks(every_other(p))), checks.trained_to(0.5)),
    "rigl": Row(
        dynamically(lambda *given, **knobs: pruning.rigl(*given[1:], **knobs)),
        checks.trained_to(0.5),
        heavy=True,
    ),
    "sparse_evolutionary": Row(
        dynamically(pruning.sparse_evolutionary), checks.trained_to(0.5), keyed=True, heavy=True
    ),
    "constant_fan_in_rigl": Row(
        dynamically(
            lambda *given, **knobs: pruning.constant_fan_in_rigl(*given[1:], **knobs), half_of_inputs
        ),
        checks.trained_to(0.5),
        heavy=True,
    ),
    "ConstantFanInState": Row(
        lambda _, p: pruning.constant_fan_in_rigl(
            optax.sgd(0.1), half_of_inputs(p), check_every=1, stop_after=1
        ).init(p),
        checks.record("count masks explored blind spare inner"),
        heavy=True,
    ),
    "n_m_rigl": Row(
        dynamically(
            lambda *given, **knobs: pruning.n_m_rigl(*given[1:], n=1, m=1, **knobs), pruning.full_masks
        ),
        checks.trained_to(0),
        heavy=True,
    ),
    "cosine_drop_fraction": Row(
        lambda _, p: jnp.float32(pruning.cosine_drop_fraction(0.5, 4)(2)), checks.equal(0.25)
    ),
    "DynamicSparseState": Row(
        lambda _, p: pruning.rigl(optax.sgd(0.1), every_other(p), check_every=1, stop_after=1).init(p),
        checks.record("count masks explored blind inner"),
    ),
    "hold_outside": Row(
        pruned_by(
            lambda p: pruning.hold_outside(
                optax.contrib.schedule_free(
                    optax.chain(optax.sgd(0.25), pruning.hold_masks(every_other(p))), 0.1
                )
            )
        ),
        checks.trained_to(0.5),
    ),
    "accumulate_gradients": Row(sums_of(pruning.accumulate_gradients), checks.sums(3, np.abs)),
    "accumulate_signed_gradients": Row(
        sums_of(pruning.accumulate_signed_gradients), checks.sums(-3, np.asarray)
    ),
    "get_masks": Row(
        lambda _, p: pruning.get_masks(pruning.hold_masks(every_other(p)).init(p)), checks.masks(0.5, 0.5)
    ),
    "set_masks": Row(
        lambda _, p: pruning.get_masks(
            pruning.set_masks(pruning.hold_masks(pruning.full_masks(p)).init(p), every_other(p))
        ),
        checks.masks(0.5, 0.5),
    ),
}
