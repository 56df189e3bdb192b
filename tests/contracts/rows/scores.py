"""Rows of scores and rounds of selection."""

import jax
import jax.numpy as jnp

import pruning
from tests.contracts import checks
from tests.contracts.calls import (
    BATCHES,
    linear_output,
    loss,
    network_of,
    output,
    scores,
)
from tests.contracts.containers import every_other
from tests.contracts.rows.row import Row

ROWS = {
    "random_scores": Row(pruning.random_scores, checks.scores(jnp.float32), keyed=True),
    "magnitude_scores": Row(lambda _, p: pruning.magnitude_scores(p), checks.scores(None), grads=True),
    "displacement_scores": Row(
        lambda _, p: pruning.displacement_scores(jax.tree.map(lambda p: p * 3, p), p),
        checks.scores("wide"),
    ),
    "movement_scores": Row(
        lambda _, p: pruning.movement_scores(jax.tree.map(lambda p: p * 3, p), p), checks.scores(None)
    ),
    "magnitude_increase_scores": Row(
        lambda _, p: pruning.magnitude_increase_scores(jax.tree.map(lambda p: p * 3, p), p),
        checks.scores(None),
    ),
    "snip_scores": Row(lambda _, p: pruning.snip_scores(loss, p, BATCHES), checks.scores(None)),
    "force_scores": Row(
        lambda _, p: pruning.force_scores(loss, p, pruning.apply_masks(p, every_other(p)), BATCHES),
        checks.scores(None),
    ),
    "grasp_scores": Row(lambda _, p: pruning.grasp_scores(loss, p, BATCHES), checks.scores(None)),
    "grasp_absolute_scores": Row(
        lambda _, p: pruning.grasp_absolute_scores(loss, p, BATCHES), checks.scores(None)
    ),
    "prospr_scores": Row(
        lambda _, p: pruning.prospr_scores(loss, p, BATCHES, learning_rate=2**-7), checks.scores("wide")
    ),
    "prospr_first_order_scores": Row(
        lambda _, p: pruning.prospr_first_order_scores(loss, p, BATCHES, learning_rate=2**-7),
        checks.scores("wide"),
    ),
    "ntk_sap_scores": Row(
        lambda key, p: pruning.ntk_sap_scores(
            key, lambda _: p, linear_output, jnp.ones((2, 4)), every_other(p), draws=2, noise=0.5
        ),
        checks.scores("wide"),
        keyed=True,
        heavy=True,
    ),
    "ntk_sap_draws": Row(
        lambda _, p: pruning.ntk_sap_draws(
            linear_output, [(p, jnp.ones((2, 4)), scores(p))], every_other(p), 0.5
        ),
        checks.scores("wide"),
        heavy=True,
    ),
    "path_exclusion_scores": Row(
        lambda _, p: pruning.path_exclusion_scores(network_of, p, [jnp.ones((2, 4))]),
        checks.scores(None),
    ),
    "synflow_l2_scores": Row(lambda _, p: pruning.synflow_l2_scores(output, p), checks.scores(None)),
    "layer_adaptive_magnitude_scores": Row(
        lambda _, p: pruning.layer_adaptive_magnitude_scores(p), checks.scores("wide")
    ),
    "fisher_diagonal": Row(
        lambda _, p: pruning.fisher_diagonal(loss, p, jnp.ones((3,))), checks.scores("wide")
    ),
    "hutchinson_diagonal": Row(
        lambda key, p: pruning.hutchinson_diagonal(key, loss, p, jnp.ones((3,)), probes=2),
        checks.scores("wide"),
        keyed=True,
        heavy=True,
    ),
    "curvature_scores": Row(lambda _, p: pruning.curvature_scores(p, scores(p)), checks.scores("wide")),
    "taylor_scores": Row(
        lambda _, p: pruning.taylor_scores(p, scores(p), scores(p)), checks.scores("wide")
    ),
    "synflow_scores": Row(lambda _, p: pruning.synflow_scores(output, p), checks.scores(None)),
    "iterative_masks": Row(
        lambda _, p: pruning.iterative_masks(
            lambda masked: pruning.snip_scores(loss, masked, BATCHES), p, 0.7, rounds=3
        ),
        checks.masks(None, 0.7),
    ),
}
