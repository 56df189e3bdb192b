"""From a data set's bytes to what a model sees, as a recipe says."""

from typing import Any

import jax

from train.data.augment import flip, normalise, padded_crop
from train.data.datasets import Dataset
from train.recipes import Recipe


def preprocess(images: Any, dataset: Dataset, recipe: Recipe) -> jax.Array:
    """Normalises images, by the recipe's moments or, where it has none, the data set's.

    Args:
        images: Uint8, shape (B, H, W, C).

    Returns:
        Float32 of the same shape.
    """
    mean = dataset.mean if recipe.mean is None else recipe.mean
    std = dataset.std if recipe.std is None else recipe.std
    return normalise(images, mean, std)


def preprocess_for_training(key: jax.Array, images: Any, dataset: Dataset, recipe: Recipe) -> jax.Array:
    """Flips and crops images at random, as the recipe says, and normalises them.

    Args:
        key: A typed PRNG key, a new one each batch.
        images: Uint8, shape (B, H, W, C).

    Returns:
        Float32 of the same shape.
    """
    flip_key, crop_key = jax.random.split(key)
    if recipe.flip:
        images = flip(flip_key, images)
    if recipe.crop_padding:
        images = padded_crop(crop_key, images, pad=recipe.crop_padding)
    return preprocess(images, dataset, recipe)
