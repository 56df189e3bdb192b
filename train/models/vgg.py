"""VGG-11, -13, -16 and -19 with BatchNorm, in their form for CIFAR: one dense layer at the end.

Source:
    Simonyan and Zisserman 2014, arXiv:1409.1556, table 1, columns A, B, D and E. BatchNorm after
    each convolution and the single dense layer are the pruning literature's (Frankle et al. 2021,
    arXiv:2009.08576). The last pool is the global average over what is left, 2x2 pixels
    for 32x32 images, so images of any size do.
"""

from typing import Any

import flax.linen as nn
import jax
from jax.nn.initializers import Initializer

from train.layers.pooling import max_pool_2x2
from train.models.initializers import KAIMING_NORMAL, ONES
from train.models.layers import Activation, global_average_pool, make_conv, make_dense, make_norm
from train.models.sized import OWN, Units

VGG_11 = ((64,), (128,), (256,) * 2, (512,) * 2, (512,) * 2)
VGG_13 = ((64,) * 2, (128,) * 2, (256,) * 2, (512,) * 2, (512,) * 2)
VGG_16 = ((64,) * 2, (128,) * 2, (256,) * 3, (512,) * 3, (512,) * 3)
VGG_19 = ((64,) * 2, (128,) * 2, (256,) * 4, (512,) * 4, (512,) * 4)


class VGG(nn.Module):
    """Blocks of 3x3 convolutions with bias, BatchNorm and ReLU, 2x2 max pools between the blocks.

    With `train` BatchNorm needs `mutable=["batch_stats"]`; see `layers` for what it computes.

    Attributes:
        num_classes: Number of logits.
        channels: Of each convolution of each block, such as `VGG_16`.
        kernel_init: Initializer of the kernels.
        scale_init: Initializer of BatchNorm's scales.
        dtype: Dtype of the computation; None for that of images and parameters.
        activation: What every hidden layer ends with.
        units: See `sized`.
    """

    num_classes: int
    channels: tuple[tuple[int, ...], ...]
    kernel_init: Initializer = KAIMING_NORMAL
    scale_init: Initializer = ONES
    dtype: Any = None
    activation: Activation = nn.relu
    units: Units = OWN

    @nn.compact
    def __call__(self, images: jax.Array, *, train: bool = False) -> jax.Array:
        """Map images (batch, H, W, C) to logits (batch, num_classes)."""
        conv = make_conv(self.kernel_init, self.dtype, use_bias=True, units=self.units)
        norm = make_norm(self.scale_init, self.dtype, train=train)
        x, layer = images, 0
        for block, widths in enumerate(self.channels):
            x = x if block == 0 else max_pool_2x2(x)
            for width in widths:
                layer += 1
                x = self.activation(norm(f"bn{layer}")(conv(width, 3, name=f"conv{layer}")(x)))
        x = global_average_pool(x)
        return make_dense(self.kernel_init, self.dtype, units=self.units)(self.num_classes, name="dense")(
            x
        )
