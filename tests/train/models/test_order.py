"""The order of layers by their paths."""

import jax
import jax.numpy as jnp
import pytest

from train.models import depth_order, make_model


def test_layers_come_in_order_from_input_to_output():
    vgg = [f"['conv{i}']['kernel']" for i in (1, 2, 10, 11)] + ["['dense']['kernel']"]
    assert sorted(reversed(vgg), key=depth_order) == vgg
    resnet = [
        "['conv1']['kernel']",
        "['stage1']['block2']['conv1']['kernel']",
        "['stage2']['block1']['shortcut_conv']['kernel']",
        "['dense']['kernel']",
    ]
    assert sorted(reversed(resnet), key=depth_order) == resnet
    lenet = ["['conv1']['kernel']", "['conv2']['kernel']", "['dense1']['kernel']"]
    assert sorted(reversed(lenet), key=depth_order) == lenet


@pytest.mark.parametrize(
    ("model", "first", "last"),
    [
        ("resnet-18-cifar", "conv1", "dense"),
        ("lenet-300-100", "dense1", "dense3"),
        ("vgg-11", "conv1", "dense"),
    ],
)
def test_the_first_layer_sees_the_image_and_the_last_gives_logits(model, first, last):
    network = make_model(model, num_classes=7)
    shapes = jax.eval_shape(network.init, jax.random.key(0), jnp.ones((1, 32, 32, 3)))["params"]
    kernels = [
        jax.tree_util.keystr(path)
        for path, leaf in jax.tree_util.tree_leaves_with_path(shapes)
        if leaf.ndim >= 2
    ]
    ordered = sorted(kernels, key=depth_order)
    assert (ordered[0], ordered[-1]) == (f"['{first}']['kernel']", f"['{last}']['kernel']")
