"""Benchmark rows of training: against plain loops, and populations against one member."""

from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

import pruning
from experiments.benchmark_comparison import Comparison
from experiments.benchmark_populations import (
    ImageShape,
    epochs_of,
    random_masks_of,
    synthetic_population,
    training_flops,
)
from experiments.benchmark_torch import training_loop
from experiments.soft_programs import Gated, continuous_sparsification, gated_optimizer
from train.data.augment import normalise
from train.evaluation import apply_model
from train.lowering import LOWERINGS, lowered
from train.populations.members import in_turn, side_by_side
from train.populations.population import Member, stack_members
from train.recipes import make_optimizer


def against_flax(model_name: str, image_shape: ImageShape, steps: int) -> Comparison:
    """Training steps of a masked population member against a plain Flax and optax loop.

    The plain loop is what most code does: one jitted step a Python iteration, the batch indexed on
    the host, the mask applied to the params after the update, the compiler's gradients. Network, batches
    of 128, optimizer and mask are the same. The population's epoch also shuffles and evaluates one batch.

    Args:
        model_name: A name of ``train.models``.
        image_shape: Height, width, channels of synthetic images.
        steps: Training steps in one call.

    Returns:
        The comparison.
    """
    population = synthetic_population(model_name, image_shape, steps)
    recipe, dataset, model = population.recipe, population.dataset, population.model
    rng = np.random.default_rng(0)
    masks = random_masks_of(population)
    variables = jax.jit(model.init)(jax.random.key(0), jnp.zeros((1, *image_shape)))
    initial = variables["params"], variables.get("batch_stats", {})
    optimizer = make_optimizer(recipe, recipe.learning_rate, 0.0, steps)

    @jax.jit
    def plain_step(params: Any, stats: Any, state: Any, images: jax.Array, labels: jax.Array) -> Any:
        def loss(params: Any) -> tuple[jax.Array, Any]:
            images_in = normalise(images, dataset.mean, dataset.std)
            logits, updated = apply_model(model, params, stats, images_in, train=True)
            return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean(), updated

        gradients, stats_after = jax.grad(loss, has_aux=True)(params)
        updates, state = optimizer.update(gradients, state, params)
        return pruning.apply_masks(optax.apply_updates(params, updates), masks), stats_after, state

    def theirs() -> None:
        (params, stats), state = initial, optimizer.init(initial[0])
        for batch in rng.permutation(len(dataset.train.labels)).reshape(steps, -1):
            images, labels = dataset.train.images[batch], dataset.train.labels[batch]
            with lowered(LOWERINGS["accelerator"]):
                params, stats, state = plain_step(params, stats, state, images, labels)
        jax.block_until_ready(params)

    return Comparison(
        ours=epochs_of(population, 1, masks),
        theirs=theirs,
        against="a plain Flax + optax loop",
        unit="training steps",
        amount=steps,
        flops=training_flops(model_name, image_shape, recipe.batch_size),
    )


def against_torch(
    model_name: str, image_shape: ImageShape, steps: int, *, channels_last: bool = False
) -> Comparison:
    """Training steps of a masked population member against a plain PyTorch loop without a mask.

    Args:
        model_name: One of those in ``experiments.benchmark_torch``.
        image_shape: Height, width, channels of synthetic images.
        steps: Training steps in one call.
        channels_last: Whether PyTorch uses its own faster layout for convolutions.

    Returns:
        The comparison.

    Raises:
        Unavailable: If PyTorch is not installed.
    """
    theirs = training_loop(model_name, image_shape, steps, channels_last=channels_last)
    population = synthetic_population(model_name, image_shape, steps)
    layout = ", channels last" if channels_last else ""
    return Comparison(
        ours=epochs_of(population, 1, random_masks_of(population)),
        theirs=theirs,
        against=f"a plain PyTorch loop{layout}",
        unit="training steps",
        amount=steps,
        flops=training_flops(model_name, image_shape, population.recipe.batch_size),
    )


def population_against_one(
    model_name: str, image_shape: ImageShape, members: int, steps: int
) -> Comparison:
    """Steps of members that train together against the steps of one that trains alone.

    Args:
        model_name: A name of ``train.models``.
        image_shape: Height, width, channels of synthetic images.
        members: How many train together.
        steps: Training steps of each in one call; the one alone takes as many as all of them.

    Returns:
        The comparison.
    """
    together = synthetic_population(model_name, image_shape, steps)
    alone = synthetic_population(model_name, image_shape, steps)
    masks = random_masks_of(together)
    one = epochs_of(alone, 1, masks)

    def theirs() -> None:
        for _ in range(members):
            one()

    return Comparison(
        ours=epochs_of(together, members, masks),
        theirs=theirs,
        against="one member alone",
        unit="training steps of a member",
        amount=members * steps,
        flops=training_flops(model_name, image_shape, together.recipe.batch_size),
    )


def execution(model_name: str, image_shape: ImageShape, members: int, steps: int) -> Comparison:
    """Members one after another inside one program against members vmapped.

    Args:
        model_name: A name of ``train.models``.
        image_shape: Height, width, channels of synthetic images.
        members: How many train together.
        steps: Training steps of each in one call.

    Returns:
        The comparison.
    """
    ways = [synthetic_population(model_name, image_shape, steps, way) for way in (in_turn, side_by_side)]
    in_turns, vmapped = (epochs_of(way, members, random_masks_of(way)) for way in ways)
    return Comparison(
        ours=in_turns,
        theirs=vmapped,
        against="the members vmapped",
        unit="training steps of a member",
        amount=members * steps,
        flops=training_flops(model_name, image_shape, ways[0].recipe.batch_size),
    )


def parallel_search(model_name: str, image_shape: ImageShape, starts: int, steps: int) -> Comparison:
    """Continuous Sparsification from several starts of the gates in one population, or one by one.

    Args:
        model_name: A name of ``train.models``.
        image_shape: Height, width, channels of synthetic images.
        starts: How many.
        steps: Training steps of each in one call.

    Returns:
        The comparison.
    """
    plain = synthetic_population(model_name, image_shape, steps)
    recipe = plain.recipe
    population = replace(
        plain,
        method=gated_optimizer(recipe, steps_per_epoch=steps),
        reparametrization=continuous_sparsification(200.0, epochs=recipe.epochs, steps_per_epoch=steps),
    )
    key, rate = jax.random.key(0), jnp.float32(recipe.learning_rate)
    members = [
        Member(key, key, rate, jnp.float32(0), Gated(start, jnp.float32(1e-8), rate, jnp.float32(1)))
        for start in jnp.linspace(-0.1, 0.0, starts)
    ]
    together = population.train(stack_members(members), epochs=10_000)
    alone = [population.train(stack_members([member]), epochs=10_000) for member in members]

    def one_by_one() -> None:
        for search in alone:
            jax.block_until_ready(next(search).metrics)

    return Comparison(
        ours=lambda: jax.block_until_ready(next(together).metrics),
        theirs=one_by_one,
        against="the starts one by one",
        unit="training steps of a start",
        amount=starts * steps,
        flops=training_flops(model_name, image_shape, recipe.batch_size),
    )
