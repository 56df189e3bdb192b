"""Population training: many networks trained side by side by one compiled program.

Everything that tells two members apart is data: the key of their weights, the key of their data
order, their hyperparameters, their masks and what else their pruning method needs. So all members of
one model, recipe and kind of method share one program, whatever their sparsity and seed, and a
single run is a population of one. The compiled unit is one epoch: run lengths do not recompile, and
between epochs the caller sees every member.

Shapes: N members on the leading axis of every stacked tree; B examples in a batch.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

import pruning
from train.augment import flip, normalise, padded_crop
from train.data import Dataset, Split, hold_out
from train.members import map_members
from train.recipes import Recipe, make_optimizer

PyTree = Any
Method = Callable[[optax.GradientTransformation, PyTree], optax.GradientTransformation]
EVALUATION_BATCH = 1000


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
    """A network in training; stacked, every leaf has a leading axis N."""

    params: PyTree
    opt_state: PyTree
    epoch: jax.Array


@dataclass(frozen=True)
class EpochResult:
    """What an epoch leaves behind.

    Attributes:
        epoch: Which, counting from 1.
        states: The members' states, leading axis N; their buffers are handed on to the next epoch,
            so read them before it.
        metrics: Arrays of shape (N,): train_loss (mean over the epoch's steps), test_loss,
            test_accuracy (fraction), sparsity (fraction), and the same of a validation split.
    """

    epoch: int
    states: MemberState
    metrics: dict[str, jax.Array]


@dataclass(kw_only=True)
class Population:
    """A compiled training program: a model, a data set, a recipe and a kind of method.

    Attributes:
        model: A Linen module from images to logits, without mutable collections.
        dataset: Lives on the device as uint8, whole.
        recipe: How a member is trained.
        method: ``method(optimizer, data)`` wraps the recipe's optimizer with the pruning method, for
            one member's ``data`` (traced); its state must hold masks (``pruning.get_masks``).
        execute: How members are executed; by default as suits the platform (``train.members``).
        compilations: How many training programs it has compiled so far.
    """

    model: nn.Module
    dataset: Dataset
    recipe: Recipe
    method: Method
    execute: Callable[..., PyTree] = map_members
    compilations: int = field(default=0, init=False)

    def __post_init__(self) -> None:
        """Puts the data on the device and prepares the compiled functions."""
        train, evaluated = self.dataset.train, {"test": self.dataset.test}
        if self.recipe.validation_examples:
            train, evaluated["validation"] = hold_out(train, self.recipe.validation_examples)
        self.train_split = jax.device_put(train)
        self.evaluation_splits = jax.device_put(evaluated)
        self.steps_per_epoch = self.recipe.steps_per_epoch(len(train.labels))
        self._start = jax.jit(self._start_members)
        self._epoch = jax.jit(self._train_members, donate_argnums=0)

    def train(
        self, members: Member, *, epochs: int | None = None, size: int | None = None
    ) -> Iterator[EpochResult]:
        """Trains members from initialization, an epoch at a time.

        Args:
            members: Stacked members, N of them.
            epochs: How many; None for the recipe's. The learning-rate schedule is the recipe's.
            size: How many of the N count; the others fill up the shape and their results are
                meaningless. None for all. Fixed shapes keep to one compilation.

        Yields:
            The result of each epoch. A diverged member has NaN losses; the others go on.
        """
        count = jnp.int32(len(members.init_key) if size is None else size)
        states = self._start(members, count)
        for epoch in range(1, (self.recipe.epochs if epochs is None else epochs) + 1):
            states, metrics = self._epoch(
                states, members, count, self.train_split, self.evaluation_splits
            )
            yield EpochResult(epoch, states, metrics)

    def initial_params(self, init_key: jax.Array) -> PyTree:
        """The params that a member of this key begins with, before any mask.

        Args:
            init_key: A typed PRNG key.

        Returns:
            The Flax params.
        """
        image = jnp.zeros((1, *self.train_split.images.shape[1:]))
        return self.model.init(init_key, image)["params"]

    def _start_members(self, members: Member, count: jax.Array) -> MemberState:
        return self.execute(self._start_member, count, members)

    def _train_members(
        self, states: MemberState, members: Member, count: jax.Array, train: Split, evaluated: Any
    ) -> tuple[MemberState, dict[str, jax.Array]]:
        self.compilations += 1  # Python runs this line only when JAX traces the program anew.
        return self.execute(partial(self._train_member, train, evaluated), count, states, members)

    def _transformation(self, member: Member) -> optax.GradientTransformationExtraArgs:
        optimizer = make_optimizer(
            self.recipe, member.learning_rate, member.weight_decay, self.steps_per_epoch
        )
        return optax.with_extra_args_support(self.method(optimizer, member.method))

    def _start_member(self, member: Member) -> MemberState:
        transformation = self._transformation(member)
        params = self.initial_params(member.init_key)
        # The masks decide the weights and the optimizer's state is made from those weights.
        masks = pruning.get_masks(transformation.init(params))
        params = pruning.apply_masks(params, masks)
        return MemberState(params, transformation.init(params), jnp.int32(0))

    def _train_member(
        self, train: Split, evaluated: dict[str, Split], state: MemberState, member: Member
    ) -> tuple[MemberState, dict[str, jax.Array]]:
        """One epoch of one member: shuffled steps, then evaluation."""
        transformation = self._transformation(member)
        key = jax.random.fold_in(member.order_key, state.epoch)
        order_key, augment_key = jax.random.split(key)
        order = _batches(order_key, len(train.labels), self.recipe.batch_size)

        def step(carry: Any, batch: Any) -> tuple[Any, jax.Array]:
            params, opt_state = carry
            number, indices = batch
            images = self._augment(jax.random.fold_in(augment_key, number), train.images[indices])
            loss, gradients = jax.value_and_grad(self._loss)(params, images, train.labels[indices])
            updates, opt_state = transformation.update(gradients, opt_state, params)
            return (optax.apply_updates(params, updates), opt_state), loss

        (params, opt_state), losses = jax.lax.scan(
            step, (state.params, state.opt_state), (jnp.arange(len(order)), order)
        )
        metrics = {
            "train_loss": jnp.mean(losses),
            "sparsity": pruning.sparsity(pruning.get_masks(opt_state)),
        }
        for name, split in evaluated.items():
            loss, accuracy = self._evaluate(params, split)
            metrics |= {f"{name}_loss": loss, f"{name}_accuracy": accuracy}
        return MemberState(params, opt_state, state.epoch + 1), metrics

    def _augment(self, key: jax.Array, images: Any) -> jax.Array:
        flip_key, crop_key = jax.random.split(key)
        if self.recipe.flip:
            images = flip(flip_key, images)
        if self.recipe.crop_padding:
            images = padded_crop(crop_key, images, pad=self.recipe.crop_padding)
        return self._normalise(images)

    def _normalise(self, images: Any) -> jax.Array:
        mean = self.dataset.mean if self.recipe.mean is None else self.recipe.mean
        std = self.dataset.std if self.recipe.std is None else self.recipe.std
        return normalise(images, mean, std)

    def _loss(self, params: PyTree, images: jax.Array, labels: Any) -> jax.Array:
        logits = self._logits(params, images)
        return jnp.mean(optax.softmax_cross_entropy_with_integer_labels(logits, labels))

    def _logits(self, params: PyTree, images: jax.Array) -> jax.Array:
        return jnp.asarray(self.model.apply({"params": params}, images))

    def _evaluate(self, params: PyTree, split: Split) -> tuple[jax.Array, jax.Array]:
        """Mean loss and accuracy over a split, in batches; what fills up the last one is ignored."""
        size = len(split.labels)
        batch = min(EVALUATION_BATCH, size)
        positions = jnp.arange(-(-size // batch) * batch).reshape(-1, batch)

        def evaluate(totals: Any, position: jax.Array) -> tuple[Any, None]:
            indices, counted = position % size, position < size
            labels = split.labels[indices]
            logits = self._logits(params, self._normalise(split.images[indices]))
            losses = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
            right = jnp.argmax(logits, -1) == labels
            sums = (jnp.sum(jnp.where(counted, losses, 0)), jnp.sum(right & counted))
            return jax.tree.map(jnp.add, totals, sums), None

        totals = (jnp.float32(0), jnp.int32(0))
        (loss, right), _ = jax.lax.scan(evaluate, totals, positions)
        return loss / size, right / size


def stack_members(members: list[Member]) -> Member:
    """Stacks single members along a leading axis.

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
