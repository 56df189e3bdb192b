"""Speed, as ratios measured in one process: each row does the same work in two ways, in turn.

    python -m experiments.benchmarks
    python -m experiments.benchmarks --only train-lenet-300-100 --json benchmarks.json

Both ways are warmed up first, so compilation is not in the times. Then they run in turn, and the
ratio is taken pair by pair, so that a machine whose speed drifts slows both. Quote the ratio's
median; the rates are those of the machine at that moment. FLOPs are those of products and convolutions,
counted by layer; beside them stands what fraction they are of the machine's own ceiling, measured in the
same run. Rows against PyTorch need it: ``pip install -e '.[benchmarks]'``.

The rows are those of ``experiments.benchmark_rows``.
"""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

import jax

from experiments.benchmark_comparison import Measurement, Unavailable, measure, measure_ceilings
from experiments.benchmark_rows import ROWS
from experiments.options import run_command
from pruning.artifacts import write_atomically
from train.recipes import lookup


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


def main() -> None:
    """Runs what the command line asks for."""
    run_command(Benchmarks, run, __doc__)


def run(config: Benchmarks) -> None:
    """Measures rows and prints the table.

    Args:
        config: Which rows.
    """
    ceilings = measure_ceilings()
    print(
        f"jax {jax.__version__}, {jax.devices()[0].device_kind}, {config.repetitions} pairs; ceilings: "
        f"{ceilings.flops / 1e9:.0f} GFLOP/s (a large matrix product) and "
        f"{ceilings.bytes / 1e9:.1f} GB/s (a large copy)\n"
    )
    print(
        "| row | ours, per second | theirs, per second | ratio, median (lowest to highest) | ours, rate |"
    )
    print("|---|---|---|---|---|")
    measurements = []
    for name in config.only or ROWS:
        try:
            comparison = ROWS[name]()
        except Unavailable as reason:
            print(f"| {name} | skipped: {reason} | | | |", flush=True)
            continue
        found = measure(name, comparison, config.repetitions, ceilings)
        measurements.append(asdict(found))
        print(
            f"| {name} ({found.unit}, against {found.against}) | {found.ours:.4g} | "
            f"{found.theirs:.4g} | {found.ratio:.2f} ({found.ratio_low:.2f} to "
            f"{found.ratio_high:.2f}) | {_rate(found)} |",
            flush=True,
        )
    if config.json is not None:
        machine = {"jax": jax.__version__, "device": jax.devices()[0].device_kind}
        found = machine | {"ceilings": asdict(ceilings), "rows": measurements}
        write_atomically(config.json, (json.dumps(found, indent=2) + "\n").encode())


def _rate(found: Measurement) -> str:
    """The rate of the counted work, and the fraction of the machine's ceiling that it is."""
    if found.of_ceiling is None:
        return ""
    gigas, unit = (
        (found.flops_per_second, "GFLOP/s")
        if found.flops_per_second
        else (found.bytes_per_second, "GB/s")
    )
    return f"{gigas / 1e9:.3g} {unit}, {found.of_ceiling:.0%} of the ceiling"


if __name__ == "__main__":
    main()
