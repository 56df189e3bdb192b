"""Speed, as ratios measured in one process: each row does the same work in two ways, in turn.

    python -m experiments.benchmarks
    python -m experiments.benchmarks --only train-lenet-300-100 --json benchmarks.json

Both ways are warmed up first, so compilation is not in the times. Then they run in turn, and the
ratio is taken pair by pair, so that a machine whose speed drifts slows both. Quote the ratio's
median; the rates are those of the machine at that moment. FLOPs are those of products and convolutions,
counted by layer; beside them stands what fraction they are of the machine's own ceiling, measured in the
same run. The last column has what else is known of our way: seconds to compile, bytes.

Rows against PyTorch need it: ``pip install -e '.[benchmarks]'``. Rows of whole runs (``startup-...``)
take minutes and are measured once; those of input need prepared sets, in TFDS_DATA_DIR or TFDS's own
folder.

The rows are those of ``experiments.benchmark_rows``.
"""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

import jax

from experiments.benchmark_comparison import Measurement, Unavailable, measure, measure_ceilings
from experiments.benchmark_rows import ROWS
from experiments.engine.options import run_command
from experiments.options.checks import check_count, check_writable
from pruning.masks.saving import write_atomically
from train.lookup import lookup


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
        check_count("--repetitions", self.repetitions)


def main() -> None:
    """Runs what the command line asks for."""
    run_command(Benchmarks, run, __doc__)


def run(config: Benchmarks) -> None:
    """Measures rows and prints the table.

    Args:
        config: Which rows.
    """
    if config.json is not None:
        check_writable("--json", config.json)
    ceilings = measure_ceilings()
    print(
        f"jax {jax.__version__}, {jax.devices()[0].device_kind}, {config.repetitions} pairs; ceilings: "
        f"{ceilings.flops / 1e9:.0f} GFLOP/s (a large matrix product) and "
        f"{ceilings.bytes / 1e9:.1f} GB/s (a large copy)\n"
    )
    print(
        "| row | ours, per second | theirs, per second | ratio, median (lowest to highest) | "
        "ours: work done, rate | ours: also |"
    )
    print("|---|---|---|---|---|---|")
    machine = {"jax": jax.__version__, "device": jax.devices()[0].device_kind}
    measurements = []
    for name in config.only or ROWS:
        try:
            row = ROWS[name]()
        except Unavailable as reason:
            print(f"| {name} | skipped: {reason} | | | | |", flush=True)
            continue
        found = measure(name, row, config.repetitions, ceilings)
        print(
            f"| {name} ({found.unit}, against {found.against}) | {found.ours:.4g} | "
            f"{found.theirs:.4g} | {found.ratio:.2f} ({found.ratio_low:.2f} to "
            f"{found.ratio_high:.2f}) | {_rate(found)} | {_facts(found)} |",
            flush=True,
        )
        measurements.append(asdict(found))
        if config.json is not None:
            content = machine | {"ceilings": asdict(ceilings), "rows": measurements}
            write_atomically(config.json, (json.dumps(content, indent=2) + "\n").encode())


def _rate(found: Measurement) -> str:
    """The counted work, its rate, and the fraction of the machine's ceiling that this is."""
    if found.of_ceiling is None:
        return ""
    counted = (found.flops, found.flops_per_second, "GFLOP")
    if not found.flops:
        counted = found.bytes, found.bytes_per_second, "GB"
    each, rate, unit = counted
    return (
        f"{each / 1e9:.3g} {unit} each, {rate / 1e9:.3g} {unit}/s, {found.of_ceiling:.0%} of the ceiling"
    )


def _facts(found: Measurement) -> str:
    return "; ".join(f"{name}: {value:.3g}" for name, value in found.facts.items())


if __name__ == "__main__":
    main()
