"""The options of ``experiments.pruning_methods``, and what follows from them."""

from dataclasses import dataclass
from typing import Any

from experiments.gated_options import GatedOptions
from experiments.methods_plan import COMBINED, METHODS, PRUNED_LATE, MethodsPlan
from experiments.options.checks import (
    check_above_zero,
    check_counts,
    check_different,
    check_finite,
    check_names,
    check_sparsities,
)


@dataclass(frozen=True, kw_only=True)
class PruningMethods(GatedOptions):
    """Compare ways of pruning at equal training epochs: before, while and after the weights learn."""

    experiment = "pruning_methods"

    methods: tuple[str, ...] = METHODS
    """who prunes"""
    sparsities: tuple[float, ...] = (0.8, 0.9, 0.95, 0.98, 0.99)
    """fractions of the prunable weights to remove; methods with gates find their own"""
    seeds: int = 3
    """independent repetitions: initial weights, data order, examples that are scored"""
    prune_epochs: int | None = None
    """weights are pruned at the end of each of so many first epochs, and fine-tuning begins after them;
    by default half of all"""
    k: int = 8
    """candidates of each K-starts search"""
    search_epochs: int = 2
    """epochs after which the fittest candidate is chosen"""
    stochastic_starts: tuple[float, ...] = (-2.0, -1.5, -1.0, -0.5, 0.0, 1.0)
    """where gates begin in the search for stochastic supermasks: a weight's first odds are exp(start)"""
    stochastic_learning_rate: float = 100.0
    """of these gates"""

    def __post_init__(self) -> None:
        """Raises a ValueError that names the option that is wrong."""
        super().__post_init__()
        check_names("methods", self.methods, METHODS)
        check_sparsities(self, "sparsities")
        check_different("--stochastic-starts", self.stochastic_starts)
        check_finite(self, "stochastic_starts")
        check_above_zero(self, "stochastic_learning_rate")
        check_counts(self, "seeds", "k", "search_epochs")
        epochs = self.resolved_recipe().epochs
        prune_epochs = self.resolved_prune_epochs()
        if not set(PRUNED_LATE).isdisjoint(self.methods) and not 0 < prune_epochs < epochs:
            raise ValueError(
                f"expected 0 < --prune-epochs < --epochs, got {prune_epochs}, {epochs}: what is pruned "
                "late is trained on"
            )
        if COMBINED in self.methods and not self.search_epochs < prune_epochs:
            raise ValueError(
                f"expected --search-epochs < --prune-epochs, got {self.search_epochs}, {prune_epochs}: "
                "weights dissipate after a search"
            )

    def resolved_prune_epochs(self) -> int:
        """The epochs at whose end weights are pruned."""
        return self.resolved_recipe().epochs // 2 if self.prune_epochs is None else self.prune_epochs

    def settings(self) -> dict[str, Any]:
        """All that decides the results."""
        return super().settings() | {"prune_epochs": self.resolved_prune_epochs()}

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
            stochastic_starts=self.stochastic_starts,
            stochastic_learning_rate=self.stochastic_learning_rate,
            recipe=self.resolved_recipe(),
        )
