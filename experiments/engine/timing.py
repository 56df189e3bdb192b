"""How long work takes, measured beside other work."""

import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax

Work = Callable[[], object]
"""Does some work once, and waits for it."""


class Pair(NamedTuple):
    """The seconds that both ways take."""

    ours: float
    theirs: float


def alternating(ours: Work, theirs: Work) -> Callable[[int], list[Pair]]:
    """Both ways in turn, so that a machine whose speed drifts slows both; the first pair compiles."""
    return lambda count: [Pair(seconds(ours), seconds(theirs)) for _ in range(1 + count)]


def waiting(function: Callable[..., Any], *args: Any) -> Callable[[], Any]:
    """Calls a function that JAX has compiled, and waits for its result."""
    return lambda: jax.block_until_ready(function(*args))


def seconds(work: Work) -> float:
    """How long a call takes."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def tree_bytes(tree: Any) -> int:
    """Bytes of all arrays of a tree, or of what has their shapes and dtypes."""
    return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))
