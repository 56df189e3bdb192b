"""One member's training as pure functions: from its keys to its first state, and through its steps.

Where the examples come from is the caller's: the whole set on the device (``whole_data.py``) or blocks
that are read while it trains (``streamed_data.py``). Both give a member the same batches, so the same
numbers. How many members are executed, and where, is ``population.py``'s.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh

import pruning
from train.data.datasets import Dataset
from train.data.preprocessing import preprocess, preprocess_for_training
from train.evaluation import apply_model, smoothed_cross_entropy
from train.lowering import lowered, lowering
from train.populations.devices import BATCH, over_batch_devices
from train.populations.reparametrization import Reparametrization
from train.recipes import Recipe, make_optimizer, with_schedules_at

PyTree = Any
Method = Callable[[optax.GradientTransformation, PyTree], optax.GradientTransformation]
Fetch = Callable[[jax.Array], tuple[jax.Array, jax.Array]]


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


def pruned(state: MemberState, masks: PyTree) -> MemberState:
    """The same network under other masks; its optimizer goes on as it was."""
    return state._replace(
        params=pruning.apply_masks(state.params, masks),
        opt_state=pruning.set_masks(state.opt_state, masks),
    )


@dataclass(frozen=True, kw_only=True, eq=False)
class MemberTraining:
    """The training of one member; everything that a population's members have in common.

    Attributes:
        model: As in ``Population``.
        dataset: Says how images look and are normalised.
        recipe: As in ``Population``.
        method: As in ``Population``.
        reparametrization: As in ``Population``.
        steps_per_epoch: Of the recipe on the training split.
        mesh: Over whose axis "batch" a batch's examples are divided.
    """

    model: nn.Module
    dataset: Dataset
    recipe: Recipe
    method: Method
    reparametrization: Reparametrization
    steps_per_epoch: int
    mesh: Mesh

    def initial_variables(self, init_key: jax.Array) -> Any:
        """The model's collections as a member of this key begins with, before any mask.

        Args:
            init_key: A typed PRNG key.
        """
        return self.model.init(init_key, jnp.zeros((1, *self.dataset.train.images.shape[1:])))

    def start(self, member: Member) -> MemberState:
        """The state of a member at initialization, under its masks."""
        variables = self.initial_variables(member.init_key)
        # The masks decide what is trained, and the optimizer's state is made from that.
        trained = self.reparametrization.begin(
            variables["params"], self._transformation(member), member.method
        )
        return self.begin(member, trained, variables.get("batch_stats", {}), None, jnp.int32(0))

    def begin(
        self, member: Member, trained: PyTree, batch_stats: PyTree, masks: PyTree, step: jax.Array
    ) -> MemberState:
        """The state of a member that begins with given weights; its optimizer knows nothing but the step.

        Args:
            trained: What is trained, in the place of what ``start`` makes of the member's key.
            masks: Of the params, which are put under them; None for those that the method begins with.
            step: Its place in the data and in the schedule of the learning rate.
        """
        if masks is not None:
            trained = pruning.apply_masks(trained, masks)
        opt_state = self._transformation(member).init(trained)
        if masks is not None:
            opt_state = pruning.set_masks(opt_state, masks)
        return MemberState(trained, batch_stats, with_schedules_at(opt_state, step), step)

    def steps(
        self,
        state: MemberState,
        total: jax.Array,
        member: Member,
        *,
        within: tuple[jax.Array, jax.Array],
        fetch: Fetch,
    ) -> tuple[MemberState, jax.Array]:
        """Some steps of one epoch.

        Args:
            within: The first step and the one after the last, counted within the epoch.
            fetch: From a step's number within the epoch to its images, uint8 (B, H, W, C), and labels.
        """
        key = self.epoch_key(member.order_key, state.step)

        def step(number: jax.Array, carry: tuple[MemberState, jax.Array]) -> Any:
            state, total = carry
            state, loss = self.step(state, member, key, number, *fetch(number))
            return state, total + loss

        return jax.lax.fori_loop(*within, step, (state, total))

    def step(
        self,
        state: MemberState,
        member: Member,
        key: jax.Array,
        number: jax.Array,
        images: jax.Array,
        labels: jax.Array,
    ) -> tuple[MemberState, jax.Array]:
        """One step, and the loss of its batch before it.

        Args:
            key: What all draws of its epoch come from: ``epoch_key``.
            number: Which step of its epoch it is, from 0.
            images: Those of the batch, uint8, (B, H, W, C).
            labels: Those of the batch, (B,).
        """
        _, augment_key = jax.random.split(key)
        with self._products():
            images, labels = over_batch_devices((images, labels), self.mesh)
            images = preprocess_for_training(
                jax.random.fold_in(augment_key, number), images, self.dataset, self.recipe
            )
            differentiate = jax.value_and_grad(self._loss, argnums=2, has_aux=True)
            params_key = jax.random.fold_in(jax.random.fold_in(key, 2), number)
            (loss, batch_stats), gradients = differentiate(
                params_key, member, state.params, state.batch_stats, state.step, images, labels
            )
            updates, opt_state = self._transformation(member).update(
                gradients, state.opt_state, state.params
            )
            params = optax.apply_updates(state.params, updates)
        return MemberState(params, batch_stats, opt_state, state.step + 1), loss

    def order(self, order_key: jax.Array, step: jax.Array, examples: int) -> jax.Array:
        """The order of an epoch's examples.

        Args:
            step: A step of the epoch, counted from initialization.

        Returns:
            All examples in rows of B, one a step; the last row is filled up from the first.
        """
        shuffle_key, _ = jax.random.split(self.epoch_key(order_key, step))
        order = jax.random.permutation(shuffle_key, examples)
        return jnp.resize(order, (self.steps_per_epoch, self.recipe.batch_size))

    def masks(self, state: MemberState) -> PyTree:
        """What is kept of a member's weights."""
        return self.reparametrization.masks(state.params, state.opt_state)

    def tested(self, state: MemberState, member: Member) -> Callable[[jax.Array], jax.Array]:
        """What evaluation runs: from uint8 images, (B, H, W, C), to logits."""
        params = self.reparametrization.tested(state.params, member.method, state.step - 1)
        return partial(self._logits, params, state.batch_stats)

    def epoch_key(self, order_key: jax.Array, step: jax.Array) -> jax.Array:
        """The key of all that is drawn in the epoch of a step."""
        return jax.random.fold_in(order_key, step // self.steps_per_epoch)

    def _transformation(self, member: Member) -> optax.GradientTransformationExtraArgs:
        optimizer = make_optimizer(
            self.recipe, member.learning_rate, member.weight_decay, self.steps_per_epoch
        )
        return optax.with_extra_args_support(self.method(optimizer, member.method))

    @contextmanager
    def _products(self) -> Iterator[None]:
        """How products are computed: with the recipe's precision.

        A batch that devices share is not made thrice as long, which would move most of it between them.
        """
        chosen = lowering()
        one_pass = chosen.one_pass and self.mesh.shape[BATCH] == 1
        with (
            jax.default_matmul_precision(self.recipe.matmul_precision),
            lowered(chosen._replace(one_pass=one_pass)),
        ):
            yield

    def _logits(self, params: PyTree, batch_stats: PyTree, images: jax.Array) -> jax.Array:
        images = preprocess(over_batch_devices(images, self.mesh), self.dataset, self.recipe)
        with self._products():
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
        losses = smoothed_cross_entropy(logits, labels, self.recipe.label_smoothing)
        return jnp.mean(losses) + penalty, updated
