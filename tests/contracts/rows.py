"""The contract table: how each public name is called, and what its result must satisfy.

A row's `run(key, params)` is one call of the member, for params in any container and dtype; its
`check(result, params)` says what must hold. What is particular to a member stands in its row.
"""

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.tree_util import DictKey

import pruning

from . import checks
from .containers import CONTAINERS, every_other


@dataclass(frozen=True, kw_only=True)
class Row:
    run: Callable[[jax.Array, Any], Any]
    check: Callable[[Any, Any], None]
    keyed: bool = False  # another key gives another result
    traced: bool = True  # may be called under jit and vmap
    grads: bool = False  # the result is float and differentiable in the params
    containers: tuple[str, ...] = tuple(CONTAINERS)
    dtypes: tuple[str, ...] = ("bfloat16", "float16", "float64")


# Searches take seconds to compile and are made of members that run in every container and dtype.
SLOW: dict[str, Any] = {"containers": ("nnx",), "dtypes": ("bfloat16",)}


def stacked(tree, k=3):
    """k networks, each twice as large as the one before."""
    return jax.tree.map(lambda leaf: jnp.stack([leaf * 2**i for i in range(k)]), tree)


def steps(tx, params, count=4):
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
    """Ones through A, the bias and a ReLU; the five units are a row of pixels that meets B."""
    leaves = {leaf.shape: leaf for leaf in jax.tree.leaves(params)}
    dense, bias, conv = leaves[4, 5], leaves[5,], leaves[2, 2, 1, 3]
    hidden = jax.nn.relu(jnp.ones((1, 4), dense.dtype) @ dense + bias[None])
    numbers = ("NHWC", "HWIO", "NHWC")
    return jax.lax.conv_general_dilated(
        hidden[:, None, :, None], conv, (1, 1), "SAME", dimension_numbers=numbers
    )


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


def without_first_units(params):
    return jax.tree.map(lambda mask: mask.at[..., 0].set(False), pruning.full_masks(params))


def without_convolution(params):
    return jax.tree.map(lambda mask: mask & (mask.ndim < 4), pruning.full_masks(params))


