"""The settings of methods, by family, as every command line that trains offers them.

A method reads those of its own family; the others play no part for it.
"""

import dataclasses
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any

from tyro.conf import Suppress, arg

from experiments.options.checks import (
    check_above_zero,
    check_counts,
    check_different,
    check_finite,
)
from pruning.gates.continuous import LOWEST_INITIAL, closing_factor
from pruning.masks.counting import check_sparsity

MOST_STEPS = 10_000_000
DEAD = 1e-12
"""Gates that do not move close by more than this: from -0.14 down, at temperature 200."""


@dataclass(frozen=True, kw_only=True)
class SearchKnobs:
    """Settings of K-starts and its relatives."""

    k: int = 8
    """candidates of each search"""
    search_epochs: int = 2
    """epochs after which the fittest candidate is chosen"""
    generations: int = 3
    """of the evolutionary search, each of k candidates"""
    mutation: float = 0.1
    """of a child's kept weights, moved in the evolutionary search"""
    group_size: int = 4
    """inputs of a group, M, in the search among N:M masks"""
    kept_in_group: tuple[int, ...] = (1, 2)
    """weights that are kept of each group, N, in the search among N:M masks, one network each"""

    def __post_init__(self) -> None:
        """Raises a ValueError that names the option that is wrong."""
        check_counts(self, "k", "search_epochs", "generations", "group_size")
        check_different("--kept-in-group", self.kept_in_group)
        if any(not 1 <= kept < self.group_size for kept in self.kept_in_group):
            raise ValueError(
                f"expected --kept-in-group from 1 to below --group-size ({self.group_size}), got "
                f"{', '.join(map(str, self.kept_in_group))}"
            )
        if not 0 <= self.mutation <= 1:
            raise ValueError(f"expected --mutation in [0, 1], got {self.mutation}")


@dataclass(frozen=True, kw_only=True)
class ScheduleKnobs:
    """Settings of methods that prune while networks train, or in the middle."""

    prune_epochs: int | None = None
    """weights are pruned at the end of each of so many first epochs, or once after them; by default half
    of all"""
    fractions: tuple[float, ...] = (0.1, 0.3, 1.0)
    """bands of dissipating gradients, as fractions of the initial weight"""
    rewind_step: int | None = None
    """the step that lottery tickets are rewound to; by default a fortieth of the training"""

    def __post_init__(self) -> None:
        """Raises a ValueError that names the option that is wrong."""
        check_counts(self, "prune_epochs")
        check_finite(self, "fractions")
        check_different("--fractions", self.fractions)
        if any(not fraction >= 0 for fraction in self.fractions):
            raise ValueError(f"expected --fractions >= 0, got {self.fractions}")


@dataclass(frozen=True, kw_only=True)
class DynamicKnobs:
    """Settings of dynamic sparse training, in the first three quarters of the steps."""

    check_steps: int | None = None
    """steps between checks, at which weights are dropped and grown; by default 100, or an epoch or three
    quarters of the training where that is shorter"""
    drop_fraction: float = 0.3
    """of a layer's kept weights, dropped at the first checks; it falls to 0 as a cosine does"""

    def __post_init__(self) -> None:
        """Raises a ValueError that names the option that is wrong."""
        check_counts(self, "check_steps", most=MOST_STEPS)
        if not 0 <= self.drop_fraction <= 1:
            raise ValueError(f"expected --drop-fraction in [0, 1], got {self.drop_fraction}")


@dataclass(frozen=True, kw_only=True)
class GateKnobs:
    """Settings of methods with gates beside the weights."""

    starts: tuple[float, ...] = (-0.1, -0.05, -0.03, -0.02, -0.01, -0.005, 0.0, 0.01)
    """where gates begin in Continuous Sparsification, one network each, side by side"""
    penalty: float = 1e-8
    """weight of the sum of soft masks in the loss"""
    final_temperature: float = 200.0
    """of the soft masks, rising from 1"""
    gate_learning_rate: float | None = None
    """of the gates; by default that of the weights"""
    stochastic_starts: tuple[float, ...] = (-2.0, -1.5, -1.0, -0.5, 0.0, 1.0)
    """where gates begin in the search for stochastic supermasks: a weight's first odds are exp(start)"""
    stochastic_learning_rate: float = 100.0
    """of these gates"""

    def __post_init__(self) -> None:
        """Raises a ValueError that names the option that is wrong."""
        check_different("--starts", self.starts)
        check_above_zero(self, "final_temperature", "gate_learning_rate", "stochastic_learning_rate")
        check_finite(self, "starts", "penalty", "stochastic_starts")
        if not self.penalty >= 0:
            raise ValueError(f"expected --penalty >= 0, got {self.penalty}")
        check_different("--stochastic-starts", self.stochastic_starts)


