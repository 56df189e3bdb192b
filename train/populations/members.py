"""How a population is executed: members in turn, or vmapped.

On accelerators the members are vmapped, unless devices share their batches. On a CPU they run one after
another inside the same compiled program, because vmapped convolutions become grouped ones, which are slow
there. Measured in November 2026 on 2 CPU cores, jax 0.10.1, batch 128, by the rows "members-..." of
``experiments.benchmarks`` (7 pairs), throughput in turn over throughput vmapped: LeNet-5, 4 members, 2.24
(1.93 to 2.33); LeNet-300-100, 8 members, 1.01 (0.99 to 1.03). So one choice serves the platform. No
accelerator has been measured yet. The numbers that members get are the same to rounding.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from train.lowering import lowering

PyTree = Any


def map_members(function: Callable[..., PyTree], count: jax.Array, *stacked: PyTree) -> PyTree:
    """Maps a function over the leading axis of stacked members, as ``train.lowering`` says.

    Args:
        count: How many members count, traced; on a CPU the others are not computed at all.
        *stacked: Trees whose leaves have a leading axis N; a typed key without one is shared.

    Returns:
        The stacked results; undefined from ``count`` on.
    """
    if lowering().in_turn:
        return in_turn(function, count, *stacked)
    return side_by_side(function, count, *stacked)


def on_shared_batches(execute: Callable[..., PyTree]) -> Callable[..., PyTree]:
    """How members are executed where devices share their batches: in turn, where the choice is free.

    Vmapped, their convolutions are grouped ones, for which each device gathers the whole batch.
    """
    return in_turn if execute is map_members else execute


def side_by_side(function: Callable[..., PyTree], count: jax.Array, *stacked: PyTree) -> PyTree:
    """``map_members`` by ``jax.vmap``; ``count`` plays no part."""
    del count
    axes = jax.tree.map(lambda leaf: None if is_shared(leaf) else 0, stacked)
    return jax.vmap(function, in_axes=axes)(*stacked)


def in_turn(function: Callable[..., PyTree], count: jax.Array, *stacked: PyTree) -> PyTree:
    """``map_members`` by a loop that ends after ``count`` members."""

    def member(i: Any) -> PyTree:
        return jax.tree.map(lambda leaf: leaf if is_shared(leaf) else leaf[i], stacked)

    size = next(len(leaf) for leaf in jax.tree.leaves(stacked) if not is_shared(leaf))
    shapes = jax.eval_shape(function, *member(0))
    empty = jax.tree.map(lambda leaf: jnp.zeros((size, *leaf.shape), leaf.dtype), shapes)

    def body(i: jax.Array, results: PyTree) -> PyTree:
        return jax.tree.map(lambda all, one: all.at[i].set(one), results, function(*member(i)))

    return jax.lax.fori_loop(0, count, body, empty)


def is_shared(leaf: Any) -> bool:
    """Whether a leaf of stacked members is one key without a leading axis, the same for all."""
    return jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key) and leaf.ndim == 0
