import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from train.models import INITIALIZERS, MODELS, make_model


def shapes(name, image, num_classes=10, **options):
    """Shapes of the kernels by layer, and of the logits of five images; computes nothing."""
    model = make_model(name, num_classes=num_classes, **options)
    images = jax.ShapeDtypeStruct((5, *image), jnp.float32)
    logits, variables = jax.eval_shape(model.init_with_output, jax.random.key(0), images)
    kernels = {layer: leaves["kernel"].shape for layer, leaves in variables["params"].items()}
    biases = {layer: leaves["bias"].shape for layer, leaves in variables["params"].items()}
    assert biases == {layer: shape[-1:] for layer, shape in kernels.items()}
    assert variables.keys() == {"params"}
    return kernels, logits


def logits_and_params(name, images):
    """The model's logits at random parameters: biases too, so that each one counts."""
    model = make_model(name, num_classes=4)
    rng = np.random.default_rng(1)
    drawn = jax.tree.map(
        lambda leaf: rng.normal(scale=0.1, size=leaf.shape).astype(np.float32),
        jax.eval_shape(model.init, jax.random.key(0), images),
    )
    return jax.jit(model.apply)(drawn, images), drawn["params"]


def dense(x, layer):
    return x @ layer["kernel"].astype(np.float64) + layer["bias"]


