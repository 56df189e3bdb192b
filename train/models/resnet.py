"""Residual networks with BatchNorm: ResNet-20 to -110 for CIFAR, ResNet-18 and -50.

Both families are `ResNet` with other stems, blocks and widths. A shortcut is a 1x1 convolution and
BatchNorm where the shape changes, the identity elsewhere; no convolution has a bias.

Source:
    He, Zhang, Ren and Sun 2015, arXiv:1512.03385: table 1 (ImageNet), section 4.2 (CIFAR), with
    the projection shortcuts of option B for CIFAR too, as the pruning literature has it. (The paper's
    own CIFAR nets have option A, without weights.) Bottlenecks take their stride in the 3x3
    convolution, as torchvision's; the paper's take it in the first 1x1.
"""

from collections.abc import Callable
from typing import Any, ClassVar

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
    max_pool_3x3,
)
from train.models.sized import OWN, Units


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut.

    Attributes:
        widens: The result's channels over those of the first convolution.
        channels: Of both convolutions and of the result.
        stride: Of the first convolution and the shortcut.
        projects: Whether the shortcut is a convolution.
        conv: See `layers.make_conv`.
        norm: See `layers.make_norm`.
        activation: What follows each normalisation: the network's.
    """

    widens: ClassVar[int] = 1
    channels: int
    stride: int
    projects: bool
    conv: MakeConv
    norm: MakeNorm
    activation: Activation

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Map (batch, H, W, C) to (batch, H / stride, W / stride, channels)."""
        y = self.conv(self.channels, 3, self.stride, name="conv1")(x)
        y = self.activation(self.norm("bn1")(y))
        y = self.norm("bn2")(self.conv(self.channels, 3, name="conv2")(y))
        return self.activation(y + _shortcut(self, x, self.channels))


class Bottleneck(nn.Module):
    """A 3x3 convolution between two 1x1 convolutions, and a shortcut.

    Attributes:
        widens: The result's channels over those of the first convolution.
        channels: Of the first two convolutions; the result has four times as many.
        stride: Of the 3x3 convolution and the shortcut.
        projects: Whether the shortcut is a convolution.
        conv: See `layers.make_conv`.
        norm: See `layers.make_norm`.
        activation: What follows each normalisation: the network's.
    """

    widens: ClassVar[int] = 4
    channels: int
    stride: int
    projects: bool
    conv: MakeConv
    norm: MakeNorm
    activation: Activation

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Map (batch, H, W, C) to (batch, H / stride, W / stride, 4 * channels)."""
        y = self.activation(self.norm("bn1")(self.conv(self.channels, 1, name="conv1")(x)))
        y = self.conv(self.channels, 3, self.stride, name="conv2")(y)
        y = self.activation(self.norm("bn2")(y))
        y = self.norm("bn3")(self.conv(4 * self.channels, 1, name="conv3")(y))
        return self.activation(y + _shortcut(self, x, 4 * self.channels))


class Stage(nn.Module):
    """Blocks of one width, in a row; the first takes the stride.

    Attributes:
        block: A block's class: its fields are channels, stride, projects, conv, norm and activation.
        blocks: How many.
        channels: Of each block.
        stride: Of the first block.
        projects: Whether the shortcut of the first block is a convolution; the others' are none.
        conv: See `layers.make_conv`.
        norm: See `layers.make_norm`.
        activation: What follows each normalisation: the network's.
    """

    block: Callable[..., nn.Module]
    blocks: int
    channels: int
    stride: int
    projects: bool
    conv: MakeConv
    norm: MakeNorm
    activation: Activation

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Map (batch, H, W, C) to what the last block gives."""
        for index in range(self.blocks):
            first = (self.stride, self.projects) if index == 0 else (1, False)
            shared = self.conv, self.norm, self.activation
            x = self.block(self.channels, *first, *shared, name=f"block{index + 1}")(x)
        return x


def small_stem(
    x: jax.Array, channels: int, conv: MakeConv, norm: MakeNorm, activation: Activation
) -> jax.Array:
    """A 3x3 convolution, BatchNorm and activation, for images of 32 to 64 pixels."""
    return activation(norm("bn1")(conv(channels, 3, name="conv1")(x)))


def large_stem(
    x: jax.Array, channels: int, conv: MakeConv, norm: MakeNorm, activation: Activation
) -> jax.Array:
    """A 7x7 convolution and a 3x3 max pool, both at stride 2, for ImageNet; between them as the other."""
    return max_pool_3x3(activation(norm("bn1")(conv(channels, 7, 2, name="conv1")(x))))


class ResNet(nn.Module):
    """A stem, stages of blocks, a global average pool and a dense layer.

    With `train` BatchNorm needs `mutable=["batch_stats"]`; see `layers` for what it computes.

    Attributes:
        num_classes: Number of logits.
        blocks: How many blocks each stage has.
        channels: Of each stage's blocks; the stem has the first stage's. Stages but the first halve
            the image.
        block: `BasicBlock` or `Bottleneck`.
        stem: `small_stem` or `large_stem`.
        kernel_init: Initializer of the kernels.
        scale_init: Initializer of BatchNorm's scales.
        dtype: Dtype of the computation; None for that of images and parameters.
        activation: What every hidden layer ends with.
        units: See `sized`.
    """

    num_classes: int
    blocks: tuple[int, ...]
    channels: tuple[int, ...]
    block: type[BasicBlock | Bottleneck] = BasicBlock
    stem: Callable[..., jax.Array] = small_stem
    kernel_init: Initializer = KAIMING_NORMAL
    scale_init: Initializer = ONES
    dtype: Any = None
    activation: Activation = nn.relu
    units: Units = OWN

    @nn.compact
    def __call__(self, images: jax.Array, *, train: bool = False) -> jax.Array:
        """Map images (batch, H, W, C) to logits (batch, num_classes)."""
        conv = make_conv(self.kernel_init, self.dtype, units=self.units)
        norm = make_norm(self.scale_init, self.dtype, train=train)
        x = self.stem(images, self.channels[0], conv, norm, self.activation)
        for index, (blocks, channels) in enumerate(zip(self.blocks, self.channels, strict=True)):
            stride = 1 if index == 0 else 2
            projects = stride != 1 or self.block.widens != 1
            shared = conv, norm, self.activation
            stage = Stage(
                self.block, blocks, channels, stride, projects, *shared, name=f"stage{index + 1}"
            )
            x = stage(x)
        x = global_average_pool(x)
        return make_dense(self.kernel_init, self.dtype, units=self.units)(self.num_classes, name="dense")(
            x
        )


def _shortcut(block: BasicBlock | Bottleneck, x: jax.Array, channels: int) -> jax.Array:
    """Bring a block's input to the shape of its result; called within the block."""
    if not block.projects:
        return x
    return block.norm("shortcut_bn")(block.conv(channels, 1, block.stride, name="shortcut_conv")(x))
