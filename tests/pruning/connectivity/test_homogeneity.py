"""The degree of a network in its layers, read off its jaxpr."""

import jax
import jax.numpy as jnp
import pytest

from pruning.connectivity.homogeneity import homogeneous

W = [jnp.ones((4, 4)), jnp.ones((4, 4))]
X = jnp.ones((1, 4))
ZERO, ONE = jnp.zeros((1, 4)), jnp.ones((1, 4))


def degree(network, *constants, arguments=W):
    """The degrees if they hold, else None; compiled, so that constants are traced."""
    degrees = []

    @jax.jit
    def holds(arguments, constants):
        program = jax.make_jaxpr(lambda given: jnp.sum(network(*given, *constants)))(arguments)
        found = homogeneous(program, len(arguments))
        degrees.append(found and found.degree)
        return jnp.bool(False) if found is None else found.holds

    return degrees[0] if holds(arguments, constants) else None


def scan(w):
    return jax.lax.scan(lambda x, layer: (jax.nn.relu(x @ layer), None), X, w)[0]


def looked_up(x, **filling):
    return x.at[:, jnp.array([0, 9])].get(mode="fill", **filling)


def convolution(w):
    return jax.lax.reduce_window(
        jax.lax.conv(jnp.ones((1, 1, 4, 4)), w[None, None, :2, :2], (1, 1), "SAME"),
        -jnp.inf, jax.lax.max, (1, 1, 2, 2), (1, 1, 2, 2), "VALID",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("network", "expected"),
    [
        (lambda a, b: jax.nn.relu(X @ a) @ b, (1, 1)),
        (lambda a, b: jax.nn.leaky_relu(X @ a).reshape(4)[:2], (1, 0)),
        (lambda a, b: jax.checkpoint(lambda x: jax.nn.relu(x @ a) @ b)(X), (1, 1)),
        (lambda a, b: X @ a @ b + X @ b @ a, (1, 1)),
        (lambda a, b: X @ a @ a, (2, 0)),
        (lambda a, b: X @ a / jnp.sqrt(jnp.sum(b**2)), (1, -1)),
        (lambda a, b: jnp.mean(jnp.abs(X @ a)) * 3 - jnp.max(X @ a), (1, 0)),
        (lambda a, b: jnp.where(X @ a > 0, X @ a, 0.0), (1, 0)),
        (lambda a, b: jax.nn.relu(X @ a) + jax.nn.relu(X @ b), None),  # Two layers, each alone.
        (lambda a, b: X + X @ a, None),  # A residual connection.
        (lambda a, b: X @ a + X @ a @ b, None),
        (lambda a, b: jax.nn.sigmoid(X @ a), None),
        (lambda a, b: jax.nn.relu6(X @ a), None),
        (lambda a, b: jax.nn.softmax(X @ a), None),
        (lambda a, b: (X @ a).astype(int).astype(float), None),
        (lambda a, b: jax.lax.cond(jnp.sum(a) > 1, jnp.sum, jnp.max, b), None),
        (lambda a, b: jax.lax.fori_loop(0, 2, lambda i, x: x @ a, X), (2, 0)),
        (lambda a, b: looked_up(X @ a, fill_value=7.0), None),
        (lambda a, b: looked_up(X @ a, fill_value=0.0), (1, 0)),
        (lambda a, b: looked_up(X @ a), (1, 0)),  # Filled with NaN, which stays so.
        (lambda a, b: jax.lax.composite(jax.nn.relu, "relu")(X @ a) @ b, (1, 1)),
    ],
)
def test_by_hand(network, expected):
    assert degree(network) == expected


def test_a_scan_is_unrolled():
    assert degree(scan, arguments=[jnp.ones((5, 4, 4))]) == (5,)


def test_a_convolution_and_its_pooling():
    assert degree(convolution, arguments=[jnp.ones((4, 4))]) == (1,)


@pytest.mark.parametrize(("bias", "expected"), [(ZERO, (1, 1)), (ONE, None)])
def test_a_traced_bias_must_be_zero(bias, expected):
    assert degree(lambda a, b, bias: jax.nn.relu(X @ a + bias) @ b, bias) == expected


def normalised(a, b, mean, shift):
    return (X @ a - mean) / jnp.sqrt(jnp.ones((1, 4)) + 1e-5) * 2 + shift


@pytest.mark.parametrize(
    ("mean", "shift", "expected"), [(ZERO, ZERO, (1, 0)), (ONE, ZERO, None), (ZERO, ONE, None)]
)
def test_batch_normalisation_in_inference_mode_at_initialization(mean, shift, expected):
    assert degree(normalised, mean, shift) == expected
