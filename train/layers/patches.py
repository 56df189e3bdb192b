"""Convolution as the product of patches with a kernel, for images of few channels on TPUs.

XLA's compiler for TPUs takes a minute or more over the gradient of a kernel that images of one or three
channels lead to, the first layer of every network. As the gradient of a product of patches the same
numbers, to rounding, compile in two seconds (docs/accelerators.md has what was measured). The patches
are made anew for the backward pass: kept, they would be as large as the outputs of a layer or larger.
"""

import math
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

MOST_CHANNELS = 4


@partial(jax.checkpoint, static_argnums=(2, 3, 4, 5, 6))
def convolve_patches(
    images: jax.Array,
    kernel: jax.Array,
    strides: tuple[int, int],
    padding: str | tuple[tuple[int, int], ...],
    image_dilation: tuple[int, int] | None,
    kernel_dilation: tuple[int, int] | None,
    precision: Any,
) -> jax.Array:
    """Convolves NHWC images with an HWIO kernel, as ``jax.lax.conv_general_dilated`` does.

    Args:
        images: (N, H, W, C).
        kernel: (h, w, C, D).

    Returns:
        (N, H', W', D).
    """
    height, width, channels, _ = kernel.shape
    of_images = precision[0] if isinstance(precision, tuple) else precision
    patches = lax.conv_general_dilated_patches(
        images,
        (height, width),
        strides,
        padding,
        lhs_dilation=image_dilation,
        rhs_dilation=kernel_dilation,
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        precision=None if of_images is None else lax.Precision(of_images),
    )
    # A patch has its channels one after the other, each with all its pixels.
    taps = kernel.transpose(2, 0, 1, 3).reshape(math.prod((height, width, channels)), -1)
    return jnp.matmul(patches, taps, precision=precision)
