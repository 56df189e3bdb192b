"""Gradients of what is left, and derivatives that a network has of its own."""

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from .networks import (
    PERCEPTRON,
    compacted,
    draw,
    keep,
    perceptron,
)


def test_gradients_are_those_of_the_same_weights_where_a_rectifier_has_none():
    """At 0 jax.nn.relu has the gradient 0, max(x, 0) a half: its own derivative is kept."""
    small = compacted(perceptron, PERCEPTRON, {"b": keep((4, 2), 0, [0, 1, 3])}, draw(1, 3))

    def loss(apply_fn, p):
        return jnp.sum(jnp.sin(apply_fn({**p, "bias": 0 * p["bias"]}, jnp.zeros((1, 3)))))

    found = jax.grad(lambda p: loss(small.apply_fn, p))(small.variables)
    expected = jax.grad(lambda p: loss(perceptron, p))(PERCEPTRON)
    np.testing.assert_array_equal(found["bias"], 0)
    np.testing.assert_array_equal(found["a"], expected["a"][:, [0, 1, 3]])
    np.testing.assert_allclose(found["b"], expected["b"][np.array([0, 1, 3])])


@jax.custom_vjp
def halved(x):
    return x


halved.defvjp(lambda x: (x, None), lambda _, gradient: (gradient / 2,))


def test_a_backward_pass_of_the_networks_own_is_kept_under_jit():
    def apply_fn(p, x):
        return halved(x @ p["a"] + p["bias"][None]) @ p["b"]

    params = {name: PERCEPTRON[name] for name in ("a", "bias", "b")}
    small = compacted(apply_fn, params, {"b": keep((4, 2), 0, [0, 1, 3])}, draw(1, 3))
    gradient = jax.jit(jax.grad(lambda p: jnp.sum(small.apply_fn(p, draw(2, 3)))))(small.variables)
    expected = jax.grad(lambda p: jnp.sum(apply_fn(p, draw(2, 3))))(params)
    np.testing.assert_allclose(gradient["bias"], expected["bias"][np.array([0, 1, 3])])


def test_a_derivative_of_its_own_is_kept_beside_operands_that_have_none():
    @jax.custom_vjp
    def clipped(x, low):
        return x

    clipped.defvjp(lambda x, low: (x, low), lambda low, g: (jnp.maximum(g, low), None))

    @jax.custom_jvp
    def scaled(x, times):
        return x * times

    scaled.defjvp(lambda primals, tangents: (scaled(*primals), 7 * tangents[0]))

    def apply_fn(p, x):
        hidden = scaled(clipped(x @ p["a"] + p["bias"][None], jnp.int32(0)), jnp.int32(2))
        return hidden @ p["b"]

    params = {name: PERCEPTRON[name] for name in ("a", "bias", "b")}
    small = compacted(apply_fn, params, {"b": keep((4, 2), 0, [0, 1, 3])}, draw(1, 3))
    gradient = jax.grad(lambda p: jnp.sum(small.apply_fn(p, draw(2, 3))))(small.variables)["bias"]
    expected = jax.grad(lambda p: jnp.sum(apply_fn(p, draw(2, 3))))(params)["bias"]
    np.testing.assert_allclose(gradient, expected[np.array([0, 1, 3])])


def test_a_derivative_of_its_own_around_what_is_not_followed():
    @jax.custom_jvp
    def looped(x):
        return lax.fori_loop(0, 2, lambda _, y: jnp.sin(y), x)

    looped.defjvp(lambda primals, tangents: (looped(*primals), 3 * tangents[0]))

    def apply_fn(p, x):
        return looped(x @ p["a"]) @ p["b"]

    params = {"a": draw(3, 4), "b": draw(4, 2)}
    mask = keep((4, 2), 0, [0, 1, 3])
    small = compacted(apply_fn, params, {"b": mask}, draw(1, 3))
    assert small.variables["a"].shape == (3, 4)
    found = jax.grad(lambda p: jnp.sum(small.apply_fn(p, draw(2, 3))))(small.variables)["a"]
    expected = jax.grad(lambda p: jnp.sum(apply_fn(p, draw(2, 3))))({**params, "b": params["b"] * mask})
    np.testing.assert_allclose(found, expected["a"])
