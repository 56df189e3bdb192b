"""Speed, as ratios measured in one process: each row does the same work in two ways, in turn.

    python -m experiments.benchmarks
    python -m experiments.benchmarks --only train-lenet-300-100 --json benchmarks.json

Both ways are warmed up first, so compilation is not in the times. Then they run in turn, and the
ratio is taken pair by pair, so that a machine whose speed drifts slows both. Quote the ratio's
median; the rates are those of the machine at that moment.

The rows are those of ``experiments.benchmark_rows``.
"""

import json
import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import jax

from experiments.benchmark_rows import ROWS, Comparison
from experiments.options import run_command
from pruning.artifacts import write_atomically
from train.recipes import lookup


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """A row's result; rates are medians in units per second, the ratio is ours over theirs."""

    name: str
    against: str
    unit: str
    ours: float
    theirs: float
    ratio: float
    ratio_low: float
    ratio_high: float
    repetitions: int


@dataclass(frozen=True, kw_only=True)
class Benchmarks:
    """Measure this project's speed as ratios."""

    only: tuple[str, ...] = ()
    """rows to measure; all by default"""
    json: Path | None = None
    """a file for the measurements"""
    repetitions: int = 7
    """pairs of runs, after one that is not counted"""

    def __post_init__(self) -> None:
        """Raises a ValueError that names the option that is wrong."""
        for name in self.only:
            lookup(ROWS, name, "benchmark")
        if self.repetitions < 1:
            raise ValueError(f"expected --repetitions >= 1, got {self.repetitions}")


def measure(name: str, comparison: Comparison, repetitions: int) -> Measurement:
    """Runs both ways in turn and compares them pair by pair.

    Args:
        name: The row's name.
        comparison: The two ways.
        repetitions: Pairs that count, after one that does not.

    Returns:
        Medians, and the lowest and highest ratio.
    """
    pairs = [(_seconds(comparison.ours), _seconds(comparison.theirs)) for _ in range(repetitions + 1)][1:]
    ratios = [theirs / ours for ours, theirs in pairs]
    return Measurement(
        name=name,
        against=comparison.against,
        unit=comparison.unit,
        ours=comparison.amount / statistics.median(ours for ours, _ in pairs),
        theirs=comparison.amount / statistics.median(theirs for _, theirs in pairs),
        ratio=statistics.median(ratios),
        ratio_low=min(ratios),
        ratio_high=max(ratios),
        repetitions=repetitions,
    )


def main() -> None:
    """Runs what the command line asks for."""
    run_command(Benchmarks, run, __doc__)


def run(config: Benchmarks) -> None:
    """Measures rows and prints the table.

    Args:
        config: Which rows.
    """
    print(f"jax {jax.__version__}, {jax.devices()[0].device_kind}, {config.repetitions} pairs\n")
    print("| row | ours, per second | theirs, per second | ratio, median (lowest to highest) |")
    print("|---|---|---|---|")
    measurements = []
    for name in config.only or ROWS:
        found = measure(name, ROWS[name](), config.repetitions)
        measurements.append(asdict(found))
        print(
            f"| {name} ({found.unit}, against {found.against}) | {found.ours:.1f} | "
            f"{found.theirs:.1f} | {found.ratio:.2f} ({found.ratio_low:.2f} to "
            f"{found.ratio_high:.2f}) |",
            flush=True,
        )
    if config.json is not None:
        write_atomically(config.json, (json.dumps(measurements, indent=2) + "\n").encode())


def _seconds(work: Callable[[], None]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
