"""What the rows of the contract table call: small networks, losses, trees and steps of training."""

import tempfile
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax

import pruning

from .containers import every_other


def stacked(tree, k=3):
    """k networks, each twice as large as the one before."""
    return jax.tree.map(lambda leaf: jnp.stack([leaf * 2**i for i in range(k)]), tree)


def steps(tx, params, count=2):
    """Momentum SGD with `tx` at the end of the chain; the gradient is half the weight."""
    chain = optax.chain(optax.sgd(0.25, momentum=0.5), tx)
    state = chain.init(params)
    for _ in range(count):
        gradients = jax.tree.map(lambda p: (p / 2).astype(p.dtype), params)
        updates, state = chain.update(gradients, state, params)
        params = optax.apply_updates(params, updates)
    return params, state


def pruned_by(make):
    """A row's `run` for a transformation that ends a chain."""

    def run(key, params):
        trained, state = steps(make(params), params)
        return trained, pruning.get_masks(state)

    return run


def dynamically(make, first=every_other):
    """A row's `run` for a wrapper of an optimizer that moves masks: two checks in five steps.

    One program serves all steps: without it each compiles its two branches.
    """

    def run(key, params):
        params = pruning.apply_masks(params, first(params))
        knobs = {"check_every": 2, "stop_after": 4, "drop_fraction": 0.5}
        tx = make(key, optax.sgd(0.25, momentum=0.5), first(params), **knobs)
        state, update = tx.init(params), jax.jit(tx.update)
        for place in range(5):
            gradients = jax.tree.map(lambda p, n=place: jnp.ones_like(p) * (1 + n), params)
            updates, state = update(gradients, state, params)
            params = optax.apply_updates(params, updates)
        return params, pruning.get_masks(state)

    return run


def sums_of(make):
    def run(key, params):
        tx, total = make(), jax.tree.map(lambda p: -p, params)
        state = tx.init(params)
        for _ in range(3):
            updates, state = tx.update(total, state)
        return updates, optax.tree.get(state, "gradient_sums")

    return run


def grow(params, masks, epoch=0):
    """Training that enlarges the weights; the "gradient sums" are the params at the start."""
    return jax.tree.map(lambda p: p * 2, params), params


def searched(search, **knobs):
    def run(key, params):
        return search(key, params, grow, k=3, sparsity=0.5, fitness=pruning.weight_fitness, **knobs)

    return run


def through_a_file(read):
    def run(key, params):
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "masks.safetensors"
            pruning.save_masks(path, every_other(params), {"method": "every other", "seed": 3})
            return read(path, params)

    return run


def scores(params):
    return pruning.magnitude_scores(params)


def half_of_inputs(params):
    """Masks that keep half of the weights that lead into each unit."""
    return pruning.constant_fan_in_masks(scores(params), 0.5)


def loss(params, batch):
    """A mean loss whose gradient and Hessian are nowhere zero."""
    wide = [leaf.astype(np.promote_types(np.float32, leaf.dtype)) for leaf in jax.tree.leaves(params)]
    return jnp.mean(batch) * (sum(jnp.sum(leaf**3) for leaf in wide) + jnp.sum(wide[0]) ** 2)


BATCHES = [jnp.ones((3, 1)), jnp.full((1, 1), 2.0)]


def output(params):
    return sum(jnp.sum(leaf) for leaf in jax.tree.leaves(params)) ** 2


def prunable_paths(params):
    return [row.path for row in pruning.layer_report(params, pruning.full_masks(params))]


def network(params):
    return network_of(params, None, jax.nn.relu)


def network_of(params, inputs, activation):
    """Inputs (n, 4) through A, the bias and a ReLU; the five units are a row of pixels that meets B."""
    leaves = {leaf.shape: leaf for leaf in jax.tree.leaves(params)}
    dense, bias, conv = leaves[4, 5], leaves[5,], leaves[2, 2, 1, 3]
    inputs = jnp.ones((1, 4)) if inputs is None else inputs
    hidden = activation(inputs.astype(dense.dtype) @ dense + bias[None])
    numbers = ("NHWC", "HWIO", "NHWC")
    return jax.lax.conv_general_dilated(
        hidden[:, None, :, None], conv, (1, 1), "SAME", dimension_numbers=numbers
    )


def kernels_of(params):
    return [leaf for leaf in jax.tree.leaves(params) if leaf.ndim >= 2]


def chain_of(params):
    """A (4, 5), and then A again the other way round."""
    dense = next(leaf for leaf in jax.tree.leaves(params) if leaf.shape == (4, 5))
    return [dense, dense.T]


def linear_output(params, inputs):
    return network_of(params, inputs, jax.nn.relu)


def gates(params):
    """0.5 for every other weight, else -0.5."""
    return jax.tree.map(
        lambda mask, leaf: jnp.where(mask, 0.5, -0.5).astype(leaf.dtype),
        every_other(params),
        pruning.initial_gates(params, 0.0),
    )


def updates_together(key, params):
    """Of a gradient of 1 everywhere, at rates of 1 for weights and 2 for gates."""
    both = pruning.SoftMasked(params, gates(params))
    optimizer = pruning.soft_masked_optimizer(optax.sgd(1.0), optax.sgd(2.0))
    updates, _ = optimizer.update(jax.tree.map(jnp.ones_like, both), optimizer.init(both), both)
    return updates


def found_and_trained(key, params):
    """Two steps of a search with gates, a check in each, and two steps of training."""
    both = pruning.SoftMasked(params, scores(params))
    tx = pruning.rare_gems(optax.sgd(0.25, momentum=0.5), optax.sgd(0.25), [0.25, 0.5], check_every=1)
    state = tx.init(both)
    for _ in range(4):
        gradients = jax.tree.map(lambda p: (p / 2).astype(p.dtype), both)
        updates, state = tx.update(gradients, state, both)
        both = optax.apply_updates(both, updates)
    return both.params, pruning.get_masks(state)


def last_bred(key, params):
    """The child of two masks without a common weight."""
    both = jax.tree.map(lambda *leaves: jnp.stack(leaves), *(every_other(params, i) for i in (0, 1)))
    return jax.tree.map(lambda leaf: leaf[-1], pruning.breed_masks(key, both, jnp.arange(2.0)))


def without_first_units(params):
    return jax.tree.map(lambda mask: mask.at[..., 0].set(False), pruning.full_masks(params))


def without_convolution(params):
    return jax.tree.map(lambda mask: mask & (mask.ndim < 4), pruning.full_masks(params))


def redrawn(key, params):
    return jax.tree.map(lambda p: jax.random.uniform(key, p.shape, p.dtype, 1, 2), params)


def every_zeroed(params):
    """The params with every other prunable weight zero, made without the library."""
    masks = every_other(params)
    leaves = [leaf * 0 if leaf.ndim < 2 else leaf for leaf in jax.tree.leaves(params)]
    kept = iter(jax.tree.leaves(masks))
    zeroed = [leaf if leaf.ndim < 2 else jnp.where(next(kept), leaf, 0) for leaf in leaves]
    return jax.tree.unflatten(jax.tree.structure(params), zeroed)


def stacked_masks(params):
    return jax.tree.map(lambda mask: jnp.stack([mask] * 3), every_other(params))
