import jax
import numpy as np
import pytest

from train.models import make_model

from .by_hand import abstract_variables, conv, dense, draw_images, draw_variables, pool, relu


def kernels(name, image):
    """Shapes of the kernels by layer; every layer has a bias, and there is no other variable."""
    variables = abstract_variables(name, image)[1]
    shapes = {layer: leaves["kernel"].shape for layer, leaves in variables["params"].items()}
    biases = {layer: leaves["bias"].shape for layer, leaves in variables["params"].items()}
    assert biases == {layer: shape[-1:] for layer, shape in shapes.items()}
    assert variables.keys() == {"params"}
    return shapes


def logits_and_params(name, images):
    model = make_model(name, num_classes=4)
    variables = draw_variables(model, images)
    return jax.jit(model.apply)(variables, images), variables["params"]


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
    assert sum(np.prod(shape) for shape in kernels(name, image).values()) == weights


def test_lenet_300_100_by_hand():
    images = draw_images(3, 8, 6, 2)
    logits, p = logits_and_params("lenet-300-100", images)
    x = images.astype(np.float64).reshape(3, -1)
    x = relu(dense(x, p["dense1"]))
    x = relu(dense(x, p["dense2"]))
    x = dense(x, p["dense3"])
    np.testing.assert_allclose(logits, x, rtol=0, atol=1e-5 * np.abs(x).max())


def test_lenet_5_by_hand():
    """On 9 x 20 images: the first side is padded to 16, three rows above and four below."""
    images = draw_images(3, 9, 20, 1)
    logits, p = logits_and_params("lenet-5", images)
    x = np.pad(images.astype(np.float64), ((0, 0), (3, 4), (0, 0), (0, 0)))
    x = pool(relu(conv(x, p["conv1"], 0)))
    x = pool(relu(conv(x, p["conv2"], 0)))
    x = relu(dense(x.reshape(3, -1), p["dense1"]))
    x = dense(x, p["dense2"])
    np.testing.assert_allclose(logits, x, rtol=0, atol=1e-5 * np.abs(x).max())


def test_conv_4_by_hand():
    images = draw_images(2, 8, 4, 3)
    logits, p = logits_and_params("conv-4", images)
    x = images.astype(np.float64)
    x = pool(relu(conv(relu(conv(x, p["conv1"], 1)), p["conv2"], 1)))
    x = pool(relu(conv(relu(conv(x, p["conv3"], 1)), p["conv4"], 1)))
    x = relu(dense(x.reshape(2, -1), p["dense1"]))
    x = relu(dense(x, p["dense2"]))
    x = dense(x, p["dense3"])
    np.testing.assert_allclose(logits, x, rtol=0, atol=1e-5 * np.abs(x).max())