ROWS = {
    # Masks
    "full_masks": Row(run=lambda key, params: pruning.full_masks(params), check=checks.masks(0, 0)),
    "apply_masks": Row(
        run=lambda key, params: pruning.apply_masks(params, every_other(params)),
        check=checks.applied,
        grads=True,
    ),
    "check_masks": Row(
        run=lambda key, params: pruning.check_masks(every_other(params), params), check=checks.equal(None)
    ),
    "check_rankable": Row(
        run=lambda key, params: pruning.check_rankable(scores(params), every_other(params)),
        check=checks.equal(None),
    ),
    "intersect_masks": Row(
        run=lambda key, params: pruning.intersect_masks(every_other(params, 0), every_other(params, 1)),
        check=checks.masks(1, 1),
    ),
    "count_kept": Row(
        run=lambda key, params: pruning.count_kept(every_other(params)), check=checks.equal(16)
    ),
    "count_prunable": Row(
        run=lambda key, params: pruning.count_prunable(every_other(params)), check=checks.equal(32)
    ),
    "sparsity": Row(
        run=lambda key, params: pruning.sparsity(every_other(params)), check=checks.equal(0.5)
    ),
    "layer_report": Row(
        run=lambda key, params: pruning.layer_report(params, every_other(params)),
        check=checks.report,
        traced=False,
    ),
    "prunable": Row(
        run=lambda key, params: [pruning.prunable((), leaf) for leaf in jax.tree.leaves(params)],
        check=lambda result, params: checks.equal([leaf.ndim >= 2 for leaf in jax.tree.leaves(params)])(
            result, params
        ),
    ),
    "prunable_by_shape": Row(
        run=lambda key, params: [pruning.prunable_by_shape((), leaf) for leaf in jax.tree.leaves(params)],
        check=lambda result, params: checks.equal([leaf.ndim >= 2 for leaf in jax.tree.leaves(params)])(
            result, params
        ),
    ),
    "prunable_under": Row(
        run=lambda key, params: pruning.prunable_under("head")((DictKey("head"),), jnp.ones((2, 2))),
        check=checks.equal(True),
    ),
    "prunable_except": Row(
        run=lambda key, params: pruning.prunable_except("head")((DictKey("head"),), jnp.ones((2, 2))),
        check=checks.equal(False),
    ),
    "Axes": Row(run=lambda key, params: jnp.int32(pruning.Axes(2).stacked), check=checks.equal(2)),
    "flax_layout": Row(
        run=lambda key, params: pruning.flax_layout((), jnp.ones((2, 3))).outputs,
        check=checks.equal([-1]),
    ),
    "equinox_layout": Row(
        run=lambda key, params: pruning.equinox_layout((), jnp.ones((2, 3))).outputs,
        check=checks.equal([0]),
    ),
    "stacked_layout": Row(
        run=lambda key, params: pruning.stacked_layout()((), jnp.ones((4, 2, 3))).stacked,
        check=checks.equal(1),
    ),
    # Counting and allocations
    "pruned_count": Row(
        run=lambda key, params: jnp.asarray(pruning.pruned_count(0.7, 10)), check=checks.equal(7)
    ),
    "exponential_sparsities": Row(
        run=lambda key, params: jnp.asarray(pruning.exponential_sparsities(0.75, 2), jnp.float32),
        check=checks.equal([0.5, 0.75]),
    ),
    "uniform": Row(run=lambda key, params: pruning.uniform(params, 0.5), check=checks.sparsities(0.5)),
    "erdos_renyi": Row(
        run=lambda key, params: pruning.erdos_renyi(params, 0.5), check=checks.sparsities(0.5)
    ),
    "erdos_renyi_kernel": Row(
        run=lambda key, params: pruning.erdos_renyi_kernel(params, 0.5), check=checks.sparsities(0.5)
    ),
    "ideal_gas_quotas": Row(
        run=lambda key, params: pruning.ideal_gas_quotas(params, 0.5), check=checks.sparsities(0.5)
    ),
    "smart_ratios": Row(
        run=lambda key, params: pruning.smart_ratios(params, 0.5, layers=prunable_paths(params)),
        check=checks.sparsities(0.5),
        traced=False,
    ),
    "layer_sparsities": Row(
        run=lambda key, params: pruning.layer_sparsities(every_other(params)),
        check=checks.sparsities(0.5),
    ),
    # Continuous Sparsification
    "initial_gates": Row(
        run=lambda key, params: pruning.initial_gates(params, 0.5), check=checks.scores(None)
    ),
    "soft_masks": Row(
        run=lambda key, params: pruning.soft_masks(pruning.initial_gates(params, 0.5), 1.0, initial=0.5),
        check=checks.all_prunable(1),
    ),
    "apply_soft_masks": Row(
        run=lambda key, params: pruning.apply_soft_masks(
            params, pruning.soft_masks(pruning.initial_gates(params, 0.0), 200.0)
        ),
        check=checks.unchanged,
        grads=True,
    ),
    "gate_penalty": Row(
        run=lambda key, params: pruning.gate_penalty(pruning.initial_gates(params, 0.0), 3.0),
        check=checks.equal(32),
    ),
    "ticket_masks": Row(
        run=lambda key, params: pruning.ticket_masks(gates(params)), check=checks.masks(0.5, 0.5)
    ),
    "next_round": Row(
        run=lambda key, params: pruning.next_round(gates(params), 4.0, initial=-2.0),
        check=checks.all_prunable(-2),
    ),
    "next_round_as_released": Row(
        run=lambda key, params: pruning.next_round_as_released(gates(params), initial=-0.5),
        check=checks.all_prunable(-0.5),
    ),
    "temperature_schedule": Row(
        run=lambda key, params: jnp.float32(pruning.temperature_schedule(100.0, steps=3)(1)),
        check=checks.equal(10),
    ),
    "soft_masked_optimizer": Row(run=updates_together, check=checks.moved_together),
    "SoftMasked": Row(
        run=lambda key, params: pruning.SoftMasked(params, gates(params)),
        check=checks.record("params gates"),
    ),
    "sampled_masks": Row(
        run=lambda key, params: pruning.sampled_masks(key, pruning.initial_gates(params, 0.0)),
        check=checks.scores(None),
        keyed=True,
    ),
    "rescaled_masks": Row(
        run=lambda key, params: pruning.rescaled_masks(pruning.initial_gates(params, 0.25)),
        check=checks.all_prunable(1),
    ),
    # Lottery tickets and gradual pruning
    "prune_remaining": Row(
        run=lambda key, params: pruning.prune_remaining(scores(params), every_other(params), 0.5),
        check=checks.masks(None, 0.75),
    ),
    "prune_remaining_by_layer": Row(
        run=lambda key, params: pruning.prune_remaining_by_layer(
            scores(params), every_other(params), jax.tree.map(lambda mask: 0.5, every_other(params))
        ),
        check=checks.masks(0.75, None),
    ),
    "cubic_sparsities": Row(
        run=lambda key, params: jnp.asarray(pruning.cubic_sparsities(0.8, 2), jnp.float32),
        check=checks.equal([0.7, 0.8]),
    ),
    "gradual_magnitude": Row(
        run=pruned_by(lambda params: pruning.gradual_magnitude([0.25, 0.5], check_every=2)),
        check=checks.trained_to(0.5),
    ),
    "GradualMagnitudeState": Row(
        run=lambda key, params: pruning.gradual_magnitude([0.5], check_every=1).init(params),
        check=checks.record("count masks"),
    ),
    # Scores and selection
    "random_scores": Row(run=pruning.random_scores, check=checks.scores(jnp.float32), keyed=True),
    "magnitude_scores": Row(
        run=lambda key, params: pruning.magnitude_scores(params), check=checks.scores(None), grads=True
    ),
    "displacement_scores": Row(
        run=lambda key, params: pruning.displacement_scores(
            jax.tree.map(lambda p: p * 3, params), params
        ),
        check=checks.scores("wide"),
    ),
    "movement_scores": Row(
        run=lambda key, params: pruning.movement_scores(jax.tree.map(lambda p: p * 3, params), params),
        check=checks.scores(None),
    ),
    "magnitude_increase_scores": Row(
        run=lambda key, params: pruning.magnitude_increase_scores(
            jax.tree.map(lambda p: p * 3, params), params
        ),
        check=checks.scores(None),
    ),
    "snip_scores": Row(
        run=lambda key, params: pruning.snip_scores(loss, params, BATCHES), check=checks.scores(None)
    ),
    "force_scores": Row(
        run=lambda key, params: pruning.force_scores(
            loss, params, pruning.apply_masks(params, every_other(params)), BATCHES
        ),
        check=checks.scores(None),
    ),
    "grasp_scores": Row(
        run=lambda key, params: pruning.grasp_scores(loss, params, BATCHES), check=checks.scores(None)
    ),
    "grasp_absolute_scores": Row(
        run=lambda key, params: pruning.grasp_absolute_scores(loss, params, BATCHES),
        check=checks.scores(None),
    ),
    "synflow_scores": Row(
        run=lambda key, params: pruning.synflow_scores(output, params), check=checks.scores(None)
    ),
    "iterative_masks": Row(
        run=lambda key, params: pruning.iterative_masks(
            lambda masked: pruning.snip_scores(loss, masked, BATCHES), params, 0.7, rounds=3
        ),
        check=checks.masks(None, 0.7),
    ),
    # Ablations
    "shuffle_masks": Row(
        run=lambda key, params: pruning.shuffle_masks(key, every_other(params)),
        check=checks.masks(0.5, 0.5),
        keyed=True,
    ),
    "invert_scores": Row(
        run=lambda key, params: pruning.invert_scores(scores(params)), check=checks.scores(None)
    ),
    "reinitialise": Row(
        run=lambda key, params: (
            pruning.reinitialise(key, lambda key: redrawn(key, params), every_other(params)),
            every_other(params),
        ),
        check=checks.trained_to(0.5),
        keyed=True,
    ),
    "random_masks": Row(
        run=lambda key, params: pruning.random_masks(key, params, 0.3),
        check=checks.masks(0.3, 0.3),
        keyed=True,
    ),
    "global_masks": Row(
        run=lambda key, params: pruning.global_masks(scores(params), 0.7), check=checks.masks(None, 0.7)
    ),
    "layerwise_masks": Row(
        run=lambda key, params: pruning.layerwise_masks(scores(params), pruning.uniform(params, 0.7)),
        check=checks.masks(0.7, None),
    ),
    # K-starts
    "add_standardised": Row(
        run=lambda key, params: pruning.add_standardised(jnp.array([0.0, 1, 2]), jnp.array([4.0, 5, 6])),
        check=checks.fitness_of_known_parts,
    ),
    "candidate_masks": Row(
        run=lambda key, params: pruning.candidate_masks(key, params, k=3, sparsity=0.3),
        check=checks.masks(0.3, None, leading=3),
        keyed=True,
    ),
    "train_candidates": Row(
        run=lambda key, params: pruning.train_candidates(
            grow, params, pruning.candidate_masks(key, params, k=3, sparsity=0.5)
        ),
        check=checks.stacked_trees,
        keyed=True,
        **SLOW,
    ),
    "fittest": Row(
        run=lambda key, params: pruning.fittest(
            stacked(every_zeroed(params)), stacked_masks(params), jnp.array([1.0, 3.0, 2.0])
        ),
        check=checks.winner,
    ),
    "fittest_candidate": Row(
        run=lambda key, params: pruning.fittest_candidate(jnp.array([1.0, 3.0, 2.0])),
        check=lambda winner, params: None if winner == 1 else checks.fail(winner),
    ),
    "weight_fitness": Row(
        run=lambda key, params: pruning.weight_fitness(stacked(params), None, stacked_masks(params)),
        check=checks.fitness,
        grads=True,
    ),
    "gradient_fitness": Row(
        run=lambda key, params: pruning.gradient_fitness(None, stacked(params), stacked_masks(params)),
        check=checks.fitness,
        grads=True,
    ),
    "combined_fitness": Row(
        run=lambda key, params: pruning.combined_fitness(
            stacked(params), stacked(params), stacked_masks(params)
        ),
        check=checks.fitness,
        grads=True,
    ),
    "k_starts": Row(run=searched(pruning.k_starts), check=checks.winner, keyed=True, **SLOW),
    "successive_elimination": Row(
        run=searched(pruning.successive_elimination), check=checks.winner, keyed=True, **SLOW
    ),
    "evolve_masks": Row(
        run=searched(pruning.evolve_masks, generations=2), check=checks.winner, keyed=True, **SLOW
    ),
    "mutate_masks": Row(
        run=lambda key, params: pruning.mutate_masks(key, every_other(params), 0.5),
        check=checks.masks(0.5, 0.5),
        keyed=True,
    ),
    "crossover_masks": Row(
        run=lambda key, params: pruning.crossover_masks(
            key, every_other(params, 0), every_other(params, 1)
        ),
        check=checks.masks(0.5, 0.5),
        keyed=True,
    ),
    # Connectivity
    "effective_masks": Row(
        run=lambda key, params: pruning.effective_masks(network, params, every_other(params)),
        check=checks.effective,
    ),
    "collapsed_layers": Row(
        run=lambda key, params: pruning.collapsed_layers(without_convolution(params)),
        check=checks.convolution_alone,
        traced=False,
    ),
    "dead_units": Row(
        run=lambda key, params: pruning.dead_units(without_first_units(params)), check=checks.first_unit
    ),
    "network_report": Row(
        run=lambda key, params: pruning.network_report(network, params, every_other(params)),
        check=checks.network_rows,
        traced=False,
    ),
    # Optax transformations
    "dissipate": Row(
        run=pruned_by(lambda params: pruning.dissipate(0.3, check_every=2, stop_after=2)),
        check=checks.trained,
    ),
    "dissipate_settled": Row(
        run=pruned_by(lambda params: pruning.dissipate_settled(0.3, check_every=2, stop_after=2)),
        check=checks.trained,
    ),
    "dissipate_to": Row(
        run=pruned_by(lambda params: pruning.dissipate_to(np.array([0.25, 0.5]), check_every=2)),
        check=checks.trained_to(0.5),
    ),
    "hold_masks": Row(
        run=pruned_by(lambda params: pruning.hold_masks(every_other(params))),
        check=checks.trained_to(0.5),
    ),
    "hold_outside": Row(
        run=pruned_by(
            lambda params: pruning.hold_outside(
                optax.contrib.sam(
                    optax.chain(optax.sgd(0.25), pruning.hold_masks(every_other(params))), optax.sgd(-0.1)
                )
            )
        ),
        check=checks.trained_to(0.5),
    ),
    "accumulate_gradients": Row(run=sums_of(pruning.accumulate_gradients), check=checks.sums(3, np.abs)),
    "accumulate_signed_gradients": Row(
        run=sums_of(pruning.accumulate_signed_gradients), check=checks.sums(-3, np.asarray)
    ),
    "get_masks": Row(
        run=lambda key, params: pruning.get_masks(pruning.hold_masks(every_other(params)).init(params)),
        check=checks.masks(0.5, 0.5),
    ),
    "set_masks": Row(
        run=lambda key, params: pruning.get_masks(
            pruning.set_masks(
                pruning.hold_masks(pruning.full_masks(params)).init(params), every_other(params)
            )
        ),
        check=checks.masks(0.5, 0.5),
    ),
    # Files
    "save_masks": Row(
        run=through_a_file(lambda path, params: path.stat().st_size),
        check=lambda size, params: None if size < 2000 else checks.fail(size),
        traced=False,
    ),
    "load_masks": Row(
        run=through_a_file(lambda path, params: pruning.load_masks(path, like=params)),
        check=checks.masks(0.5, 0.5),
        traced=False,
    ),
    "load_metadata": Row(
        run=through_a_file(lambda path, params: pruning.load_metadata(path)),
        check=checks.equal({"method": "every other", "seed": 3}),
        traced=False,
    ),
    # Records: they are pytrees and survive jit and vmap
    "AccumulateGradientsState": Row(
        run=lambda key, params: pruning.AccumulateGradientsState(jnp.int32(0), params),
        check=checks.record("count gradient_sums"),
    ),
    "DissipateState": Row(
        run=lambda key, params: pruning.DissipateState(jnp.int32(0), params, every_other(params)),
        check=checks.record("count initial masks"),
    ),
    "HoldMasksState": Row(
        run=lambda key, params: pruning.HoldMasksState(every_other(params)), check=checks.record("masks")
    ),
    "KStarts": Row(
        run=lambda key, params: pruning.KStarts(every_other(params), params, jnp.int32(0), jnp.zeros(3)),
        check=checks.record("masks params winner fitness"),
    ),
    "LayerRow": Row(
        run=lambda key, params: pruning.LayerRow("['a']", (2, 2), 1, 4, 0.75),
        check=checks.record("path shape kept size sparsity"),
        traced=False,
    ),
    "NetworkRow": Row(
        run=lambda key, params: pruning.NetworkRow("['a']", (2, 2), 4, 2, 0.5, 1, 0.75, 8, 4),
        check=checks.record(
            "path shape size kept sparsity effective_kept effective_sparsity dense_flops sparse_flops"
        ),
        traced=False,
    ),
}


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
