"""Small models without normalisation, as Flax Linen modules.

Convolutions go through `train.layers.convolution`, whose gradients are fast in loops on CPU; pools are
`train.layers.pooling.max_pool_2x2`. Kernels are drawn by `kernel_init`, biases start at zero.

Every hidden layer has a ReLU, as in the pruning literature. (Caffe's own LeNet has none after its
convolutions; LeCun's has sigmoids and trained subsampling.)

Source:
    LeNet-300-100 and LeNet-5: LeCun, Bottou, Bengio and Haffner 1998, "Gradient-based learning
    applied to document recognition", section III.C; LeNet-5 in the form of Caffe's MNIST example.
    Conv-2/4/6: Frankle and Carbin 2019, arXiv:1803.03635, figure 2.
"""

import functools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.nn.initializers import Initializer

from train.layers.convolution import conv_general_dilated
from train.layers.pooling import max_pool_2x2
from train.models.initializers import KAIMING_NORMAL
from train.models.layers import Activation, make_dense
from train.models.sized import OWN, Units, sized

_LENET5_SIDE = 16


class LeNet300100(nn.Module):
    """Multilayer perceptron with hidden layers of 300 and 100 units.

    Attributes:
        num_classes: Number of logits.
        kernel_init: Initializer of the kernels.
        dtype: Dtype of the computation; None for that of images and parameters.
        activation: What every hidden layer ends with.
        units: See `sized`.
    """

    num_classes: int
    kernel_init: Initializer = KAIMING_NORMAL
    dtype: Any = None
    activation: Activation = nn.relu
    units: Units = OWN

    @nn.compact
    def __call__(self, images: jax.Array, *, train: bool = False) -> jax.Array:
        """Map images (batch, H, W, C) to logits (batch, num_classes)."""
        del train
        dense = make_dense(self.kernel_init, self.dtype, units=self.units)
        x = _flatten(images)
        x = self.activation(dense(300, name="dense1")(x))
        x = self.activation(dense(100, name="dense2")(x))
        return dense(self.num_classes, name="dense3")(x)


class LeNet5(nn.Module):
    """LeNet-5 as Caffe has it: two 5x5 convolutions of 20 and 50 channels, 500 hidden units.

    Images with a side shorter than 16 pixels, the shortest that leaves a pixel after both
    convolutions and pools, are first padded to 16 with zeros, evenly on both ends.

    Attributes:
        num_classes: Number of logits.
        kernel_init: Initializer of the kernels.
        dtype: Dtype of the computation; None for that of images and parameters.
        activation: What every hidden layer ends with.
        units: See `sized`.
    """

    num_classes: int
    kernel_init: Initializer = KAIMING_NORMAL
    dtype: Any = None
    activation: Activation = nn.relu
    units: Units = OWN

    @nn.compact
    def __call__(self, images: jax.Array, *, train: bool = False) -> jax.Array:
        """Map images (batch, H, W, C) to logits (batch, num_classes)."""
        del train
        layer = functools.partial(
            nn.Conv,
            kernel_size=(5, 5),
            padding="VALID",
            kernel_init=self.kernel_init,
            dtype=self.dtype,
            conv_general_dilated=conv_general_dilated,
        )
        conv = sized(layer, self.units)
        dense = make_dense(self.kernel_init, self.dtype, units=self.units)
        x = _pad_to(images, _LENET5_SIDE)
        x = max_pool_2x2(self.activation(conv(20, name="conv1")(x)))
        x = max_pool_2x2(self.activation(conv(50, name="conv2")(x)))
        x = self.activation(dense(500, name="dense1")(_flatten(x)))
        return dense(self.num_classes, name="dense2")(x)


class ConvNet(nn.Module):
    """Conv-2, Conv-4 and Conv-6: a VGG cut short, with two hidden layers of 256 units.

    Attributes:
        num_classes: Number of logits.
        widths: Channels of each block of two 3x3 convolutions and a pool: (64,) is Conv-2,
            (64, 128) Conv-4, (64, 128, 256) Conv-6.
        kernel_init: Initializer of the kernels.
        dtype: Dtype of the computation; None for that of images and parameters.
        activation: What every hidden layer ends with.
        units: See `sized`.
    """

    num_classes: int
    widths: tuple[int, ...] = (64,)
    kernel_init: Initializer = KAIMING_NORMAL
    dtype: Any = None
    activation: Activation = nn.relu
    units: Units = OWN

    @nn.compact
    def __call__(self, images: jax.Array, *, train: bool = False) -> jax.Array:
        """Map images (batch, H, W, C) to logits (batch, num_classes)."""
        del train
        layer = functools.partial(
            nn.Conv,
            kernel_size=(3, 3),
            padding="SAME",
            kernel_init=self.kernel_init,
            dtype=self.dtype,
            conv_general_dilated=conv_general_dilated,
        )
        conv = sized(layer, self.units)
        dense = make_dense(self.kernel_init, self.dtype, units=self.units)
        x = images
        for block, width in enumerate(self.widths):
            x = self.activation(conv(width, name=f"conv{2 * block + 1}")(x))
            x = self.activation(conv(width, name=f"conv{2 * block + 2}")(x))
            x = max_pool_2x2(x)
        x = self.activation(dense(256, name="dense1")(_flatten(x)))
        x = self.activation(dense(256, name="dense2")(x))
        return dense(self.num_classes, name="dense3")(x)


def _flatten(x: jax.Array) -> jax.Array:
    return x.reshape(x.shape[0], -1)


def _pad_to(images: jax.Array, side: int) -> jax.Array:
    """Pad images (batch, H, W, C) with zeros, evenly, until H and W are at least `side`."""
    missing = [max(0, side - size) for size in images.shape[1:3]]
    pads = [(0, 0), *((count // 2, count - count // 2) for count in missing), (0, 0)]
    return jnp.pad(images, pads) if any(missing) else images
