"""What all networks of a run have in common, as methods see it."""

from collections.abc import Sequence
from dataclasses import dataclass

from experiments.methods.point import Point
from experiments.options.checks import check_steps_within
from experiments.options.knobs import Knobs
from experiments.options.training import Grid, TrainingOptions
from train.recipes import Recipe


@dataclass(frozen=True, kw_only=True)
class Study:
    """The settings of a run, and what follows from them for a data set of a given size.

    Attributes:
        recipe: How every network is trained.
        steps_per_epoch: Of the recipe on the data set.
        knobs: The settings of methods.
        prune_epochs: The first epochs, in which methods prune while networks train.
        gate_learning_rate: The learning rate of gates beside the weights; None for that of the weights,
            where networks of several rates are trained.
        grid: Where methods are asked for networks.
        layers: The paths of the network's layers, in the order in which it calls them.
        whole_searches: Methods of whose searches all candidates are trained to the end.
    """

    recipe: Recipe
    steps_per_epoch: int
    knobs: Knobs
    prune_epochs: int
    gate_learning_rate: float | None
    grid: Grid
    layers: tuple[str, ...] = ()
    whole_searches: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Raises a ValueError that names the option whose step lies outside the training."""
        check_steps_within(
            self.recipe,
            self.steps_per_epoch,
            rewind_step=[self.rewind_step],
            steps=self.grid.steps or (),
        )
        asked = self.knobs.dynamic.check_steps
        if asked is not None and asked > self.last_check:
            raise ValueError(
                f"expected --check-steps <= {self.last_check}, three quarters of the training's "
                f"{self.last_step} steps, after which masks stay as they are, got {asked}"
            )

    @property
    def epochs(self) -> int:
        """Of a training."""
        return self.recipe.epochs

    @property
    def last_step(self) -> int:
        """The end of a training."""
        return self.epochs * self.steps_per_epoch

    @property
    def last_check(self) -> int:
        """The step up to which masks move: three quarters of the training, as published."""
        return 3 * self.last_step // 4

    def rate(self, point: Point) -> float:
        """The learning rate of a network."""
        return self.recipe.learning_rate if point.learning_rate is None else point.learning_rate

    def decay(self, point: Point) -> float:
        """The weight decay of a network."""
        return self.recipe.weight_decay if point.weight_decay is None else point.weight_decay

    def gate_rate(self, point: Point) -> float:
        """The learning rate of a network's gates, or of its scores that are learned."""
        return self.rate(point) if self.gate_learning_rate is None else self.gate_learning_rate

    @property
    def rewind_step(self) -> int:
        """Where lottery tickets are rewound to."""
        step = self.knobs.schedule.rewind_step
        return self.last_step // 40 if step is None else step

    @property
    def steps(self) -> tuple[int, ...]:
        """The steps after initialization at which methods of one moment prune as well."""
        asked = self.grid.steps
        if asked is None:
            last, per_epoch = self.last_step, self.steps_per_epoch
            asked = [step for step in (per_epoch, last // 4, last // 2) if step < last]
        return tuple(sorted({step for step in asked if step > 0}))

    @property
    def step_sparsities(self) -> tuple[float, ...]:
        """The sparsities at which they do."""
        asked, all = self.grid.step_sparsities, self.grid.sparsities
        if asked is not None:
            return asked
        near = (min(all, key=lambda s, goal=goal: abs(s - goal)) for goal in (0.9, 0.97))
        return tuple(dict.fromkeys(near))


def study_of(options: TrainingOptions, steps_per_epoch: int, layers: Sequence[str]) -> Study:
    """The study that a command line asks for.

    Args:
        layers: As of a ``Study``.
    """
    return Study(
        recipe=options.resolved_recipe(),
        steps_per_epoch=steps_per_epoch,
        knobs=options.knobs,
        prune_epochs=options.prune_epochs(),
        gate_learning_rate=options.gate_learning_rate(),
        grid=options.grid(),
        layers=tuple(layers),
        whole_searches=options.whole_searches,
    )
