"""The options of every experiment that is repeated with several seeds."""

from dataclasses import dataclass

from experiments.options.checks import MOST, check_counts
from experiments.options.options import Options


@dataclass(frozen=True, kw_only=True)
class RepeatedOptions(Options):
    """Those of training and of untrained networks add theirs."""

    seeds: int = 3
    """independent repetitions"""
    first_seed: int = 0
    """the first of the seeds; runs that have other seeds, each a job of its own, become one by
    experiments.report"""

    def __post_init__(self) -> None:
        """Raises a ValueError that names the option that is wrong."""
        super().__post_init__()
        check_counts(self, "seeds")
        if not 0 <= self.first_seed <= MOST:
            raise ValueError(f"expected --first-seed from 0 to {MOST}, got {self.first_seed}")

    def all_seeds(self) -> range:
        """The seeds, as many as were asked for, from the first on."""
        return range(self.first_seed, self.first_seed + self.seeds)