@dataclass(frozen=True, kw_only=True)
class RoundKnobs:
    """Settings of searches for lottery tickets in rounds."""

    rounds: int = 15
    """rounds of iterative pruning"""
    fraction: float = 0.2
    """of what is left, removed in each of them"""
    by_layer: bool = False
    """rank each layer by itself instead of the network as a whole"""
    output_fraction: float | None = None
    """with --by-layer, what is removed of the output layer; by default --fraction"""
    criterion: str = "magnitude"
    """what iterative pruning keeps: magnitude, magnitude-increase, movement or random"""
    sequential_start: float = 0.0
    """where gates begin in the sequential search of Continuous Sparsification"""
    sequential_rounds: int = 3
    """rounds of the sequential search"""

    def __post_init__(self) -> None:
        """Raises a ValueError that names the option that is wrong."""
        check_counts(self, "rounds", "sequential_rounds")
        check_sparsity(self.fraction, "--fraction")
        check_finite(self, "sequential_start")
        if self.output_fraction is not None:
            check_sparsity(self.output_fraction, "--output-fraction")
            if not self.by_layer:
                raise ValueError("--output-fraction needs --by-layer: otherwise layers have no fractions")


@dataclass(frozen=True, kw_only=True)
class Knobs:
    """All families, as ``--help`` groups them."""

    search: Annotated[SearchKnobs, arg(name="k-starts", prefix_name=False)] = field(
        default_factory=SearchKnobs
    )
    schedule: Annotated[ScheduleKnobs, arg(prefix_name=False)] = field(default_factory=ScheduleKnobs)
    dynamic: Annotated[DynamicKnobs, arg(name="dynamic sparse training", prefix_name=False)] = field(
        default_factory=DynamicKnobs
    )
    gates: Annotated[GateKnobs, arg(prefix_name=False)] = field(default_factory=GateKnobs)
    rounds: Annotated[RoundKnobs, arg(prefix_name=False)] = field(default_factory=RoundKnobs)

    def settings(self) -> dict[str, Any]:
        """All settings by name."""
        families = (getattr(self, field.name) for field in dataclasses.fields(self))
        return {name: value for family in families for name, value in vars(family).items()}


@dataclass(frozen=True, kw_only=True)
class GridKnobs(Knobs):
    """As command lines offer them that ask no method of rounds."""

    rounds: Suppress[RoundKnobs] = field(default_factory=RoundKnobs)


@dataclass(frozen=True, kw_only=True)
class TicketKnobs(Knobs):
    """As command lines offer them that ask methods of rounds alone."""

    search: Suppress[SearchKnobs] = field(default_factory=SearchKnobs)
    dynamic: Suppress[DynamicKnobs] = field(default_factory=DynamicKnobs)


def knobs_of(settings: Mapping[str, Any]) -> Knobs:
    """The settings of methods in those of a run; what it does not name has its default."""
    families = {}
    for family in dataclasses.fields(Knobs):
        usual = getattr(Knobs(), family.name)
        values = {name: settings[name] for name in vars(usual) if name in settings}
        values = {n: tuple(v) if isinstance(v, list) else v for n, v in values.items()}
        families[family.name] = dataclasses.replace(usual, **values)
    return Knobs(**families)


def check_start(option: str, start: float, final_temperature: float) -> None:
    """Checks where the gates of soft masks begin, and warns of gates that cannot open.

    Raises:
        ValueError: If a mask cannot be computed from them.

    Warns:
        UserWarning: If gates that do not move close altogether.
    """
    if not LOWEST_INITIAL <= start < float("inf"):
        raise ValueError(f"expected {option} of at least {LOWEST_INITIAL:g}, got {start}")
    closed = closing_factor(start, final_temperature)
    if closed < DEAD:
        warnings.warn(
            f"gates that begin at {start:g} and do not move shrink by a factor of {closed:.0e} while "
            f"the temperature rises to {final_temperature:g}: only weights whose gates the loss lifts "
            "above 0 survive, and in a short training there may be none",
            stacklevel=5,
        )
