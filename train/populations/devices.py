"""Members, and the examples of their batches, spread over devices.

A mesh has two axes. Along "members" each device trains its share of the members, and they have nothing
to tell each other. Along "batch" devices train the same members, each on its part of every batch:
what is averaged over a batch (gradients, losses, the statistics of batch normalisation) is averaged over
all of it, by collectives that the compiler puts in; so the numbers are those of one device, to rounding.
What all members read, the data set, lies on every device; what is a member's own lies on the member's
devices only. With one device there is no mesh and nothing changes.

Members fill the devices in order, so a population spreads evenly where their number is a multiple of the
axis's size; where it is not, the last one is repeated up to that, and the repetitions are dropped.
"""

import dataclasses
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import jax
import jax.extend
import jax.numpy as jnp
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec, Sharding, SingleDeviceSharding

from train.data.datasets import Dataset
from train.data.stored_images import is_stored
from train.populations.members import is_shared, on_shared_batches

PyTree = Any
MEMBERS, BATCH = "members", "batch"


def check_devices() -> None:
    """Starts JAX's devices, before anything is computed.

    Raises:
        ValueError: If the machine has none of the kind that JAX is told to use; says which it has.
    """
    try:
        jax.devices()
    except (RuntimeError, AssertionError) as error:
        config: Any = jax.config
        asked = config.jax_platforms
        if not asked:
            raise
        config.update("jax_platforms", None)
        try:
            there = ", ".join(jax.extend.backend.backends())
        finally:
            config.update("jax_platforms", asked)
        raise ValueError(
            f"JAX_PLATFORMS is {asked!r}, and no device of that kind can be used here, where there is: "
            f"{there}. Name one of these in JAX_PLATFORMS, or leave it unset"
        ) from error


def device_mesh(devices: Sequence[Any] | None = None, *, devices_per_member: int = 1) -> Mesh:
    """The mesh that members and batches are spread over.

    Args:
        devices: Which; None for all of this process.

    Raises:
        ValueError: If the devices cannot be divided so.
    """
    found = jax.local_devices() if devices is None else list(devices)
    if devices_per_member < 1 or len(found) % devices_per_member:
        raise ValueError(
            f"expected devices for each network (--devices-per-network) that divide the {len(found)} of "
            f"this process, got {devices_per_member}"
        )
    shape = len(found) // devices_per_member, devices_per_member
    return jax.make_mesh(shape, (MEMBERS, BATCH), axis_types=(AxisType.Auto,) * 2, devices=found)


def on_every_device(tree: PyTree, mesh: Mesh | None = None) -> PyTree:
    """Puts arrays on all devices, whole; those that are there stay.

    Args:
        mesh: Of the devices; None for all of this process.
    """
    return jax.device_put(tree, everywhere(mesh or device_mesh()))


def dataset_on_every_device(dataset: Dataset, mesh: Mesh | None = None) -> Dataset:
    """A data set whose splits lie on all devices, so that several populations share them.

    Args:
        dataset: Anywhere; one that is read while training stays where it is.
        mesh: Of the devices; None for all of this process.
    """
    if is_stored(dataset.train.images):
        return dataset
    train, test = on_every_device((dataset.train, dataset.test), mesh)
    return dataclasses.replace(dataset, train=train, test=test)


def on_their_devices(stacked: PyTree, mesh: Mesh) -> PyTree:
    """Puts stacked members, or their states, where ``over_devices`` leaves its results.

    So the first epoch has the same shapes and places as all others, and there is one program.

    Args:
        stacked: Leaves with a leading axis of members; shared keys without.
    """
    return jax.device_put(stacked, _places_of_members(stacked, mesh))


def shapes_on_their_devices(stacked: PyTree, mesh: Mesh) -> PyTree:
    """What ``on_their_devices`` would give, as shapes: the devices need not be at hand."""
    return jax.tree.map(shape_at, stacked, _places_of_members(stacked, mesh))


def shapes_on_every_device(tree: PyTree, mesh: Mesh) -> PyTree:
    """What ``on_every_device`` would give, as shapes: the devices need not be at hand."""
    return jax.tree.map(lambda leaf: shape_at(leaf, everywhere(mesh)), tree)


