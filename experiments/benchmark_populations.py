"""The populations that benchmarks train: synthetic images, and the FLOPs of a step."""

from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

import pruning
from pruning.connectivity.interpreter import multiply_adds
from train.data.datasets import Dataset, Split
from train.evaluation import apply_model
from train.models import depth_order, make_model
from train.populations.members import map_members
from train.populations.population import EpochResult, Member, Population, stack_members
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
    return Population(
        model=make_model(model_name, num_classes=10),
        dataset=synthetic_dataset(image_shape, steps * recipe.batch_size, recipe.batch_size),
        recipe=recipe,
        method=method,
        execute=execute,
    )


def synthetic_dataset(image_shape: ImageShape, train: int, test: int) -> Dataset:
    """Random images with random labels of 10 classes.

    Args:
        image_shape: Height, width, channels.
        train: Images to train on.
        test: Images to test on.

    Returns:
        The data set.
    """
    rng = np.random.default_rng(0)

    def split(size: int) -> Split:
        images = rng.integers(0, 256, (size, *image_shape), np.uint8)
        return Split(images, rng.integers(0, 10, size).astype(np.int32))

    channels = image_shape[-1]
    return Dataset(
        name="synthetic",
        train=split(train),
        test=split(test),
        num_classes=10,
        mean=(0.5,) * channels,
        std=(0.25,) * channels,
    )


def random_masks_of(population: Population) -> Any:
    """Masks that remove nine tenths of a member's weights."""
    masks = jax.jit(lambda key: pruning.random_masks(key, population.initial_params(key), 0.9))
    return masks(jax.random.key(0))


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


def epochs_of(population: Population, members: int, data: Any) -> Callable[[], None]:
    """An epoch a call, of ``endless_epochs``.

    Args:
        population: From ``synthetic_population``.
        members: How many train; all alike.
        data: Of each member's method.

    Returns:
        What trains for an epoch and waits for it.
    """
    epochs = endless_epochs(population, members, data)
    return lambda: jax.block_until_ready(next(epochs).metrics)


@cache
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
    params = variables["params"]
    stats = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), variables.get("batch_stats", {}))
    counts = multiply_adds(lambda params: apply_model(model, params, stats, ones, train=False)[0], params)
    used = {
        jax.tree_util.keystr(path): count
        for path, count in jax.tree_util.tree_leaves_with_path(counts)
        if count
    }
    first = used[min(used, key=depth_order)]
    return 2.0 * batch * (3 * sum(used.values()) - first)
