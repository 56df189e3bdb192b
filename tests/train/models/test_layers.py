"""Convolution, BatchNorm and pools of the models with BatchNorm, against NumPy."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from train.models.initializers import INITIALIZERS, KAIMING_NORMAL, ONES, SCALE_INITIALIZERS
from train.models.layers import global_average_pool, make_conv, make_norm, max_pool_3x3

from . import by_hand


def run_norm(x, *, train, dtype=None):
    """BatchNorm's result and statistics, from a running mean of 1 and variance of 2."""
    norm = make_norm(ONES, dtype, train=train)("bn")
    full = functools.partial(np.full, x.shape[-1], dtype=np.float32)
    variables = {
        "params": {"scale": full(3.0), "bias": full(0.5)},
        "batch_stats": {"mean": full(1.0), "var": full(2.0)},
    }
    y, changed = norm.apply(variables, x, mutable=["batch_stats"])
    return y, changed["batch_stats"]


def test_stride_2_starts_at_the_corner():
    """The one window of a 2x2 image sees the padding above and to the left; 'SAME' pads below."""
    image = jnp.array([[1.0, 2.0], [3.0, 4.0]]).reshape(1, 2, 2, 1)
    layer = make_conv(KAIMING_NORMAL, None)(1, 3, 2, name="conv")
    kernel = jnp.array([[9.0, 9, 9], [9, 1000, 100], [9, 10, 1]]).reshape(3, 3, 1, 1)
    assert layer.apply({"params": {"kernel": kernel}}, image) == 1234


def test_norm_in_training_uses_the_batch_and_moves_the_statistics():
    x = np.array([[[[0.0]], [[2.0]]], [[[4.0]], [[10.0]]]], np.float32)  # mean 4, variance 56 / 4
    y, statistics = run_norm(x, train=True)
    np.testing.assert_allclose(y, (x - 4) / np.sqrt(14 + 1e-5) * 3 + 0.5, rtol=1e-6)
    np.testing.assert_allclose(statistics["mean"], [0.9 * 1 + 0.1 * 4], rtol=1e-6)
    np.testing.assert_allclose(statistics["var"], [0.9 * 2 + 0.1 * 14], rtol=1e-6)


def test_norm_in_evaluation_uses_the_statistics_and_keeps_them():
    x = np.array([[[[0.0]], [[2.0]]], [[[4.0]], [[10.0]]]], np.float32)
    y, statistics = run_norm(x, train=False)
    np.testing.assert_allclose(y, (x - 1) / np.sqrt(2 + 1e-5) * 3 + 0.5, rtol=1e-6)
    assert (statistics["mean"], statistics["var"]) == (1, 2)


def test_epsilon():
    """A channel without variance: its deviation is divided by sqrt(1e-5), in no mode by zero."""
    x = jnp.zeros((2, 1, 1, 1))
    assert run_norm(x, train=True)[0].tolist() == [[[[0.5]]], [[[0.5]]]]
    variables = {"batch_stats": {"mean": jnp.zeros(1), "var": jnp.zeros(1)}}
    variables["params"] = {"scale": jnp.ones(1), "bias": jnp.zeros(1)}
    y = make_norm(ONES, None, train=False)("bn").apply(variables, x + 1)
    np.testing.assert_allclose(y.ravel(), [1e5**0.5] * 2, rtol=1e-6)


def test_scale_initializers():
    draw = SCALE_INITIALIZERS["uniform"](jax.random.key(0), (100_000,), jnp.float32)
    assert draw.min() >= 0
    assert draw.max() < 1
    np.testing.assert_allclose([draw.mean(), draw.var()], [1 / 2, 1 / 12], rtol=0.01)
    assert np.all(SCALE_INITIALIZERS["ones"](jax.random.key(0), (5,), jnp.float32) == 1)


@pytest.mark.parametrize(
    ("name", "variance"), [("kaiming-normal", 2 / 784), ("glorot-normal", 2 / (784 + 300))]
)
def test_initializers_are_plain_normals(name, variance):
    """235,200 draws reach beyond four standard deviations; truncated ones end at 2.3."""
    kernel = INITIALIZERS[name](jax.random.key(0), (784, 300)) / np.sqrt(variance)
    assert abs(float(jnp.std(kernel)) - 1) < 0.01
    assert 4 < float(jnp.abs(kernel).max()) < 6.5


@pytest.mark.parametrize("side", [pytest.param(1, marks=pytest.mark.slow), 7, 8])
def test_max_pool_3x3_is_flax_s_in_value_and_gradient(side):
    x = by_hand.draw_images(2, side, side + 2, 3) - 5  # negative: the padding must not win
    padding: list = [(1, 1), (1, 1)]
    flax = lambda x: nn.max_pool(x, (3, 3), (2, 2), padding)  # noqa: E731
    assert np.array_equal(max_pool_3x3(x), flax(x))
    gradients = [jax.grad(lambda x, f=f: jnp.sum(jnp.sin(f(x))))(x) for f in (max_pool_3x3, flax)]
    np.testing.assert_allclose(*gradients, rtol=1e-6)


def test_global_average_pool():
    x = by_hand.draw_images(2, 3, 4, 5)
    np.testing.assert_allclose(global_average_pool(x), x.reshape(2, 12, 5).mean(1), rtol=1e-4, atol=1e-6)
