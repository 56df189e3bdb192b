"""The options of ``experiments.ticket_search``, and what follows from them."""

from dataclasses import dataclass
from typing import Any

from experiments.options import TrainingOptions, check_different, check_steps_within
from experiments.soft_programs import check_start
from experiments.ticket_plan import CRITERIA, METHODS, TicketPlan
from pruning.counting import check_sparsity
from train.recipes import lookup


@dataclass(frozen=True, kw_only=True)
class TicketSearch(TrainingOptions):
    """Search for lottery tickets by Continuous Sparsification and by iterative magnitude pruning."""

    experiment = "ticket_search"

    methods: tuple[str, ...] = METHODS
    """who searches"""
    seeds: int = 3
    """independent repetitions: initial weights, data order"""
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
    starts: tuple[float, ...] = (-0.1, -0.05, -0.03, -0.02, -0.01, -0.005, 0.0, 0.01)
    """where gates begin in the parallel search by Continuous Sparsification, one network each"""
    sequential_start: float = 0.0
    """where they begin in the sequential one"""
    sequential_rounds: int = 3
    """its rounds"""
    penalty: float = 1e-8
    """weight of the sum of soft masks in the loss"""
    final_temperature: float = 200.0
    """of the soft masks, rising from 1 in every round"""
    gate_learning_rate: float | None = None
    """of the gates; by default the recipe's"""
    rewind_step: int | None = None
    """the step whose weights tickets begin with; by default a fortieth of the training"""

    def __post_init__(self) -> None:
        """Raises a ValueError that names the option that is wrong; warns of gates that cannot open."""
        super().__post_init__()
        for name in self.methods:
            lookup(dict.fromkeys(METHODS), name, "method")
        check_different("--methods", self.methods)
        check_different("--starts", self.starts)
        lookup(CRITERIA, self.criterion, "criterion")
        self.check_positive("seeds", "rounds", "sequential_rounds", "chunk_size")
        check_sparsity(self.fraction, "--fraction")
        if self.output_fraction is not None:
            check_sparsity(self.output_fraction, "--output-fraction")
            if not self.by_layer:
                raise ValueError("--output-fraction needs --by-layer: otherwise layers have no fractions")
        if not self.penalty >= 0:
            raise ValueError(f"expected --penalty >= 0, got {self.penalty}")
        if self.resolved_recipe().epochs < 2:
            raise ValueError(
                "expected --epochs >= 2: the temperature rises between epochs, from 1 to its final value"
            )
        for start in dict.fromkeys((*self.starts, self.sequential_start)):
            check_start(start, self.final_temperature)

    def settings(self) -> dict[str, Any]:
        """All that decides the results; None stands for a default that depends on the data's size."""
        return super().settings() | {"gate_learning_rate": self.resolved_gate_learning_rate()}

    def resolved_gate_learning_rate(self) -> float:
        """The learning rate of the gates."""
        rate = self.gate_learning_rate
        return self.resolved_recipe().learning_rate if rate is None else rate

    def plan(self, steps_per_epoch: int) -> TicketPlan:
        """What is searched on a data set of a given size.

        Args:
            steps_per_epoch: Of the recipe on it.

        Returns:
            The plan.

        Raises:
            ValueError: If the rewinding step lies outside the training.
        """
        recipe = self.resolved_recipe()
        rewind_step = self.rewind_step
        if rewind_step is None:
            rewind_step = recipe.epochs * steps_per_epoch // 40
        check_steps_within(recipe, steps_per_epoch, rewind_step=[rewind_step])
        return TicketPlan(
            methods=self.methods,
            seeds=self.seeds,
            rounds=self.rounds,
            fraction=self.fraction,
            by_layer=self.by_layer,
            output_fraction=self.fraction if self.output_fraction is None else self.output_fraction,
            criterion=self.criterion,
            starts=self.starts,
            sequential_start=self.sequential_start,
            sequential_rounds=self.sequential_rounds,
            penalty=self.penalty,
            final_temperature=self.final_temperature,
            gate_learning_rate=self.resolved_gate_learning_rate(),
            rewind_step=rewind_step,
            steps_per_epoch=steps_per_epoch,
            recipe=recipe,
        )
