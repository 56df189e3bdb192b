"""The populations that benchmarks train: synthetic images, and the FLOPs of a step."""

from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

import pruning
from train.data import Dataset, Split
from train.evaluation import apply_model
from train.members import map_members
from train.models import depth_order, make_model
from train.population import EpochResult, Member, Population, stack_members
from train.recipes import RECIPES

ImageShape = tuple[int, int, int]
RECIPE = "assessed-lenet"  # SGD without momentum, batches of 128


def hold(optimizer: optax.GradientTransformation, masks: Any) -> optax.GradientTransformation:
    """The method of members that hold a mask: its data are the masks.

    Args:
        optimizer: The recipe's.
        masks: A member's.
    """
    return optax.chain(optimizer, pruning.hold_masks(masks))


def synthetic_population(
    model_name: str,
    image_shape: ImageShape,
    steps: int,
    execute: Callable[..., Any] = map_members,
    method: Callable[..., Any] = hold,
) -> Population:
    """A population on synthetic images.

    Args:
        model_name: A name of ``train.models``.
        image_shape: Height, width, channels.
        steps: Training steps in an epoch.
        execute: How its members are executed.
        method: How they are pruned.

    Returns:
        The population; its test split is one batch.
    """
    recipe = RECIPES[RECIPE]
    rng = np.random.default_rng(0)

    def split(size: int) -> Split:
        images = rng.integers(0, 256, (size, *image_shape), np.uint8)
        return Split(images, rng.integers(0, 10, size).astype(np.int32))

    channels = image_shape[-1]
    return Population(
        model=make_model(model_name, num_classes=10),
        dataset=Dataset(
            name="synthetic",
            train=split(steps * recipe.batch_size),
            test=split(recipe.batch_size),
            num_classes=10,
            mean=(0.5,) * channels,
            std=(0.25,) * channels,
        ),
        recipe=recipe,
        method=method,
        execute=execute,
    )


def random_masks_of(population: Population) -> Any:
    """Masks that remove nine tenths of a member's weights."""
    key = jax.random.key(0)
    return pruning.random_masks(key, population.initial_params(key), 0.9)


def endless_epochs(population: Population, members: int, data: Any) -> Iterator[EpochResult]:
    """Many epochs of one start: what is measured is an epoch, not the start of a run.

    Args:
        population: From ``synthetic_population``.
        members: How many train; all alike.
        data: Of each member's method.

    Returns:
        An iterator over epochs.
    """
    key = jax.random.key(0)
    rates = (jnp.float32(population.recipe.learning_rate), jnp.float32(0))
    return population.train(stack_members([Member(key, key, *rates, data)] * members), epochs=10_000)


def training_flops(model_name: str, image_shape: ImageShape, batch: int) -> float:
    """FLOPs of the products and convolutions of one forward and backward pass, counted by layer.

    The backward pass has two products a layer, but one in the first, whose images need no gradient.
    Activations, pools, normalisation, the optimizer and evaluation do not count.

    Args:
        model_name: A name of ``train.models``.
        image_shape: Height, width, channels.
        batch: Examples.

    Returns:
        How many, 2 for a multiply-add.
    """
    model = make_model(model_name, num_classes=10)
    ones = jnp.ones((1, *image_shape))
    variables = jax.eval_shape(model.init, jax.random.key(0), ones)
    params, stats = jax.tree.map(
        lambda leaf: jnp.zeros(leaf.shape, leaf.dtype),
        (variables["params"], variables.get("batch_stats", {})),
    )
    rows = pruning.network_report(
        lambda params: apply_model(model, params, stats, ones, train=False)[0],
        params,
        pruning.random_masks(jax.random.key(0), params, 0.0),
    )
    first = min(rows, key=lambda row: depth_order(row.path))
    return float(batch * (3 * sum(row.dense_flops for row in rows) - first.dense_flops))
