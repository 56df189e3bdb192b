"""Images as tokens: a linear map of each of the squares that an image is divided into."""

import functools
from typing import Any

import flax.linen as nn
import jax
from jax.nn.initializers import Initializer

from train.layers.convolution import conv_general_dilated
from train.models.layers import Activation
from train.models.sized import Units, sized

GELU: Activation = functools.partial(jax.nn.gelu, approximate=False)
"""With the error function, as the papers' code has it."""


def tokens_of(
    images: jax.Array, patch: int, width: int, *, kernel_init: Initializer, dtype: Any, units: Units
) -> jax.Array:
    """Embed the patches of images, by a layer that is called patch_embedding.

    Args:
        images: (batch, H, W, C).
        patch: Side of the squares, in pixels, of which each is a token.
        width: Of tokens.
        kernel_init: Initializer of the kernel.
        dtype: Dtype of the computation; None for that of images and parameters.
        units: See `sized`.

    Returns:
        (batch, patches, width), rows of patches after each other.

    Raises:
        ValueError: If patches do not divide the images.
    """
    height, length = images.shape[1:3]
    if height % patch or length % patch:
        raise ValueError(
            f"expected images with sides that are multiples of the patch's {patch} pixels, got "
            f"{height}x{length}"
        )
    layer = functools.partial(
        nn.Conv,
        kernel_size=(patch, patch),
        strides=(patch, patch),
        padding="VALID",
        kernel_init=kernel_init,
        dtype=dtype,
        conv_general_dilated=conv_general_dilated,
    )
    x = sized(layer, units)(width, name="patch_embedding")(images)
    return x.reshape(x.shape[0], -1, x.shape[-1])


def layer_norm(name: str, dtype: Any) -> nn.Module:
    """LayerNorm of each token, with eps 1e-6."""
    return nn.LayerNorm(epsilon=1e-6, dtype=dtype, name=name)
