"""What a benchmark's row is, how its two ways are measured, and the machine's own ceilings."""

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp

COPIES = 10


class Unavailable(Exception):
    """A row that cannot be measured here; says why."""


@dataclass(frozen=True, kw_only=True)
class Row:
    """The same work done in two ways, ours and another.

    Attributes:
        against: What the other way is.
        unit: What the work is counted in.
        amount: How many units one call of either way does.
        flops: Floating-point operations of one unit, 2 for a multiply-add; 0 where they do not count.
        bytes: Bytes that one unit must at least read and write; 0 where they do not count.
        facts: What else is known of our way, bytes and compile times say: name and unit -> number.
    """

    against: str
    unit: str
    amount: float
    flops: float = 0.0
    bytes: float = 0.0
    facts: Mapping[str, float] = field(default_factory=dict)

    def pairs(self, repetitions: int) -> list[tuple[float, float]]:
        """How long our way takes and how long the other.

        Args:
            repetitions: How many pairs are wanted.

        Returns:
            Pairs of seconds, at least one.
        """
        raise NotImplementedError


@dataclass(frozen=True, kw_only=True)
class Comparison(Row):
    """A row whose ways run in turn, after one pair that does not count.

    Attributes:
        ours: Does the work once and waits for it.
        theirs: Does the same work the other way and waits for it.
    """

    ours: Callable[[], object]
    theirs: Callable[[], object]

    def pairs(self, repetitions: int) -> list[tuple[float, float]]:
        """Runs both ways in turn; the first pair warms them up."""
        return [(seconds(self.ours), seconds(self.theirs)) for _ in range(repetitions + 1)][1:]


@dataclass(frozen=True, kw_only=True)
class OnePair(Row):
    """A row whose ways take minutes, or differ in that one was the first: measured once, beforehand.

    Attributes:
        ours_seconds: Of our way.
        theirs_seconds: Of the other.
    """

    ours_seconds: float
    theirs_seconds: float

    def pairs(self, repetitions: int) -> list[tuple[float, float]]:
        """The one pair that there is."""
        del repetitions
        return [(self.ours_seconds, self.theirs_seconds)]


@dataclass(frozen=True, kw_only=True)
class Ceilings:
    """What the machine can do at most: FLOPs and bytes per second."""

    flops: float
    bytes: float


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """A row's result; rates are medians in units per second, the ratio is ours over theirs.

    ``flops`` and ``bytes`` are those of a unit. ``of_ceiling`` is the fraction of the machine's ceiling
    that our way reaches, None where no work was counted.
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
    flops: float
    bytes: float
    flops_per_second: float
    bytes_per_second: float
    of_ceiling: float | None
    facts: dict[str, float]


def measure(name: str, row: Row, repetitions: int, ceilings: Ceilings) -> Measurement:
    """Compares both ways of a row pair by pair.

    Args:
        name: The row's name.
        row: The two ways.
        repetitions: Pairs that count, where the row can be repeated.
        ceilings: Of the machine.

    Returns:
        Medians, and the lowest and highest ratio.
    """
    pairs = row.pairs(repetitions)
    ratios = [theirs / ours for ours, theirs in pairs]
    ours = row.amount / statistics.median(ours for ours, _ in pairs)
    flops, moved = ours * row.flops, ours * row.bytes
    return Measurement(
        name=name,
        against=row.against,
        unit=row.unit,
        ours=ours,
        theirs=row.amount / statistics.median(theirs for _, theirs in pairs),
        ratio=statistics.median(ratios),
        ratio_low=min(ratios),
        ratio_high=max(ratios),
        repetitions=len(pairs),
        flops=row.flops,
        bytes=row.bytes,
        flops_per_second=flops,
        bytes_per_second=moved,
        of_ceiling=max(flops / ceilings.flops, moved / ceilings.bytes)
        if row.flops or row.bytes
        else None,
        facts=dict(row.facts),
    )


def measure_ceilings(*, side: int = 2048, length: int = 2**26) -> Ceilings:
    """The rates of a large matrix product and of a large copy of float32, the best of five.

    The product is of the default precision, as in training: on a GPU that may be TensorFloat-32.

    Args:
        side: Rows and columns of the matrix.
        length: Numbers that are copied.

    Returns:
        The rates.
    """
    array = jax.random.normal(jax.random.key(1), (length,))
    # In place, over and over: a fresh array would be paid for page by page when it is first written.
    copy = jax.jit(lambda a: jax.lax.fori_loop(0, COPIES, lambda _, a: a + 1, a))
    return Ceilings(
        flops=product_flops(side),
        bytes=COPIES * 2 * array.nbytes / _best(lambda: copy(array).block_until_ready()),
    )


def product_flops(side: int, *, dtype: Any = jnp.float32, precision: Any = None) -> float:
    """FLOPs per second of a product of square matrices, the best of five.

    The numbers are random: a GPU draws less power, and runs faster, on constant ones.

    Args:
        side: Rows and columns.
        dtype: Of the matrix.
        precision: As JAX takes it; None for the default.

    Returns:
        The rate.
    """
    matrix = jax.random.normal(jax.random.key(0), (side, side), dtype)
    product = jax.jit(lambda a, b: jnp.matmul(a, b, precision=precision))
    return 2 * side**3 / _best(lambda: product(matrix, matrix).block_until_ready())


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
