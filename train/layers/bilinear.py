"""Convolution and its two gradients, each other's derivatives to every order, fast in loops on XLA:CPU.

A convolution y = x * w is bilinear, and so are its gradients: with g of the shape of their cotangent,

    <x * w, dy> = <x, image_gradient(dy, w)> = <w, kernel_gradient(x, dy)>

so the derivatives of each of the three are the other two:

    convolve(x, w)           dx = image_gradient(dy, w)     dw = kernel_gradient(x, dy)
    image_gradient(dy, w)    d(dy) = convolve(g, w)         dw = kernel_gradient(g, dy)
    kernel_gradient(x, dy)   dx = image_gradient(dy, g)     d(dy) = convolve(x, g)

Each is computed by convolutions of NHWC images with HWIO kernels, the permutations done by explicit
flips and transposes; `convolution.py` says why. A TPU's three passes can be one (`three_passes.py`), at
this one place for all orders. Notation: x images (N, H, W, C), w kernel
(h, w, C, D), y and its cotangent dy (N, H', W', D); s strides, a and b the dilations of x and w. In each
spatial dimension, then,

    image_gradient  = dy * (w flipped, C and D swapped)      dilations s and b, stride a
    kernel_gradient = (x with C as batch, N as channels)
                      * (dy with N as its input channels)    dilations a and s, stride b
"""

import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from train.layers.three_passes import thrice_left, thrice_right

Pair = tuple[int, int]

_LAYOUT = ("NHWC", "HWIO", "NHWC")
_PART_SIZES = range(4, 17)  # How many images of a batch a kernel's gradient is computed of at a time.
_MOST_TAPS = 25  # Of kernels that are multiplied with patches: each tap is a slice of the program.


class Geometry(NamedTuple):
    """How a kernel moves over images; everything static.

    Attributes:
        images: Height and width of the images.
        window: Height and width of the kernel.
        strides: Of the kernel.
        padding: (low, high) of the images in both dimensions; negative ones crop.
        image_dilation: Of the images.
        kernel_dilation: Of the kernel.
        precision: As in jax.
        one_pass: Whether to compute in a single pass over thrice as many channels (`three_passes.py`),
            and leave the rest to the compiler.
    """

    images: Pair
    window: Pair
    strides: Pair
    padding: tuple[Pair, Pair]
    image_dilation: Pair
    kernel_dilation: Pair
    precision: Any
    one_pass: bool = False


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def convolve(geometry: Geometry, x: jax.Array, w: jax.Array) -> jax.Array:
    """Convolve images with a kernel.

    Args:
        x: Images, (N, H, W, C).
        w: Kernel, (h, w, C, D).

    Returns:
        y, (N, H', W', D).
    """
    return _convolve(geometry, x, w)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def image_gradient(geometry: Geometry, dy: jax.Array, w: jax.Array) -> jax.Array:
    """The gradient of <convolve(x, w), dy> with respect to x.

    Args:
        dy: (N, H', W', D).
        w: Kernel, (h, w, C, D).

    Returns:
        dx, (N, H, W, C).
    """
    if dy.size == 0:  # No window fits.
        return jnp.zeros((dy.shape[0], *geometry.images, w.shape[2]), dy.dtype)
    pads = []
    for axis in range(2):
        images, window, output = _dilated_sizes(geometry, dy, axis)
        before = window - 1 - geometry.padding[axis][0]
        # The high side takes what makes the gradient exactly as large as the images, also where the
        # stride does not divide: rows that no window reached get a zero gradient.
        pads.append((before, images + window - 1 - output - before))
    turned = geometry._replace(
        images=(dy.shape[1], dy.shape[2]),
        strides=geometry.image_dilation,
        padding=(pads[0], pads[1]),
        image_dilation=geometry.strides,
    )
    return _convolve(turned, dy, lax.rev(w, (0, 1)).transpose(0, 1, 3, 2))


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def kernel_gradient(geometry: Geometry, x: jax.Array, dy: jax.Array) -> jax.Array:
    """The gradient of <convolve(x, w), dy> with respect to w.

    Args:
        x: Images, (N, H, W, C).
        dy: (N, H', W', D).

    Returns:
        dw, (h, w, C, D).
    """
    if dy.size == 0:  # No window fits; XLA refuses an empty kernel.
        return jnp.zeros((*geometry.window, x.shape[3], dy.shape[3]), x.dtype)
    pads = []
    for axis in range(2):
        images, window, output = _dilated_sizes(geometry, dy, axis)
        low = geometry.padding[axis][0]
        pads.append((low, output + window - 1 - images - low))
    turned = geometry._replace(
        window=(dy.shape[1], dy.shape[2]),
        strides=geometry.kernel_dilation,
        padding=(pads[0], pads[1]),
        kernel_dilation=geometry.strides,
    )

    def of_part(x: jax.Array, dy: jax.Array) -> jax.Array:
        dw = _convolve(turned, x.transpose(3, 1, 2, 0), dy.transpose(1, 2, 0, 3))
        return dw.transpose(1, 2, 0, 3)

    return of_part(x, dy) if geometry.one_pass else _sum_over_parts(of_part, x, dy)


