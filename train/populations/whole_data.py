"""Epochs over a data set that lies on every device, whole: an epoch, or a part of one, is one call."""

from collections.abc import Callable
from functools import cached_property
from typing import Any

import jax
import jax.numpy as jnp

import pruning
from train.data.datasets import Split
from train.evaluation import evaluate
from train.populations.devices import on_every_device, over_devices, shapes_on_every_device
from train.populations.member_training import Member, MemberState, MemberTraining

PyTree = Any


class WholeData:
    """Trains members through epochs; see ``streamed_data.py`` for sets that do not fit."""

    def __init__(
        self,
        training: MemberTraining,
        train: Split,
        evaluated: dict[str, Split],
        execute: Callable[..., PyTree],
    ) -> None:
        """Prepares the compiled function; the data goes to the devices when it is first asked for.

        Args:
            execute: How a device executes its members (``members.py``).
        """
        self.training, self.compilations = training, 0
        self._splits = train, evaluated
        self._map = over_devices(execute, training.mesh)
        self._program = jax.jit(self._train_members, donate_argnums=0)

    @property
    def train(self) -> Split:
        """What is trained on, on every device."""
        return self._placed[0]

    @property
    def evaluated(self) -> dict[str, Split]:
        """What is evaluated on, by name, on every device."""
        return self._placed[1]

    def place(self) -> None:
        """Puts the data on the devices."""
        _ = self._placed

    def bytes_for(self, size: int) -> int:
        """Bytes of a device that the data take, for so many members."""
        del size
        return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(self._splits))

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
        """
        bounds = jnp.int32(within[0]), jnp.int32(within[1])
        return self._program(states, members, count, bounds, self.train, self.evaluated)

    def lower(self, states: MemberState, members: Member) -> jax.stages.Lowered:
        """The program of an epoch, for devices that need not be at hand.

        Args:
            states: Shapes, with their places.
            members: The same.
        """
        mesh, number = self.training.mesh, jax.ShapeDtypeStruct((), jnp.int32)
        data = shapes_on_every_device(self._splits, mesh)
        return self._program.lower(states, members, number, (number, number), *data)

    @cached_property
    def _placed(self) -> tuple[Split, dict[str, Split]]:
        # Whoever is the first to ask may be tracing a program, and arrays of a trace are gone after it.
        with jax.ensure_compile_time_eval():
            return on_every_device(self._splits, self.training.mesh)

    def trace_member(self, state: MemberState, member: Member) -> Any:
        """The program of one member's epoch, as it is written.

        Args:
            state: Shapes of a member's state.
        """
        common = ((jnp.int32(0), jnp.int32(1)), *self._splits)
        return jax.make_jaxpr(self._train_member)(common, state, member)

    def _train_members(
        self,
        states: MemberState,
        members: Member,
        count: jax.Array,
        within: tuple[jax.Array, jax.Array],
        train: Split,
        evaluated: Any,
    ) -> tuple[MemberState, dict[str, jax.Array]]:
        self.compilations += 1  # Python runs this line only when JAX traces the program anew.
        return self._map(self._train_member, count, (within, train, evaluated), states, members)

    def _train_member(
        self,
        common: tuple[tuple[jax.Array, jax.Array], Split, dict[str, Split]],
        state: MemberState,
        member: Member,
    ) -> tuple[MemberState, dict[str, jax.Array]]:
        within, train, evaluated = common
        order = self.training.order(member.order_key, state.step, len(train.labels))

        def fetch(number: jax.Array) -> tuple[jax.Array, jax.Array]:
            return train.images[order[number]], train.labels[order[number]]

        state, total = self.training.steps(state, jnp.float32(0), member, within=within, fetch=fetch)
        metrics = {
            "train_loss": total / (within[1] - within[0]),
            "sparsity": pruning.sparsity(self.training.masks(state)),
        }
        logits = self.training.tested(state, member)
        for name, split in evaluated.items():
            metrics[f"{name}_loss"], metrics[f"{name}_accuracy"] = evaluate(logits, split)
        return state, metrics
