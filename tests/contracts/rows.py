"""The contract table: how each public name is called, and what its result must satisfy.

A row's `run(key, params)` is one call of the member, for params in any container and dtype; its
`check(result, params)` says what must hold. What is particular to a member stands in its row.
"""

from collections.abc import Callable
from dataclasses import KW_ONLY, dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.tree_util import DictKey

import pruning

from . import checks
from .calls import (
    BATCHES,
    chain_of,
    dynamically,
    every_zeroed,
    found_and_trained,
    gates,
    grow,
    half_of_inputs,
    kernels_of,
    last_bred,
    linear_output,
    loss,
    network,
    network_of,
    output,
    prunable_paths,
    pruned_by,
    redrawn,
    scores,
    searched,
    stacked,
    stacked_masks,
    sums_of,
    through_a_file,
    updates_together,
    without_convolution,
    without_first_units,
)
from .containers import every_other


@dataclass(frozen=True)
class Row:
    run: Callable[[jax.Array, Any], Any]
    check: Callable[[Any, Any], None]
    _: KW_ONLY
    keyed: bool = False  # another key gives another result
    traced: bool = True  # may be called under jit and vmap
    grads: bool = False  # the result is float and differentiable in the params
    promotes: bool = False  # in half precision it needs JAX's implicit promotion of dtypes
    composed: bool = False  # made of members that run in every container and dtype: compiled alone
    heavy: bool = False  # takes seconds: under jit and vmap only where slow tests run


