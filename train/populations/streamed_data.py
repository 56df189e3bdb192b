"""Epochs over a data set that is read while it trains, in blocks of steps: for sets that do not fit.

The batches of every member are those that ``whole_data.py`` would give it, so the numbers are too.
Members with the same order of the data share what is read. A block is as many steps as fit into
``BLOCK_BYTES``, at least one, and of one shape in all epochs with as many orders: one program. While the
devices train on a block the next one is read and sent; a third waits until the first is done, so that
memory holds two.
"""

import math
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

import pruning
from train.data.datasets import Split
from train.evaluation import Totals, add_batch, evaluation_batches, no_totals
from train.populations.devices import (
    BATCH,
    everywhere,
    on_their_devices,
    over_devices,
    shape_at,
    shapes_on_their_devices,
)
from train.populations.member_training import Member, MemberState, MemberTraining

PyTree = Any
BLOCK_BYTES = 2**28


class Block(NamedTuple):
    """The batches of some steps.

    Attributes:
        images: Uint8, (steps, orders, B, height, width, channels).
        labels: Int32, (steps, orders, B).
        counted: Bool, (steps, B): which examples count; in training all do.
    """

    images: Any
    labels: Any
    counted: Any


class StreamedData:
    """Trains members through epochs, as ``train.populations.whole_data.WholeData`` does."""

    def __init__(
        self,
        training: MemberTraining,
        train: Split,
        evaluated: dict[str, Split],
        execute: Callable[..., PyTree],
    ) -> None:
        """Prepares the compiled functions; reads nothing.

        Args:
            execute: How a device executes its members (``members.py``).
        """
        self.training, self.compilations = training, 0
        self.train, self.evaluated = train, evaluated
        self._map = over_devices(execute, training.mesh)
        self._orders = jax.jit(jax.vmap(training.order, in_axes=(0, None, None)), static_argnums=2)
        self._program = jax.jit(self._train_members, donate_argnums=0)
        self._test = jax.jit(self._test_members)
        self._sparsity = jax.jit(jax.vmap(lambda state: pruning.sparsity(training.masks(state))))

    def place(self) -> None:
        """Nothing: each block is sent when its turn comes."""

    def bytes_for(self, size: int) -> int:
        """Bytes of a device that a block takes, for so many members."""
        leaves = jax.tree.leaves(self._block_of_training(size))
        shards = (leaf.sharding.shard_shape(leaf.shape) for leaf in leaves)
        return sum(
            math.prod(shard) * leaf.dtype.itemsize for shard, leaf in zip(shards, leaves, strict=True)
        )

    def epoch(
        self, states: MemberState, members: Member, count: jax.Array, within: tuple[int, int]
    ) -> tuple[MemberState, dict[str, jax.Array]]:
        """Steps of one epoch of all members, then evaluation.

        Args:
            states: Stacked; their buffers are handed on.
            members: Stacked.
            within: The first step and the one after the last, counted within the epoch.

        Returns:
            The states after it, and the metrics of ``EpochResult``.

        Raises:
            ValueError: If a record cannot be read.
        """
        begin, end = within
        size = len(members.init_key)
        step = np.asarray(states.step)[0]
        keys, order_of_member = _different_keys(members.order_key, size)
        order_of_member = self._placed(jnp.asarray(order_of_member))
        orders = np.asarray(self._orders(keys, jnp.asarray(step), len(self.train.labels)))
        epoch = np.full(len(keys), step // self.training.steps_per_epoch, np.uint32)
        crops = np.concatenate([jax.random.key_data(keys), epoch[:, None]], axis=1)
        totals = self._placed(jnp.zeros(size, jnp.float32))
        rows, longest = np.moveaxis(orders, 0, 1)[begin:end], self.training.steps_per_epoch
        for first, block in self._blocks(self.train, rows, longest, crops=crops):
            # Waits for the block before: what runs, and what waits to run, are two.
            jax.block_until_ready(totals)
            bounds = jnp.int32(begin + first), jnp.int32(min(begin + first + len(block.labels), end))
            states, totals = self._program(states, members, totals, order_of_member, count, bounds, block)
        metrics = {"train_loss": totals / (end - begin), "sparsity": self._sparsity(states)}
        for name, split in self.evaluated.items():
            places, counted = evaluation_batches(len(split.labels))
            found = self._placed(jax.tree.map(lambda leaf: jnp.full(size, leaf), no_totals()))
            for _, block in self._blocks(split, places[:, None], len(places), counted=counted):
                jax.block_until_ready(found)
                found = self._test(states, members, found, count, block)
            metrics[f"{name}_loss"] = found.loss / len(split.labels)
            metrics[f"{name}_accuracy"] = found.right / len(split.labels)
        return states, metrics

    def lower(self, states: MemberState, members: Member) -> jax.stages.Lowered:
        """The program of a block of steps, every member in an order of its own.

        Args:
            states: Shapes, with their places.
            members: The same.
        """
        mesh, size = self.training.mesh, len(members.init_key)
        number, block = jax.ShapeDtypeStruct((), jnp.int32), self._block_of_training(size)
        each = jax.ShapeDtypeStruct((size,), jnp.float32), jax.ShapeDtypeStruct((size,), jnp.int32)
        totals, order_of_member = shapes_on_their_devices(each, mesh)
        arguments = states, members, totals, order_of_member, number, (number, number), block
        return self._program.lower(*arguments)

    def trace_member(self, state: MemberState, member: Member) -> Any:
        """The program of one member's training, as it is written.

        Args:
            state: Shapes of a member's state.
        """

        def both(train: Block, test: Block, state: MemberState, member: Member) -> Any:
            common = (jnp.int32(0), jnp.int32(1)), train
            state, total = self._train_member(common, state, member, jnp.float32(0), jnp.int32(0))
            return state, total, self._test_member(test, state, member, no_totals())

        tested = max(len(evaluation_batches(len(s.labels))[0][0]) for s in self.evaluated.values())
        image = self.train.images.shape[1:]
        blocks = (_block_shapes(1, 1, size, image) for size in (self.training.recipe.batch_size, tested))
        return jax.make_jaxpr(both)(*blocks, state, member)

    def _block_of_training(self, orders: int) -> Block:
        """The shapes of a block with so many orders, and their places."""
        batch, image = self.training.recipe.batch_size, self.train.images.shape[1:]
        steps = _steps_of_a_block(self.training.steps_per_epoch, orders, batch, image)
        return jax.tree.map(shape_at, _block_shapes(steps, orders, batch, image), self._places(batch))

    def _blocks(
        self,
        split: Split,
        rows: np.ndarray,
        longest: int,
        *,
        counted: np.ndarray | None = None,
        crops: np.ndarray | None = None,
    ) -> Iterator[tuple[int, Block]]:
        """Reads batches, (steps, orders, B), in blocks of one shape, with the step each begins at.

        That shape is the same for fewer steps than the ``longest`` that there may be.
        """
        steps, orders, batch = rows.shape
        size = _steps_of_a_block(longest, orders, batch, split.images.shape[1:])
        seeds = None if crops is None else np.tile(crops, (steps, 1))
        images = split.images.read(rows.reshape(steps * orders, batch), seeds)
        labels = np.asarray(split.labels)[rows]
        counted = np.ones((steps, batch), bool) if counted is None else counted
        for first in range(0, steps, size):
            part = slice(first, first + size)
            read = np.stack([next(images) for _ in range(orders * len(labels[part]))])
            block = read.reshape(-1, orders, *read.shape[1:]), labels[part], counted[part]
            yield first, self._on_devices(Block(*(_filled(array, size) for array in block)))

    def _on_devices(self, block: Block) -> Block:
        """Sends a block: to each device its part of every batch."""
        return Block(*jax.device_put(tuple(block), tuple(self._places(block.labels.shape[-1]))))

    def _places(self, batch: int) -> Block:
        """Where the parts of a block lie whose batches have so many examples."""
        mesh = self.training.mesh
        if mesh.size == 1 or batch % mesh.shape[BATCH]:
            return Block(*(everywhere(mesh),) * 3)
        split = NamedSharding(mesh, PartitionSpec(None, None, BATCH))
        return Block(split, split, NamedSharding(mesh, PartitionSpec(None, BATCH)))

    def _placed(self, stacked: PyTree) -> PyTree:
        return on_their_devices(stacked, self.training.mesh)

    def _train_members(
        self,
        states: MemberState,
        members: Member,
        totals: jax.Array,
        order_of_member: jax.Array,
        count: jax.Array,
        bounds: tuple[jax.Array, jax.Array],
        block: Block,
    ) -> tuple[MemberState, jax.Array]:
        self.compilations += 1  # Python runs this line only when JAX traces the program anew.
        stacked = states, members, totals, order_of_member
        return self._map(self._train_member, count, (bounds, block), *stacked)

    def _train_member(
        self,
        common: tuple[tuple[jax.Array, jax.Array], Block],
        state: MemberState,
        member: Member,
        total: jax.Array,
        order: jax.Array,
    ) -> tuple[MemberState, jax.Array]:
        bounds, block = common

        def fetch(number: jax.Array) -> tuple[jax.Array, jax.Array]:
            place = number - bounds[0]
            return block.images[place, order], block.labels[place, order]

        return self.training.steps(state, total, member, within=bounds, fetch=fetch)

    def _test_members(
        self, states: MemberState, members: Member, totals: Totals, count: jax.Array, block: Block
    ) -> Totals:
        return self._map(self._test_member, count, block, states, members, totals)

    def _test_member(self, block: Block, state: MemberState, member: Member, totals: Totals) -> Totals:
        logits = self.training.tested(state, member)

        def add(totals: Totals, step: Block) -> tuple[Totals, None]:
            return add_batch(logits, totals, step.images[0], step.labels[0], step.counted), None

        return jax.lax.scan(add, totals, block)[0]


def _steps_of_a_block(steps: int, orders: int, batch: int, image: tuple[int, ...]) -> int:
    """How many of the steps fit into ``BLOCK_BYTES``; at least one."""
    return max(1, min(steps, BLOCK_BYTES // (orders * batch * math.prod(image))))


def _block_shapes(steps: int, orders: int, batch: int, image: tuple[int, ...]) -> Block:
    return Block(
        jax.ShapeDtypeStruct((steps, orders, batch, *image), jnp.uint8),
        jax.ShapeDtypeStruct((steps, orders, batch), jnp.int32),
        jax.ShapeDtypeStruct((steps, batch), bool),
    )


def _different_keys(keys: jax.Array, size: int) -> tuple[jax.Array, np.ndarray]:
    """The different ones among the keys of N members, and which of them is each member's, (N,)."""
    data = jax.random.key_data(keys)
    data = np.asarray(jnp.broadcast_to(data, (size, *data.shape[keys.ndim :])))
    different, which = np.unique(data, axis=0, return_inverse=True)
    wrapped = jax.random.wrap_key_data(jnp.asarray(different), impl=jax.random.key_impl(keys))
    return wrapped, which.reshape(size).astype(np.int32)


def _filled(array: np.ndarray, steps: int) -> np.ndarray:
    """The array with zeros, and examples that do not count, up to a number of steps."""
    if len(array) == steps:  # np.pad would copy it.
        return array
    return np.pad(array, [(0, steps - len(array))] + [(0, 0)] * (array.ndim - 1))
