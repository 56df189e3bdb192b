"""Vision Transformers: patches as tokens, blocks of attention and MLP, a head on the class token.

Layers of attention are called and shaped as Flax's: kernels of query, key and value are (width,
heads, head_dim), that of out is (heads, head_dim, width). Norms are LayerNorm with eps 1e-6; their
arithmetic and softmax's are float32 at least, whatever the dtype of the computation. There is no dropout.

Source:
    Dosovitskiy et al. 2020, arXiv:2010.11929, section 3.1. Sizes of ViT-Ti/16 and ViT-S/16: Touvron et
    al. 2020 (DeiT), arXiv:2012.12877, table 1. The size for images of 32x32 pixels (patches of 4 pixels,
    9 layers of width 192, 12 heads, an MLP of twice the width): Lee, Lee and Song 2021,
    arXiv:2112.13492, as their code has it (`models/create_model.py`), without the two modules that the
    paper is about.
"""

import functools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.nn.initializers import Initializer

from train.models.initializers import KAIMING_NORMAL
from train.models.layers import Activation, make_dense
from train.models.patches import GELU, layer_norm, tokens_of
from train.models.sized import OWN, MakeLayer, Units, sized

_EMBEDDING_INIT = nn.initializers.normal(0.02)


class Attention(nn.Module):
    """Multi-head self-attention.

    Attributes:
        width: Of the result.
        heads: How many; they share the width.
        project: `project((heads, head_dim), *, name)`, a linear layer.
        merge: `merge(width, *, name)`, a linear layer that sums over heads and their dimensions.
    """

    width: int
    heads: int
    project: MakeLayer
    merge: MakeLayer

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Map tokens (batch, tokens, width) to as many."""
        # A compacted network may have fewer dimensions in a head; its products are scaled as before.
        own = self.heads, self.width // self.heads
        query, key, value = (self.project(own, name=name)(x) for name in ("query", "key", "value"))
        products = jnp.einsum("bqhd,bkhd->bhqk", query * own[1] ** -0.5, key)
        products = products.astype(jnp.promote_types(products.dtype, jnp.float32))
        weights = jax.nn.softmax(products).astype(value.dtype)
        return self.merge(self.width, name="out")(jnp.einsum("bhqk,bkhd->bqhd", weights, value))


class Block(nn.Module):
    """Attention and an MLP, each after a LayerNorm and added to its input.

    Attributes:
        width: Of the result.
        heads: Of the attention.
        mlp_width: Hidden units of the MLP.
        project: See `Attention`.
        merge: See `Attention`.
        dense: See `layers.make_dense`.
        dtype: Of what the norms give.
        activation: What the MLP's hidden layer ends with: the network's.
    """

    width: int
    heads: int
    mlp_width: int
    project: MakeLayer
    merge: MakeLayer
    dense: MakeLayer
    dtype: Any
    activation: Activation

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Map tokens (batch, tokens, width) to as many."""
        attention = Attention(self.width, self.heads, self.project, self.merge, name="attention")
        x = x + attention(layer_norm("norm1", self.dtype)(x))
        hidden = self.dense(self.mlp_width, name="dense1")(layer_norm("norm2", self.dtype)(x))
        return x + self.dense(self.width, name="dense2")(self.activation(hidden))


class VisionTransformer(nn.Module):
    """A linear map of patches, a class token, position embeddings, blocks, a norm and a dense layer.

    A network takes images of the size that it was initialized for: each position has its own embedding.

    Attributes:
        num_classes: Number of logits.
        patch: Side of the squares, in pixels, of which each is a token.
        width: Of tokens.
        heads: Of each block; they divide the width.
        layers: How many blocks.
        mlp_ratio: Hidden units of each block's MLP over the width.
        kernel_init: Initializer of the kernels; class token and position embeddings are drawn from a
            normal distribution with a standard deviation of 0.02.
        dtype: Dtype of the computation; None for that of images and parameters.
        activation: What the hidden layer of each MLP ends with.
        units: See `sized`.
    """

    num_classes: int
    patch: int
    width: int
    heads: int
    layers: int = 12
    mlp_ratio: int = 4
    kernel_init: Initializer = KAIMING_NORMAL
    dtype: Any = None
    activation: Activation = GELU
    units: Units = OWN

    @nn.compact
    def __call__(self, images: jax.Array, *, train: bool = False) -> jax.Array:
        """Map images (batch, H, W, C) to logits (batch, num_classes)."""
        del train
        if self.width % self.heads:
            raise ValueError(f"expected heads that divide the width, got {self.heads} and {self.width}")
        options: dict[str, Any] = {"kernel_init": self.kernel_init, "dtype": self.dtype}
        dense = make_dense(**options, units=self.units)
        project = sized(functools.partial(nn.DenseGeneral, **options), self.units)
        merge = sized(functools.partial(nn.DenseGeneral, axis=(-2, -1), **options), self.units)
        x = self._with_places(tokens_of(images, self.patch, self.width, **options, units=self.units))
        for index in range(self.layers):
            sizes = self.width, self.heads, self.mlp_ratio * self.width
            shared = project, merge, dense, self.dtype, self.activation
            x = Block(*sizes, *shared, name=f"block{index + 1}")(x)
        return dense(self.num_classes, name="head")(layer_norm("norm", self.dtype)(x[:, 0]))

    def _with_places(self, x: jax.Array) -> jax.Array:
        """The tokens behind a class token, each with the embedding of its position."""
        batch, patches, width = x.shape
        token = self.param("class_token", _EMBEDDING_INIT, (1, 1, width))
        places = self.param("position_embedding", _EMBEDDING_INIT, (1, 1 + patches, width))
        token = jnp.broadcast_to(token.astype(x.dtype), (batch, 1, width))
        return jnp.concatenate([token, x], axis=1) + places.astype(x.dtype)
