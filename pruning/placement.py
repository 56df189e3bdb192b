"""Where a state lies: on the devices on which the params lie, divided as they are.

Concrete arrays are put there; inside ``jit`` the types say it where the mesh is explicit, and so they
do for what varies over the mesh inside ``shard_map``. Elsewhere XLA decides.
"""

import math
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import AxisType, NamedSharding, PartitionSpec, SingleDeviceSharding

from pruning.leaves import PyTree, is_traced


def placed_as(mask: Any, leaf: Any) -> jax.Array:
    """A copy of a mask that lies as its leaf of the params does.

    Args:
        mask: A bool array.
        leaf: An array of the same shape.

    Returns:
        The copy: a step that donates it leaves the mask alone.
    """
    if not is_traced(mask) and not is_traced(leaf):
        if isinstance(leaf, jax.Array) and leaf.committed:
            return jax.device_put(mask, leaf.sharding, may_alias=False)
        return jnp.array(mask)
    sharding, mask = _explicit_sharding(leaf), jnp.asarray(mask)
    if sharding is not None:
        mask = jax.sharding.reshard(mask, sharding)
    # Joined with zeros that vary over a mesh as the leaf does, so that the mask does too.
    return jnp.logical_or(mask, jnp.zeros_like(leaf, dtype=bool))


def copied(leaf: Any) -> Any:
    """A leaf that shares no buffer with the one given, so that either may be donated.

    Args:
        leaf: Any leaf of params.

    Returns:
        A copy of a concrete JAX array, where it was; anything else as it is (inside ``jit`` buffers are
        XLA's).
    """
    return jnp.array(leaf) if isinstance(leaf, jax.Array) and not is_traced(leaf) else leaf


def zero_count(params: PyTree) -> jax.Array:
    """A counter of steps at 0, on all devices on which the params lie.

    Args:
        params: Arrays, or what ``init`` is given.

    Returns:
        An int32 scalar. A step gives it back where it was, so that the next one is the same program.
    """
    zero = jnp.zeros([], jnp.int32)
    for leaf in jax.tree.leaves(params):
        if isinstance(leaf, jax.Array) and not is_traced(leaf) and leaf.committed:
            if isinstance(leaf.sharding, NamedSharding):
                return jax.device_put(zero, NamedSharding(leaf.sharding.mesh, PartitionSpec()))
            if isinstance(leaf.sharding, SingleDeviceSharding):
                return jax.device_put(zero, leaf.sharding)
    return zero


def flat_places(leaf: jax.Array, start: Any = 0) -> jax.Array:
    """The flat index of every entry of an array, as int32 that lie as the array does.

    Args:
        leaf: An array.
        start: The first entry's, an int32.

    Returns:
        ``start + jnp.arange(leaf.size).reshape(leaf.shape)``, without the reshape.
    """
    places = jnp.zeros_like(leaf, dtype=jnp.int32) + start
    for axis in range(leaf.ndim):
        # Multiplied while it is short: what does not change in a loop XLA computes before it, in memory.
        along = jax.lax.iota(jnp.int32, leaf.shape[axis]) * math.prod(leaf.shape[axis + 1 :])
        places = places + jnp.expand_dims(along, [other for other in range(leaf.ndim) if other != axis])
    return places


def _explicit_sharding(leaf: Any) -> NamedSharding | None:
    """How an array's type says that it is divided; None where XLA is free to choose."""
    sharding = jax.typeof(leaf).sharding
    return sharding if AxisType.Explicit in sharding.mesh.axis_types else None
