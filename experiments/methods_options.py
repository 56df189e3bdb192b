"""The options of ``experiments.pruning_methods``, and what follows from them."""

from dataclasses import dataclass
from typing import Any

from experiments.methods_plan import METHODS, MethodsPlan
from experiments.options import TrainingOptions, check_different
from experiments.soft_programs import check_start
from train.recipes import lookup


@dataclass(frozen=True, kw_only=True)
class PruningMethods(TrainingOptions):
    """Compare ways of pruning at equal training epochs: before, while and after the weights learn."""

    experiment = "pruning_methods"

    methods: tuple[str, ...] = METHODS
    """who prunes"""
    sparsities: tuple[float, ...] = (0.8, 0.9, 0.95, 0.98, 0.99)
    """fractions of the prunable weights to remove; Continuous Sparsification finds its own"""
    seeds: int = 3
    """independent repetitions: initial weights, data order, examples that are scored"""
    prune_epochs: int | None = None
    """weights are pruned at the end of each of so many first epochs, and fine-tuning begins after them;
    by default half of all"""
    k: int = 8
    """candidates of each K-starts search"""
    search_epochs: int = 2
    """epochs after which the fittest candidate is chosen"""
    starts: tuple[float, ...] = (-0.1, -0.05, -0.03, -0.02, -0.01, -0.005, 0.0)
    """where gates begin in Continuous Sparsification, a network each"""
    penalty: float = 1e-8
    """weight of the sum of soft masks in the loss"""
    final_temperature: float = 200.0
    """of the soft masks, rising from 1"""
    gate_learning_rate: float | None = None
    """of the gates; by default the recipe's"""

    def __post_init__(self) -> None:
        """Raises a ValueError that names the option that is wrong."""
        super().__post_init__()
        for name in self.methods:
            lookup(dict.fromkeys(METHODS), name, "method")
        check_different("--methods", self.methods)
        check_different("--starts", self.starts)
        self.check_sparsities("sparsities")
        self.check_positive("seeds", "k", "search_epochs", "chunk_size")
        for start in self.starts:
            check_start(start, self.final_temperature)
        if not self.penalty >= 0:
            raise ValueError(f"expected --penalty >= 0, got {self.penalty}")
        epochs = self.resolved_recipe().epochs
        if not self.search_epochs < self.resolved_prune_epochs() < epochs:
            raise ValueError(
                "expected --search-epochs < --prune-epochs < --epochs, got "
                f"{self.search_epochs}, {self.resolved_prune_epochs()}, {epochs}: weights dissipate "
                "after a search, and what is pruned late is trained on"
            )

    def resolved_prune_epochs(self) -> int:
        """The epochs at whose end weights are pruned."""
        return self.resolved_recipe().epochs // 2 if self.prune_epochs is None else self.prune_epochs

    def settings(self) -> dict[str, Any]:
        """All that decides the results."""
        return super().settings() | {
            "prune_epochs": self.resolved_prune_epochs(),
            "gate_learning_rate": self.resolved_gate_learning_rate(),
        }

    def resolved_gate_learning_rate(self) -> float:
        """The learning rate of the gates."""
        rate = self.gate_learning_rate
        return self.resolved_recipe().learning_rate if rate is None else rate

    def plan(self) -> MethodsPlan:
        """What is trained."""
        return MethodsPlan(
            methods=self.methods,
            sparsities=self.sparsities,
            seeds=self.seeds,
            prune_epochs=self.resolved_prune_epochs(),
            k=self.k,
            search_epochs=self.search_epochs,
            starts=self.starts,
            penalty=self.penalty,
            gate_learning_rate=self.resolved_gate_learning_rate(),
            recipe=self.resolved_recipe(),
        )
