"""The options of ``experiments.missing_the_mark``, and what follows from them."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from experiments.engine.options import TrainingOptions
from experiments.mark_plan import ABLATIONS, METHODS, RANDOM_BY_LAYER, Plan
from experiments.options.checks import (
    check_counts,
    check_file,
    check_names,
    check_sparsities,
    check_steps_within,
)

GRID = tuple(round(1 - 0.8**n, 4) for n in range(1, 19))
DEFAULT_METHODS = tuple(
    name
    for name in METHODS
    if name not in ("snip-second-draw", "snip-iterative", "force", *RANDOM_BY_LAYER)
)


@dataclass(frozen=True, kw_only=True)
class MissingTheMark(TrainingOptions):
    """Assess methods that prune at initialization, their ablations, and baselines after training."""

    experiment = "missing_the_mark"
    # Published accuracies decide no mask, only what the summary says.
    without_effect = (*TrainingOptions.without_effect, "reference")

    methods: tuple[str, ...] = DEFAULT_METHODS
    """who prunes; also snip-second-draw, snip-iterative, force, and random masks with an allocation"""
    ablations: tuple[str, ...] = ABLATIONS
    """sanity checks of methods that score; of baselines after training, shuffle and reinit alone"""
    sparsities: tuple[float, ...] = GRID
    """fractions of the prunable weights to remove; by default 1 - 0.8^n"""
    seeds: int = 2
    """independent repetitions: initial weights, data order, examples that are scored"""
    steps: tuple[int, ...] | None = None
    """steps after initialization at which methods prune as well; by default the end of the first epoch,
    a quarter and half of the training"""
    step_sparsities: tuple[float, ...] | None = None
    """sparsities for --steps; by default those of --sparsities nearest to 0.9 and to 0.97"""
    rewind_step: int | None = None
    """where lottery-ticket rewinding goes back to; by default a fortieth of the training"""
    k: int = 8
    """candidates of each K-starts search"""
    search_epochs: int = 2
    """epochs after which the fittest candidate is chosen"""
    dissipate_epochs: int | None = None
    """weights dissipate at the end of each of so many first epochs; by default half of all"""

    reference: Path | None = None
    """a CSV of published accuracies (network, dataset, method, ...) to set beside"""

    def __post_init__(self) -> None:
        """Raises a ValueError that names the option that is wrong."""
        super().__post_init__()
        check_names("methods", self.methods, METHODS)
        if self.ablations:
            check_names("ablations", self.ablations, ABLATIONS)
        check_sparsities(self, "sparsities")
        if self.step_sparsities is not None:
            check_sparsities(self, "step_sparsities")
        if not set(self.step_sparsities or ()) <= set(self.sparsities):
            raise ValueError(
                f"expected --step-sparsities among --sparsities, got {self.step_sparsities}: what is "
                "pruned later is compared with what is pruned at initialization"
            )
        check_counts(self, "seeds", "k", "search_epochs")
        check_file(self, "reference")
        epochs = self.resolved_recipe().epochs
        if not 1 <= self.resolved_dissipate_epochs() <= epochs:
            raise ValueError(
                f"expected 1 <= --dissipate-epochs <= --epochs ({epochs}), got {self.dissipate_epochs}"
            )
        if "k-starts" in self.methods and self.search_epochs > epochs:
            raise ValueError(f"expected --search-epochs <= --epochs ({epochs}), got {self.search_epochs}")

    def resolved_dissipate_epochs(self) -> int:
        """The epochs at whose end weights dissipate."""
        if self.dissipate_epochs is not None:
            return self.dissipate_epochs
        return max(1, self.resolved_recipe().epochs // 2)

    def settings(self) -> dict[str, Any]:
        """All that decides the results; None stands for a default that depends on the data's size."""
        return super().settings() | {"dissipate_epochs": self.resolved_dissipate_epochs()}

    def plan(self, steps_per_epoch: int) -> Plan:
        """What is trained on a data set of a given size.

        Args:
            steps_per_epoch: Of the recipe on it.

        Returns:
            The plan.

        Raises:
            ValueError: If a pruning step lies outside the training.
        """
        recipe = self.resolved_recipe()
        last = recipe.epochs * steps_per_epoch
        usual = {step for step in (steps_per_epoch, last // 4, last // 2) if step < last}
        steps = tuple(sorted(usual)) if self.steps is None else self.steps
        rewind_step = last // 40 if self.rewind_step is None else self.rewind_step
        check_steps_within(recipe, steps_per_epoch, steps=steps, rewind_step=[rewind_step])
        near = tuple(
            {min(self.sparsities, key=lambda s, goal=goal: abs(s - goal)): 0 for goal in (0.9, 0.97)}
        )
        return Plan(
            methods=self.methods,
            ablations=self.ablations,
            sparsities=self.sparsities,
            seeds=self.seeds,
            steps=tuple(sorted({step for step in steps if step > 0})),
            step_sparsities=near if self.step_sparsities is None else self.step_sparsities,
            rewind_step=rewind_step,
            k=self.k,
            search_epochs=self.search_epochs,
            dissipate_epochs=self.resolved_dissipate_epochs(),
            recipe=recipe,
        )
