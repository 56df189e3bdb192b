"""Pruning neural networks at initialization: masks as pytrees, scores, K-starts, dissipation.

Pure functions over any pytree of params and optax transformations; nothing here jits, prints or
knows a network. See https://arxiv.org/abs/2209.02201 for the first system.
"""

from pruning.allocation import erdos_renyi, erdos_renyi_kernel, uniform
from pruning.artifacts import load_masks, load_metadata, save_masks
from pruning.counting import exponential_sparsities, pruned_count
from pruning.dissipation import DissipateState, dissipate, dissipate_settled, dissipate_to
from pruning.elimination import successive_elimination
from pruning.evolution import crossover_masks, evolve_masks, mutate_masks
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
from pruning.masks import (
    LayerRow,
    apply_masks,
    check_masks,
    count_kept,
    count_prunable,
    full_masks,
    intersect_masks,
    layer_report,
    prunable,
    sparsity,
)
from pruning.scores import displacement_scores, magnitude_scores, random_masks, random_scores
from pruning.selection import global_masks, layerwise_masks
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
    "accumulate_gradients",
    "accumulate_signed_gradients",
    "add_standardised",
    "apply_masks",
    "candidate_masks",
    "check_masks",
    "combined_fitness",
    "count_kept",
    "count_prunable",
    "crossover_masks",
    "displacement_scores",
    "dissipate",
    "dissipate_settled",
    "dissipate_to",
    "erdos_renyi",
    "erdos_renyi_kernel",
    "evolve_masks",
    "exponential_sparsities",
    "fittest",
    "full_masks",
    "get_masks",
    "global_masks",
    "gradient_fitness",
    "hold_masks",
    "intersect_masks",
    "k_starts",
    "layer_report",
    "layerwise_masks",
    "load_masks",
    "load_metadata",
    "magnitude_scores",
    "mutate_masks",
    "prunable",
    "pruned_count",
    "random_masks",
    "random_scores",
    "save_masks",
    "sparsity",
    "successive_elimination",
    "train_candidates",
    "uniform",
    "weight_fitness",
]
