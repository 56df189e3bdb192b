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
from functools import partial
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

import pruning
from train.data import Dataset, Split, hold_out
from train.devices import members_mesh, on_every_device, on_their_devices, over_devices
from train.evaluation import apply_model, cross_entropy, evaluate
from train.members import map_members
from train.preprocessing import preprocess, preprocess_for_training
from train.recipes import Recipe, make_optimizer
from train.reparametrization import DIRECT, Reparametrization

PyTree = Any
Method = Callable[[optax.GradientTransformation, PyTree], optax.GradientTransformation]


class Member(NamedTuple):
    """What makes a network of the population itself; stacked, every field has a leading axis N.

    Attributes:
        init_key: Typed key of the initial weights.
        order_key: Typed key of shuffling and augmentation. Members with equal keys see the same
            batches; stacked, one key without a leading axis is shared by all.
        learning_rate: Scalar.
        weight_decay: Scalar; plays no part where the recipe has none.
        method: What the method's transformation needs: masks, a fraction, a schedule, ...
    """

    init_key: jax.Array
    order_key: jax.Array
    learning_rate: jax.Array
    weight_decay: jax.Array
    method: PyTree


class MemberState(NamedTuple):
    """A network in training; stacked, every leaf has a leading axis N.

    Attributes:
        params: What is trained: the Flax params, masked, or what the reparametrization makes of them.
        batch_stats: The running statistics of batch normalisation; empty for models without.
        opt_state: The optimizer's state, with the method's masks in it.
        step: Training steps taken; it decides the place in the data.
    """

    params: PyTree
    batch_stats: PyTree
    opt_state: PyTree
    step: jax.Array


