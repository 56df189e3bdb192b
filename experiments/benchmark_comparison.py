"""What a benchmark row is, how its two ways are measured, and the machine's own ceilings."""

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

import jax
import jax.numpy as jnp


class Unavailable(Exception):
    """A row that cannot be measured here; says why."""


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """One row: two ways of doing the same work.

    Attributes:
        ours: Does the work once and waits for it.
        theirs: Does the same work the other way and waits for it.
        against: What the other way is.
        unit: What the work is counted in.
        amount: How many units one call does.
        flops: Floating-point operations of one unit, 2 for a multiply-add; 0 where they do not count.
        bytes: Bytes that one unit must at least read and write; 0 where they do not count.
    """

    ours: Callable[[], None]
    theirs: Callable[[], None]
    against: str
    unit: str
    amount: int
    flops: float = 0.0
    bytes: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Ceilings:
    """What the machine can do at most: FLOPs and bytes per second."""

    flops: float
    bytes: float


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """A row's result; rates are medians in units per second, the ratio is ours over theirs.

    ``of_ceiling`` is the fraction of the machine's ceiling that our way reaches, None where no work was
    counted.
    """

    name: str
    against: str
    unit: str
    ours: float
    theirs: float
    ratio: float
    ratio_low: float
    ratio_high: float
    repetitions: int
    flops_per_second: float
    bytes_per_second: float
    of_ceiling: float | None


def measure(name: str, comparison: Comparison, repetitions: int, ceilings: Ceilings) -> Measurement:
    """Runs both ways in turn and compares them pair by pair.

    Args:
        name: The row's name.
        comparison: The two ways.
        repetitions: Pairs that count, after one that does not.
        ceilings: Of the machine.

    Returns:
        Medians, and the lowest and highest ratio.
    """
    pairs = [(seconds(comparison.ours), seconds(comparison.theirs)) for _ in range(repetitions + 1)][1:]
    ratios = [theirs / ours for ours, theirs in pairs]
    ours = comparison.amount / statistics.median(ours for ours, _ in pairs)
    flops, moved = ours * comparison.flops, ours * comparison.bytes
    counted = bool(comparison.flops or comparison.bytes)
    return Measurement(
        name=name,
        against=comparison.against,
        unit=comparison.unit,
        ours=ours,
        theirs=comparison.amount / statistics.median(theirs for _, theirs in pairs),
        ratio=statistics.median(ratios),
        ratio_low=min(ratios),
        ratio_high=max(ratios),
        repetitions=repetitions,
        flops_per_second=flops,
        bytes_per_second=moved,
        of_ceiling=max(flops / ceilings.flops, moved / ceilings.bytes) if counted else None,
    )


def measure_ceilings() -> Ceilings:
    """The rates of a large matrix product and of a large copy of float32, the best of five.

    The product is of the default precision, as in training: on a GPU that may be TensorFloat-32.
    """
    size = 2048
    matrix = jnp.ones((size, size))
    product = jax.jit(jnp.matmul)
    array = jnp.ones(2**26)
    copy = jax.jit(lambda a: a + 1)
    return Ceilings(
        flops=2 * size**3 / _best(lambda: product(matrix, matrix).block_until_ready()),
        bytes=2 * array.nbytes / _best(lambda: copy(array).block_until_ready()),
    )


def seconds(work: Callable[[], object]) -> float:
    """How long one call takes.

    Args:
        work: Waits for what it does.
    """
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def _best(work: Callable[[], object]) -> float:
    return min([seconds(work) for _ in range(6)][1:])