def _keep(function: Any) -> Callable[..., tuple[jax.Array, Any]]:
    """The forward pass of a bilinear function: its value, and both arguments for the backward pass."""
    return lambda geometry, left, right: (function(geometry, left, right), (left, right))


convolve.defvjp(
    _keep(convolve),
    lambda geometry, saved, dy: (
        image_gradient(geometry, dy, saved[1]),
        kernel_gradient(geometry, saved[0], dy),
    ),
)
image_gradient.defvjp(
    _keep(image_gradient),
    lambda geometry, saved, g: (
        convolve(geometry, g, saved[1]),
        kernel_gradient(geometry, g, saved[0]),
    ),
)
kernel_gradient.defvjp(
    _keep(kernel_gradient),
    lambda geometry, saved, g: (
        image_gradient(geometry, saved[1], g),
        convolve(geometry, saved[0], g),
    ),
)


def _convolve(geometry: Geometry, x: jax.Array, w: jax.Array) -> jax.Array:
    pixels, taps = math.prod(x.shape[1:3]), math.prod(w.shape[:2])
    if geometry.one_pass:
        x, w = thrice_left(x, axis=3), thrice_right(w, axis=2)
    elif pixels < taps <= min(3 * pixels, _MOST_TAPS):
        return _convolve_small_images(geometry, x, w)
    return lax.conv_general_dilated(
        x,
        w,
        geometry.strides,
        geometry.padding,
        lhs_dilation=geometry.image_dilation,
        rhs_dilation=geometry.kernel_dilation,
        dimension_numbers=_LAYOUT,
        precision=lax.Precision.DEFAULT if geometry.one_pass else geometry.precision,
    )


def _convolve_small_images(geometry: Geometry, x: jax.Array, w: jax.Array) -> jax.Array:
    """The same as one product of the patches of the images with the kernel."""
    holes = [dilation - 1 for dilation in geometry.image_dilation]
    spatial = [(*pads, between) for pads, between in zip(geometry.padding, holes, strict=True)]
    padded = lax.pad(x, jnp.zeros((), x.dtype), [(0, 0, 0), *spatial, (0, 0, 0)])
    rows, columns = (
        _met_by_taps(
            padded.shape[1 + axis], w.shape[axis], geometry.strides[axis], geometry.kernel_dilation[axis]
        )
        for axis in range(2)
    )
    flat = jnp.concatenate([padded[:, row, column] for row in rows for column in columns], axis=-1)
    return jnp.matmul(flat, w.reshape(-1, w.shape[3]), precision=geometry.precision)


def _met_by_taps(size: int, window: int, stride: int, dilation: int) -> list[slice]:
    """The pixels along an axis that each tap of a kernel is multiplied with."""
    count = max(0, (size - _dilated(window, dilation)) // stride + 1)
    return [slice(tap * dilation, tap * dilation + count * stride, stride) for tap in range(window)]


def part_size(batch: int) -> int:
    """How many images of a batch to compute the gradient of a kernel of at a time.

    Returns:
        The largest even number from 4 to 16 that divides the batch, else the largest such odd one, else
        all of it.
    """
    divisors = [size for size in _PART_SIZES if batch % size == 0 and size < batch]
    return max(divisors, key=lambda size: (size % 2 == 0, size), default=batch)


def _sum_over_parts(function: Callable[..., jax.Array], *batches: jax.Array) -> jax.Array:
    """Sum a function over parts of a batch, in a loop: XLA does not fuse what made the batch into it.

    The sum is in float32 at least: in bfloat16 its error would grow with the number of parts.
    """
    count = batches[0].shape[0]
    size = part_size(count)
    if size == count:
        return function(*batches)

    def of_part(index: Any) -> jax.Array:
        # Sliced out of the batch as it is: what made the batch XLA would compute once more for a reshaped
        # one (a gradient of ResNet-20 then takes 4 % longer; batch 128, one core, jax 0.10.1).
        return function(*(lax.dynamic_slice_in_dim(batch, index * size, size) for batch in batches))

    total = jax.eval_shape(of_part, 0)
    zero = jnp.zeros(total.shape, jnp.promote_types(total.dtype, jnp.float32))
    summed = lax.fori_loop(
        0, count // size, lambda index, sum: sum + of_part(index).astype(sum.dtype), zero
    )
    return summed.astype(total.dtype)


def _dilated_sizes(geometry: Geometry, dy: jax.Array, axis: int) -> tuple[int, int, int]:
    """Pixels along an axis of the dilated images, kernel and output."""
    return (
        _dilated(geometry.images[axis], geometry.image_dilation[axis]),
        _dilated(geometry.window[axis], geometry.kernel_dilation[axis]),
        _dilated(dy.shape[1 + axis], geometry.strides[axis]),
    )


def _dilated(size: int, dilation: int) -> int:
    return dilation * (size - 1) + 1
