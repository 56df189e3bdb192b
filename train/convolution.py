"""A convolution whose gradients are as fast inside `lax.scan` as outside it on XLA:CPU.

`conv_general_dilated` has the signature and the values of `jax.lax.conv_general_dilated`, for
`flax.linen.Conv(..., conv_general_dilated=conv_general_dilated)`. Only its gradients are computed
differently, and only on CPU.

Why: jax writes the gradients of a convolution as convolutions with permuted dimension numbers.
XLA:CPU rewrites those into the one layout that its fast kernel knows (NHWC images, HWIO kernels),
but its pass (`ConvCanonicalization`) visits the entry computation only: in the body of a loop a
naive kernel runs instead. So the backward pass here is two convolutions that are in that layout to
begin with, the permutations done by explicit flips and transposes.

Notation: x images (N, H, W, C), w kernel (h, w, C, D), y = x * w and its cotangent dy
(N, H', W', D); s strides, a and b the dilations of x and w. In each spatial dimension, then,

    dx = dy * (w flipped, C and D swapped)       dilations s and b, stride a
    dw = (x with C as batch, N as channels)
         * (dy with N as its input channels)     dilations a and s, stride b

dw is summed over parts of the batch, in a loop. Without the loop XLA fuses what made x into the
transposition of x: in a residual network that is the whole chain of blocks before, computed again in
strided order for every kernel.

A third cure: where the kernel is larger than the images (3x3 on the 2x2 pixels of VGG's last block),
XLA's algebraic simplifier swaps the two, and again a naive kernel runs. There the patches of the images
are multiplied with the kernel instead; a gradient of VGG-11 takes 1.0 s in place of 7.6 (batch 128, one
core, jax 0.10.1). If the kernel is more than three times as large, patches would be mostly padding, and
swapping is right.

Both are members of the same family, so they go through the same function, and derivatives of every
order have fast gradients (a Hessian-vector product is reverse over reverse).

Measured in November 2026 on 2 CPU cores, float32, batch 128, best of several runs, milliseconds:

    one step (two 3x3 'SAME' convolutions 1 -> 16 -> 32    jax.lax           here
    on 28x28, ReLU, 2x2 max pool, dense layer; SGD)      alone  in scan    alone  in scan
      gradient step, jax 0.10.1                             13      266       12       12
      gradient step, jax 0.12.0.1                           15      181       10       10
      Hessian-vector product, jax 0.10.1                    94      515      103      105
      Hessian-vector product, jax 0.12.0.1                  59      329       57       57

    one gradient in a scan, jax 0.12.0.1                 images   kernel   images   kernel
      3x3, 16 -> 16, 32x32                                 148     1127        4        8
      3x3, 16 -> 32, 32x32, stride 2                        59      698        5        5
      1x1, 16 -> 32, 32x32, stride 2                         5      106        1        4
      3x3, 64 -> 64, 8x8                                    25      964        2        4

    one gradient in a loop, jax 0.10.1, one core         dw whole    in 2 parts    in 4    in 8
      ResNet-20 (32x32x3)                                     632           475     433     436
      Conv-2 (32x32x3)                                        443           297     282
      LeNet-5 (28x28x1)                                        27            30      27
"""

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

Pair = tuple[int, int]
Geometry = tuple[Pair, tuple[Pair, Pair], Pair, Pair]
"""Strides, padding as (low, high) pairs, dilation of the images, dilation of the kernel."""

_PARTS = (4, 2)  # In how many the batch is divided.
_MOST_TAPS = 25  # Of kernels that are multiplied with patches: each tap is a slice of the program.
_LAYOUT = ("NHWC", "HWIO", "NHWC")


