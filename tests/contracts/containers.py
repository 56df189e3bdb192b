"""One small network in every container that `pruning` promises to take.

Prunable: A of shape (4, 5) and B of shape (2, 2, 1, 3). Not prunable: the bias b of shape (5,).
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx


class Net(eqx.Module):
    dense: jax.Array
    bias: jax.Array
    conv: jax.Array
    activation: object = jax.nn.relu  # not an array: eqx.filter takes it out


def _flax(a, b, c):
    return {"params": {"Dense_0": {"kernel": a, "bias": b}, "Conv_0": {"kernel": c}}}


def _nnx(a, b, c):
    return nnx.State(
        {"dense": {"kernel": nnx.Param(a), "bias": nnx.Param(b)}, "conv": {"kernel": nnx.Param(c)}}
    )


def _equinox(a, b, c):
    return eqx.filter(Net(a, b, c), eqx.is_array)


def _nested(a, b, c):
    return (a, [b, (c,)])


CONTAINERS = {"flax": _flax, "nnx": _nnx, "equinox": _equinox, "nested": _nested}


def make_params(container="flax", dtype="float32"):
    """Params whose weights all differ in magnitude; none is zero."""
    values = np.random.default_rng(0).normal(size=37)
    a, b, c = (jnp.asarray(part, dtype) for part in np.split(values, [20, 25]))
    return CONTAINERS[container](a.reshape(4, 5), b, c.reshape(2, 2, 1, 3))


def every_other(params, first=0):
    """Masks that keep every other weight, made without the library."""

    def mask(leaf):
        return jnp.arange(leaf.size).reshape(leaf.shape) % 2 == first if leaf.ndim >= 2 else None

    return jax.tree.map(mask, params)
