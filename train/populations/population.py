"""Population training: many networks trained side by side by one compiled program.

Everything that tells two members apart is data: the key of their weights, the key of their data
order, their hyperparameters, their masks and what else their pruning method needs. So all members of
one model, recipe and kind of method share one program, whatever their sparsity and seed, and a
single run is a population of one. The compiled unit is an epoch or a part of one: run lengths do not
recompile, between epochs the caller sees every member, and a run may begin and stop at any step.

Shapes: N members on the leading axis of every stacked tree; B examples in a batch.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from train.data.datasets import Dataset, Split, hold_out
from train.data.preprocessing import check_moments
from train.data.stored_images import is_stored
from train.populations.devices import (
    device_mesh,
    on_their_devices,
    over_devices,
    shapes_on_every_device,
    shapes_on_their_devices,
)
from train.populations.member_training import Member, MemberState, MemberTraining, Method, pruned
from train.populations.members import map_members
from train.populations.reparametrization import DIRECT, Reparametrization
from train.populations.streamed_data import StreamedData
from train.populations.whole_data import WholeData
from train.recipes import Recipe

PyTree = Any

__all__ = [
    "EpochResult",
    "Member",
    "MemberState",
    "MemberTraining",
    "Method",
    "Population",
    "pruned",
    "stack_members",
]


@dataclass(frozen=True)
class EpochResult:
    """What an epoch, or the part of one up to a stop, leaves behind.

    Attributes:
        epoch: Which, counting from 1.
        step: Training steps taken since initialization.
        complete: Whether the epoch is at its end.
        states: The members' states, leading axis N; their buffers are handed on to the next epoch,
            so read them before it.
        metrics: Arrays of shape (N,): train_loss (mean over the steps since the last result, of what is
            minimised: with penalties and smoothed labels), test_loss, test_accuracy (fraction), sparsity
            (fraction), and the same of a validation split.
    """

    epoch: int
    step: int
    complete: bool
    states: MemberState
    metrics: dict[str, jax.Array]


@dataclass(kw_only=True)
class Population:
    """A compiled training program: a model, a data set, a recipe and a kind of method.

    Attributes:
        model: A Linen module, ``model(images, train=...)`` giving logits, whose only collections are
            params and, where it normalises batches, batch_stats.
        dataset: Lives on every device as uint8, whole, or is read while training where its images are
            ``train.data.stored_images.StoredImages``; the numbers are the same.
        recipe: How a member is trained.
        method: ``method(optimizer, data)`` wraps the recipe's optimizer with the pruning method, for
            one member's ``data`` (traced).
        reparametrization: How what is trained becomes the model's params; by default it is the params,
            and the method's state must hold masks (``pruning.get_masks``).
        execute: How a device executes its members; by default as suits the platform (``members.py``).
        mesh: Of the devices that members and batches are divided over (``devices.py``);
            by default members over all devices of this process.
        training: The training of one member, as pure functions.
    """

    model: nn.Module
    dataset: Dataset
    recipe: Recipe
    method: Method
    reparametrization: Reparametrization = DIRECT
    execute: Callable[..., PyTree] = map_members
    mesh: Mesh = field(default_factory=device_mesh)

    def __post_init__(self) -> None:
        """Prepares the compiled functions."""
        train, evaluated = self.dataset.train, {"test": self.dataset.test}
        if self.recipe.validation_examples:
            train, evaluated["validation"] = hold_out(train, self.recipe.validation_examples)
        self.steps_per_epoch = self.recipe.steps_per_epoch(len(train.labels))
        check_moments(self.dataset, self.recipe)
        self.training = MemberTraining(
            model=self.model,
            dataset=self.dataset,
            recipe=self.recipe,
            method=self.method,
            reparametrization=self.reparametrization,
            steps_per_epoch=self.steps_per_epoch,
            mesh=self.mesh,
        )
        source = StreamedData if is_stored(train.images) else WholeData
        self._data = source(self.training, train, evaluated, self.execute)
        self._start = jax.jit(self._start_members)
        self._begin = jax.jit(self.training.begin)

    @property
    def train_split(self) -> Split:
        """What is trained on."""
        return self._data.train

    @property
    def evaluation_splits(self) -> dict[str, Split]:
        """What is evaluated on, by name."""
        return self._data.evaluated

    @property
    def compilations(self) -> int:
        """How many training programs have been compiled so far."""
        return self._data.compilations

    def start(self, members: Member) -> MemberState:
        """The states of members at initialization, under their masks.

        Args:
            members: Stacked members, N of them.

        Returns:
            Stacked states at step 0.
        """
        return self._start(members, jnp.int32(len(members.init_key)))

    def begin(
        self,
        member: Member,
        trained: PyTree,
        batch_stats: PyTree,
        *,
        masks: PyTree = None,
        step: int = 0,
    ) -> MemberState:
        """The state of one member that begins with given weights and masks, at a step of the training.

        Args:
            member: Not stacked.
            trained: Its params, or what a reparametrization trains in their place.
            batch_stats: Running statistics of batch normalisation; empty for models without.
            masks: Under which it is trained; None for those that the method begins with.
            step: Its place in the data and in the schedule of the learning rate. Otherwise the optimizer
                is new: momentum and moments are zero.

        Returns:
            A state, to be stacked for ``train``.
        """
        return self._begin(member, trained, batch_stats, masks, jnp.int32(step))

    def masks(self, states: MemberState) -> PyTree:
        """What is kept of the weights.

        Args:
            states: Of one member, or stacked.
        """
        return self.training.masks(states)

    def train(
        self,
        members: Member,
        *,
        states: MemberState | None = None,
        first_step: int = 0,
        epochs: int | None = None,
        stops: Sequence[int] = (),
        size: int | None = None,
    ) -> Iterator[EpochResult]:
        """Trains members, an epoch at a time.

        Args:
            members: Stacked members, N of them.
            states: Where they begin, all at ``first_step``; None for their initialization. Their
                buffers are handed on: they cannot be used again.
            epochs: The epoch after which training ends; None for the recipe's last. The learning-rate
                schedule is the recipe's.
            stops: Further steps, in the middle of epochs, after which there is a result.
            size: How many of the N count; the others fill up the shape and their results are
                meaningless. None for all. Fixed shapes keep to one compilation.

        Yields:
            The result of each epoch, and of each stop. A diverged member has NaN losses; the others go
            on.

        Raises:
            ValueError: If ``first_step`` or a stop lies outside the training, the states are at another
                step, or ``size`` is below 1 or above N.
        """
        size = len(members.init_key) if size is None else size
        if not 1 <= size <= len(members.init_key):
            raise ValueError(f"expected size from 1 to the {len(members.init_key)} members, got {size}")
        count = jnp.int32(size)
        per_epoch, epochs = self.steps_per_epoch, self.recipe.epochs if epochs is None else epochs
        for step in (first_step, *stops):
            if not 0 <= step <= epochs * per_epoch:
                raise ValueError(
                    f"expected a step of the training, 0 to {epochs * per_epoch} ({epochs} epochs of "
                    f"{per_epoch} steps), got {step}"
                )
        if states is not None and getattr(states.step, "is_fully_addressable", True):
            found = set(np.asarray(states.step)[:size].tolist())
            if found != {first_step}:
                raise ValueError(
                    f"expected states at first_step, {first_step}, got steps {sorted(found)}"
                )
        ends = sorted({*stops, *range(0, epochs * per_epoch + 1, per_epoch)})
        members = on_their_devices(members, self.mesh)
        current: MemberState = self._start(members, count) if states is None else states
        current = on_their_devices(current, self.mesh)
        begin = first_step
        for end in (end for end in ends if end > first_step):
            epoch = -(-end // per_epoch)
            within = begin - (epoch - 1) * per_epoch, end - (epoch - 1) * per_epoch
            current, metrics = self._data.epoch(current, members, count, within)
            yield EpochResult(epoch, end, end % per_epoch == 0, current, metrics)
            begin = end

    def place_data(self) -> None:
        """Puts the data set on the devices, unless it is read while training; training does so too."""
        self._data.place()

    def data_bytes(self, size: int) -> int:
        """Bytes that data take on a device in the program of so many members: all of it, or a block."""
        return self._data.bytes_for(size)

    def initial_params(self, init_key: jax.Array) -> PyTree:
        """The params that a member of this key begins with, before any mask.

        Args:
            init_key: A typed PRNG key.
        """
        return self.training.initial_variables(init_key)["params"]

    def lower(self, members: Member) -> jax.stages.Lowered:
        """The program of an epoch, as the compiler gets it; nothing is placed on devices.

        Its ``compile()`` gives what can be read: bytes of a device, collectives. The devices of the mesh
        need not be at hand (``jax.experimental.topologies``).

        Args:
            members: Stacked, or their shapes.
        """
        states = jax.eval_shape(self._start, members, jnp.int32(len(members.init_key)))
        placed = shapes_on_their_devices((states, members), self.mesh)
        return self._data.lower(*placed)

    def lower_step(self, members: Member) -> jax.stages.Lowered:
        """A single step of training, as the compiler gets it; it estimates the time of what has no loop.

        Args:
            members: Stacked, or their shapes.
        """
        images = (self.recipe.batch_size, *self.dataset.train.images.shape[1:])
        batch = jax.ShapeDtypeStruct(images, jnp.uint8), jax.ShapeDtypeStruct(images[:1], jnp.int32)
        states = jax.eval_shape(self._start, members, jnp.int32(len(members.init_key)))
        places = shapes_on_their_devices((states, members), self.mesh)
        return jax.jit(self._step_members).lower(*places, shapes_on_every_device(batch, self.mesh))

    def trace_member(self, member: Member) -> Any:
        """The program of one member's training, as it is written; nothing is compiled.

        Args:
            member: One like the others; only shapes and dtypes matter.
        """
        return self._data.trace_member(jax.eval_shape(self.training.start, member), member)

    def _step_members(self, states: MemberState, members: Member, batch: PyTree) -> PyTree:
        def step(batch: PyTree, state: MemberState, member: Member) -> PyTree:
            key, number = self.training.epoch_key(member.order_key, state.step), jnp.int32(0)
            return self.training.step(state, member, key, number, *batch)

        run, count = over_devices(self.execute, self.mesh), jnp.int32(len(members.init_key))
        return run(step, count, batch, states, members)

    def _start_members(self, members: Member, count: jax.Array) -> MemberState:
        run = over_devices(self.execute, self.mesh)
        return run(lambda _, member: self.training.start(member), count, (), members)


def stack_members(members: Sequence[Any]) -> Any:
    """Stacks single members, or their states, along a leading axis.

    Args:
        members: At least one, all of the same structure and shapes.

    Returns:
        The stacked members.

    Raises:
        ValueError: If there is none.
    """
    if not members:
        raise ValueError("expected at least one member to stack, got none")
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *members)
