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
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from train.data.datasets import Dataset
from train.data.stored_images import is_stored
from train.populations.members import is_shared

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
    mesh = mesh or device_mesh()
    everywhere = NamedSharding(mesh, PartitionSpec())
    return jax.device_put(tree, everywhere if mesh.size > 1 else mesh.devices.item())


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
    if mesh.size == 1:
        return jax.device_put(stacked, mesh.devices.item())
    sharding = _sharding_of_members(_members(stacked), mesh)
    shared = NamedSharding(mesh, PartitionSpec())
    return jax.tree.map(
        lambda leaf: jax.device_put(leaf, shared if is_shared(leaf) else sharding), stacked
    )


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
