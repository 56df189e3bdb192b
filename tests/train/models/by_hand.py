"""The models' layers in float64 NumPy, to be read next to the papers."""

import functools
import math

import jax
import numpy as np

from train.models import make_model


def dense(x, layer):
    return x @ layer["kernel"].astype(np.float64) + layer["bias"]


def conv(x, layer, pad, stride=1):
    """Zeros on every side, then every window that starts at a multiple of the stride."""
    kernel = layer["kernel"].astype(np.float64)
    padded = np.pad(x, ((0, 0), (pad, pad), (pad, pad), (0, 0)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, kernel.shape[:2], axis=(1, 2))
    windows = windows[:, ::stride, ::stride]
    return np.einsum("nhwcij,ijcd->nhwd", windows, kernel) + layer.get("bias", 0)


def normalise(x, layer, mean, variance):
    return (x - mean) / np.sqrt(variance + 1e-5) * layer["scale"] + layer["bias"]


def layer_normalise(x, layer):
    centred = x - x.mean(-1, keepdims=True)
    return centred / np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-6) * layer["scale"] + layer["bias"]


def gelu(x):
    return x * (1 + np.vectorize(math.erf)(x / math.sqrt(2))) / 2


def patches_of(images, patch):
    """Each square of an image as a row."""
    count, height, width, channels = images.shape
    x = images.reshape(count, height // patch, patch, width // patch, patch, channels)
    return x.transpose(0, 1, 3, 2, 4, 5).reshape(count, -1, patch * patch * channels)


def relu(x):
    return np.maximum(x, 0)


def pool(x):
    """2x2 windows, for even sides."""
    corners = [x[:, i::2, j::2] for i in (0, 1) for j in (0, 1)]
    return functools.reduce(np.maximum, corners)


def average(x):
    return x.mean(axis=(1, 2))


def draw_variables(model, images):
    """Random float32 variables: biases, scales and statistics too, so that each one counts."""
    rng = np.random.default_rng(1)

    def draw(path, leaf):
        positive = path[-1].key in ("scale", "var")
        values = rng.uniform(0.5, 2, leaf.shape) if positive else rng.normal(scale=0.3, size=leaf.shape)
        return values.astype(np.float32)

    return jax.tree.map_with_path(draw, jax.eval_shape(model.init, jax.random.key(0), images))


def draw_images(*shape):
    return np.random.default_rng(2).normal(size=shape).astype(np.float32)


@functools.cache
def abstract_variables(name, image, num_classes=10, **options):
    """Shapes of the logits of five images and of a model's variables; computes nothing."""
    model = make_model(name, num_classes=num_classes, **options)
    images = jax.ShapeDtypeStruct((5, *image), np.float32)
    return jax.eval_shape(model.init_with_output, jax.random.key(0), images)
