"""Small networks, and compaction whose outputs are checked."""

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

import pruning


def draw(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape)


def keep(shape, axis, entries):
    """A mask that keeps some entries of an axis."""
    along = np.isin(np.arange(shape[axis]), entries)
    sizes = [-1 if place == axis % len(shape) else 1 for place in range(len(shape))]
    return np.broadcast_to(along.reshape(sizes), shape)


def compacted(apply_fn, params, masks, x):
    """The compacted network; its outputs are checked on several examples."""
    masks = {name: masks.get(name) for name in params}
    small = pruning.compact(apply_fn, params, masks, x)
    several = jnp.concatenate([x, 2 * x, -x])
    expected = apply_fn(pruning.apply_masks(params, masks), several)
    found = jax.jit(small.apply_fn)(small.variables, several)
    np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-12)
    return small


def shapes(small):
    return {name: leaf.shape for name, leaf in small.variables.items()}


def perceptron(p, x):
    return jax.nn.relu(x @ p["a"] + p["bias"][None]) @ p["b"] + p["c"][None]


PERCEPTRON = {"a": draw(3, 4), "bias": np.array([-1.0, 2.0, 3.0, 4.0]), "b": draw(4, 2), "c": draw(2)}


def relu_of_ones(p, x):
    return jax.nn.relu(x @ p["a"] + 1)


NHWC = ("NHWC", "HWIO", "NHWC")


def convolve(x, kernel, padding="VALID", groups=1, strides=(1, 1)):
    return lax.conv_general_dilated(
        x, kernel, strides, padding, dimension_numbers=NHWC, feature_group_count=groups
    )
