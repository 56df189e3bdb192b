"""The options of experiments that train."""

from dataclasses import dataclass, field
from typing import Any, ClassVar, NamedTuple

import tyro

from experiments.options.checks import (
    MOST_EPOCHS,
    check_above_zero,
    check_count,
    check_counts,
    check_different,
    check_finite,
    check_sparsities,
    option_of,
)
from experiments.options.knobs import GridKnobs, Knobs
from experiments.options.options import Plumbing
from experiments.options.repeated import RepeatedOptions
from train.recipes import Recipe


class Grid(NamedTuple):
    """Where methods are asked for networks.

    Attributes:
        sparsities: Fractions removed.
        ablations: Of methods that have them.
        steps: After initialization, at which methods of one moment prune as well; None for the usual.
        step_sparsities: The sparsities at which they do; None for the usual.
    """

    sparsities: tuple[float, ...] = ()
    ablations: tuple[str, ...] = ()
    steps: tuple[int, ...] | None = ()
    step_sparsities: tuple[float, ...] | None = None


@dataclass(frozen=True, kw_only=True)
class TrainingPlumbing(Plumbing):
    """How networks are trained; it does not decide what comes out."""

    chunk_size: int | None = None
    """networks that train together; a killed run repeats at most ten minutes of these; by default 32 on
    CPUs and 256 elsewhere, or as many as fit into memory"""
    devices_per_network: int = 1
    """devices that each network's batches are divided over, for networks too large for one"""

    def __post_init__(self) -> None:
        """Raises a ValueError that names the option that is wrong."""
        super().__post_init__()
        check_counts(self, "devices_per_network", "chunk_size")


@dataclass(frozen=True, kw_only=True)
class TrainingOptions(RepeatedOptions):
    """The options of every experiment that trains; each adds its ``methods``."""

    without_effect: ClassVar[tuple[str, ...]] = (*RepeatedOptions.without_effect, "epochs", "knobs")
    # Methods of whose searches all candidates are trained to the end.
    whole_searches: ClassVar[tuple[str, ...]] = ()

    seeds: int = 3
    """independent repetitions: initial weights, data order, examples that are scored"""
    epochs: int | None = None
    """length of a training, its schedule in proportion; by default the recipe's"""
    learning_rates: tuple[float, ...] = ()
    """train every network with each of these; by default with the recipe's"""
    weight_decays: tuple[float, ...] = ()
    """train every network with each of these; by default with the recipe's"""
    knobs: tyro.conf.OmitArgPrefixes[Knobs] = field(default_factory=Knobs)
    plumbing: tyro.conf.OmitArgPrefixes[TrainingPlumbing] = field(default_factory=TrainingPlumbing)

    def __post_init__(self) -> None:
        """Raises a ValueError that names the option that is wrong."""
        super().__post_init__()
        check_counts(self, "epochs", most=MOST_EPOCHS)
        if "epochs" in self.replaced():
            asked = self.replaced()["epochs"]
            check_count("--recipe.epochs", asked, most=MOST_EPOCHS)
            if self.epochs is not None:
                raise ValueError(
                    "expected --epochs, which scales the recipe's schedule, or --recipe.epochs, which "
                    f"leaves it as it is, got both: {self.epochs} and {asked}"
                )
        for name in ("learning_rates", "weight_decays"):
            if getattr(self, name):
                check_different(option_of(name), getattr(self, name))
        check_above_zero(self, "learning_rates")
        check_finite(self, "weight_decays")
        if any(decay < 0 for decay in self.weight_decays):
            raise ValueError(f"expected --weight-decays >= 0, got {self.weight_decays}")
        if self.weight_decays and not self.resolved_recipe().weight_decay:
            raise ValueError(
                "--weight-decays would do nothing: the recipe has no weight decay; give it one, as in "
                "--recipe.weight-decay 1e-4, and they take its place"
            )

    def grid(self) -> Grid:
        """Where methods are asked for networks."""
        return Grid()

    def prune_epochs(self) -> int:
        """The first epochs, at whose end methods prune while networks train."""
        asked, epochs = self.knobs.schedule.prune_epochs, self.resolved_recipe().epochs
        return max(1, epochs // 2) if asked is None else asked

    def gate_learning_rate(self) -> float | None:
        """The learning rate of gates; None where it is that of the weights, and these have several."""
        asked = self.knobs.gates.gate_learning_rate
        if asked is not None or self.learning_rates:
            return asked
        return self.resolved_recipe().learning_rate

    def settings(self) -> dict[str, Any]:
        """All that decides the results."""
        resolved = {
            "prune_epochs": self.prune_epochs(),
            "gate_learning_rate": self.gate_learning_rate(),
        }
        return super().settings() | resolved

    def given(self) -> dict[str, Any]:
        """The options that decide the results, as they were given; the recipe's not among them."""
        return super().given() | self.knobs.settings()

    def defaults(self) -> dict[str, Any]:
        """What they are by default."""
        return super().defaults() | Knobs().settings()

    def _of_length(self, recipe: Recipe) -> Recipe:
        return recipe if self.epochs is None else recipe.of_length(self.epochs)


@dataclass(frozen=True, kw_only=True)
class GridOptions(TrainingOptions):
    """The options of experiments that ask methods for networks at given sparsities."""

    sparsities: tuple[float, ...] = (0.8, 0.9, 0.95, 0.98)
    """fractions of the prunable weights to remove; methods with gates find their own"""
    knobs: tyro.conf.OmitArgPrefixes[Knobs] = field(default_factory=GridKnobs)

    def __post_init__(self) -> None:
        """Raises a ValueError that names the option that is wrong."""
        super().__post_init__()
        check_sparsities(self, "sparsities")

    def grid(self) -> Grid:
        """Where methods are asked for networks."""
        return Grid(sparsities=self.sparsities)
