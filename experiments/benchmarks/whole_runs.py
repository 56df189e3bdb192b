"""Rows of what users wait for besides training: imports, reading a set, a run's start, cold and warm."""

import os
import re
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from unittest.mock import patch

import jax

from experiments.benchmarks.measuring import Row, Unavailable
from experiments.benchmarks.sizes import Sizes
from experiments.engine.timing import Pair, Work, alternating, tree_bytes
from train.data.datasets import load_dataset

# Where they are set, JAX keeps programs elsewhere, or none.
CACHE_VARIABLES = ("JAX_COMPILATION_CACHE_DIR", "JAX_ENABLE_COMPILATION_CACHE")


ALONE = "import jax, flax.linen, optax"
ROOT = Path(__file__).parents[2]


def imports(sizes: Sizes, experiment: str) -> Row:
    """Starting Python and importing an experiment, against importing what every user of JAX imports."""
    del sizes

    def python(statement: str) -> Work:
        return lambda: subprocess.run([sys.executable, "-c", statement], cwd=ROOT, check=True)

    ours, theirs = python(f"import experiments.{experiment}"), python(ALONE)
    return Row(alternating(ours, theirs), f"`{ALONE}`", "starts")


def reading(sizes: Sizes, name: str) -> Row:
    """Reading a TFDS set's decoded copy in the user's cache folder, against decoding the prepared set.

    Both end with the splits on the device; the other way also stores a copy, as it does in use.
    """
    del sizes

    def read() -> tuple:
        dataset = load_dataset(name)
        return jax.block_until_ready(jax.device_put((dataset.train, dataset.test)))

    def decode() -> None:
        # As for a user who has no such folder; on Windows, which has other variables, nothing changes.
        with TemporaryDirectory() as folder, patch.dict(os.environ, XDG_CACHE_HOME=folder):
            read()

    try:
        size = tree_bytes(read())
    except ValueError as error:
        raise Unavailable(str(error)) from error
    moved = 2 * size  # read from the file, written to the device
    return Row(alternating(read, decode), "decoding the prepared set", "data sets", bytes=moved)


def startup(sizes: Sizes, experiment: str) -> Row:
    """A run that finds the programs of the one before it, against that one, which finds none.

    Both are processes of their own, with a cache folder that is theirs alone, so each is run once.
    """
    with TemporaryDirectory() as folder:
        runs = [timed_run(experiment, sizes.run_options, Path(folder), way) for way in ("cold", "warm")]
    (theirs, cold), (ours, warm) = runs
    against, pair = "the run before, which compiles all", Pair(ours, theirs)
    return Row(lambda _: [pair, pair], against, "runs", facts=cold | warm)


def timed_run(
    experiment: str, options: Sequence[str], folder: Path, way: str
) -> tuple[float, dict[str, float]]:
    """The seconds of a run, Python's start included, and facts of it.

    Args:
        folder: Where its results go, under the name of the way, and its cache of programs.
        way: "cold" or "warm", as the facts call it.
    """
    environment = {key: value for key, value in os.environ.items() if key not in CACHE_VARIABLES}
    environment["XDG_CACHE_HOME"] = str(folder / "cache")
    command = [sys.executable, "-m", f"experiments.{experiment}", "--out-dir", str(folder / way)]
    command, start = [*command, *options], time.time()
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    total = time.time() - start
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} has failed: {(done.stdout + done.stderr)[-200:]}")
    finished = min(part.stat().st_mtime for part in (folder / way / "parts").glob("*.parquet"))
    # A run prints one number of training programs, compiled or found, or one a kind.
    line = re.search(r"training programs compiled: (.*)", done.stdout)
    programs = sum(map(int, re.findall(r"\d+", line[1]))) if line else 0
    first = {f"seconds to the first result, {way}": finished - start}
    return total, first | {f"training programs, {way}": programs}
