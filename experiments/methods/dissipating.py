"""Dissipating gradients: weights that stay near their initial values go while the network trains.

To given sparsities from the dense network, from one random mask, or from the winner of a K-starts search
(the combination of the paper); and in a band around the initial values, which finds its own sparsity.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

import pruning
from experiments.methods.method import Given, Look, Method, When
from experiments.methods.point import Point
from experiments.methods.programs import Program
from experiments.methods.searched import Searching, draw_masks
from experiments.methods.seeds import seed_keys
from experiments.methods.study import Study
from experiments.options.training import TrainingOptions
from train.populations.population import MemberState
from train.populations.population import Method as Transformed

PyTree = Any


class Band(NamedTuple):
    """A network from which weights within a fraction of their initial value dissipate."""

    fraction: jax.Array


def _to_sparsities(study: Study, shapes: PyTree) -> Transformed:
    every = study.steps_per_epoch
    return lambda optimizer, sparsities: optax.chain(
        optimizer, pruning.dissipate_to(sparsities, check_every=every)
    )


def _in_band(study: Study, shapes: PyTree) -> Transformed:
    every = study.steps_per_epoch
    window = study.prune_epochs * every
    return lambda optimizer, data: optax.chain(
        optimizer, pruning.dissipate(data.fraction, check_every=every, stop_after=window)
    )


DISSIPATING = Program(name="dissipating gradients", method=_to_sparsities)
BAND = Program(name="dissipating gradients in a band", method=_in_band)


@dataclass(frozen=True, kw_only=True)
class Dissipating(Method):
    """From the dense network to a sparsity, a check at the end of each of the first epochs."""

    program: Program = DISSIPATING

    def check(self, options: TrainingOptions) -> None:
        """Raises a ValueError if there are more checks than epochs."""
        check_within(options)

    def data(self, point: Point, study: Study) -> PyTree:
        """The sparsity after each check."""
        target = point.sparsity_target or 0.0
        return _float32(pruning.exponential_sparsities(target, study.prune_epochs))


@dataclass(frozen=True, kw_only=True)
class RandomAndDissipating(Dissipating):
    """From one random mask of the sparsity at which the combination searches, with its checks.

    The control that tells what K-starts adds from what an early start at a higher sparsity adds.
    """

    def check(self, options: TrainingOptions) -> None:
        """Raises a ValueError if a search leaves no check."""
        check_after_search(options)

    def data(self, point: Point, study: Study) -> PyTree:
        """The sparsity after each check, those during a search without effect."""
        return _float32(sparsities_after_search(point.sparsity_target or 0.0, study))

    def start(self, point: Point, given: Given) -> MemberState:
        """Under its mask."""
        network = given.initial(point.seed)
        sparsity = search_sparsity(point.sparsity_target or 0.0)
        masks = draw_masks(seed_keys(point.seed).scores, network.params, sparsity)
        return given.begin(point, network.params, network.batch_stats, masks)


@dataclass(frozen=True, kw_only=True)
class SearchedAndDissipating(Searching):
    """From the winner of a search: K-starts and dissipation remove equal fractions of what they find."""

    program: Program = DISSIPATING

    def check(self, options: TrainingOptions) -> None:
        """Raises a ValueError if a search leaves no check."""
        check_after_search(options)

    def search_sparsity(self, sparsity: float) -> float:
        """See ``search_sparsity``."""
        return search_sparsity(sparsity)

    def data(self, point: Point, study: Study) -> PyTree:
        """The sparsity after each check."""
        if point.candidate is not None:
            return ()
        return _float32(sparsities_after_search(point.sparsity_target or 0.0, study))


@dataclass(frozen=True, kw_only=True)
class InBand(Method):
    """Within a fraction of the initial value, at the end of each of the first epochs."""

    program: Program = BAND
    at_sparsities: bool = False

    def check(self, options: TrainingOptions) -> None:
        """Raises a ValueError if there are more checks than epochs."""
        check_within(options)

    def points(self, study: Study, seed: int) -> Iterator[Point]:
        """One a fraction."""
        for fraction in study.knobs.schedule.fractions:
            yield Point(self.name, setting=fraction, seed=seed)

    def data(self, point: Point, study: Study) -> PyTree:
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
    RandomAndDissipating(
        name="random+dissipating-gradients",
        look=Look("Random + dissipating gradients", "#CC6677", "X"),
        when=When.DURING,
        functions=("random_masks", "dissipate_to"),
        source="Haroon 2022 (arXiv 2209.02201)",
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