def conv_general_dilated(
    lhs: jax.Array,
    rhs: jax.Array,
    window_strides: Sequence[int],
    padding: str | Sequence[tuple[int, int]],
    lhs_dilation: Sequence[int] | None = None,
    rhs_dilation: Sequence[int] | None = None,
    dimension_numbers: Any = None,
    feature_group_count: int = 1,
    batch_group_count: int = 1,
    precision: Any = None,
    preferred_element_type: Any = None,
    out_sharding: Any = None,
) -> jax.Array:
    """Convolve as `jax.lax.conv_general_dilated` does, with gradients that are fast in CPU loops.

    The fast gradients are for two-dimensional NHWC images with HWIO kernels and no groups, at any
    stride, padding and dilation. Everything else is passed to `jax.lax.conv_general_dilated` as it
    is: right, but slow to differentiate inside a loop on CPU. So is everything on other platforms,
    whose compilers choose layouts themselves.

    The fast gradients exist in reverse mode only, to any order: `jax.jvp`, `jax.jacfwd` and
    forward-over-reverse raise on CPU.

    Args:
        lhs: Images, (N, H, W, C).
        rhs: Kernel, (h, w, C, D), of the images' dtype.
        window_strides: A stride for each spatial dimension.
        padding: 'SAME', 'SAME_LOWER', 'VALID', or a (low, high) pair for each spatial dimension;
            negative ones crop.
        lhs_dilation: A dilation of the images for each spatial dimension; None for 1.
        rhs_dilation: A dilation of the kernel for each spatial dimension; None for 1.
        dimension_numbers: The layout, as jax takes it; ('NHWC', 'HWIO', 'NHWC') is the fast one.
        feature_group_count: As in jax; 1 is the fast one.
        batch_group_count: As in jax; 1 is the fast one.
        precision: As in jax; it holds for the backward pass too.
        preferred_element_type: As in jax; None is the fast one.
        out_sharding: As in jax; None is the fast one.

    Returns:
        The convolved images, (N, H', W', D).

    Source:
        The two gradients: Dumoulin and Visin 2016, arXiv:1603.07285, section 4.
    """
    plain = functools.partial(
        lax.conv_general_dilated,
        lhs,
        rhs,
        window_strides,
        lhs_dilation=lhs_dilation,
        rhs_dilation=rhs_dilation,
        dimension_numbers=dimension_numbers,
        feature_group_count=feature_group_count,
        batch_group_count=batch_group_count,
        precision=precision,
        preferred_element_type=preferred_element_type,
        out_sharding=out_sharding,
    )
    grouped = feature_group_count != 1 or batch_group_count != 1
    special = preferred_element_type is not None or out_sharding is not None
    # The one place that chooses by platform. `lax.platform_dependent` would follow the device
    # instead of the process, but it traces both branches into every gradient and would take
    # forward mode away from every platform; a wrong guess here costs time, never a wrong number.
    if grouped or special or lhs.ndim != 4 or rhs.ndim != 4 or jax.default_backend() != "cpu":
        return plain(padding)
    layout = lax.conv_dimension_numbers(lhs.shape, rhs.shape, dimension_numbers)
    if layout != lax.conv_dimension_numbers(lhs.shape, rhs.shape, _LAYOUT):
        return plain(padding)

    strides = _pair(window_strides)
    image_dilation = _pair(lhs_dilation or (1, 1))
    kernel_dilation = _pair(rhs_dilation or (1, 1))
    if isinstance(padding, str):
        window = tuple(map(_dilated, rhs.shape[:2], kernel_dilation))
        padding = lax.padtype_to_pads(lhs.shape[1:3], window, strides, padding)
    (top, bottom), (left, right) = padding
    pads = (int(top), int(bottom)), (int(left), int(right))
    return _convolve(lhs, rhs, (strides, pads, image_dilation, kernel_dilation), precision)


def _convolve_images(x: jax.Array, w: jax.Array, geometry: Geometry, precision: Any) -> jax.Array:
    """Convolve NHWC images with a HWIO kernel."""
    strides, padding, image_dilation, kernel_dilation = geometry
    pixels, taps = math.prod(x.shape[1:3]), math.prod(w.shape[:2])
    if pixels < taps <= min(3 * pixels, _MOST_TAPS):
        return _convolve_small_images(x, w, geometry, precision)
    return lax.conv_general_dilated(
        x,
        w,
        strides,
        padding,
        lhs_dilation=image_dilation,
        rhs_dilation=kernel_dilation,
        dimension_numbers=_LAYOUT,
        precision=precision,
    )


