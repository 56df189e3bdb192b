"""The options of ``experiments.ticket_search``, and what follows from them."""

from dataclasses import dataclass

from experiments.gated_options import GatedOptions
from experiments.option_checks import check_counts, check_finite, check_names, check_steps_within
from experiments.soft_programs import check_start
from experiments.ticket_plan import CRITERIA, METHODS, TicketPlan
from pruning.masks.counting import check_sparsity
from train.recipes import lookup


@dataclass(frozen=True, kw_only=True)
class TicketSearch(GatedOptions):
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
    sequential_start: float = 0.0
    """where gates begin in its sequential search"""
    sequential_rounds: int = 3
    """rounds of the sequential search"""
    rewind_step: int | None = None
    """the step whose weights tickets begin with; by default a fortieth of the training"""

    def __post_init__(self) -> None:
        """Raises a ValueError that names the option that is wrong; warns of gates that cannot open."""
        super().__post_init__()
        check_names("methods", self.methods, METHODS)
        lookup(CRITERIA, self.criterion, "criterion")
        check_counts(self, "seeds", "rounds", "sequential_rounds")
        check_sparsity(self.fraction, "--fraction")
        if self.output_fraction is not None:
            check_sparsity(self.output_fraction, "--output-fraction")
            if not self.by_layer:
                raise ValueError("--output-fraction needs --by-layer: otherwise layers have no fractions")
        check_finite(self, "sequential_start")
        check_start("--sequential-start", self.sequential_start, self.final_temperature)

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
