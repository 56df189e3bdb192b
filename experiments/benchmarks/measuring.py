"""What a benchmark's row is: the same work done in two ways; and how both are measured."""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from statistics import median
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental.compilation_cache import compilation_cache

from experiments.benchmarks.sizes import Sizes
from experiments.engine.timing import Pair, Work, seconds, waiting

COPIES = 10


class Unavailable(Exception):
    """Raised for a row that cannot be measured here; says why."""


class WrongNumbers(Exception):
    """Raised for a row that computes something wrong, whose speed says nothing."""


@dataclass(frozen=True)
class Row:
    """The same work done in two ways, ours and another.

    Attributes:
        pairs: From how many pairs are wanted to them, after one that does not count.
        against: What the other way is.
        unit: What the work is counted in.
        amount: How many units one call of our way does.
        their_amount: How many units one call of the other way does; None where they are as many.
        flops: Floating-point operations of one unit, 2 for a multiply-add; 0 where they do not count.
        bytes: Bytes that one unit must at least read and write; 0 where they do not count.
        facts: What else is known of our way, bytes and compile times say: name and unit -> number.
    """

    pairs: Callable[[int], list[Pair]]
    against: str
    unit: str
    amount: float = 1
    their_amount: float | None = None
    flops: float = 0
    bytes: float = 0
    facts: Mapping[str, float] = field(default_factory=dict)


class Ceilings(NamedTuple):
    """What the machine can do at most: bytes of a copy and FLOPs of matrix products, per second.

    ``flops`` are of the default precision, as in training; on a GPU that may be TensorFloat-32.
    """

    bytes: float
    flops: float
    precise_flops: float
    bfloat16_flops: float


def measure(row: Row, repetitions: int, ceilings: Ceilings) -> dict[str, Any]:
    """Compares both ways of a row pair by pair.

    Rates are medians in units per second, the ratio is ours over theirs, "first_seconds" is what our way
    took the first time, with what it compiled then, and "of_ceiling" how near it comes to the nearer of
    the machine's ceilings.
    """
    first, *pairs = row.pairs(repetitions)
    their_amount = row.amount if row.their_amount is None else row.their_amount
    ratios = [row.amount / pair.ours * pair.theirs / their_amount for pair in pairs]
    ours = row.amount / median(pair.ours for pair in pairs)
    reached = max(ours * row.flops / ceilings.flops, ours * row.bytes / ceilings.bytes)
    return {
        "against": row.against,
        "unit": row.unit,
        "ours": ours,
        "theirs": their_amount / median(pair.theirs for pair in pairs),
        "ratio": median(ratios),
        "ratio_low": min(ratios),
        "ratio_high": max(ratios),
        "repetitions": len(pairs),
        "flops": row.flops,
        "bytes": row.bytes,
        "of_ceiling": reached,
        "first_seconds": first.ours,
        "facts": dict(row.facts),
    }


def measure_ceilings(sizes: Sizes) -> Ceilings:
    """The machine's ceilings, the best of five."""
    array, side = jax.random.normal(jax.random.key(1), (sizes.copied,)), sizes.product_side
    # In place, over and over: a fresh array would be paid for page by page when it is first written.
    copy = jax.jit(lambda a: jax.lax.fori_loop(0, COPIES, lambda _, a: a + 1, a))

    def best(work: Work) -> float:
        return min([seconds(work) for _ in range(6)][1:])

    def product(dtype: Any = jnp.float32, precision: Any = None) -> float:
        # Random numbers: a GPU draws less power, and runs faster, on constant ones.
        matrix = jax.random.normal(jax.random.key(0), (side, side), dtype)
        multiply = jax.jit(lambda a: jnp.matmul(a, a, precision=precision))
        return 2 * side**3 / best(waiting(multiply, matrix))

    copying = best(waiting(copy, array))
    products = product(), product(precision="highest"), product(jnp.bfloat16)
    return Ceilings(COPIES * 2 * array.nbytes / copying, *products)


def agreement(found: Any, expected: Any, *, at_most: float = 0) -> dict[str, float]:
    """The norm of the difference of two trees of arrays over that of the second, as facts of a row.

    If it is larger than ``at_most``, or not a number, the row is refused (``WrongNumbers``).
    """
    pairs = zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True)
    wide = [(np.asarray(a, np.float64), np.asarray(b, np.float64)) for a, b in pairs]
    squares = sum(np.sum((a - b) ** 2) for a, b in wide)
    difference = float(np.sqrt(squares / sum(np.sum(b**2) for _, b in wide)))
    if not difference <= at_most:
        raise WrongNumbers(f"relative difference {difference:.3g}, expected at most {at_most:g}")
    return {"relative difference": difference}


def compile_anew(function: Any, *args: Any) -> tuple[Callable[..., Any], float]:
    """Compiles a jitted function as if it had never been compiled.

    Returns it with its ``memory_analysis``, and the seconds of tracing and compiling.
    """
    with compiling_anew():
        start = time.perf_counter()
        compiled = function.lower(*args).compile()
        return compiled, time.perf_counter() - start


@contextmanager
def compiling_anew() -> Iterator[None]:
    """Compiles within as if nothing had ever been compiled, whatever JAX keeps on disk."""
    config: Any = jax.config
    enabled = config.jax_enable_compilation_cache
    config.update("jax_enable_compilation_cache", False)
    compilation_cache.reset_cache()  # JAX asks once whether there is a cache.
    try:
        yield
    finally:
        config.update("jax_enable_compilation_cache", enabled)
        compilation_cache.reset_cache()


def temporary_bytes(compiled: Any) -> int:
    """Bytes that a program of ``compile_anew`` holds at most besides its arguments and results."""
    return compiled.memory_analysis().temp_size_in_bytes
