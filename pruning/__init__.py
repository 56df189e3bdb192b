"""Pruning neural networks at initialization, and what it is compared with.

Masks as pytrees, scores, ablations, K-starts, dissipating gradients, Continuous Sparsification, lottery
tickets.
Pure functions over any pytree of params and optax transformations; nothing here jits, prints or
knows a network. See https://arxiv.org/abs/2209.02201 for the first system.
"""

from pruning.ablation import invert_scores, reinitialise, shuffle_masks
from pruning.allocation import (
    erdos_renyi,
    erdos_renyi_kernel,
    ideal_gas_quotas,
    layer_sparsities,
    smart_ratios,
    uniform,
)
from pruning.artifacts import load_masks, load_metadata, save_masks
from pruning.connectivity import collapsed_layers, dead_units, effective_masks
from pruning.continuous import (
    apply_soft_masks,
    gate_penalty,
    initial_gates,
    next_round,
    next_round_as_released,
    soft_masks,
    ticket_masks,
)
from pruning.counting import cubic_sparsities, exponential_sparsities, pruned_count
from pruning.dissipation import DissipateState, dissipate, dissipate_settled, dissipate_to
from pruning.elimination import successive_elimination
from pruning.evolution import crossover_masks, evolve_masks, mutate_masks
from pruning.gate_training import SoftMasked, soft_masked_optimizer, temperature_schedule
from pruning.gradual import GradualMagnitudeState, gradual_magnitude
from pruning.iterative import iterative_masks
from pruning.kstarts import (
    KStarts,
    add_standardised,
    candidate_masks,
    combined_fitness,
    fittest,
    fittest_candidate,
    gradient_fitness,
    k_starts,
    train_candidates,
    weight_fitness,
)
from pruning.layout import Axes, equinox_layout, flax_layout, stacked_layout
from pruning.leaves import prunable, prunable_by_shape, prunable_except, prunable_under
from pruning.lottery import prune_remaining, prune_remaining_by_layer
from pruning.masks import (
    LayerRow,
    apply_masks,
    check_masks,
    count_kept,
    count_prunable,
    full_masks,
    intersect_masks,
    layer_report,
    sparsity,
)
from pruning.network_report import NetworkRow, network_report
from pruning.outermost import hold_outside
from pruning.rankable import check_rankable
from pruning.reading_masks import get_masks, set_masks
from pruning.scores import (
    displacement_scores,
    magnitude_increase_scores,
    magnitude_scores,
    movement_scores,
    random_masks,
    random_scores,
)
from pruning.selection import global_masks, layerwise_masks
from pruning.sensitivity import force_scores, grasp_absolute_scores, grasp_scores, snip_scores
from pruning.supermask import rescaled_masks, sampled_masks
from pruning.synflow import synflow_scores
from pruning.transforms import (
    AccumulateGradientsState,
    HoldMasksState,
    accumulate_gradients,
    accumulate_signed_gradients,
    hold_masks,
)

__all__ = [
    "AccumulateGradientsState",
    "Axes",
    "DissipateState",
    "GradualMagnitudeState",
    "HoldMasksState",
    "KStarts",
    "LayerRow",
    "NetworkRow",
    "SoftMasked",
    "accumulate_gradients",
    "accumulate_signed_gradients",
    "add_standardised",
    "apply_masks",
    "apply_soft_masks",
    "candidate_masks",
    "check_masks",
    "check_rankable",
    "collapsed_layers",
    "combined_fitness",
    "count_kept",
    "count_prunable",
    "crossover_masks",
    "cubic_sparsities",
    "dead_units",
    "displacement_scores",
    "dissipate",
    "dissipate_settled",
    "dissipate_to",
    "effective_masks",
    "equinox_layout",
    "erdos_renyi",
    "erdos_renyi_kernel",
    "evolve_masks",
    "exponential_sparsities",
    "fittest",
    "fittest_candidate",
    "flax_layout",
    "force_scores",
    "full_masks",
    "gate_penalty",
    "get_masks",
    "global_masks",
    "gradient_fitness",
    "gradual_magnitude",
    "grasp_absolute_scores",
    "grasp_scores",
    "hold_masks",
    "hold_outside",
    "ideal_gas_quotas",
    "initial_gates",
    "intersect_masks",
    "invert_scores",
    "iterative_masks",
    "k_starts",
    "layer_report",
    "layer_sparsities",
    "layerwise_masks",
    "load_masks",
    "load_metadata",
    "magnitude_increase_scores",
    "magnitude_scores",
    "movement_scores",
    "mutate_masks",
    "network_report",
    "next_round",
    "next_round_as_released",
    "prunable",
    "prunable_by_shape",
    "prunable_except",
    "prunable_under",
    "prune_remaining",
    "prune_remaining_by_layer",
    "pruned_count",
    "random_masks",
    "random_scores",
    "reinitialise",
    "rescaled_masks",
    "sampled_masks",
    "save_masks",
    "set_masks",
    "shuffle_masks",
    "smart_ratios",
    "snip_scores",
    "soft_masked_optimizer",
    "soft_masks",
    "sparsity",
    "stacked_layout",
    "successive_elimination",
    "synflow_scores",
    "temperature_schedule",
    "ticket_masks",
    "train_candidates",
    "uniform",
    "weight_fitness",
]
