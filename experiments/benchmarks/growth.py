"""How cost grows: the seconds of the same work in ever larger sizes, and the slopes between them.

    python -m experiments.benchmarks.growth --out-dir growth

On logarithmic axes cost that is proportional to size has the slope 1, and cost that does not depend on
it 0. A table has the seconds of every size, the median of three after a first run, and the slope from
the size before; growth.png shows them. The machine's speed drifts, so read slopes over a factor of ten
or more. A series is written as soon as it is measured.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, NamedTuple

import jax
import numpy as np

import pruning
from experiments.benchmarks.masks import search
from experiments.benchmarks.overhead import METHODS, SGD, ten_steps
from experiments.benchmarks.populations import (
    RECIPE,
    epochs_of,
    make_network,
    synthetic_population,
)
from experiments.benchmarks.sizes import CPU, GREY, MLP
from experiments.benchmarks.whole_runs import timed_run
from experiments.engine.experiment import run_command
from experiments.engine.timing import Work, seconds, waiting
from experiments.report.markdown import table
from pruning.files.writing import write_atomically
from train.lookup import lookup

if TYPE_CHECKING:
    from matplotlib.figure import Figure

REPEATED = 3
STEPS = 20
"""Training steps of every member, and of every candidate."""
SHORT = ("--methods", "random", "--epochs", "2", "--ablations")
"""Of a run whose networks are counted: one method, without ablations."""


class Series(NamedTuple):
    """Work that comes in sizes.

    Attributes:
        work: What is done.
        unit: What the size counts.
        sizes: From small to large.
        prepare: From a size to the work, ready to be measured.
    """

    work: str
    unit: str
    sizes: tuple[int, ...]
    prepare: Callable[[int], Work]


def training(members: int) -> Work:
    """Steps of LeNet-300-100's members, and the evaluation of a batch."""
    sizes = replace(CPU, member_steps={MLP: 4 * STEPS})
    return epochs_of(synthetic_population(sizes, MLP), [()] * members)


def searching(k: int) -> Work:
    """K-starts among candidates of LeNet-300-100."""
    network = make_network(MLP, GREY, RECIPE.batch_size)
    return waiting(jax.jit(search(network, k, STEPS, chunk_size=None)), jax.random.key(2))