@dataclass(frozen=True)
class EpochResult:
    """What an epoch, or the part of one up to a stop, leaves behind.

    Attributes:
        epoch: Which, counting from 1.
        step: Training steps taken since initialization.
        complete: Whether the epoch is at its end.
        states: The members' states, leading axis N; their buffers are handed on to the next epoch,
            so read them before it.
        metrics: Arrays of shape (N,): train_loss (mean over the steps since the last result, penalties
            included), test_loss, test_accuracy (fraction), sparsity (fraction), and the same of a
            validation split.
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
        dataset: Lives on the device as uint8, whole.
        recipe: How a member is trained.
        method: ``method(optimizer, data)`` wraps the recipe's optimizer with the pruning method, for
            one member's ``data`` (traced).
        reparametrization: How what is trained becomes the model's params; by default it is the params,
            and the method's state must hold masks (``pruning.get_masks``).
        execute: How a device executes its members; by default as suits the platform (``train.members``).
        devices: Over which members are spread (``train.devices``); None for all of this process.
        compilations: How many training programs it has compiled so far.
    """

    model: nn.Module
    dataset: Dataset
    recipe: Recipe
    method: Method
    reparametrization: Reparametrization = DIRECT
    execute: Callable[..., PyTree] = map_members
    devices: Sequence[Any] | None = None
    compilations: int = field(default=0, init=False)

    def __post_init__(self) -> None:
        """Puts the data on the device and prepares the compiled functions."""
        train, evaluated = self.dataset.train, {"test": self.dataset.test}
        if self.recipe.validation_examples:
            train, evaluated["validation"] = hold_out(train, self.recipe.validation_examples)
        self.mesh = members_mesh(self.devices)
        self.train_split, self.evaluation_splits = on_every_device((train, evaluated), self.mesh)
        self._map = over_devices(self.execute, self.mesh)
        self.steps_per_epoch = self.recipe.steps_per_epoch(len(train.labels))
        self._start = jax.jit(self._start_members)
        self._epoch = jax.jit(self._train_members, donate_argnums=0)

    def start(self, members: Member) -> MemberState:
        """The states of members at initialization, under their masks.

        Args:
            members: Stacked members, N of them.

        Returns:
            Stacked states at step 0.
        """
        return self._start(members, jnp.int32(len(members.init_key)))

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
            first_step: The step of ``states``.
            epochs: The epoch after which training ends; None for the recipe's last. The learning-rate
                schedule is the recipe's.
            stops: Further steps, in the middle of epochs, after which there is a result.
            size: How many of the N count; the others fill up the shape and their results are
                meaningless. None for all. Fixed shapes keep to one compilation.

        Yields:
            The result of each epoch, and of each stop. A diverged member has NaN losses; the others go
            on.

        Raises:
            ValueError: If ``first_step`` or a stop lies outside the training.
        """
        count = jnp.int32(len(members.init_key) if size is None else size)
        per_epoch, epochs = self.steps_per_epoch, self.recipe.epochs if epochs is None else epochs
        for step in (first_step, *stops):
            if not 0 <= step <= epochs * per_epoch:
                raise ValueError(
                    f"expected a step of the training, 0 to {epochs * per_epoch} ({epochs} epochs of "
                    f"{per_epoch} steps), got {step}"
                )
        ends = sorted({*stops, *range(0, epochs * per_epoch + 1, per_epoch)})
        members = on_their_devices(members, self.mesh)
        current: MemberState = self._start(members, count) if states is None else states
        current = on_their_devices(current, self.mesh)
        begin = first_step
        for end in (end for end in ends if end > first_step):
            epoch = -(-end // per_epoch)
            within = jnp.int32(begin - (epoch - 1) * per_epoch), jnp.int32(end - (epoch - 1) * per_epoch)
            current, metrics = self._epoch(
                current, members, count, within, self.train_split, self.evaluation_splits
            )
            yield EpochResult(epoch, end, end % per_epoch == 0, current, metrics)
            begin = end

    def initial_params(self, init_key: jax.Array) -> PyTree:
        """The params that a member of this key begins with, before any mask.

        Args:
            init_key: A typed PRNG key.

        Returns:
            The Flax params.
        """
        return self._initial_variables(init_key)["params"]

    def trace_member(self, member: Member) -> Any:
        """The program of one member's epoch, as it is written; nothing is compiled.

        Args:
            member: One like the others; only shapes and dtypes matter.

        Returns:
            A closed jaxpr.
        """
        state = jax.eval_shape(self._start_member, member)
        common = ((jnp.int32(0), jnp.int32(1)), self.train_split, self.evaluation_splits)
        return jax.make_jaxpr(self._train_member)(common, state, member)

    def _initial_variables(self, init_key: jax.Array) -> Any:
        return self.model.init(init_key, jnp.zeros((1, *self.train_split.images.shape[1:])))

    def _start_members(self, members: Member, count: jax.Array) -> MemberState:
        return self._map(lambda _, member: self._start_member(member), count, (), members)

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

    def _transformation(self, member: Member) -> optax.GradientTransformationExtraArgs:
        optimizer = make_optimizer(
            self.recipe, member.learning_rate, member.weight_decay, self.steps_per_epoch
        )
        return optax.with_extra_args_support(self.method(optimizer, member.method))

    def _start_member(self, member: Member) -> MemberState:
        transformation = self._transformation(member)
        variables = self._initial_variables(member.init_key)
        # The masks decide what is trained, and the optimizer's state is made from that.
        trained = self.reparametrization.begin(variables["params"], transformation, member.method)
        batch_stats = variables.get("batch_stats", {})
        return MemberState(trained, batch_stats, transformation.init(trained), jnp.int32(0))

    def _train_member(
        self,
        common: tuple[tuple[jax.Array, jax.Array], Split, dict[str, Split]],
        state: MemberState,
        member: Member,
    ) -> tuple[MemberState, dict[str, jax.Array]]:
        """The steps ``within`` one epoch (first, end) of one member, shuffled; then evaluation."""
        within, train, evaluated = common
        transformation = self._transformation(member)
        key = jax.random.fold_in(member.order_key, state.step // self.steps_per_epoch)
        order_key, augment_key = jax.random.split(key)
        order = _batches(order_key, len(train.labels), self.recipe.batch_size)

        def step(number: jax.Array, carry: Any) -> Any:
            state, total = carry
            images = preprocess_for_training(
                jax.random.fold_in(augment_key, number),
                train.images[order[number]],
                self.dataset,
                self.recipe,
            )
            batch = (images, train.labels[order[number]])
            differentiate = jax.value_and_grad(self._loss, argnums=2, has_aux=True)
            params_key = jax.random.fold_in(jax.random.fold_in(key, 2), number)
            (loss, batch_stats), gradients = differentiate(
                params_key, member, state.params, state.batch_stats, state.step, *batch
            )
            updates, opt_state = transformation.update(gradients, state.opt_state, state.params)
            params = optax.apply_updates(state.params, updates)
            return MemberState(params, batch_stats, opt_state, state.step + 1), total + loss

        first, end = within
        state, total = jax.lax.fori_loop(first, end, step, (state, jnp.float32(0)))
        masks = self.reparametrization.masks(state.params, state.opt_state)
        metrics = {"train_loss": total / (end - first), "sparsity": pruning.sparsity(masks)}
        tested = self.reparametrization.tested(state.params, member.method, state.step - 1)
        for name, split in evaluated.items():
            loss, accuracy = evaluate(partial(self._logits, tested, state.batch_stats), split)
            metrics |= {f"{name}_loss": loss, f"{name}_accuracy": accuracy}
        return state, metrics

    def _logits(self, params: PyTree, batch_stats: PyTree, images: Any) -> jax.Array:
        images = preprocess(images, self.dataset, self.recipe)
        return apply_model(self.model, params, batch_stats, images, train=False)[0]

    def _loss(
        self,
        key: jax.Array,
        member: Member,
        trained: PyTree,
        batch_stats: PyTree,
        step: jax.Array,
        images: jax.Array,
        labels: Any,
    ) -> tuple[jax.Array, PyTree]:
        """The mean loss of a batch in training mode with its penalty, and the statistics after it."""
        params = self.reparametrization.params(key, trained, member.method, step)
        logits, updated = apply_model(self.model, params, batch_stats, images, train=True)
        penalty = self.reparametrization.penalty(trained, member.method, step)
        return jnp.mean(cross_entropy(logits, labels)) + penalty, updated


def stack_members(members: Sequence[Any]) -> Any:
    """Stacks single members, or their states, along a leading axis.

    Args:
        members: At least one, all of the same structure and shapes.

    Returns:
        The stacked members.
    """
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *members)


def _batches(key: jax.Array, examples: int, batch_size: int) -> jax.Array:
    """A random order of all examples in rows of B; the last row is filled up from the first."""
    order = jax.random.permutation(key, examples)
    steps = -(-examples // batch_size)
    return jnp.resize(order, (steps, batch_size))
