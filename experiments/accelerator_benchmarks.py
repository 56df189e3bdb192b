"""What decides the defaults on an accelerator, measured in one call of ten minutes.

    python -m experiments.accelerator_benchmarks --json accelerator.json
    python -m experiments.accelerator_benchmarks --smallest

First whether the numbers are right at all; then the most decisive row first: the whole grid of
``missing_the_mark``, the ways of executing a population, PyTorch on the same card, the rest. Each line is
printed, and the file written, as soon as the row is measured, so a call that is cut off loses nothing. A
row that cannot be measured, for want of memory say, is skipped with the reason. All data are synthetic.

``--smallest`` measures tiny sizes, anywhere: it shows that every row runs, and nothing about speed.
The rows are those of ``experiments.accelerator_rows``.
"""

import gc
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import jax

from experiments.accelerator_checks import WRONG, Finding
from experiments.accelerator_rows import Rows, make_rows
from experiments.accelerator_sizes import FULL, SMALLEST
from experiments.benchmark_comparison import Unavailable
from experiments.engine.options import run_command
from experiments.options.checks import check_writable
from pruning.masks.saving import write_atomically
from train.lookup import lookup

LONGEST_REASON = 300  # Characters: what runs out of memory says much.


@dataclass(frozen=True, kw_only=True)
class AcceleratorBenchmarks:
    """Measure what decides the defaults on an accelerator."""

    only: tuple[str, ...] = ()
    """rows to measure; all by default"""
    json: Path | None = None
    """a file for the findings, written anew after each row"""
    seconds: float = 540.0
    """no row begins later than this"""
    smallest: bool = False
    """tiny sizes, to see that every row runs"""

    def __post_init__(self) -> None:
        """Raises a ValueError that names the option that is wrong."""
        for name in self.only:
            lookup(self.rows(), name, "row")
        if not self.seconds > 0:
            raise ValueError(f"expected --seconds > 0, got {self.seconds}")

    def rows(self) -> Rows:
        """Name -> what measures the row."""
        return make_rows(SMALLEST if self.smallest else FULL)


def main() -> None:
    """Runs what the command line asks for."""
    run_command(AcceleratorBenchmarks, run, __doc__)


def run(config: AcceleratorBenchmarks) -> None:
    """Measures row after row while there is time.

    Args:
        config: Which rows, and how long.
    """
    if config.json is not None:
        check_writable("--json", config.json)
    start = time.perf_counter()
    rows, findings = config.rows(), {}
    machine = {"jax": jax.__version__, "device": jax.devices()[0].device_kind}
    print(", ".join(f"{name} {value}" for name, value in machine.items()), flush=True)
    for name in config.only or rows:
        begin = time.perf_counter()
        late = begin - start > config.seconds
        findings[name] = {"skipped": "the time is up"} if late else _finding(rows[name])
        gc.collect()  # A population refers to itself: its arrays would stay on the device.
        if not late:
            findings[name]["seconds for the row"] = time.perf_counter() - begin
        print(f"{name}: {_said(findings[name])}", flush=True)
        if config.json is not None:
            content = json.dumps(machine | {"rows": findings}, indent=2) + "\n"
            write_atomically(config.json, content.encode())
    wrong = [name for name, finding in findings.items() if finding.get("verdict") == WRONG]
    if wrong:
        print(f"THE NUMBERS ARE WRONG HERE, trust no result: {', '.join(wrong)}", flush=True)


def _finding(row: Callable[[], Finding]) -> Finding:
    try:
        return dict(row())
    except Unavailable as reason:
        return {"skipped": str(reason)}
    except Exception as error:  # Out of memory has many types, and the rows after this one count too.
        return {"skipped": f"{type(error).__name__}: {str(error)[:LONGEST_REASON]}"}


def _said(finding: Finding) -> str:
    return ", ".join(
        f"{name} {value if isinstance(value, str) else format(value, '.4g')}"
        for name, value in finding.items()
    )


if __name__ == "__main__":
    main()
