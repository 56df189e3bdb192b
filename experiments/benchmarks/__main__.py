"""Speed, as ratios measured in one process: each row does the same work in two ways, in turn.

    python -m experiments.benchmarks --json benchmarks.json
    python -m experiments.benchmarks --only train-lenet-300-100 selection
    python -m experiments.benchmarks --seconds 540 --repetitions 3 --json accelerator.json

Without --only, all rows of the platform are measured: about 20 minutes on two CPU cores. On an
accelerator the first rows tell whether its numbers are right and which defaults suit it; the third
command has those in ten minutes. A row is printed, and the file written, as soon as it is measured.

Quote the ratio's median; the rates are those of the machine at that moment. FLOPs are those of products
and convolutions, counted by layer; beside them stands their fraction of the machine's own ceiling,
measured in the same run. The last column has what else is known of our way: the seconds of its first
call, with what it compiles then, the seconds of compiling alone, bytes.

Rows against PyTorch need it (``pip install -e '.[benchmarks]'``), those of input need prepared sets, in
TFDS_DATA_DIR or TFDS's own folder. What cannot be measured is skipped with the reason. A row that
computes something wrong is refused, and the command fails at the end.
"""

import gc
import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax

from experiments.benchmarks.measuring import Unavailable, WrongNumbers, measure, measure_ceilings
from experiments.benchmarks.rows import ROWS
from experiments.benchmarks.sizes import SIZES, SMALLEST
from experiments.engine.experiment import run_command
from experiments.options.checks import check_above_zero, check_count, check_writable
from pruning.files.writing import write_atomically
from train.lookup import lookup

LONGEST_REASON = 300  # Characters: what runs out of memory says much.
AMISS = {
    "wrong": "THE NUMBERS ARE WRONG HERE, trust no result",
    "failed": "these rows could not be measured",
}


@dataclass(frozen=True, kw_only=True)
class Benchmarks:
    """Measure this project's speed as ratios."""

    only: tuple[str, ...] = ()
    """rows to measure; by default all of this platform"""
    json: Path | None = None
    """a file for the measurements, written anew after each row"""
    repetitions: int = 7
    """pairs of runs, after one that is not counted"""
    seconds: float | None = None
    """no row begins later than this; by default all are measured"""
    smallest: bool = False
    """tiny sizes, to see that rows run; they say nothing about speed"""
    list: bool = False
    """show the rows and where they are measured, and measure nothing"""

    def __post_init__(self) -> None:
        """Raises a ValueError that names the option that is wrong."""
        for name in self.only:
            lookup(ROWS, name, "row")
        check_count("--repetitions", self.repetitions)
        check_above_zero(self, "seconds")


def main() -> None:
    """Runs what the command line asks for."""
    run_command(Benchmarks, run, __doc__)


def run(config: Benchmarks) -> None:
    """Measures rows, prints and stores each; raises a ValueError at the end if some are amiss."""
    if config.list:
        return _list()
    if config.json is not None:
        check_writable("--json", config.json)
    start = time.perf_counter()
    here = "cpu" if jax.default_backend() == "cpu" else "accelerator"
    sizes = SMALLEST if config.smallest else SIZES[here]
    ceilings = measure_ceilings(sizes)
    machine = {"jax": jax.__version__, "device": jax.devices()[0].device_kind}
    rates = {name: f"{rate / 1e9:.4g}" for name, rate in ceilings._asdict().items()}
    print(
        f"jax {machine['jax']}, {machine['device']}, pairs: {config.repetitions}, ceilings: "
        f"{rates['flops']} GFLOP/s of a large matrix product ({rates['precise_flops']} at the highest "
        f"precision, {rates['bfloat16_flops']} in bfloat16) and {rates['bytes']} GB/s of a large copy\n\n"
        "| row | ours, per second | theirs, per second | ratio, median (lowest to highest) | "
        "ours: work done, rate | ours: also |\n|---|---|---|---|---|---|",
        flush=True,
    )

    def measured(name: str) -> dict[str, Any]:
        """What is known of a row, or why nothing is."""
        entry = ROWS[name]
        if config.seconds is not None and begin - start > config.seconds:
            return {"skipped": "the time is up"}
        if here not in entry.platforms:
            return {"skipped": f"it is for the platform {entry.platforms[0]!r}, and this is {here!r}"}
        try:
            return measure(entry.make(sizes), config.repetitions, ceilings)
        except Unavailable as reason:
            return {"skipped": str(reason)}
        except WrongNumbers as error:
            return {"wrong": str(error)}
        except Exception as error:  # Out of memory has many types, and the rows after this one count.
            return {"failed": f"{type(error).__name__}: {str(error)[:LONGEST_REASON]}"}

    rows: dict[str, dict[str, Any]] = {}
    for name in config.only or [name for name, entry in ROWS.items() if here in entry.platforms]:
        begin = time.perf_counter()
        rows[name] = measured(name) | {"row_seconds": time.perf_counter() - begin}
        gc.collect()  # A population refers to itself: its arrays would stay on the device.
        print(_line(name, rows[name]), flush=True)
        if config.json is not None:
            content = machine | {"ceilings": ceilings._asdict(), "rows": rows}
            write_atomically(config.json, (json.dumps(content, indent=2) + "\n").encode())
    for outcome, meaning in AMISS.items():
        if names := [name for name, found in rows.items() if outcome in found]:
            raise ValueError(f"{meaning}: {', '.join(names)}")


def _list() -> None:
    for function in dict.fromkeys(entry.function for entry in ROWS.values()):
        print((function.__doc__ or "").split("\n")[0])
        for name, entry in ROWS.items():
            if entry.function is function:
                print(f"    {name} ({' or '.join(entry.platforms)})")


def _line(name: str, found: dict[str, Any]) -> str:
    """A row of the table."""
    for outcome in ("skipped", *AMISS):
        if outcome in found:
            return f"| {name} | {outcome}: {' '.join(found[outcome].split())} | | | | |"
    work, (each, unit) = "", (found["flops"], "GFLOP") if found["flops"] else (found["bytes"], "GB")
    if each:
        rate = found["ours"] * each / 1e9
        work = (
            f"{each / 1e9:.3g} {unit} each, {rate:.3g} {unit}/s, {found['of_ceiling']:.0%} of the ceiling"
        )
    facts = {"seconds of the first call": found["first_seconds"]} | found["facts"]
    return (
        f"| {name} ({found['unit']}, against {found['against']}) | {found['ours']:.4g} | "
        f"{found['theirs']:.4g} | {found['ratio']:.2f} ({found['ratio_low']:.2f} to "
        f"{found['ratio_high']:.2f}) | {work} | "
        f"{'; '.join(f'{fact}: {value:.3g}' for fact, value in facts.items())} |"
    )


if __name__ == "__main__":
    main()
