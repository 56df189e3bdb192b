"""Diagonals against exact Hessians and per-example gradients of a small network."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import pruning
from tests.pruning.oracles import cross_entropy

KEY = jax.random.key(0)
X, Y = jax.random.normal(KEY, (6, 3)), jnp.array([0, 1, 1, 0, 1, 0])
PARAMS = {
    "a": {"kernel": jax.random.normal(jax.random.key(1), (3, 4)), "bias": jnp.full(4, 0.1)},
    "b": {"kernel": jax.random.normal(jax.random.key(2), (4, 2))},
}


def loss(params, batch):
    x, y = batch
    hidden = jnp.tanh(x @ params["a"]["kernel"] + params["a"]["bias"][None])
    return cross_entropy(hidden @ params["b"]["kernel"], y)


def of_kernels(vector):
    """A flat vector of the kernels' entries, as the kernels are shaped."""
    return {"a": {"kernel": vector[:12].reshape(3, 4)}, "b": {"kernel": vector[12:].reshape(4, 2)}}


def flat_loss(vector, batch):
    kernels = of_kernels(vector)
    return loss({"a": PARAMS["a"] | kernels["a"], "b": kernels["b"]}, batch)


FLAT = jnp.concatenate([PARAMS["a"]["kernel"].ravel(), PARAMS["b"]["kernel"].ravel()])


def flat(tree):
    assert tree["a"]["bias"] is None
    return np.concatenate([np.asarray(tree[layer]["kernel"]).ravel() for layer in "ab"])


def test_the_fisher_diagonal_is_the_mean_of_each_examples_squared_gradient():
    gradients = [jax.grad(flat_loss)(FLAT, (X[n : n + 1], Y[n : n + 1])) for n in range(6)]
    found = pruning.fisher_diagonal(loss, PARAMS, (X, Y))
    np.testing.assert_allclose(flat(found), np.mean(np.square(gradients), axis=0), rtol=1e-5)


@pytest.mark.slow
def test_the_hutchinson_diagonal_goes_to_that_of_the_exact_hessian():
    exact = np.diag(jax.hessian(flat_loss)(FLAT, (X, Y)))
    few, many = (
        flat(
            jax.jit(pruning.hutchinson_diagonal, static_argnums=1, static_argnames="probes")(
                KEY, loss, PARAMS, (X, Y), probes=probes
            )
        )
        for probes in (10, 4000)
    )
    scale = np.abs(exact).max()
    assert np.abs(many - exact).max() < 0.03 * scale < np.abs(few - exact).max()


def test_one_probe_is_exact_where_the_hessian_is_diagonal():
    """L = sum of x w^3: the Hessian is 6 x w, whatever the signs; negative entries stay."""
    params = {"w": jnp.array([[1.0, -2.0]])}
    cubic = lambda params, x: jnp.mean(x) * jnp.sum(params["w"] ** 3)  # noqa: E731
    found = pruning.hutchinson_diagonal(KEY, cubic, params, jnp.array([1.0, 3.0]), probes=1)
    np.testing.assert_allclose(found["w"], [[12, -24]])


@pytest.mark.parametrize(
    ("examples", "says"),
    [
        ((X, Y[:4]), "share a leading axis"),
        ((jnp.zeros((0, 3)), Y[:0]), "leading axis of one or more"),
        (jnp.float32(1), "share a leading axis"),
    ],
)
def test_examples_that_are_none_are_refused(examples, says):
    with pytest.raises(ValueError, match=says):
        pruning.fisher_diagonal(loss, PARAMS, examples)
    with pytest.raises(ValueError, match=says):
        pruning.hutchinson_diagonal(KEY, loss, PARAMS, examples)


def test_no_probe_and_other_trees_are_refused():
    with pytest.raises(ValueError, match="probes >= 1, a whole number, got 0"):
        pruning.hutchinson_diagonal(KEY, loss, PARAMS, (X, Y), probes=0)
    other = {"a": PARAMS["a"], "b": {"kernel": jnp.ones((2, 4))}}
    with pytest.raises(ValueError, match=r"diagonal of shape \(4, 2\) at \['b'\]\['kernel'\]"):
        pruning.curvature_scores(PARAMS, other)
    with pytest.raises(ValueError, match="gradients of shape"):
        pruning.taylor_scores(PARAMS, other, PARAMS)


def test_float16_scores_do_not_underflow():
    params = {"w": jnp.array([[1, 2, 3, 4]], jnp.float16) * jnp.float16(2**-10)}
    diagonal = {"w": jnp.array([[4, 3, 2, 1]], jnp.float16) * jnp.float16(2**-7)}
    expected = np.array([[4, 12, 18, 16]]) * 2.0**-28
    np.testing.assert_array_equal(pruning.curvature_scores(params, diagonal)["w"], expected)
    nothing = {"w": jnp.zeros((1, 4), jnp.float16)}
    np.testing.assert_array_equal(pruning.taylor_scores(params, nothing, diagonal)["w"], expected)


def test_a_hessian_of_0_is_a_diagonal_like_others():
    """It is no ranking: the loss is linear, and what removal does is of first order."""
    params, linear = {"w": jnp.ones((2, 1))}, lambda params, x: jnp.mean(x @ params["w"])
    found = pruning.hutchinson_diagonal(KEY, linear, params, jnp.ones((3, 2)))
    np.testing.assert_array_equal(found["w"], 0)
    np.testing.assert_array_equal(pruning.taylor_scores(params, params, found)["w"], 1)
    with pytest.raises(ValueError, match=r"expected finite scores, got NaN or infinity at \['w'\]"):
        pruning.fisher_diagonal(linear, params, jnp.full((3, 2), jnp.nan))
    with pytest.raises(ValueError, match="expected diagonal of the structure of params, got None"):
        pruning.curvature_scores(params, None)
