"""The options of experiments on untrained networks."""

from dataclasses import dataclass

from experiments.options.checks import MOST_CLASSES, check_counts
from experiments.options.repeated import RepeatedOptions


@dataclass(frozen=True, kw_only=True)
class UntrainedOptions(RepeatedOptions):
    """Each adds its ``methods``."""

    classes: int | None = None
    """number of logits; by default the data set's classes"""
    seeds: int = 3
    """independent draws of weights and examples"""

    def __post_init__(self) -> None:
        """Raises a ValueError that names the option that is wrong."""
        super().__post_init__()
        check_counts(self, "classes", most=MOST_CLASSES)
