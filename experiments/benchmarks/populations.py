"""What rows compute with: networks, random images, populations whose masks remove nine tenths."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax

import pruning
from experiments.benchmarks.measuring import Row
from experiments.benchmarks.sizes import ImageShape, Sizes
from experiments.engine.timing import Work, alternating
from pruning.connectivity.interpreter import multiply_adds
from train.data.datasets import Dataset, Split
from train.evaluation import apply_model, cross_entropy
from train.models import layers_in_order, make_model
from train.named_recipes import RECIPES
from train.populations.members import map_members
from train.populations.population import Member, Population, stack_members
from train.recipes import build_model

RECIPE = RECIPES["assessed-lenet"]  # SGD without momentum, batches of 128


class Network(NamedTuple):
    """A network at initialization, and a batch of random images."""

    model: nn.Module
    params: Any
    stats: Any
    images: jax.Array

    def logits(self, params: Any, images: jax.Array, *, train: bool) -> jax.Array:
        """What the network computes with other params."""
        return apply_model(self.model, params, self.stats, images, train=train)[0]

    def loss(self, params: Any, images: jax.Array) -> jax.Array:
        """The mean cross-entropy in training mode, with labels that go round the classes."""
        labels = jnp.arange(len(images)) % 10
        return cross_entropy(self.logits(params, images, train=True), labels).mean()


def make_network(model_name: str, image_shape: ImageShape, batch: int) -> Network:
    """A network for 10 classes with a batch of images."""
    model = make_model(model_name, num_classes=10)
    images = jax.random.normal(jax.random.key(1), (batch, *image_shape))
    variables = jax.jit(model.init)(jax.random.key(0), images)
    return Network(model, variables["params"], variables.get("batch_stats", {}), images)


@cache
def training_flops(model_name: str, image_shape: ImageShape, batch: int) -> float:
    """FLOPs of the products and convolutions of one forward and backward pass, counted by layer.

    The backward pass has two products a layer, but one in the first, whose images need no gradient.
    Activations, pools, normalisation, the optimizer and evaluation do not count.
    """
    shapes = jax.eval_shape(lambda: make_network(model_name, image_shape, 1)[1:])
    params, stats, images = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes)
    network = Network(make_model(model_name, num_classes=10), params, stats, images)
    counts = multiply_adds(lambda params: network.logits(params, images, train=False), params)
    paths = jax.tree_util.tree_leaves_with_path(counts)
    used = {jax.tree_util.keystr(path): count for path, count in paths if count}
    first = used[layers_in_order(network.model, image_shape)[0]]
    return 2.0 * batch * (3 * sum(used.values()) - first)


def synthetic_population(
    sizes: Sizes,
    model_name: str,
    members: int = 1,
    *,
    execute: Callable[..., Any] = map_members,
    method: Callable[..., Any] | None = None,
    compute_dtype: str = "float32",
) -> Population:
    """A population whose epoch has the steps of a call for so many members, which hold random masks."""
    recipe, shape = replace(RECIPE, compute_dtype=compute_dtype), sizes.shapes[model_name]
    examples = sizes.steps(model_name, members) * recipe.batch_size
    return Population(
        model=build_model(model_name, recipe, num_classes=10),
        dataset=synthetic_dataset(shape, examples, recipe.batch_size),
        recipe=recipe,
        method=method or holding(random_masks(sizes, model_name, 0.9)),
        execute=execute,
    )


def holding(masks: Any) -> Callable[..., Any]:
    """The method of members that hold masks, which lie in their states as in every experiment."""
    return lambda optimizer, _: optax.chain(optimizer, pruning.hold_masks(masks))


def random_masks(sizes: Sizes, model_name: str, sparsity: float) -> Any:
    """Random masks of a model's params."""
    shapes = jax.eval_shape(lambda: make_network(model_name, sizes.shapes[model_name], 1).params)
    return jax.jit(lambda key: pruning.random_masks(key, shapes, sparsity))(jax.random.key(0))


def synthetic_dataset(image_shape: ImageShape, train: int, test: int) -> Dataset:
    """Random images with random labels of 10 classes, so many to train and to test on."""
    rng, channels = np.random.default_rng(0), image_shape[-1]

    def split(size: int) -> Split:
        images = rng.integers(0, 256, (size, *image_shape), np.uint8)
        return Split(images, rng.integers(0, 10, size).astype(np.int32))

    statistics = {"mean": (0.5,) * channels, "std": (0.25,) * channels}
    return Dataset(name="synthetic", train=split(train), test=split(test), num_classes=10, **statistics)


def epochs_of(population: Population, data: Sequence[Any] = ((),)) -> Work:
    """Trains for an epoch a call, of one start: an epoch is measured, not the start of a run.

    There is a member for each of ``data``, what its method needs; those of ``holding`` need nothing.
    """
    key, rate = jax.random.key(0), jnp.float32(population.recipe.learning_rate)
    members = stack_members([Member(key, key, rate, jnp.float32(0), one) for one in data])
    epochs = population.train(members, epochs=10_000)
    return lambda: jax.block_until_ready(next(epochs).metrics)


def training_steps(
    sizes: Sizes, model_name: str, ours: Work, theirs: Work, against: str, *amounts: int
) -> Row:
    """Training steps in two ways; the amounts are ours, and theirs if it is another."""
    flops = training_flops(model_name, sizes.shapes[model_name], RECIPE.batch_size)
    return Row(alternating(ours, theirs), against, "training steps", *amounts, flops=flops)
