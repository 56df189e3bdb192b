"""Rows of counting and allocations."""

import jax.numpy as jnp

import pruning
from tests.contracts import checks
from tests.contracts.calls import (
    prunable_paths,
)
from tests.contracts.containers import every_other
from tests.contracts.rows.row import Row

ROWS = {
    "pruned_count": Row(lambda _, p: jnp.asarray(pruning.pruned_count(0.7, 10)), checks.equal(7)),
    "exponential_sparsities": Row(
        lambda _, p: jnp.asarray(pruning.exponential_sparsities(0.75, 2), jnp.float32),
        checks.equal([0.5, 0.75]),
    ),
    "uniform": Row(lambda _, p: pruning.uniform(p, 0.5), checks.sparsities(0.5)),
    "erdos_renyi": Row(lambda _, p: pruning.erdos_renyi(p, 0.5), checks.sparsities(0.5)),
    "erdos_renyi_kernel": Row(lambda _, p: pruning.erdos_renyi_kernel(p, 0.5), checks.sparsities(0.5)),
    "ideal_gas_quotas": Row(lambda _, p: pruning.ideal_gas_quotas(p, 0.5), checks.sparsities(0.5)),
    "smart_ratios": Row(
        lambda _, p: pruning.smart_ratios(p, 0.5, layers=prunable_paths(p)),
        checks.sparsities(0.5),
        traced=False,
    ),
    "sparsity_of_rest": Row(
        lambda _, p: jnp.float32(
            pruning.sparsity_of_rest(p, 0.25, rest=lambda path, leaf: leaf.ndim == 2)
        ),
        checks.equal(0.4),  # 8 of the 20 of A, of 32
    ),
    "layer_sparsities": Row(
        lambda _, p: pruning.layer_sparsities(every_other(p)), checks.sparsities(0.5)
    ),
}
