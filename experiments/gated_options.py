"""The options of experiments with gates beside the weights."""

from dataclasses import dataclass
from typing import Any

from experiments.engine.options import TrainingOptions
from experiments.options.checks import check_above_zero, check_different, check_finite
from experiments.soft_programs import check_start


@dataclass(frozen=True, kw_only=True)
class GatedOptions(TrainingOptions):
    """The options of experiments that train by Continuous Sparsification."""

    starts: tuple[float, ...] = (-0.1, -0.05, -0.03, -0.02, -0.01, -0.005, 0.0, 0.01)
    """where gates begin in Continuous Sparsification, one network each, side by side"""
    penalty: float = 1e-8
    """weight of the sum of soft masks in the loss"""
    final_temperature: float = 200.0
    """of the soft masks, rising from 1"""
    gate_learning_rate: float | None = None
    """of the gates; by default the recipe's"""

    def __post_init__(self) -> None:
        """Raises a ValueError that names the option that is wrong; warns of gates that cannot open."""
        super().__post_init__()
        check_different("--starts", self.starts)
        check_above_zero(self, "final_temperature", "gate_learning_rate")
        for start in self.starts:
            check_start("--starts", start, self.final_temperature)
        check_finite(self, "starts", "penalty")
        if not self.penalty >= 0:
            raise ValueError(f"expected --penalty >= 0, got {self.penalty}")
        if self.resolved_recipe().epochs < 2:
            raise ValueError(
                "expected --epochs >= 2: the temperature rises between epochs, from 1 to its final value"
            )

    def settings(self) -> dict[str, Any]:
        """All that decides the results."""
        return super().settings() | {"gate_learning_rate": self.resolved_gate_learning_rate()}

    def resolved_gate_learning_rate(self) -> float:
        """The learning rate of the gates."""
        rate = self.gate_learning_rate
        return self.resolved_recipe().learning_rate if rate is None else rate