ROWS = {
    # Masks
    "full_masks": Row(lambda _, p: pruning.full_masks(p), checks.masks(0, 0)),
    "apply_masks": Row(lambda _, p: pruning.apply_masks(p, every_other(p)), checks.applied, grads=True),
    "check_masks": Row(lambda _, p: pruning.check_masks(every_other(p), p), checks.equal(None)),
    "check_rankable": Row(
        lambda _, p: pruning.check_rankable(scores(p), every_other(p)), checks.equal(None)
    ),
    "intersect_masks": Row(
        lambda _, p: pruning.intersect_masks(every_other(p, 0), every_other(p, 1)), checks.masks(1, 1)
    ),
    "count_kept": Row(lambda _, p: pruning.count_kept(every_other(p)), checks.equal(16)),
    "count_prunable": Row(lambda _, p: pruning.count_prunable(every_other(p)), checks.equal(32)),
    "sparsity": Row(lambda _, p: pruning.sparsity(every_other(p)), checks.equal(0.5)),
    "layer_report": Row(
        lambda _, p: pruning.layer_report(p, every_other(p)), checks.report, traced=False
    ),
    "prunable": Row(
        lambda _, p: [pruning.prunable((), leaf) for leaf in jax.tree.leaves(p)],
        lambda result, p: checks.equal([leaf.ndim >= 2 for leaf in jax.tree.leaves(p)])(result, p),
    ),
    "prunable_by_shape": Row(
        lambda _, p: [pruning.prunable_by_shape((), leaf) for leaf in jax.tree.leaves(p)],
        lambda result, p: checks.equal([leaf.ndim >= 2 for leaf in jax.tree.leaves(p)])(result, p),
    ),
    "prunable_under": Row(
        lambda _, p: pruning.prunable_under("head")((DictKey("head"),), jnp.ones((2, 2))),
        checks.equal(True),
    ),
    "prunable_except": Row(
        lambda _, p: pruning.prunable_except("head")((DictKey("head"),), jnp.ones((2, 2))),
        checks.equal(False),
    ),
    "Axes": Row(lambda _, p: jnp.int32(pruning.Axes(2).stacked), checks.equal(2)),
    "flax_layout": Row(
        lambda _, p: pruning.flax_layout((), jnp.ones((2, 3))).outputs, checks.equal([-1])
    ),
    "equinox_layout": Row(
        lambda _, p: pruning.equinox_layout((), jnp.ones((2, 3))).outputs, checks.equal([0])
    ),
    "stacked_layout": Row(
        lambda _, p: pruning.stacked_layout()((), jnp.ones((4, 2, 3))).stacked, checks.equal(1)
    ),
    "network_layout": Row(
        lambda _, p: pruning.constant_fan_in_masks(
            scores(p), 0.5, layout=pruning.network_layout(network, p)
        ),
        checks.masks(0.5, 0.5),
        heavy=True,
    ),
    # Counting and allocations
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
    # Scores and selection
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
        lambda _, p: pruning.prospr_scores(loss, p, BATCHES, learning_rate=2**-7), checks.scores(None)
    ),
    "prospr_first_order_scores": Row(
        lambda _, p: pruning.prospr_first_order_scores(loss, p, BATCHES, learning_rate=2**-7),
        checks.scores(None),
    ),
    "ntk_sap_scores": Row(
        lambda key, p: pruning.ntk_sap_scores(
            key, lambda _: p, linear_output, jnp.ones((2, 4)), every_other(p), draws=2, noise=0.5
        ),
        checks.scores("wide"),
        keyed=True,
    ),
    "ntk_sap_draws": Row(
        lambda _, p: pruning.ntk_sap_draws(
            linear_output, [(p, jnp.ones((2, 4)), scores(p))], every_other(p), 0.5
        ),
        checks.scores("wide"),
    ),
    "path_exclusion_scores": Row(
        lambda _, p: pruning.path_exclusion_scores(network_of, p, [jnp.ones((2, 4))]),
        checks.scores(None),
    ),
    "synflow_l2_scores": Row(lambda _, p: pruning.synflow_l2_scores(output, p), checks.scores(None)),
    "layer_adaptive_magnitude_scores": Row(
        lambda _, p: pruning.layer_adaptive_magnitude_scores(p), checks.scores(None)
    ),
    "fisher_diagonal": Row(
        lambda _, p: pruning.fisher_diagonal(loss, p, jnp.ones((3,))), checks.scores("wide")
    ),
    "hutchinson_diagonal": Row(
        lambda key, p: pruning.hutchinson_diagonal(key, loss, p, jnp.ones((3,)), probes=2),
        checks.scores("wide"),
        keyed=True,
    ),
    "curvature_scores": Row(lambda _, p: pruning.curvature_scores(p, scores(p)), checks.scores(None)),
    "taylor_scores": Row(
        lambda _, p: pruning.taylor_scores(p, scores(p), scores(p)), checks.scores(None)
    ),
    "synflow_scores": Row(lambda _, p: pruning.synflow_scores(output, p), checks.scores(None)),
    "iterative_masks": Row(
        lambda _, p: pruning.iterative_masks(
            lambda masked: pruning.snip_scores(loss, masked, BATCHES), p, 0.7, rounds=3
        ),
        checks.masks(None, 0.7),
    ),
    # Ablations
    "shuffle_masks": Row(
        lambda key, p: pruning.shuffle_masks(key, every_other(p)), checks.masks(0.5, 0.5), keyed=True
    ),
    "invert_scores": Row(lambda _, p: pruning.invert_scores(scores(p)), checks.scores(None)),
    "reinitialise": Row(
        lambda key, p: (
            pruning.reinitialise(key, lambda key: redrawn(key, p), every_other(p)),
            every_other(p),
        ),
        checks.trained_to(0.5),
        keyed=True,
    ),
    "sparse_kaiming_normal": Row(
        lambda key, p: (pruning.sparse_kaiming_normal(key, p, every_other(p)), every_other(p)),
        checks.trained_to(0.5),
        keyed=True,
    ),
    "random_masks": Row(
        lambda key, p: pruning.random_masks(key, p, 0.3), checks.masks(0.3, 0.3), keyed=True
    ),
    "global_masks": Row(lambda _, p: pruning.global_masks(scores(p), 0.7), checks.masks(None, 0.7)),
    "layerwise_masks": Row(
        lambda _, p: pruning.layerwise_masks(scores(p), pruning.uniform(p, 0.7)), checks.masks(0.7, None)
    ),
    "n_m_masks": Row(lambda _, p: pruning.n_m_masks(scores(p), 1, 1), checks.masks(0, 0)),
    "constant_fan_in_masks": Row(
        lambda _, p: pruning.constant_fan_in_masks(scores(p), 0.5), checks.masks(0.5, 0.5)
    ),
    "channel_masks": Row(lambda _, p: pruning.channel_masks(scores(p), 0.0), checks.masks(0, 0)),
    "block_masks": Row(
        lambda _, p: pruning.block_masks(scores(p), 0.5, block=(1, 1)), checks.masks(0.5, None)
    ),
    # K-starts
    "add_standardised": Row(
        lambda _, p: pruning.add_standardised(jnp.array([0.0, 1, 2]), jnp.array([4.0, 5, 6])),
        checks.fitness_of_known_parts,
    ),
    "candidate_masks": Row(
        lambda key, p: pruning.candidate_masks(key, p, k=3, sparsity=0.3),
        checks.masks(0.3, None, leading=3),
        keyed=True,
    ),
    "train_candidates": Row(
        lambda key, p: pruning.train_candidates(
            grow, p, pruning.candidate_masks(key, p, k=3, sparsity=0.5)
        ),
        checks.stacked_trees,
        keyed=True,
        composed=True,
    ),
    "fittest": Row(
        lambda _, p: pruning.fittest(
            stacked(every_zeroed(p)), stacked_masks(p), jnp.array([1.0, 3.0, 2.0])
        ),
        checks.winner,
    ),
    "fittest_candidate": Row(
        lambda _, p: pruning.fittest_candidate(jnp.array([1.0, 3.0, 2.0])),
        lambda winner, p: None if winner == 1 else checks.fail(winner),
    ),
    "weight_fitness": Row(
        lambda _, p: pruning.weight_fitness(stacked(p), None, stacked_masks(p)),
        checks.fitness,
        grads=True,
    ),
    "gradient_fitness": Row(
        lambda _, p: pruning.gradient_fitness(None, stacked(p), stacked_masks(p)),
        checks.fitness,
        grads=True,
    ),
    "combined_fitness": Row(
        lambda _, p: pruning.combined_fitness(stacked(p), stacked(p), stacked_masks(p)),
        checks.fitness,
        grads=True,
    ),
    "k_starts": Row(searched(pruning.k_starts), checks.winner, keyed=True, composed=True),
    "successive_elimination": Row(
        searched(pruning.successive_elimination), checks.winner, keyed=True, composed=True
    ),
    "evolve_masks": Row(
        searched(pruning.evolve_masks, generations=2), checks.winner, keyed=True, composed=True
    ),
    "mutate_masks": Row(
        lambda key, p: pruning.mutate_masks(key, every_other(p), 0.5), checks.masks(0.5, 0.5), keyed=True
    ),
    "crossover_masks": Row(
        lambda key, p: pruning.crossover_masks(key, every_other(p, 0), every_other(p, 1)),
        checks.masks(0.5, 0.5),
        keyed=True,
    ),
    "breed_masks": Row(last_bred, checks.masks(0.5, 0.5), keyed=True, heavy=True),
    # Walks
    "path_probabilities": Row(
        lambda _, p: pruning.path_probabilities(kernels_of(p)), checks.probabilities(4 + 5 + 1 + 3)
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
    "network_report": Row(
        lambda _, p: pruning.network_report(network, p, every_other(p)),
        checks.network_rows,
        traced=False,
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
    # Files
    "save_masks": Row(
        through_a_file(lambda path, p: path.stat().st_size),
        lambda size, p: None if size < 2000 else checks.fail(size),
        traced=False,
    ),
    "load_masks": Row(
        through_a_file(lambda path, p: pruning.load_masks(path, like=p)),
        lambda result, p: checks.unchanged(result, every_other(p)),
        traced=False,
    ),
    "load_metadata": Row(
        through_a_file(lambda path, p: pruning.load_metadata(path)),
        checks.equal({"method": "every other", "seed": 3}),
        traced=False,
    ),
    # Records: they are pytrees and survive jit and vmap
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
