"""Dissipating gradients: weights that stay near their initial values go while the network trains.

To given sparsities from the dense network, from the mask of another method, or from the winner of a
K-starts search (the combination of the paper); and in a band around the initial values, which finds its
own sparsity.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import pruning
from experiments.methods import random_layers, scored_methods
from experiments.methods.dissipating_programs import (
    BAND,
    DISSIPATING,
    IN_LAYERS,
    Band,
    InLayers,
    on_the_way,
)
from experiments.methods.method import Given, Look, Method, When
from experiments.methods.point import Need, Point
from experiments.methods.programs import Program
from experiments.methods.scored import Scored, named
from experiments.methods.searched import Searching
from experiments.methods.seeds import seed_keys
from experiments.methods.study import Study
from experiments.options.training import TrainingOptions
from train.populations.population import MemberState

PyTree = Any

LATE, EARLY = "late", "early"
"""Variants of a dense start that follow the sparsities of a masked one: from when that prunes, or from
the end of the first epoch on, when they are as sparse as its mask."""
OWN_LAYERS, LAYERS = "own-layers", "layers"
"""Variants that end with given layer sparsities: those with which the method ends by itself, or those of
the other start."""
LATE_LAYERS, EARLY_LAYERS = "late-layers", "early-layers"
"""Both changes of a dense start."""
_IN_LAYERS = (OWN_LAYERS, LAYERS, LATE_LAYERS, EARLY_LAYERS)


@dataclass(frozen=True, kw_only=True)
class Dissipating(Method):
    """From the dense network to a sparsity, a check at the end of each of the first epochs.

    Attributes:
        other: The method of the other start.
    """

    program: Program = DISSIPATING
    in_first_epochs: bool = True
    other: str = "random+dissipating-gradients"

    def check(self, options: TrainingOptions) -> None:
        """Raises a ValueError if there are more checks than epochs."""
        check_within(options)

    def needs(self, point: Point, study: Study) -> tuple[Need, ...]:
        """Of variants in layers the network that has ended with them."""
        return (Need(self.ended(point)),) if point.variant in _IN_LAYERS else ()

    def why_useless(self, point: Point, given: Given) -> str | None:
        """The network that a variant in layers follows has diverged."""
        if point.variant in _IN_LAYERS and given.rows(self.ended(point))[-1]["failed"]:
            return "the network whose layer sparsities it takes has diverged"
        return None

    def program_of(self, point: Point) -> Program:
        """Of variants in layers another."""
        return IN_LAYERS if point.variant in _IN_LAYERS else self.program

    def data(self, point: Point, given: Given) -> PyTree:
        """The sparsity after each check, and those of the layers in the end."""
        sparsities = _float32(self.sparsities(point, given.study))
        if point.variant not in _IN_LAYERS:
            return sparsities
        return InLayers(sparsities, self.layers(point, given))

    def sparsities(self, point: Point, study: Study) -> np.ndarray:
        """Of the network after each check."""
        target = point.sparsity_target or 0.0
        if point.variant in (LATE, LATE_LAYERS):
            return sparsities_after_search(target, study)
        if point.variant in (EARLY, EARLY_LAYERS):
            return np.maximum(sparsities_after_search(target, study), search_sparsity(target))
        return pruning.exponential_sparsities(target, study.prune_epochs)

    def ended(self, point: Point) -> Point:
        """The network whose layer sparsities a variant ends with."""
        method = self.name if point.variant == OWN_LAYERS else self.other
        return point._replace(method=method, variant="none")

    def layers(self, point: Point, given: Given) -> PyTree:
        """The layer sparsities of that network at its end."""
        row = given.rows(self.ended(point))[-1]

        def of(path: Any, leaf: Any) -> jax.Array:
            return jnp.float32(1 - row[f"kept{jax.tree_util.keystr(path)}"] / leaf.size)

        masks = pruning.full_masks(given.initial(point.seed).params)
        return jax.tree_util.tree_map_with_path(of, masks)


@dataclass(frozen=True, kw_only=True)
class MaskedAndDissipating(Dissipating):
    """From the mask that a scored method gives at the sparsity at which the combination searches.

    One random mask is the control that tells what K-starts adds from what a sparse start adds.

    Attributes:
        begins: The scored method.
    """

    begins: Scored
    other: str = "dissipating-gradients"

    @property
    def masks_by(self) -> Method:
        """The scored method."""
        return self.begins

    def check(self, options: TrainingOptions) -> None:
        """Raises a ValueError if a search leaves no check."""
        check_after_search(options)

    def sparsities(self, point: Point, study: Study) -> np.ndarray:
        """Of the network after each check, those during a search without effect."""
        return sparsities_after_search(point.sparsity_target or 0.0, study)

    def start(self, point: Point, given: Given) -> MemberState:
        """Under its mask; that of the variant in the other start's layers is random, half way to them."""
        network = given.initial(point.seed)
        return given.begin(point, network.params, network.batch_stats, self.first_masks(point, given))

    def first_masks(self, point: Point, given: Given) -> PyTree:
        """The mask with which it begins."""
        if point.variant == LAYERS:
            drawn = pruning.random_scores(seed_keys(point.seed).scores, given.initial(point.seed).params)
            return pruning.layerwise_masks(drawn, on_the_way(self.layers(point, given), 0.5))
        sparsity = search_sparsity(point.sparsity_target or 0.0)
        static = point.of_same_seed(self.begins.name, sparsity_target=sparsity)
        return given.kept_masks(static, lambda: self.begins.masks(static, given))


