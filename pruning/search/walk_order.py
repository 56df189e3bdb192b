"""In which order walks come to the weights of a network: the loop of PHEW, and its order as a score."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from pruning.connectivity.unit_graph import UnitGraph
from pruning.search.walks import NO_WEIGHT, Tables, backward_walks, forward_walks

# Walks that go together: less than one such batch is walked in vain.
_TOGETHER = 8192
# The walks allowed for each weight of the largest use. Of normal weights about 2 % are not come to by
# then.
_WALKS_A_WEIGHT = 32
# The score of the weight that is come to first: as bits, a finite float32.
_FIRST = np.int32(np.finfo(np.float32).max.view(np.int32))
# Steps that have a score of their own, none of them a subnormal number.
_STEPS = int(_FIRST) - int(np.finfo(np.float32).smallest_normal.view(np.int32))


class _Progress(NamedTuple):
    """The state of the loop: rounds walked, weights come to, and at which step to each."""

    round: jax.Array
    kept: jax.Array
    reached: jax.Array


def walk_order(
    key: jax.Array, graph: UnitGraph, tables: Tables, size: int, kept: Any, most_walks: int | None
) -> jax.Array:
    """Walks until enough weights have been come to.

    Args:
        key: A typed PRNG key.
        graph: The units of the network and what connects them.
        tables: What the walks' steps are chosen by, from ``make_tables``.
        size: How many weights there are.
        kept: How many are to be come to, an int or int32 scalar.
        most_walks: After how many walks to stop; None for 32 for each weight of the largest use.

    Returns:
        (size,) int32: for each weight the number of the first step over it, counted over all walks in
        order; ``NO_WEIGHT`` for those that no walk has come to.
    """
    largest = max(int(np.prod(use.shape)) for use in graph.uses)
    walks = min(_TOGETHER, max(64, 2 * (largest // 2)))
    half, steps = walks // 2, graph.longest
    most = most_walks if most_walks is not None else _WALKS_A_WEIGHT * largest
    rounds = max(1, min(-(-most // walks), _STEPS // (walks * steps)))
    inputs, outputs = jnp.asarray(graph.inputs, jnp.int32), jnp.asarray(graph.outputs, jnp.int32)
    enough = jnp.minimum(jnp.asarray(kept, jnp.int32), tables.possible)
    dtype = tables.position.dtype

    def is_short(progress: _Progress) -> jax.Array:
        return (progress.kept < enough) & (progress.round < rounds)

    def walk(progress: _Progress) -> _Progress:
        number = progress.round * half + jnp.arange(half, dtype=jnp.int32)
        uniforms = jax.random.uniform(jax.random.fold_in(key, progress.round), (2, steps, half, 3), dtype)
        ahead = forward_walks(graph, tables, inputs[number % len(inputs)], uniforms[0])
        back = backward_walks(graph, tables, outputs[number % len(outputs)], uniforms[1])
        # Walks take turns: one forward, one backward, each to its end.
        weights = jnp.stack([ahead, back], axis=-1).transpose(1, 2, 0).ravel()
        order = progress.round * (walks * steps) + jnp.arange(weights.size, dtype=jnp.int32)
        reached = progress.reached.at[weights].min(order, mode="drop")
        new = jnp.take(reached, weights, mode="fill", fill_value=-1) == order
        kept_now = progress.kept + jnp.sum(new, dtype=jnp.int32)
        return _Progress(progress.round + 1, kept_now, reached)

    start = _Progress(jnp.int32(0), jnp.int32(0), jnp.full(size, NO_WEIGHT))
    return lax.while_loop(is_short, walk, start).reached


def order_scores(order: jax.Array, weight: jax.Array, is_on_path: Any) -> jax.Array:
    """The order as scores that rank in the same way: the highest is the weight that is come to first.

    Args:
        order: Of one leaf's weights, as ``walk_order`` gives it.
        weight: The weights, of any shape.
        is_on_path: Whether each is on a path, bool, or True for all.

    Returns:
        float32 scores of the weights' shape: finite and positive where a walk has come to the weight;
        negative, the larger the larger the weight, where none has; minus infinity on no path.
    """
    order = order.reshape(weight.shape)
    by_order = lax.bitcast_convert_type(_FIRST - jnp.minimum(order, _FIRST), jnp.float32)
    size = jnp.abs(weight).astype(jnp.float32)
    tiny = np.float32(np.finfo(np.float32).smallest_normal)
    by_size = jnp.where(size >= tiny, -1 / jnp.maximum(size, tiny), -np.finfo(np.float32).max)
    scores = jnp.where(order == NO_WEIGHT, by_size, by_order)
    return jnp.where(is_on_path, scores, -jnp.inf)