def selecting(weights: int) -> Work:
    """The exact global selection."""
    scores = {"w": jax.random.normal(jax.random.key(0), (weights // 1000, 1000))}
    return waiting(jax.jit(lambda scores: pruning.global_masks(scores, 0.9)), scores)


def dissipating(weights: int) -> Work:
    """Ten steps of SGD with momentum and dissipating gradients, between two checks."""
    params = {"kernel": jax.random.normal(jax.random.key(0), (1, weights // 1000, 1000))}
    masks = pruning.full_masks(params)
    return ten_steps(params, lambda masks: METHODS["dissipate"](SGD, masks), masks)[0]


def running(option: str, count: int) -> Work:
    """A run on digits in a process of its own, whose programs are compiled anew."""
    sparsities = [str(1 - 0.5 / (1 + index)) for index in range(count)]
    asked = {
        "seeds": ("--seeds", str(count), "--sparsities", "0.9"),
        "sparsities": ("--seeds", "1", "--sparsities", *sparsities),
    }

    def work() -> None:
        with TemporaryDirectory() as folder:
            timed_run("missing_the_mark", (*SHORT, *asked[option]), Path(folder), "run")

    return work


SERIES = {
    "members": Series(
        f"{STEPS} steps of LeNet-300-100", "members", (1, 2, 4, 8, 16, 32, 64, 128, 256, 512), training
    ),
    "k": Series(
        f"K-starts, {STEPS} steps a candidate", "k", (1, 2, 4, 8, 16, 32, 64, 128, 256), searching
    ),
    "selection": Series(
        "exact global selection", "weights", tuple(10**power for power in range(4, 9)), selecting
    ),
    "dissipation": Series(
        "ten steps of SGD, dissipating", "weights", tuple(10**power for power in range(4, 9)), dissipating
    ),
    "seeds": Series(
        "a run on digits", "seeds, one sparsity", (1, 4, 16, 64, 256), partial(running, "seeds")
    ),
    "sparsities": Series(
        "a run on digits", "sparsities, one seed", (1, 4, 16, 64, 256), partial(running, "sparsities")
    ),
}


@dataclass(frozen=True, kw_only=True)
class Growth:
    """Measure how cost grows with size."""

    out_dir: Path
    """folder for growth.md and growth.png"""
    only: tuple[str, ...] = ()
    """series to measure; by default all"""
    most: int | None = None
    """no size above this one; by default all"""

    def __post_init__(self) -> None:
        """Raises a ValueError that names a series which there is not."""
        for name in self.only:
            lookup(SERIES, name, "series")


def main() -> None:
    """Runs what the command line asks for."""
    run_command(Growth, run, __doc__)


def run(config: Growth) -> None:
    """Measures series, and writes table and figure after each.

    Raises:
        ValueError: If a series has no size that is small enough.
    """
    for name in config.only or SERIES:
        if config.most is not None and config.most < min(SERIES[name].sizes):
            raise ValueError(
                f"expected --most of at least {min(SERIES[name].sizes)}, the smallest size of {name}, "
                f"got {config.most}"
            )
    config.out_dir.mkdir(parents=True, exist_ok=True)
    found: dict[str, dict[int, float]] = {}
    for name in config.only or SERIES:
        sizes = [size for size in SERIES[name].sizes if config.most is None or size <= config.most]
        found[name] = {size: measured(SERIES[name].prepare(size)) for size in sizes}
        lines = growth_table(found)
        print("\n".join(growth_table({name: found[name]})), flush=True)
        write_atomically(config.out_dir / "growth.md", ("\n".join(lines) + "\n").encode())
        growth_figure(found).savefig(config.out_dir / "growth.png", dpi=150)


def measured(work: Work) -> float:
    """The median of some calls, after one that compiles."""
    seconds(work)
    return median(seconds(work) for _ in range(REPEATED))


def slopes(found: dict[int, float]) -> list[float]:
    """From each size to the next: by which power of the size the seconds grow."""
    return [
        math.log(after / before) / math.log(larger / smaller)
        for (smaller, before), (larger, after) in pairwise(found.items())
    ]


def bend(found: dict[int, float]) -> int | None:
    """The first size from which on the cost is nearer to proportional than to constant; None if never."""
    steep = [slope > 0.5 for slope in slopes(found)]
    for size, rest in zip(found, (steep[place:] for place in range(len(steep))), strict=False):
        if all(rest):
            return size
    return None


def growth_table(found: dict[str, dict[int, float]]) -> list[str]:
    """A line a size, with the slope from the size before."""
    rows: list[Sequence[str]] = []
    for name, times in found.items():
        before = ["", *(f"{slope:.2f}" for slope in slopes(times))]
        rows += [
            [SERIES[name].work, f"{SERIES[name].unit}: {size:,}", f"{1e3 * taken:.4g}", slope]
            for (size, taken), slope in zip(times.items(), before, strict=True)
        ]
    return table(["work", "size", "milliseconds", "slope"], rows)


def growth_figure(found: dict[str, dict[int, float]]) -> "Figure":
    """A panel a series: seconds against size, and the slope 1 through the largest."""
    import matplotlib.pyplot as plt  # it takes a second, which --help need not

    columns = min(3, len(found))
    shape = math.ceil(len(found) / columns), columns
    figure, panels = plt.subplots(
        *shape, figsize=(3.6 * columns, 3 * shape[0]), layout="constrained", squeeze=False
    )
    for axes in panels.flat[len(found) :]:
        axes.remove()
    for axes, (name, times) in zip(panels.flat, found.items(), strict=False):
        sizes, taken = np.array(list(times)), list(times.values())
        axes.plot(sizes, taken[-1] * sizes / sizes[-1], color="#999999", linestyle=":", label="slope 1")
        axes.plot(sizes, taken, color="#0072b2", marker="o", markersize=4)
        if (start := bend(times)) is not None:
            axes.axvline(start, color="#d55e00", linewidth=0.8, label=f"grows from {start:,} on")
        axes.set_xscale("log")
        axes.set_yscale("log")
        axes.set_xlabel(SERIES[name].unit)
        axes.set_ylabel("seconds")
        axes.set_title(SERIES[name].work, fontsize=9)
        axes.grid(alpha=0.3)
        axes.legend(fontsize=7)
    return figure


if __name__ == "__main__":
    main()
