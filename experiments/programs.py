"""The kinds of training program that experiments share, and what tells their members apart.

A population compiles one program for each kind. ``held_masks`` takes every static mask there is, made
beforehand: the masks travel in the members' states. ``held_random_masks`` draws its masks inside the
program and sums gradients for K-starts; ``dissipating_to`` removes weights during training.
"""

from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

import pruning
from train.data.datasets import Dataset
from train.populations.population import MemberState, Method

PyTree = Any


class RandomMask(NamedTuple):
    """A member that keeps one random mask; sparsity 0 is the dense network."""

    mask_key: jax.Array
    sparsity: jax.Array


class Target(NamedTuple):
    """A member that starts from a random mask and dissipates along a schedule of sparsities."""

    mask_key: jax.Array
    start: jax.Array
    sparsities: jax.Array


class SeedKeys(NamedTuple):
    """The keys of one seed; whatever is compared in pairs shares init and order."""

    init: jax.Array
    order: jax.Array
    retrain_order: jax.Array
    random_mask: jax.Array
    candidates: jax.Array


def seed_keys(seed: int) -> SeedKeys:
    """The keys of one seed.

    Args:
        seed: Counting from 0.

    Returns:
        Typed keys.
    """
    return SeedKeys(*jax.random.split(jax.random.key(seed), len(SeedKeys._fields)))


def param_shapes(model: nn.Module, dataset: Dataset) -> PyTree:
    """The shapes of a model's params on a data set; computes nothing.

    Args:
        model: From images to logits.
        dataset: Gives the images' shape.

    Returns:
        The params, as ``jax.ShapeDtypeStruct``.
    """
    image = jnp.zeros((1, *dataset.train.images.shape[1:]))
    return jax.eval_shape(lambda: model.init(jax.random.key(0), image)["params"])


def held_masks(shapes: PyTree) -> Method:
    """A method that holds the masks of a member's state; it begins with all weights kept.

    Args:
        shapes: Of the params.

    Returns:
        A method whose members need no data; ``with_masks`` gives a state other masks.
    """
    masks = pruning.full_masks(shapes)
    return lambda optimizer, _: optax.chain(optimizer, pruning.hold_masks(masks))


def with_masks(state: MemberState, masks: PyTree) -> MemberState:
    """The same network pruned: other masks in the optimizer's state, the params under them.

    Args:
        state: Of a member whose method holds masks.
        masks: Masks of its params.

    Returns:
        The state.
    """

    def replace(part: Any) -> Any:
        return pruning.HoldMasksState(masks) if _holds_masks(part) else part

    opt_state = jax.tree.map(replace, state.opt_state, is_leaf=_holds_masks)
    return state._replace(params=pruning.apply_masks(state.params, masks), opt_state=opt_state)


def begun_at(template: MemberState, weights: MemberState, step: int, masks: PyTree) -> MemberState:
    """A network that begins with given weights, with an optimizer that knows nothing but the step.

    Args:
        template: A state of the population at step 0.
        weights: Whose params and running statistics it begins with.
        step: Its place in the data and in the learning-rate schedule.
        masks: Under which it is trained.

    Returns:
        The state.
    """

    def is_schedule(part: Any) -> bool:
        return isinstance(part, optax.ScaleByScheduleState)

    def at_step(part: Any) -> Any:
        return part._replace(count=jnp.int32(step)) if is_schedule(part) else part

    state = template._replace(
        params=weights.params,
        batch_stats=weights.batch_stats,
        opt_state=jax.tree.map(at_step, template.opt_state, is_leaf=is_schedule),
        step=jnp.int32(step),
    )
    return with_masks(state, masks)


def held_random_masks(shapes: PyTree, *, first: int, last: int) -> Method:
    """A method that holds a random mask and sums the magnitudes of gradients, for K-starts.

    Args:
        shapes: Of the params.
        first: The first step of the sum, counting from 1.
        last: Its last step.

    Returns:
        A method for members with a ``RandomMask``.
    """

    def method(optimizer: optax.GradientTransformation, data: RandomMask):
        sums = pruning.accumulate_gradients(first=first, last=last)
        masks = pruning.random_masks(data.mask_key, shapes, data.sparsity)
        return optax.chain(sums, optimizer, pruning.hold_masks(masks))

    return method


def dissipating_to(shapes: PyTree, *, check_every: int) -> Method:
    """A method that dissipates to a schedule of sparsities.

    Args:
        shapes: Of the params.
        check_every: Steps between checks.

    Returns:
        A method for members with a ``Target``.
    """

    def method(optimizer: optax.GradientTransformation, data: Target):
        masks = pruning.random_masks(data.mask_key, shapes, data.start)
        dissipate = pruning.dissipate_to(data.sparsities, check_every=check_every, masks=masks)
        return optax.chain(optimizer, dissipate)

    return method


def gradual_to(*, check_every: int) -> Method:
    """A method that prunes by magnitude along a schedule of sparsities, one for each check.

    Args:
        check_every: Steps between checks.

    Returns:
        A method for members with an array of sparsities.
    """

    def method(optimizer: optax.GradientTransformation, data: jax.Array):
        return optax.chain(optimizer, pruning.gradual_magnitude(data, check_every=check_every))

    return method


@jax.jit
def observe_fitness(states: MemberState) -> dict[str, jax.Array]:
    """The two fitnesses of every member at the end of its search, shape (N,) each.

    Args:
        states: States of ``held_random_masks``, leading axis N.

    Returns:
        fitness_weight and fitness_gradient.
    """
    masks = pruning.get_masks(states.opt_state)
    sums = optax.tree.get(states.opt_state, "gradient_sums")
    return {
        "fitness_weight": pruning.weight_fitness(states.params, sums, masks),
        "fitness_gradient": pruning.gradient_fitness(states.params, sums, masks),
    }


def _holds_masks(part: Any) -> bool:
    return isinstance(part, pruning.HoldMasksState)
