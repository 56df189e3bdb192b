"""From a data set's bytes to what a model sees, as a recipe says."""

from typing import Any

import jax

from train.data.augment import flip, normalise, padded_crop
from train.data.datasets import Dataset
from train.recipes import Recipe


def check_moments(dataset: Dataset, recipe: Recipe) -> None:
    """Checks that a recipe's moments are for images like a data set's.

    Args:
        dataset: What is normalised.
        recipe: Says by what.

    Raises:
        ValueError: If a mean or std has not one number for each channel.
    """
    channels = dataset.train.images.shape[-1]
    for what in ("mean", "std"):
        own = getattr(recipe, what)
        if own is not None and len(own) != channels:
            raise ValueError(
                f"expected a {what} in the recipe for each of the {channels} channels of {dataset.name}, "
                f"got {len(own)}: give so many, or None for the data set's own"
            )


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
