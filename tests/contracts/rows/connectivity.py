"""Rows of walks and connectivity."""

import jax.numpy as jnp

import pruning
from tests.contracts import checks
from tests.contracts.calls import (
    chain_of,
    kernels_of,
    linear_output,
    network,
    without_convolution,
    without_first_units,
)
from tests.contracts.containers import every_other
from tests.contracts.rows.row import Row

ROWS = {
    # Walks
    "path_probabilities": Row(
        lambda _, p: pruning.path_probabilities(kernels_of(p)),
        checks.probabilities(4 + 5 + 1 + 3),
        heavy=True,
    ),
    "path_weighted_masks": Row(
        lambda key, p: pruning.path_weighted_masks(key, chain_of(p), 0.5),
        lambda result, p: checks.masks(None, 0.5)(result, chain_of(p)),
        keyed=True,
        heavy=True,
    ),
    "phew_masks": Row(
        lambda key, p: pruning.phew_masks(key, network, p, 0.5),
        checks.masks(None, 0.5),
        keyed=True,
        heavy=True,
    ),
    "PathProbabilities": Row(
        lambda _, p: pruning.PathProbabilities(jnp.ones(2), jnp.ones(3), jnp.ones(4)),
        checks.record("forward backward position"),
    ),
    # Connectivity
    "effective_masks": Row(
        lambda _, p: pruning.effective_masks(network, p, every_other(p)), checks.effective
    ),
    "collapsed_layers": Row(
        lambda _, p: pruning.collapsed_layers(without_convolution(p)),
        checks.convolution_alone,
        traced=False,
    ),
    "dead_units": Row(lambda _, p: pruning.dead_units(without_first_units(p)), checks.first_unit),
    "compact": Row(
        lambda _, p: pruning.compact(linear_output, p, every_other(p), jnp.ones((1, 4))),
        checks.compacted(lambda p, images: linear_output(pruning.apply_masks(p, every_other(p)), images)),
        traced=False,
    ),
    "network_report": Row(
        lambda _, p: pruning.network_report(network, p, every_other(p)),
        checks.network_rows,
        traced=False,
    ),
}
