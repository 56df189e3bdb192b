"""Where a state lies: on the devices on which the params lie, divided as they are.

Concrete arrays are put there; inside ``jit`` the types say it where the mesh is explicit, and so they
do for what varies over the mesh inside ``shard_map``. Elsewhere XLA decides.

Some functions need a mesh whose axes are ``AxisType.Auto``, since they reshape divided axes or begin
loops with what is not divided: LAMP, blocks, constant fan-in (masks, RigL, dissipation), NTK-SAP and
``rare_gems``. With explicit axes JAX says so in a ShardingTypeError, or of what a loop carries.
"""

import math
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import AxisType, NamedSharding, PartitionSpec, SingleDeviceSharding

from pruning.trees.leaves import PyTree, check_countable, is_traced


def placed_as(array: Any, leaf: Any) -> jax.Array:
    """A copy of a mask, or of scores, that lies as its leaf of the params does.

    Args:
        array: An array.
        leaf: An array of the same shape.

    Returns:
        The copy: a step that donates it leaves the original alone.
    """
    if not is_traced(array) and not is_traced(leaf):
        if isinstance(leaf, jax.Array) and leaf.committed:
            return jax.device_put(array, leaf.sharding, may_alias=False)
        return jnp.array(array)
    sharding, array = _explicit_sharding(leaf), jnp.asarray(array)
    if sharding is not None:
        array = jax.sharding.reshard(array, sharding)
    zero = zero_over([leaf])
    return jnp.where(zero == 0, array, array) if is_manual() else array


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
        ``start + jnp.arange(leaf.size).reshape(leaf.shape)``, without the reshape. Inside a loop in which
        ``start`` changes they are never in memory.
    """
    check_countable(leaf.size)
    sharding, places = _explicit_sharding(leaf), jnp.int32(start)
    for axis in range(leaf.ndim):
        along = jax.lax.broadcasted_iota(jnp.int32, leaf.shape, axis, out_sharding=sharding)
        places = places + along * math.prod(leaf.shape[axis + 1 :])
    return places


def is_manual() -> bool:
    """Whether this is traced inside ``shard_map``, where values vary over a mesh or do not."""
    return bool(jax.sharding.get_abstract_mesh().manual_axes)


def zero_over(tree: PyTree) -> jax.Array:
    """A zero that varies over a mesh (inside ``shard_map``) as all the arrays of a tree together do.

    Args:
        tree: Arrays.

    Returns:
        An int32 scalar; added to what a loop begins with, it makes that vary as what the loop returns.
    """
    zero = jnp.int32(0)
    if is_manual():
        for array in jax.tree.leaves(tree):
            zero = zero + jnp.zeros_like(array, shape=(), dtype=jnp.int32)
    return zero


def gathered(leaf: jax.Array) -> jax.Array:
    """An array whose type says that it is divided, whole on every device; any other as it is.

    Args:
        leaf: An array.

    Returns:
        The array.
    """
    sharding = _explicit_sharding(leaf)
    return (
        leaf
        if sharding is None
        else jax.sharding.reshard(leaf, NamedSharding(sharding.mesh, PartitionSpec()))
    )


def _explicit_sharding(leaf: Any) -> NamedSharding | None:
    """How an array's type says that it is divided; None where XLA is free to choose."""
    sharding = jax.typeof(leaf).sharding
    return sharding if AxisType.Explicit in sharding.mesh.axis_types else None
