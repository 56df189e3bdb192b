"""Rows whose results are compared before they are timed: does this machine compute right numbers?"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments.benchmarks.measuring import Row, agreement
from experiments.benchmarks.populations import make_network, training_flops
from experiments.benchmarks.sizes import LENET, Sizes
from experiments.engine.timing import alternating

LIMIT = 1e-3
"""Relative, in float32 at the highest precision: a ReLU whose sign rounding turns makes 3e-4."""


def matrix_vector_products(sizes: Sizes) -> Row:
    """Vmapped products of whole numbers that float32 holds (jax issue 39103), against NumPy."""
    del sizes  # The fault shows from 32,769 rows on.
    rows, matrix = np.zeros((32769, 3), np.float32), jnp.eye(3)
    rows[:, 0] = np.arange(32769)
    ours = _precise(jax.vmap(lambda row: jnp.sum((matrix @ row) ** 2)), jnp.asarray(rows))

    def theirs() -> np.ndarray:
        return np.sum((rows @ np.eye(3, dtype=np.float32)) ** 2, axis=1)

    facts = agreement(ours(), theirs())
    return Row(alternating(ours, theirs), "NumPy", "products", len(rows), facts=facts)


def gradients(sizes: Sizes, model_name: str) -> Row:
    """A network's loss and gradients on the accelerator, against those on the CPU."""
    network = make_network(model_name, sizes.shapes[model_name], sizes.batch)
    ours, theirs = (
        _precise(
            jax.value_and_grad(network.loss), *jax.device_put((network.params, network.images), device)
        )
        for device in (jax.devices()[0], jax.devices("cpu")[0])
    )
    facts = agreement(ours(), theirs(), at_most=LIMIT)
    flops = training_flops(model_name, sizes.shapes[model_name], sizes.batch)
    return Row(alternating(ours, theirs), "the CPU", "gradients", flops=flops, facts=facts)


def vmapped_gradients(sizes: Sizes) -> Row:
    """Gradients of LeNet-5s with different weights, vmapped against one by one."""
    network = make_network(LENET, sizes.shapes[LENET], sizes.batch)
    factors = jnp.linspace(0.5, 1.5, 4)

    def scaled(factor: jax.Array) -> Any:
        params = jax.tree.map(lambda leaf: factor * leaf, network.params)
        return jax.value_and_grad(network.loss)(params, network.images)

    ours = _precise(jax.vmap(scaled), factors)
    alone = [_precise(scaled, factor) for factor in factors]

    expected = jax.tree.map(lambda *leaves: np.stack(leaves), *(one() for one in alone))
    facts = agreement(ours(), expected, at_most=LIMIT)
    flops = training_flops(LENET, sizes.shapes[LENET], sizes.batch)
    pairs = alternating(ours, lambda: [one() for one in alone])
    return Row(pairs, "one by one", "gradients", 4, flops=flops, facts=facts)


def _precise(function: Callable[..., Any], *args: Any) -> Callable[[], Any]:
    """What computes the function at the highest precision, and waits for its result."""
    compiled = jax.jit(function)

    def work() -> Any:
        with jax.default_matmul_precision("highest"):
            return jax.block_until_ready(compiled(*args))

    return work
