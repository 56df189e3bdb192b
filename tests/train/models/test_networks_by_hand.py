"""Small networks of every family with BatchNorm against NumPy, in evaluation and in training."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from train.models.resnet import Bottleneck, ResNet, large_stem
from train.models.vgg import VGG
from train.models.wide_resnet import WideResNet

from .by_hand import average, conv, dense, draw_images, draw_variables, normalise, pool, relu

BASIC = ResNet(4, blocks=(2, 2), channels=(3, 5))
BOTTLENECK = ResNet(4, blocks=(1, 1), channels=(3, 5), block=Bottleneck, stem=large_stem)
WIDE = WideResNet(4, depth=10, width=1)
SMALL_VGG = VGG(4, channels=((3,), (5, 4), (6,)))


class Reader:
    """Layers by their path, in float64; `statistics` collects what a call leaves behind."""

    def __init__(self, variables, train):
        self.variables = jax.tree.map(lambda leaf: leaf.astype(np.float64), variables)
        self.train = train
        self.statistics = {}

    def layer(self, collection, path):
        tree = self.variables[collection]
        for key in path.split("/"):
            tree = tree[key]
        return tree

    def conv(self, x, path, pad, stride=1):
        return conv(x, self.layer("params", path), pad, stride)

    def norm(self, x, path):
        running = self.layer("batch_stats", path)
        mean, variance = running["mean"], running["var"]
        if self.train:
            mean, variance = x.mean((0, 1, 2)), x.var((0, 1, 2))
        self.statistics[f"{path}/mean"] = 0.9 * running["mean"] + 0.1 * mean
        self.statistics[f"{path}/var"] = 0.9 * running["var"] + 0.1 * variance
        return normalise(x, self.layer("params", path), mean, variance)

    def dense(self, x, path):
        return dense(x, self.layer("params", path))


def basic_block(net, x, path, stride, shortcut):
    y = relu(net.norm(net.conv(x, f"{path}/conv1", 1, stride), f"{path}/bn1"))
    y = net.norm(net.conv(y, f"{path}/conv2", 1), f"{path}/bn2")
    if shortcut:
        x = net.norm(net.conv(x, f"{path}/shortcut_conv", 0, stride), f"{path}/shortcut_bn")
    return relu(x + y)


def basic(net, x):
    x = relu(net.norm(net.conv(x, "conv1", 1), "bn1"))
    x = basic_block(net, x, "stage1/block1", 1, shortcut=False)
    x = basic_block(net, x, "stage1/block2", 1, shortcut=False)
    x = basic_block(net, x, "stage2/block1", 2, shortcut=True)
    x = basic_block(net, x, "stage2/block2", 1, shortcut=False)
    return net.dense(average(x), "dense")


def bottleneck_block(net, x, path, stride):
    y = relu(net.norm(net.conv(x, f"{path}/conv1", 0), f"{path}/bn1"))
    y = relu(net.norm(net.conv(y, f"{path}/conv2", 1, stride), f"{path}/bn2"))
    y = net.norm(net.conv(y, f"{path}/conv3", 0), f"{path}/bn3")
    x = net.norm(net.conv(x, f"{path}/shortcut_conv", 0, stride), f"{path}/shortcut_bn")
    return relu(x + y)


def bottleneck(net, x):
    x = relu(net.norm(net.conv(x, "conv1", 3, 2), "bn1"))
    x = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))  # nothing is below zero after the ReLU
    x = np.lib.stride_tricks.sliding_window_view(x, (3, 3), (1, 2))[:, ::2, ::2].max((-2, -1))
    x = bottleneck_block(net, x, "stage1/block1", 1)
    x = bottleneck_block(net, x, "stage2/block1", 2)
    return net.dense(average(x), "dense")


def wide_block(net, x, path, stride, shortcut):
    active = relu(net.norm(x, f"{path}/bn1"))
    y = relu(net.norm(net.conv(active, f"{path}/conv1", 1, stride), f"{path}/bn2"))
    y = net.conv(y, f"{path}/conv2", 1)
    return y + (net.conv(active, f"{path}/shortcut_conv", 0, stride) if shortcut else x)


def wide(net, x):
    x = net.conv(x, "conv1", 1)
    x = wide_block(net, x, "stage1/block1", 1, shortcut=False)
    x = wide_block(net, x, "stage2/block1", 2, shortcut=True)
    x = wide_block(net, x, "stage3/block1", 2, shortcut=True)
    return net.dense(average(relu(net.norm(x, "bn"))), "dense")


def vgg(net, x):
    x = pool(relu(net.norm(net.conv(x, "conv1", 1), "bn1")))
    x = relu(net.norm(net.conv(x, "conv2", 1), "bn2"))
    x = pool(relu(net.norm(net.conv(x, "conv3", 1), "bn3")))
    x = relu(net.norm(net.conv(x, "conv4", 1), "bn4"))
    return net.dense(average(x), "dense")


networks = pytest.mark.parametrize(
    ("model", "reference"),
    [
        pytest.param(BASIC, basic, id="basic"),
        pytest.param(BOTTLENECK, bottleneck, id="bottleneck"),
        pytest.param(WIDE, wide, id="wide"),
        pytest.param(SMALL_VGG, vgg, id="vgg"),
    ],
)


@networks
@pytest.mark.parametrize("train", [False, True])
def test_logits_and_statistics(model, reference, train):
    """Training normalises with the batch and updates every statistic; evaluation, none."""
    images = draw_images(3, 12, 8, 2)
    variables = draw_variables(model, images)
    apply = jax.jit(model.apply, static_argnames=("train", "mutable"))
    logits, changed = apply(variables, images, train=train, mutable=("batch_stats",))
    net = Reader(variables, train)
    expected = reference(net, images.astype(np.float64))
    np.testing.assert_allclose(logits, expected, rtol=0, atol=1e-4 * np.abs(expected).max())
    found = {
        jax.tree_util.keystr(path, simple=True, separator="/"): leaf
        for path, leaf in jax.tree.leaves_with_path(changed["batch_stats"])
    }
    assert found.keys() == net.statistics.keys()
    for name, statistic in net.statistics.items():
        np.testing.assert_allclose(found[name], statistic, rtol=1e-3, atol=1e-4, err_msg=name)


@pytest.mark.parametrize("model", [BOTTLENECK, WIDE], ids=["norm after", "norm before"])
def test_gradients_are_finite_where_pruning_has_emptied_a_layer(model):
    """Then every pixel of a channel is equal, and BatchNorm divides by the square root of epsilon."""
    images = draw_images(3, 12, 8, 2)
    variables = draw_variables(model, images)
    params = jax.tree.map_with_path(
        lambda path, leaf: 0 * leaf if path[-2].key == "conv2" else leaf, variables["params"]
    )

    def loss(params):
        changed = {**variables, "params": params}
        logits, _ = model.apply(changed, images, train=True, mutable=["batch_stats"])
        return jnp.sum(jnp.sin(logits))

    gradient = jax.jit(jax.grad(loss))(params)
    for path, leaf in jax.tree.leaves_with_path(gradient):
        assert np.all(np.isfinite(leaf)), jax.tree_util.keystr(path)
    assert np.any(gradient["dense"]["bias"])