@dataclass(frozen=True, kw_only=True)
class SearchedAndDissipating(Searching):
    """From the winner of a search: K-starts and dissipation remove equal fractions of what they find."""

    program: Program = DISSIPATING
    in_first_epochs: bool = True

    def check(self, options: TrainingOptions) -> None:
        """Raises a ValueError if a search leaves no check."""
        check_after_search(options)

    def search_sparsity(self, sparsity: float) -> float:
        """See ``search_sparsity``."""
        return search_sparsity(sparsity)

    def data(self, point: Point, given: Given) -> PyTree:
        """The sparsity after each check; nothing of a candidate."""
        if point.candidate is not None:
            return ()
        return _float32(sparsities_after_search(point.sparsity_target or 0.0, given.study))


@dataclass(frozen=True, kw_only=True)
class InBand(Method):
    """Within a fraction of the initial value, at the end of each of the first epochs."""

    program: Program = BAND
    in_first_epochs: bool = True
    at_sparsities: bool = False

    def check(self, options: TrainingOptions) -> None:
        """Raises a ValueError if there are more checks than epochs."""
        check_within(options)

    def points(self, study: Study, seed: int) -> Iterator[Point]:
        """One a fraction."""
        for fraction in study.knobs.schedule.fractions:
            yield Point(self.name, setting=fraction, seed=seed)

    def data(self, point: Point, given: Given) -> PyTree:
        """The fraction."""
        return Band(jnp.float32(point.setting))


def search_sparsity(sparsity: float) -> float:
    """Where the combination's K-starts searches: ``1 - sqrt(1 - s)``."""
    return 1 - (1 - sparsity) ** 0.5


def sparsities_after_search(sparsity: float, study: Study) -> np.ndarray:
    """The combination's sparsity after each check, one an epoch.

    Returns:
        Shape (prune_epochs,): 0 during the search (nothing goes beyond the mask), then rising from
        ``search_sparsity`` to the sparsity.
    """
    search_epochs = study.knobs.search.search_epochs
    start = search_sparsity(sparsity)
    left = 1 - (1 - sparsity) / (1 - start)
    rising = 1 - (1 - start) * (
        1 - pruning.exponential_sparsities(left, study.prune_epochs - search_epochs)
    )
    return np.concatenate([np.zeros(search_epochs), rising[:-1], [sparsity]])


