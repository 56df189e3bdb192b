"""Pruning neural networks at initialization: masks as pytrees, scores, ablations, K-starts, dissipation.

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
from pruning.counting import exponential_sparsities, pruned_count
from pruning.dissipation import DissipateState, dissipate, dissipate_settled, dissipate_to
from pruning.elimination import successive_elimination
from pruning.evolution import crossover_masks, evolve_masks, mutate_masks
from pruning.iterative import iterative_masks
from pruning.kstarts import (
    KStarts,
    add_standardised,
    candidate_masks,
    combined_fitness,
    fittest,
    gradient_fitness,
    k_starts,
    train_candidates,
    weight_fitness,
)
from pruning.leaves import prunable
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
from pruning.synflow import synflow_scores
from pruning.transforms import (
    AccumulateGradientsState,
    HoldMasksState,
    accumulate_gradients,
    accumulate_signed_gradients,
    get_masks,
    hold_masks,
)

__all__ = [
    "AccumulateGradientsState",
    "DissipateState",
    "HoldMasksState",
    "KStarts",
    "LayerRow",
    "NetworkRow",
    "accumulate_gradients",
    "accumulate_signed_gradients",
    "add_standardised",
    "apply_masks",
    "candidate_masks",
    "check_masks",
    "collapsed_layers",
    "combined_fitness",
    "count_kept",
    "count_prunable",
    "crossover_masks",
    "dead_units",
    "displacement_scores",
    "dissipate",
    "dissipate_settled",
    "dissipate_to",
    "effective_masks",
    "erdos_renyi",
    "erdos_renyi_kernel",
    "evolve_masks",
    "exponential_sparsities",
    "fittest",
    "force_scores",
    "full_masks",
    "get_masks",
    "global_masks",
    "gradient_fitness",
    "grasp_absolute_scores",
    "grasp_scores",
    "hold_masks",
    "ideal_gas_quotas",
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
    "prunable",
    "pruned_count",
    "random_masks",
    "random_scores",
    "reinitialise",
    "save_masks",
    "shuffle_masks",
    "smart_ratios",
    "snip_scores",
    "sparsity",
    "successive_elimination",
    "synflow_scores",
    "train_candidates",
    "uniform",
    "weight_fitness",
]
