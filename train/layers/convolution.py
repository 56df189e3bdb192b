"""A convolution whose gradients are as fast inside `lax.scan` as outside it on XLA:CPU.

`conv_general_dilated` has the signature and the values of `jax.lax.conv_general_dilated`, for
`flax.linen.Conv(..., conv_general_dilated=conv_general_dilated)`. Only its gradients are computed
differently, and only on CPU; on TPUs, where float32 is computed in three passes, all three are one pass
over thrice as many channels (`three_passes.py`).

Why on CPU: jax writes the gradients of a convolution as convolutions with permuted dimension numbers.
XLA:CPU rewrites those into the one layout that its fast kernel knows (NHWC images, HWIO kernels),
but its pass (`ConvCanonicalization`) visits the entry computation only: in the body of a loop a
naive kernel runs instead. So the backward pass here is two convolutions that are in that layout to
begin with, the permutations done by explicit flips and transposes (`bilinear.py`).

The gradient of a kernel is summed over parts of the batch, in a loop. Without the loop XLA fuses what
made the images into their transposition: in a residual network that is the whole chain of blocks
before, computed again in strided order for every kernel. Parts have an even number of images, up to 16,
where the batch has such a divisor.

A third cure: where the kernel is larger than the images (3x3 on the 2x2 pixels of VGG's last block),
XLA's algebraic simplifier swaps the two, and again a naive kernel runs. There the patches of the images
are multiplied with the kernel instead; a gradient of VGG-11 takes 1.0 s in place of 7.6 (batch 128, one
core, jax 0.10.1). If the kernel is more than three times as large, patches would be mostly padding, and
swapping is right.

Second derivatives (a Hessian-vector product is reverse over reverse) are made of the same three
functions; as derivatives of convolutions they would be convolutions with kernels of the images' size,
which XLA swaps too: the product of ResNet-20 takes 3.1 gradients, and took 9 (batch 100, one core, jax
0.10.1).

Measured in November 2026 on 2 CPU cores, float32, batch 128, best of several runs, milliseconds:

    one step (two 3x3 'SAME' convolutions 1 -> 16 -> 32    jax.lax           here
    on 28x28, ReLU, 2x2 max pool, dense layer; SGD)      alone  in scan    alone  in scan
      gradient step, jax 0.10.1                             13      266       12       12
      gradient step, jax 0.12.0.1                           15      181       10       10

    one gradient in a scan, jax 0.12.0.1                 images   kernel   images   kernel
      3x3, 16 -> 16, 32x32                                 148     1127        4        8
      3x3, 16 -> 32, 32x32, stride 2                        59      698        5        5
      1x1, 16 -> 32, 32x32, stride 2                         5      106        1        4
      3x3, 64 -> 64, 8x8                                    25      964        2        4

    one gradient in a loop, jax 0.10.1, one core         dw whole    in 2 parts    in 4    in 8
      ResNet-20 (32x32x3)                                     632           475     433     436
      Conv-2 (32x32x3)                                        443           297     282
      LeNet-5 (28x28x1)                                        27            30      27

    one gradient of ResNet-20 in a loop, 2 cores, dw in parts of so many images
      batch 128, jax 0.10.1       32: 224    16: 204     8: 202
      batch 128, jax 0.12.0.1     32: 217    16: 196     8: 204
      batch 100, jax 0.10.1       25: 217    20: 182    10: 179     5: 226
      batch 64, jax 0.10.1                   16: 100     8: 100     4: 109
      batch 60, jax 0.10.1        20: 103    15: 105    12:  98    10: 100

(LeNet-5 and Conv-2 do not care, within 4 % in parts of 8, 16 and 32, nor does VGG-11 in 16 and 32.)
"""

import functools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from train.layers.bilinear import Geometry, Pair, convolve
from train.lowering import lowering

_LAYOUT = ("NHWC", "HWIO", "NHWC")
_THREE_PASSES = (lax.Precision.HIGH, "high", "tensorfloat32", "bfloat16_3x", "BF16_BF16_F32_X3")


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
    is: right, but slow to differentiate inside a loop on CPU. So is everything on GPUs, and on TPUs all
    but float32 with precision "high": their compilers choose layouts themselves.

    The fast gradients exist in reverse mode only, to any order: `jax.jvp`, `jax.jacfwd` and
    forward-over-reverse raise on CPU, and on TPUs where the passes are one.

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
    # `lax.platform_dependent` would follow the device instead of the process, but it traces both branches
    # into every gradient and would take forward mode away from every platform; a wrong guess here costs
    # time, never a wrong number.
    one_pass = lowering().one_pass and lhs.dtype == jnp.float32 and _is_in_three_passes(precision)
    ours = lowering().own_gradients or one_pass
    if grouped or special or lhs.ndim != 4 or rhs.ndim != 4 or not ours:
        return plain(padding)
    layout = lax.conv_dimension_numbers(lhs.shape, rhs.shape, dimension_numbers)
    if layout != lax.conv_dimension_numbers(lhs.shape, rhs.shape, _LAYOUT):
        return plain(padding)

    strides = _pair(window_strides)
    image_dilation = _pair(lhs_dilation or (1, 1))
    kernel_dilation = _pair(rhs_dilation or (1, 1))
    if isinstance(padding, str):
        window = [b * (size - 1) + 1 for size, b in zip(rhs.shape[:2], kernel_dilation, strict=True)]
        padding = lax.padtype_to_pads(lhs.shape[1:3], window, strides, padding)
    (top, bottom), (left, right) = padding
    pads = (int(top), int(bottom)), (int(left), int(right))
    geometry = Geometry(
        images=_pair(lhs.shape[1:3]),
        window=_pair(rhs.shape[:2]),
        strides=strides,
        padding=pads,
        image_dilation=image_dilation,
        kernel_dilation=kernel_dilation,
        precision=precision,
        one_pass=one_pass,
    )
    return convolve(geometry, lhs, rhs)


def _is_in_three_passes(precision: Any) -> bool:
    """Whether products of float32 numbers are asked for that a TPU computes in three passes."""
    config: Any = jax.config
    chosen = config.jax_default_matmul_precision if precision is None else precision
    both = chosen if isinstance(chosen, tuple | list) else (chosen, chosen)
    return all(one in _THREE_PASSES for one in both)


def _pair(values: Sequence[int]) -> Pair:
    height, width = values
    return int(height), int(width)
