"""One linear unit under half the mean squared error, of two examples: small enough for scores by hand."""

import jax.numpy as jnp

X = jnp.array([[1.0, 2.0], [3.0, -1.0]])
Y = jnp.array([[1.0], [0.0]])
UNIT = {"w": jnp.array([[2.0], [1.0]])}


def squared_error(params, batch):
    """g = X'r / 2 and H = X'X / 2."""
    x, y = batch
    return jnp.mean((x @ params["w"] - y) ** 2) / 2