def _convolve_small_images(x: jax.Array, w: jax.Array, geometry: Geometry, precision: Any) -> jax.Array:
    """The same as one product of the patches of the images with the kernel."""
    strides, padding, image_dilation, kernel_dilation = geometry
    spatial = [(*pads, dilation - 1) for pads, dilation in zip(padding, image_dilation, strict=True)]
    padded = lax.pad(x, jnp.zeros((), x.dtype), [(0, 0, 0), *spatial, (0, 0, 0)])
    rows, columns = (
        _met_by_taps(padded.shape[1 + axis], w.shape[axis], strides[axis], kernel_dilation[axis])
        for axis in range(2)
    )
    flat = jnp.concatenate([padded[:, row, column] for row in rows for column in columns], axis=-1)
    return jnp.matmul(flat, w.reshape(-1, w.shape[3]), precision=precision)


_convolve = jax.custom_vjp(_convolve_images, nondiff_argnums=(2, 3))


def _convolve_forward(
    x: jax.Array, w: jax.Array, geometry: Geometry, precision: Any
) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    return _convolve(x, w, geometry, precision), (x, w)


def _convolve_backward(
    geometry: Geometry, precision: Any, saved: tuple[jax.Array, jax.Array], dy: jax.Array
) -> tuple[jax.Array, jax.Array]:
    x, w = saved
    if dy.size == 0:  # No window fits; XLA refuses an empty kernel.
        return jnp.zeros_like(x), jnp.zeros_like(w)
    strides, padding, image_dilation, kernel_dilation = geometry
    image_pads, kernel_pads = [], []
    for axis in range(2):
        low = padding[axis][0]
        images = _dilated(x.shape[1 + axis], image_dilation[axis])
        window = _dilated(w.shape[axis], kernel_dilation[axis])
        output = _dilated(dy.shape[1 + axis], strides[axis])
        # The high side takes what makes each gradient exactly as large as its primal, also where
        # the stride does not divide: rows that no window reached get a zero gradient.
        before = window - 1 - low
        image_pads.append((before, images + window - 1 - output - before))
        kernel_pads.append((low, output + window - 1 - images - low))

    flipped = lax.rev(w, (0, 1)).transpose(0, 1, 3, 2)
    dx_geometry = image_dilation, tuple(image_pads), strides, kernel_dilation
    dx = _convolve(dy, flipped, dx_geometry, precision)

    dw_geometry = kernel_dilation, tuple(kernel_pads), image_dilation, strides

    def kernel_gradient(x: jax.Array, dy: jax.Array) -> jax.Array:
        dw = _convolve(x.transpose(3, 1, 2, 0), dy.transpose(1, 2, 0, 3), dw_geometry, precision)
        return dw.transpose(1, 2, 0, 3)

    return dx, _sum_over_parts(kernel_gradient, x, dy)


_convolve.defvjp(_convolve_forward, _convolve_backward)


def _met_by_taps(size: int, window: int, stride: int, dilation: int) -> list[slice]:
    """The pixels along an axis that each tap of a kernel is multiplied with."""
    count = max(0, (size - _dilated(window, dilation)) // stride + 1)
    return [slice(tap * dilation, tap * dilation + count * stride, stride) for tap in range(window)]


def _sum_over_parts(function: Callable[..., jax.Array], *batches: jax.Array) -> jax.Array:
    """Sum a function over parts of a batch, in a loop: XLA does not fuse what made the batch into it."""
    parts = next((parts for parts in _PARTS if batches[0].shape[0] % parts == 0), 1)
    if parts == 1:
        return function(*batches)
    split = [batch.reshape(parts, -1, *batch.shape[1:]) for batch in batches]
    total = jax.eval_shape(function, *(batch[0] for batch in split))
    zero = jnp.zeros(total.shape, total.dtype)
    return lax.scan(lambda sum, part: (sum + function(*part), None), zero, split)[0]


def _pair(values: Sequence[int]) -> Pair:
    height, width = values
    return int(height), int(width)


def _dilated(size: int, dilation: int) -> int:
    return dilation * (size - 1) + 1
