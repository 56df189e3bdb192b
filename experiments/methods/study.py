"""What all networks of a run have in common, as methods see it."""

from dataclasses import dataclass

from experiments.options.checks import check_steps_within
from experiments.options.training import Grid, TrainingOptions
from train.recipes import Recipe


@dataclass(frozen=True, kw_only=True)
class Study:
    """The options of a run, and what follows from them for a data set of a given size.

    Attributes:
        options: Of the command line.
        steps_per_epoch: Of the recipe on the data set.
    """

    options: TrainingOptions
    steps_per_epoch: int

    def __post_init__(self) -> None:
        """Raises a ValueError that names the option whose step lies outside the training."""
        check_steps_within(
            self.recipe,
            self.steps_per_epoch,
            rewind_step=[self.rewind_step],
            steps=self.grid.steps or (),
        )

    @property
    def grid(self) -> Grid:
        """Where methods are asked for networks."""
        return self.options.grid()

    @property
    def recipe(self) -> Recipe:
        """How every network is trained."""
        return self.options.resolved_recipe()

    @property
    def epochs(self) -> int:
        """Of a training."""
        return self.recipe.epochs

    @property
    def last_step(self) -> int:
        """The end of a training."""
        return self.epochs * self.steps_per_epoch

    @property
    def rewind_step(self) -> int:
        """Where lottery tickets are rewound to."""
        step = self.options.knobs.schedule.rewind_step
        return self.last_step // 40 if step is None else step

    @property
    def prune_epochs(self) -> int:
        """The first epochs, in which methods prune while networks train."""
        return self.options.prune_epochs()

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