def conv(x, layer, pad):
    kernel = layer["kernel"].astype(np.float64)
    padded = np.pad(x, ((0, 0), (pad, pad), (pad, pad), (0, 0)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, kernel.shape[:2], axis=(1, 2))
    return np.einsum("nhwcij,ijcd->nhwd", windows, kernel) + layer["bias"]


def relu(x):
    return np.maximum(x, 0)


def pool(x):
    """For even sides."""
    corners = [x[:, i::2, j::2] for i in (0, 1) for j in (0, 1)]
    return functools.reduce(np.maximum, corners)


@pytest.mark.parametrize(
    ("name", "kernels"),
    [
        ("lenet-300-100", {"dense1": (784, 300), "dense2": (300, 100), "dense3": (100, 10)}),
        (
            "lenet-5",
            {
                "conv1": (5, 5, 1, 20),
                "conv2": (5, 5, 20, 50),
                "dense1": (800, 500),
                "dense2": (500, 10),
            },
        ),
        (
            "conv-2",
            {
                "conv1": (3, 3, 1, 64),
                "conv2": (3, 3, 64, 64),
                "dense1": (14 * 14 * 64, 256),
                "dense2": (256, 256),
                "dense3": (256, 10),
            },
        ),
    ],
)
def test_kernels_on_mnist(name, kernels):
    assert shapes(name, (28, 28, 1))[0] == kernels


@pytest.mark.parametrize(
    ("name", "image", "weights"),
    [
        ("lenet-300-100", (28, 28, 1), 266_200),
        ("lenet-5", (28, 28, 1), 430_500),
        ("conv-2", (32, 32, 3), 4_300_992),  # the paper says 4.3M
        ("conv-4", (32, 32, 3), 2_425_024),  # 2.4M
        ("conv-6", (32, 32, 3), 2_261_184),  # 2.3M
    ],
)
def test_number_of_weights(name, image, weights):
    kernels, _ = shapes(name, image)
    assert sum(np.prod(shape) for shape in kernels.values()) == weights


@pytest.mark.parametrize("image", [(8, 8, 1), (28, 28, 1), (32, 32, 3), (37, 21, 2), (1, 3, 1)])
@pytest.mark.parametrize("name", MODELS)
def test_any_image_size(name, image):
    _, logits = shapes(name, image, num_classes=7)
    assert logits.shape == (5, 7)
    assert logits.dtype == jnp.float32


def test_lenet_300_100_by_hand():
    images = np.random.default_rng(2).normal(size=(3, 8, 6, 2)).astype(np.float32)
    logits, p = logits_and_params("lenet-300-100", images)
    x = images.astype(np.float64).reshape(3, -1)
    x = relu(dense(x, p["dense1"]))
    x = relu(dense(x, p["dense2"]))
    x = dense(x, p["dense3"])
    np.testing.assert_allclose(logits, x, rtol=1e-4, atol=1e-4)


def test_lenet_5_by_hand():
    """On 9 x 20 images: the first side is padded to 16, three rows above and four below."""
    images = np.random.default_rng(2).normal(size=(3, 9, 20, 1)).astype(np.float32)
    logits, p = logits_and_params("lenet-5", images)
    x = np.pad(images.astype(np.float64), ((0, 0), (3, 4), (0, 0), (0, 0)))
    x = pool(relu(conv(x, p["conv1"], 0)))
    x = pool(relu(conv(x, p["conv2"], 0)))
    x = relu(dense(x.reshape(3, -1), p["dense1"]))
    x = dense(x, p["dense2"])
    np.testing.assert_allclose(logits, x, rtol=1e-4, atol=1e-4)


def test_conv_4_by_hand():
    images = np.random.default_rng(2).normal(size=(2, 8, 4, 3)).astype(np.float32)
    logits, p = logits_and_params("conv-4", images)
    x = images.astype(np.float64)
    x = pool(relu(conv(relu(conv(x, p["conv1"], 1)), p["conv2"], 1)))
    x = pool(relu(conv(relu(conv(x, p["conv3"], 1)), p["conv4"], 1)))
    x = relu(dense(x.reshape(2, -1), p["dense1"]))
    x = relu(dense(x, p["dense2"]))
    x = dense(x, p["dense3"])
    np.testing.assert_allclose(logits, x, rtol=0, atol=1e-5 * np.abs(x).max())


@pytest.mark.parametrize(
    ("name", "variance"), [("kaiming-normal", 2 / 784), ("glorot-normal", 2 / (784 + 300))]
)
def test_initializers_are_plain_normals(name, variance):
    """235,200 draws reach beyond four standard deviations; truncated ones end at 2.3."""
    kernel = INITIALIZERS[name](jax.random.key(0), (784, 300)) / np.sqrt(variance)
    assert abs(float(jnp.std(kernel)) - 1) < 0.01
    assert 4 < float(jnp.abs(kernel).max()) < 6.5


@pytest.mark.parametrize("name", MODELS)
def test_every_kernel_comes_from_the_initializer(name):
    model = make_model(name, num_classes=2, kernel_init=jax.nn.initializers.ones)
    params = jax.jit(model.init)(jax.random.key(0), jnp.zeros((1, 4, 4, 1)))["params"]
    for layer in params.values():
        assert np.all(np.asarray(layer["kernel"]) == 1)
        assert np.all(np.asarray(layer["bias"]) == 0)


@pytest.mark.parametrize("name", MODELS)
def test_the_default_initializer_is_kaiming_normal(name):
    models: list[Any] = [make_model(name, num_classes=3), MODELS[name](num_classes=3)]
    for model in models:
        assert model.kernel_init is INITIALIZERS["kaiming-normal"]


@pytest.mark.parametrize("name", MODELS)
def test_dtype_is_that_of_the_computation(name):
    model = make_model(name, num_classes=3, dtype=jnp.bfloat16)
    images = jax.ShapeDtypeStruct((2, 8, 8, 1), jnp.float32)
    logits, variables = jax.eval_shape(model.init_with_output, jax.random.key(0), images)
    assert logits.dtype == jnp.bfloat16
    assert {leaf.dtype for leaf in jax.tree.leaves(variables)} == {jnp.dtype(jnp.float32)}


def test_an_unknown_name_lists_the_known_ones():
    with pytest.raises(ValueError, match=r"'lenet'.*lenet-300-100, lenet-5, conv-2, conv-4, conv-6"):
        make_model("lenet", num_classes=10)