def check_within(options: TrainingOptions) -> None:
    """Raises a ValueError if weights are to be pruned at the end of more epochs than there are."""
    epochs, pruned = options.resolved_recipe().epochs, options.prune_epochs()
    if not pruned <= epochs:
        raise ValueError(f"expected --prune-epochs <= --epochs ({epochs}), got {pruned}")


def check_after_search(options: TrainingOptions) -> None:
    """Raises a ValueError if no weight could dissipate after a search."""
    search, pruned = options.knobs.search.search_epochs, options.prune_epochs()
    check_within(options)
    if not search < pruned:
        raise ValueError(
            f"expected --search-epochs < --prune-epochs, got {search}, {pruned}: weights dissipate after "
            "the search"
        )


def _float32(values: Any) -> jax.Array:
    return jnp.asarray(values, jnp.float32)


METHODS = (
    Dissipating(
        name="dissipating-gradients",
        look=Look("Dissipating gradients", "#D55E00", "*"),
        when=When.DURING,
        functions=("dissipate_to", "exponential_sparsities"),
        source="Haroon 2022 (arXiv 2209.02201)",
    ),
    MaskedAndDissipating(
        name="random+dissipating-gradients",
        look=Look("Random + dissipating gradients", "#CC6677", "X"),
        when=When.DURING,
        functions=("random_scores", "uniform", "layerwise_masks", "dissipate_to"),
        source="Haroon 2022 (arXiv 2209.02201)",
        choices="From one random mask, all layers at one sparsity.",
        begins=named(random_layers.METHODS, "random-uniform"),
    ),
    MaskedAndDissipating(
        name="random-erk+dissipating-gradients",
        look=Look("ERK + dissipating gradients", "#CC8800", "X"),
        when=When.DURING,
        functions=("random_scores", "erdos_renyi_kernel", "layerwise_masks", "dissipate_to"),
        source="Haroon 2022 (arXiv 2209.02201), with layers as Evci et al. 2020 (arXiv 1911.11134)",
        begins=named(random_layers.METHODS, "random-erk"),
    ),
    MaskedAndDissipating(
        name="random-igq+dissipating-gradients",
        look=Look("IGQ + dissipating gradients", "#88AA00", "X"),
        when=When.DURING,
        functions=("random_scores", "ideal_gas_quotas", "layerwise_masks", "dissipate_to"),
        source="Haroon 2022 (arXiv 2209.02201), with layers as Vysogorets et al. 2021 (arXiv 2107.02306)",
        begins=named(random_layers.METHODS, "random-igq"),
    ),
    MaskedAndDissipating(
        name="snip+dissipating-gradients",
        look=Look("SNIP + dissipating gradients", "#0055AA", "X"),
        when=When.DURING,
        functions=("snip_scores", "global_masks", "dissipate_to"),
        source="Haroon 2022 (arXiv 2209.02201), from masks of Lee et al. 2019 (arXiv 1810.02340)",
        begins=named(scored_methods.METHODS, "snip"),
    ),
    MaskedAndDissipating(
        name="synflow+dissipating-gradients",
        look=Look("SynFlow + dissipating gradients", "#008866", "X"),
        when=When.DURING,
        functions=("synflow_scores", "iterative_masks", "dissipate_to"),
        source="Haroon 2022 (arXiv 2209.02201), from masks of Tanaka et al. 2020 (arXiv 2006.05467)",
        begins=named(scored_methods.METHODS, "synflow"),
    ),
    SearchedAndDissipating(
        name="k-starts+dissipating-gradients",
        look=Look("K-starts + dissipating gradients", "#661100", "p"),
        when=When.DURING,
        functions=("k_starts", "dissipate_to"),
        source="Haroon 2022 (arXiv 2209.02201)",
    ),
    InBand(
        name="dissipating-band",
        look=Look("Dissipating gradients, band", "#DDAA33", "h"),
        when=When.DURING,
        functions=("dissipate",),
        source="Haroon 2022 (arXiv 2209.02201)",
    ),
)
