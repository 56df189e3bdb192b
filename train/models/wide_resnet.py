"""Wide residual networks: few, wide blocks with BatchNorm and ReLU before each convolution.

Source:
    Zagoruyko and Komodakis 2016, arXiv:1605.07146, table 1, without dropout; its names are
    WRN-depth-width. Blocks are the pre-activated ones of He et al. 2016, arXiv:1603.05027. As in the
    authors' code, where the shape changes the shortcut is a 1x1 convolution of the activated input,
    and no BatchNorm follows the first convolution of the network.
"""

from typing import Any

import flax.linen as nn
import jax
from jax.nn.initializers import Initializer

from train.models.initializers import KAIMING_NORMAL, ONES
from train.models.layers import (
    Activation,
    MakeConv,
    MakeNorm,
    global_average_pool,
    make_conv,
    make_dense,
    make_norm,
)
from train.models.resnet import Stage
from train.models.sized import OWN, Units


class WideBlock(nn.Module):
    """Two 3x3 convolutions, each after BatchNorm and ReLU, and a shortcut.

    Attributes:
        channels: Of both convolutions and of the result.
        stride: Of the first convolution and the shortcut.
        projects: Whether the shortcut is a convolution.
        conv: See `layers.make_conv`.
        norm: See `layers.make_norm`.
        activation: What follows each normalisation: the network's.
    """

    channels: int
    stride: int
    projects: bool
    conv: MakeConv
    norm: MakeNorm
    activation: Activation

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Map (batch, H, W, C) to (batch, H / stride, W / stride, channels)."""
        active = self.activation(self.norm("bn1")(x))
        y = self.conv(self.channels, 3, self.stride, name="conv1")(active)
        y = self.conv(self.channels, 3, name="conv2")(self.activation(self.norm("bn2")(y)))
        if self.projects:
            x = self.conv(self.channels, 1, self.stride, name="shortcut_conv")(active)
        return y + x


class WideResNet(nn.Module):
    """A 3x3 convolution of 16 channels, three stages of 16, 32 and 64 times `width`, a dense layer.

    With `train` BatchNorm needs `mutable=["batch_stats"]`; see `layers` for what it computes.

    Attributes:
        num_classes: Number of logits.
        depth: 6n + 4 for n blocks in each stage.
        width: The widening factor k, at least 1.
        kernel_init: Initializer of the kernels.
        scale_init: Initializer of BatchNorm's scales.
        dtype: Dtype of the computation; None for that of images and parameters.
        activation: What every hidden layer ends with.
        units: See `sized`.
    """

    num_classes: int
    depth: int
    width: int
    kernel_init: Initializer = KAIMING_NORMAL
    scale_init: Initializer = ONES
    dtype: Any = None
    activation: Activation = nn.relu
    units: Units = OWN

    @nn.compact
    def __call__(self, images: jax.Array, *, train: bool = False) -> jax.Array:
        """Map images (batch, H, W, C) to logits (batch, num_classes)."""
        check_size(self.depth, self.width)
        blocks = (self.depth - 4) // 6
        conv = make_conv(self.kernel_init, self.dtype, units=self.units)
        norm = make_norm(self.scale_init, self.dtype, train=train)
        x = conv(16, 3, name="conv1")(images)
        for index in range(3):
            channels, stride = 16 * 2**index * self.width, 1 if index == 0 else 2
            projects = index > 0 or self.width > 1
            shared = conv, norm, self.activation
            x = Stage(WideBlock, blocks, channels, stride, projects, *shared, name=f"stage{index + 1}")(x)
        x = global_average_pool(self.activation(norm("bn")(x)))
        return make_dense(self.kernel_init, self.dtype, units=self.units)(self.num_classes, name="dense")(
            x
        )


def check_size(depth: int, width: int) -> None:
    """Refuse a depth or a width that no wide residual network has.

    Args:
        depth: 6n + 4 with n at least 1.

    Raises:
        ValueError: If either is something else.
    """
    if depth < 10 or depth % 6 != 4:
        raise ValueError(f"expected a wide-resnet depth of 6n + 4 (10, 16, 22, 28, ...), got {depth}")
    if width < 1:
        raise ValueError(f"expected a wide-resnet width >= 1, got {width}")
