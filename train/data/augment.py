"""Augmentation and normalisation inside the compiled step.

Pure functions of (key, images) on batches in NHWC order, for use under `jit`, `vmap` and `scan`.
The order is torchvision's: crop and flip the uint8 images, then normalise, so that a padded border
is black rather than the training set's mean colour.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike, DTypeLike


def normalise(
    images: ArrayLike,
    mean: Sequence[float],
    std: Sequence[float],
    *,
    dtype: DTypeLike = jnp.float32,
) -> jax.Array:
    """Maps bytes to (images / 255 - mean) / std, channel by channel.

    Args:
        images: Uint8 of shape (..., channels).
        mean: For each channel, a mean of pixel / 255: `Dataset.mean`.
        std: For each channel, a standard deviation of pixel / 255, above 0: `Dataset.std`.
        dtype: The result's floating dtype; the arithmetic is float32 (or wider) in any case.

    Returns:
        The normalised images, of the same shape.

    Raises:
        ValueError: If the images are not uint8, or mean or std do not fit the channels, or a standard
            deviation is not positive (a constant channel cannot be normalised).
    """
    images = _require_bytes("normalise", images)
    channels = images.shape[-1]
    if len(mean) != channels or len(std) != channels:
        raise ValueError(
            f"normalise: images of shape {images.shape} need a mean and a std for each of their "
            f"{channels} channels, got {len(mean)} and {len(std)}."
        )
    if not all(value > 0 for value in std):
        raise ValueError(f"normalise: expected every std above 0, got {tuple(std)}.")
    wide = jnp.promote_types(dtype, jnp.float32)
    shape = (1,) * (images.ndim - 1) + (channels,)
    # One multiply-add; the two constants are computed once, in float64, while tracing.
    scale = jnp.asarray((1 / (255 * np.asarray(std, np.float64))).reshape(shape), wide)
    shift = np.asarray(mean, np.float64) / np.asarray(std, np.float64)
    shift = jnp.asarray(shift.reshape(shape), wide)
    return (images.astype(wide) * scale - shift).astype(dtype)


def flip(key: jax.Array, images: ArrayLike) -> jax.Array:
    """Mirrors each image left to right with probability 1/2.

    Args:
        key: A typed PRNG key.
        images: Shape (batch, height, width, channels), any dtype.

    Returns:
        The images, of the same shape and dtype.
    """
    images = jnp.asarray(images)
    mirrored = jax.random.bernoulli(key, shape=(images.shape[0], 1, 1, 1))
    return jnp.where(mirrored, images[:, :, ::-1], images)


def padded_crop(key: jax.Array, images: ArrayLike, *, pad: int) -> jax.Array:
    """Pads each image with black and crops it back to its size at a random place.

    The (2 pad + 1)^2 offsets are equally likely, for each image on its own.

    Args:
        key: A typed PRNG key.
        images: Uint8 of shape (batch, height, width, channels).
        pad: The border on each side, in pixels, at least 0.

    Returns:
        The crops, of the same shape and dtype.

    Raises:
        ValueError: If the images are not uint8 (crop before `normalise`), or pad is negative.

    Source: He et al., 2016, arXiv 1512.03385, section 4.2 (pad 4 on CIFAR-10), in the uint8 form of
      torchvision's `RandomCrop(size, padding=pad)`.
    """
    images = _require_bytes("padded_crop", images)
    if pad < 0:
        raise ValueError(f"padded_crop: expected pad of at least 0 pixels, got {pad}.")
    batch, *size = images.shape
    padded = jnp.pad(images, ((0, 0), (pad, pad), (pad, pad), (0, 0)))
    offsets = jax.random.randint(key, (batch, 2), 0, 2 * pad + 1)

    def crop(image: jax.Array, offset: jax.Array) -> jax.Array:
        return jax.lax.dynamic_slice(image, (offset[0], offset[1], 0), size)

    return jax.vmap(crop)(padded, offsets)


def _require_bytes(function: str, images: ArrayLike) -> jax.Array:
    images = jnp.asarray(images)
    if images.dtype != jnp.uint8:
        raise ValueError(f"{function}: expected uint8 images, got {images.dtype}.")
    return images
