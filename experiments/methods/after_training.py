"""Magnitude pruning of trained weights, in one shot: three ways to go on from there."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pruning
from experiments.methods.gradual import check_before_the_end
from experiments.methods.method import Given, Look, Method, When, variants
from experiments.methods.point import Need, Point, dense
from experiments.methods.scored import started
from experiments.methods.study import Study
from experiments.options.training import TrainingOptions
from train.populations.population import MemberState

PyTree = Any


@dataclass(frozen=True, kw_only=True)
class PrunedTrained(Method):
    """Pruned by the weights at the end of training, then trained again with the whole schedule.

    The weights stay what they are and only the learning rate is rewound, in the same order of the data,
    without the old momentum.
    """

    def points(self, study: Study, seed: int) -> Iterator[Point]:
        """One a variant and sparsity."""
        for variant in variants(self, study):
            for sparsity in study.grid.sparsities:
                step = self.begins_at(variant, study)
                yield Point(self.name, variant, step, sparsity_target=sparsity, seed=seed)

    def begins_at(self, variant: str, study: Study) -> int:
        """The step at which its networks begin."""
        return 0

    def scored_at(self, study: Study) -> int:
        """The step of the dense network whose weights are ranked."""
        return study.last_step

    def needs(self, point: Point, study: Study) -> tuple[Need, ...]:
        """The dense network, where it is ranked and where weights are taken from."""
        steps = dict.fromkeys((self.scored_at(study), point.pruned_at_step))
        return tuple(Need(dense(point), step) for step in steps if step)

    def first_step(self, point: Point, study: Study) -> int:
        """Where it goes on from."""
        return point.pruned_at_step

    def start(self, point: Point, given: Given) -> MemberState:
        """The network that goes on, under the mask of the trained weights."""
        scored = given.state(Need(dense(point), self.scored_at(given.study)))

        def masks() -> PyTree:
            scores = pruning.magnitude_scores(scored.params)
            return pruning.global_masks(scores, point.sparsity_target or 0.0)

        return started(point, given, scored.params, self.network(point, given, scored), masks)

    def network(self, point: Point, given: Given, trained: MemberState) -> MemberState:
        """What goes on, before it is pruned."""
        if point.variant == "reinit":
            return given.initial(point.seed, "other_init")
        initial = given.initial(point.seed)
        return initial._replace(params=trained.params, batch_stats=trained.batch_stats)


@dataclass(frozen=True, kw_only=True)
class Rewound(PrunedTrained):
    """The mask of the trained weights on the network of an early step, its momentum included."""

    def begins_at(self, variant: str, study: Study) -> int:
        """Other initial weights are trained from the beginning."""
        return 0 if variant == "reinit" else study.rewind_step

    def network(self, point: Point, given: Given, trained: MemberState) -> MemberState:
        """The dense network of the early step."""
        if point.variant == "reinit":
            return given.initial(point.seed, "other_init")
        return given.state(Need(dense(point), point.pruned_at_step))


@dataclass(frozen=True, kw_only=True)
class FineTuned(PrunedTrained):
    """Pruned by the weights in the middle of training, which goes on."""

    in_first_epochs: bool = True

    def check(self, options: TrainingOptions) -> None:
        """Raises a ValueError if nothing is trained afterwards."""
        check_before_the_end(options)

    def begins_at(self, variant: str, study: Study) -> int:
        """After the first epochs."""
        return self.scored_at(study)

    def scored_at(self, study: Study) -> int:
        """After the first epochs."""
        return study.prune_epochs * study.steps_per_epoch

    def network(self, point: Point, given: Given, trained: MemberState) -> MemberState:
        """The network that was ranked."""
        return trained


METHODS = (
    FineTuned(
        name="magnitude-fine-tuned",
        look=Look("Magnitude, fine-tuned", "#117733", "H"),
        when=When.DURING,
        functions=("magnitude_scores", "global_masks"),
        source="Renda et al. 2020 (arXiv 2003.02389)",
    ),
    PrunedTrained(
        name="magnitude-after-training",
        look=Look("Magnitude after training", "#000000", "h"),
        when=When.AFTER,
        functions=("magnitude_scores", "global_masks"),
        source="Frankle et al. 2021 (arXiv 2009.08576)",
        ablations=("shuffle", "reinit"),
    ),
    Rewound(
        name="lottery-ticket-rewinding",
        look=Look("Lottery-ticket rewinding", "#4477AA", "p"),
        when=When.AFTER,
        functions=("magnitude_scores", "global_masks"),
        source="Frankle et al. 2021 (arXiv 2009.08576), after Frankle and Carbin 2019 (arXiv 1803.03635)",
        ablations=("shuffle", "reinit"),
    ),
)
