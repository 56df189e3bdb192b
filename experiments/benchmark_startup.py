"""Benchmark rows of whole runs: compilations and the time to the first result, cold and warm."""

import os
import re
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

from experiments.benchmark_comparison import OnePair

# Where they are set, JAX keeps programs elsewhere, or none.
CACHE_VARIABLES = ("JAX_COMPILATION_CACHE_DIR", "JAX_ENABLE_COMPILATION_CACHE")
POLL_SECONDS = 0.05


class Run(NamedTuple):
    """What a run of an experiment took.

    Attributes:
        first: Seconds until the first networks were finished and stored.
        total: Seconds in all, Python's start included.
        programs: Training programs that it compiled, or took from the cache.
    """

    first: float
    total: float
    programs: int


def startup(experiment: str, *options: str) -> OnePair:
    """A run that finds the programs of the one before it, against that one, which finds none.

    Both are processes of their own, with a cache folder that is theirs alone, so each is run once.

    Args:
        experiment: A module of ``experiments`` that trains.
        *options: Of its command line; none for its defaults.

    Returns:
        The pair.

    Raises:
        RuntimeError: If a run fails; says what it wrote.
    """
    with TemporaryDirectory() as folder:
        cold, warm = (_run(experiment, options, Path(folder), name) for name in ("cold", "warm"))
    return OnePair(
        ours_seconds=warm.total,
        theirs_seconds=cold.total,
        against="the run before, which compiles all",
        unit="runs",
        amount=1,
        facts={
            "training programs": cold.programs,
            "seconds to the first result, cold": cold.first,
            "seconds to the first result, warm": warm.first,
            "seconds in all, cold": cold.total,
            "seconds in all, warm": warm.total,
        },
    )


def _run(experiment: str, options: tuple[str, ...], folder: Path, name: str) -> Run:
    out, log = folder / name, folder / f"{name}.log"
    environment = {key: value for key, value in os.environ.items() if key not in CACHE_VARIABLES}
    command = [sys.executable, "-m", f"experiments.{experiment}", "--out-dir", str(out), *options]
    first = None
    with log.open("wb") as written:
        start = time.perf_counter()
        process = subprocess.Popen(
            command,
            cwd=Path(__file__).parents[1],
            env=environment | {"XDG_CACHE_HOME": str(folder / "cache")},
            stdout=written,
            stderr=subprocess.STDOUT,
        )
        while process.poll() is None:
            if first is None and any((out / "parts").glob("*.parquet")):
                first = time.perf_counter() - start
            time.sleep(POLL_SECONDS)
    total = time.perf_counter() - start
    said = log.read_text(encoding="utf-8", errors="replace")
    if process.returncode:
        raise RuntimeError(f"{' '.join(command)} has failed: {said[-2000:]}")
    return Run(total if first is None else first, total, _programs(said))


def _programs(said: str) -> int:
    """The sum of the counts that a run prints, one number or one a kind of program."""
    line = re.search(r"training programs compiled: (.*)", said)
    return sum(int(count) for count in re.findall(r"\d+", line[1])) if line else 0
