"""MLP-Mixer: patches as tokens, blocks of two MLPs, one over the tokens and one over their channels.

Norms are LayerNorm with eps 1e-6. There is no dropout.

Source:
    Tolstikhin et al. 2021, arXiv:2105.01601, section 2; the size of Mixer-S/16: table 1.
"""

from typing import Any

import flax.linen as nn
import jax
from jax.nn.initializers import Initializer

from train.models.initializers import KAIMING_NORMAL
from train.models.layers import Activation, make_dense
from train.models.patches import GELU, layer_norm, tokens_of
from train.models.sized import OWN, MakeLayer, Units


class Block(nn.Module):
    """An MLP over tokens and one over channels, each after a LayerNorm and added to its input.

    Attributes:
        tokens_width: Hidden units of the MLP over tokens.
        channels_width: Hidden units of the MLP over channels.
        dense: See `layers.make_dense`.
        dtype: Of what the norms give.
        activation: What hidden layers end with: the network's.
    """

    tokens_width: int
    channels_width: int
    dense: MakeLayer
    dtype: Any
    activation: Activation

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Map tokens (batch, tokens, width) to as many."""
        _, tokens, width = x.shape
        y = layer_norm("norm1", self.dtype)(x).swapaxes(1, 2)
        hidden = self.activation(self.dense(self.tokens_width, name="token_dense1")(y))
        x = x + self.dense(tokens, name="token_dense2")(hidden).swapaxes(1, 2)
        y = layer_norm("norm2", self.dtype)(x)
        hidden = self.activation(self.dense(self.channels_width, name="channel_dense1")(y))
        return x + self.dense(width, name="channel_dense2")(hidden)


class Mixer(nn.Module):
    """A linear map of patches, blocks, a norm, the mean over tokens and a dense layer.

    A network takes images of the size that it was initialized for: each position has its own weights.

    Attributes:
        num_classes: Number of logits.
        patch: Side of the squares, in pixels, of which each is a token.
        width: Of tokens.
        layers: How many blocks.
        tokens_width: Hidden units of each block's MLP over tokens.
        channels_width: Hidden units of each block's MLP over channels.
        kernel_init: Initializer of the kernels.
        dtype: Dtype of the computation; None for that of images and parameters.
        activation: What hidden layers end with.
        units: See `sized`.
    """

    num_classes: int
    patch: int
    width: int
    layers: int
    tokens_width: int
    channels_width: int
    kernel_init: Initializer = KAIMING_NORMAL
    dtype: Any = None
    activation: Activation = GELU
    units: Units = OWN

    @nn.compact
    def __call__(self, images: jax.Array, *, train: bool = False) -> jax.Array:
        """Map images (batch, H, W, C) to logits (batch, num_classes)."""
        del train
        options: dict[str, Any] = {"kernel_init": self.kernel_init, "dtype": self.dtype}
        dense = make_dense(**options, units=self.units)
        x = tokens_of(images, self.patch, self.width, **options, units=self.units)
        for index in range(self.layers):
            shared = dense, self.dtype, self.activation
            x = Block(self.tokens_width, self.channels_width, *shared, name=f"block{index + 1}")(x)
        x = layer_norm("norm", self.dtype)(x).mean(axis=1)
        return dense(self.num_classes, name="head")(x)
