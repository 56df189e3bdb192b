"""MLP-Mixer: values by hand, its layers, and compaction."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import pruning
from train.models import layers_in_order
from train.models.mixer import Mixer
from train.models.sized import resized

from .by_hand import dense, draw_images, draw_variables, gelu, layer_normalise, patches_of

TINY = Mixer(num_classes=3, patch=2, width=8, layers=2, tokens_width=6, channels_width=10)
"""Four tokens of images of 4x4 pixels."""
SHAPE = (4, 4, 3)
BLOCKS = ("block1", "block2")
LAYERS = ("token_dense1", "token_dense2", "channel_dense1", "channel_dense2")


@pytest.fixture(autouse=True)
def in_float64():
    with jax.enable_x64(True):
        yield


def drawn():
    """Params of TINY, biases too."""
    variables = draw_variables(TINY, np.zeros((1, *SHAPE)))
    return jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float64), variables["params"])


def images(count):
    return jnp.asarray(draw_images(count, *SHAPE), jnp.float64)


@pytest.mark.slow
def test_the_network_by_hand():
    params, x = jax.tree.map(np.asarray, drawn()), np.asarray(images(3))
    kernel = params["patch_embedding"]["kernel"].reshape(12, 8)
    x = patches_of(x, 2) @ kernel + params["patch_embedding"]["bias"]
    for block in (params[name] for name in BLOCKS):
        y = layer_normalise(x, block["norm1"]).transpose(0, 2, 1)
        y = dense(gelu(dense(y, block["token_dense1"])), block["token_dense2"])
        x = x + y.transpose(0, 2, 1)
        y = layer_normalise(x, block["norm2"])
        x = x + dense(gelu(dense(y, block["channel_dense1"])), block["channel_dense2"])
    expected = dense(layer_normalise(x, params["norm"]).mean(axis=1), params["head"])
    np.testing.assert_allclose(TINY.apply({"params": params}, images(3)), expected, rtol=1e-10)


def test_kernels_are_prunable_and_nothing_else_in_the_order_of_the_network():
    layers = [f"['{block}']['{layer}']" for block in BLOCKS for layer in LAYERS]
    layers = ["['patch_embedding']", *layers, "['head']"]
    assert layers_in_order(TINY, SHAPE) == [f"{layer}['kernel']" for layer in layers]


@pytest.mark.slow
def test_compaction_removes_units_of_both_mlps():
    params, masks = drawn(), pruning.full_masks(drawn())
    for block in BLOCKS:
        tokens, channels = masks[block]["token_dense1"], masks[block]["channel_dense2"]
        tokens["kernel"] = tokens["kernel"].at[:, ::2].set(False)
        channels["kernel"] = channels["kernel"].at[:4].set(False)
    variables, masks = {"params": params}, {"params": masks}
    small = pruning.compact(TINY.apply, variables, masks, jnp.zeros((1, *SHAPE)))
    expected = TINY.apply(pruning.apply_masks(variables, masks), images(5))
    np.testing.assert_allclose(small.apply_fn(small.variables, images(5)), expected, rtol=1e-10)
    model = resized(TINY, small.variables["params"])
    np.testing.assert_allclose(model.apply(small.variables, images(5)), expected, rtol=1e-10)
    shapes = {name: small.variables["params"]["block2"][name]["kernel"].shape for name in LAYERS}
    assert shapes == {
        "token_dense1": (4, 3),
        "token_dense2": (3, 4),
        "channel_dense1": (8, 6),
        "channel_dense2": (6, 8),
    }