def everywhere(mesh: Mesh) -> Sharding:
    """The place of what all devices of a mesh hold whole."""
    return (
        NamedSharding(mesh, PartitionSpec())
        if mesh.size > 1
        else SingleDeviceSharding(mesh.devices.item())
    )


def shape_at(leaf: Any, place: Sharding) -> jax.ShapeDtypeStruct:
    """The shape and dtype of an array, with the place where it is to lie."""
    return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=place)


def over_batch_devices(batch: PyTree, mesh: Mesh) -> PyTree:
    """Divides the examples of a batch; for use inside ``over_devices``.

    Args:
        batch: Leaves with a leading axis of examples.

    Returns:
        The batch, of the same global shape.
    """
    # Without a mesh around it a program is only looked at, for what it holds (`capacity.py`).
    if mesh.shape[BATCH] == 1 or jax.sharding.get_abstract_mesh().empty:
        return batch
    return jax.lax.with_sharding_constraint(batch, PartitionSpec(BATCH))


def over_devices(execute: Callable[..., PyTree], mesh: Mesh) -> Callable[..., PyTree]:
    """Executes members on several devices.

    Args:
        execute: How a device executes its share: ``members.py``.

    Returns:
        ``run(function, count, common, *stacked)``: the stacked results of
        ``function(common, *member)``, as by ``execute``.
    """
    if mesh.shape[BATCH] > 1:
        execute = on_shared_batches(execute)

    def run(
        function: Callable[..., PyTree], count: jax.Array, common: PyTree, *stacked: PyTree
    ) -> PyTree:
        if mesh.size == 1:
            return execute(partial(function, common), count, *stacked)
        size, shares = _members(stacked), mesh.shape[MEMBERS]
        each = -(-size // shares)

        def share(count: jax.Array, common: PyTree, *stacked: PyTree) -> PyTree:
            before = jax.lax.axis_index(MEMBERS) * each
            return execute(partial(function, common), jnp.clip(count - before, 0, each), *stacked)

        whole, split = PartitionSpec(), PartitionSpec(MEMBERS)
        sharded = jax.shard_map(
            share,
            mesh=mesh,
            axis_names={MEMBERS},
            in_specs=(
                whole,
                whole,
                *jax.tree.map(lambda leaf: whole if is_shared(leaf) else split, stacked),
            ),
            out_specs=split,
            check_vma=False,
        )
        results = sharded(count, common, *_filled(stacked, each * shares - size))
        results = jax.tree.map(lambda leaf: leaf[:size], results)
        return jax.lax.with_sharding_constraint(results, _sharding_of_members(size, mesh))

    return run


def _places_of_members(stacked: PyTree, mesh: Mesh) -> PyTree:
    if mesh.size == 1:
        return jax.tree.map(lambda _: everywhere(mesh), stacked)
    split = _sharding_of_members(_members(stacked), mesh)
    return jax.tree.map(lambda leaf: everywhere(mesh) if is_shared(leaf) else split, stacked)


def _members(stacked: PyTree) -> int:
    return next(len(leaf) for leaf in jax.tree.leaves(stacked) if not is_shared(leaf))


def _sharding_of_members(size: int, mesh: Mesh) -> NamedSharding:
    """Each device has its share; members that cannot be shared evenly lie on all of them."""
    # An axis of one device is written as no axis, as XLA writes it: the placement decides the program.
    split = size % mesh.shape[MEMBERS] == 0 and mesh.shape[MEMBERS] > 1
    return NamedSharding(mesh, PartitionSpec(MEMBERS) if split else PartitionSpec())


def _filled(stacked: PyTree, missing: int) -> PyTree:
    """The last member repeated ``missing`` times."""

    def fill(leaf: jax.Array) -> jax.Array:
        if missing == 0 or is_shared(leaf):
            return leaf
        last = jnp.broadcast_to(leaf[-1:], (missing, *leaf.shape[1:]))
        return jnp.concatenate([leaf, last])

    return jax.tree.map(fill, stacked)
