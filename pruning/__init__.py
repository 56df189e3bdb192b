"""Pruning neural networks at initialization, and what it is compared with.

Masks as pytrees, scores, ablations, K-starts, dissipating gradients, Continuous Sparsification, lottery
tickets.
Pure functions over any pytree of params and optax transformations; nothing here jits, prints or
knows a network. See https://arxiv.org/abs/2209.02201 for the first system.
"""

from pruning.allocations.erdos_renyi import erdos_renyi, erdos_renyi_kernel
from pruning.allocations.ideal_gas_quotas import ideal_gas_quotas
from pruning.allocations.layer_sparsities import layer_sparsities
from pruning.allocations.rest import sparsity_of_rest
from pruning.allocations.smart_ratios import smart_ratios
from pruning.allocations.uniform import uniform
from pruning.connectivity.compaction.compact import Compacted, compact
from pruning.connectivity.compaction.reporting import CompactedArray, CompactionReport
from pruning.connectivity.effective import collapsed_layers, dead_units, effective_masks
from pruning.connectivity.network_layout import network_layout
from pruning.connectivity.network_report import NetworkRow, network_report
from pruning.formats.packed import load_masked_params, save_masked_params
from pruning.formats.sparse_matrices import (
    SparseBlocks,
    SparseRows,
    sparse_blocks,
    sparse_coordinates,
    sparse_rows,
)
from pruning.gates.continuous import (
    apply_soft_masks,
    gate_penalty,
    initial_gates,
    next_round,
    next_round_as_released,
    soft_masks,
    ticket_masks,
)
from pruning.gates.straight_through import edge_popup, rounded_gates, straight_through
from pruning.gates.supermask import rescaled_masks, sampled_masks
from pruning.gates.training import SoftMasked, soft_masked_optimizer, temperature_schedule
from pruning.masks.ablation import (
    invert_scores,
    reinitialise,
    shuffle_masks,
    sparse_kaiming_normal,
)
from pruning.masks.counting import cubic_sparsities, exponential_sparsities, pruned_count
from pruning.masks.iterative import iterative_masks
from pruning.masks.lottery import prune_remaining, prune_remaining_by_layer
from pruning.masks.rankable import check_rankable
from pruning.masks.reading import get_masks, set_masks
from pruning.masks.saving import load_masks, load_metadata, save_masks
from pruning.masks.selection import global_masks, layerwise_masks
from pruning.masks.structures import (
    block_masks,
    channel_masks,
    constant_fan_in_masks,
    n_m_masks,
)
from pruning.masks.tree import (
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
from pruning.scores.layer_adaptive import layer_adaptive_magnitude_scores
from pruning.scores.magnitude import magnitude_scores
from pruning.scores.movement import displacement_scores, magnitude_increase_scores, movement_scores
from pruning.scores.ntk_sap import NtkSapDraw, ntk_sap_draws, ntk_sap_scores
from pruning.scores.path_exclusion import path_exclusion_scores
from pruning.scores.prospr import prospr_first_order_scores, prospr_scores
from pruning.scores.random import random_masks, random_scores
from pruning.scores.second_order import (
    curvature_scores,
    fisher_diagonal,
    hutchinson_diagonal,
    taylor_scores,
)
from pruning.scores.sensitivity import force_scores, grasp_absolute_scores, grasp_scores, snip_scores
from pruning.scores.synflow import synflow_scores
from pruning.scores.synflow_l2 import synflow_l2_scores
from pruning.search.elimination import successive_elimination
from pruning.search.evolution import breed_masks, crossover_masks, evolve_masks, mutate_masks
from pruning.search.fitness import add_standardised, combined_fitness, gradient_fitness, weight_fitness
from pruning.search.kstarts import (
    KStarts,
    candidate_masks,
    fittest,
    fittest_candidate,
    k_starts,
    train_candidates,
)
from pruning.search.path_probabilities import PathProbabilities, path_probabilities
from pruning.search.path_weighted import path_weighted_masks, phew_masks
from pruning.transforms.accumulate import (
    AccumulateGradientsState,
    accumulate_gradients,
    accumulate_signed_gradients,
)
from pruning.transforms.constant_fan_in_rigl import ConstantFanInState, constant_fan_in_rigl
from pruning.transforms.decay_pruned import decay_pruned
from pruning.transforms.dissipate import DissipateState, dissipate, dissipate_settled, dissipate_to
from pruning.transforms.dynamic import DynamicSparseState
from pruning.transforms.gradual import GradualMagnitudeState, gradual_magnitude
from pruning.transforms.hold import HoldMasksState, hold_masks
from pruning.transforms.hold_outside import hold_outside
from pruning.transforms.n_m_rigl import n_m_rigl
from pruning.transforms.rare_gems import RareGemsState, rare_gems
from pruning.transforms.rigl import cosine_drop_fraction, rigl, sparse_evolutionary
from pruning.trees.layout import Axes, equinox_layout, flax_layout, stacked_layout
from pruning.trees.leaves import prunable, prunable_by_shape, prunable_except, prunable_under

__all__ = [
    "AccumulateGradientsState",
    "Axes",
    "Compacted",
    "CompactedArray",
    "CompactionReport",
    "ConstantFanInState",
    "DissipateState",
    "DynamicSparseState",
    "GradualMagnitudeState",
    "HoldMasksState",
    "KStarts",
    "LayerRow",
    "NetworkRow",
    "NtkSapDraw",
    "PathProbabilities",
    "RareGemsState",
    "SoftMasked",
    "SparseBlocks",
    "SparseRows",
    "accumulate_gradients",
    "accumulate_signed_gradients",
    "add_standardised",
    "apply_masks",
    "apply_soft_masks",
    "block_masks",
    "breed_masks",
    "candidate_masks",
    "channel_masks",
    "check_masks",
    "check_rankable",
    "collapsed_layers",
    "combined_fitness",
    "compact",
    "constant_fan_in_masks",
    "constant_fan_in_rigl",
    "cosine_drop_fraction",
    "count_kept",
    "count_prunable",
    "crossover_masks",
    "cubic_sparsities",
    "curvature_scores",
    "dead_units",
    "decay_pruned",
    "displacement_scores",
    "dissipate",
    "dissipate_settled",
    "dissipate_to",
    "edge_popup",
    "effective_masks",
    "equinox_layout",
    "erdos_renyi",
    "erdos_renyi_kernel",
    "evolve_masks",
    "exponential_sparsities",
    "fisher_diagonal",
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
    "hutchinson_diagonal",
    "ideal_gas_quotas",
    "initial_gates",
    "intersect_masks",
    "invert_scores",
    "iterative_masks",
    "k_starts",
    "layer_adaptive_magnitude_scores",
    "layer_report",
    "layer_sparsities",
    "layerwise_masks",
    "load_masked_params",
    "load_masks",
    "load_metadata",
    "magnitude_increase_scores",
    "magnitude_scores",
    "movement_scores",
    "mutate_masks",
    "n_m_masks",
    "n_m_rigl",
    "network_layout",
    "network_report",
    "next_round",
    "next_round_as_released",
    "ntk_sap_draws",
    "ntk_sap_scores",
    "path_exclusion_scores",
    "path_probabilities",
    "path_weighted_masks",
    "phew_masks",
    "prospr_first_order_scores",
    "prospr_scores",
    "prunable",
    "prunable_by_shape",
    "prunable_except",
    "prunable_under",
    "prune_remaining",
    "prune_remaining_by_layer",
    "pruned_count",
    "random_masks",
    "random_scores",
    "rare_gems",
    "reinitialise",
    "rescaled_masks",
    "rigl",
    "rounded_gates",
    "sampled_masks",
    "save_masked_params",
    "save_masks",
    "set_masks",
    "shuffle_masks",
    "smart_ratios",
    "snip_scores",
    "soft_masked_optimizer",
    "soft_masks",
    "sparse_blocks",
    "sparse_coordinates",
    "sparse_evolutionary",
    "sparse_kaiming_normal",
    "sparse_rows",
    "sparsity",
    "sparsity_of_rest",
    "stacked_layout",
    "straight_through",
    "successive_elimination",
    "synflow_l2_scores",
    "synflow_scores",
    "taylor_scores",
    "temperature_schedule",
    "ticket_masks",
    "train_candidates",
    "uniform",
    "weight_fitness",
]
