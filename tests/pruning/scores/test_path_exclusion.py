"""PX and SynFlow-L2: what is conserved without biases, and networks that cannot be read."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import pruning

PARAMS = {
    name: jax.random.normal(jax.random.key(n), shape)
    for n, (name, shape) in enumerate({"a": (3, 4), "b": (4, 5), "c": (5, 2)}.items())
}
X = jax.random.normal(jax.random.key(9), (6, 3))


def network(params, x, activation):
    x = activation(x @ params["a"])
    return activation(x @ params["b"]) @ params["c"]


@pytest.mark.slow
def test_without_biases_the_scores_of_every_layer_add_up_to_the_sum_over_paths():
    found = pruning.path_exclusion_scores(network, PARAMS, [X])
    # By enumeration: a path counts its squared weights times the squared inputs of open examples.
    hidden = jax.nn.relu(X @ PARAMS["a"])
    gates = [np.asarray(hidden > 0), np.asarray(hidden @ PARAMS["b"] > 0)]
    through = np.einsum("ni,nj,nk->n", X**2, *gates)  # The same for every output.
    a, b, c = (np.square(PARAMS[name]) for name in "abc")
    total = through.sum() * (np.ones(3) @ a @ b @ c).sum()
    for name in "abc":
        np.testing.assert_allclose(found[name].sum(), total, rtol=1e-5)


@pytest.mark.slow
def test_weights_that_are_pruned_score_nothing_and_carry_no_path():
    masked = PARAMS | {"b": PARAMS["b"].at[:, 1:].set(0)}
    found = pruning.path_exclusion_scores(network, masked, [X])
    np.testing.assert_array_equal(found["b"][:, 1:], 0)
    np.testing.assert_array_equal(found["c"][1:], 0)


def test_a_network_that_calls_its_activation_otherwise_is_refused():
    calls = []

    def erratic(params, x, activation):
        calls.append(x)
        return activation(x @ params["a"]) if len(calls) == 1 else activation(activation(x @ params["a"]))

    with pytest.raises(ValueError, match="as often in every pass, got 1 calls and then 2"):
        pruning.path_exclusion_scores(erratic, {"a": PARAMS["a"]}, [X])


def test_times_the_magnitude_synflow_l2_is_conserved_too():
    output = lambda params: network(params, jnp.ones((1, 3)), lambda x: x)  # noqa: E731
    scores = pruning.synflow_l2_scores(output, PARAMS)
    squares = jax.tree.map(jnp.square, PARAMS)
    for name, leaf in scores.items():
        total = jnp.sum(leaf * jnp.abs(PARAMS[name]))
        np.testing.assert_allclose(total, output(squares).sum(), rtol=1e-5)


@pytest.mark.parametrize("wrapped", [jax.jit, jax.checkpoint])
def test_activations_inside_a_transformation_are_refused(wrapped):
    def network(params, x, activation):
        return wrapped(lambda p: activation(x @ p["a"]) @ p["b"])(params)

    params = {"a": jnp.array([[2.0, -1.0]]), "b": jnp.array([[3.0], [1.0]])}
    with pytest.raises(ValueError, match="in plain code, got calls inside"):
        pruning.path_exclusion_scores(network, params, [jnp.array([[1.0]])])


def test_many_batches_in_bfloat16_are_summed_in_float32():
    network = lambda params, x, act: act(x @ params["a"])  # noqa: E731
    params, batch = {"a": jnp.ones((2, 1), jnp.bfloat16)}, jnp.ones((1, 2), jnp.bfloat16)
    one, many = (pruning.path_exclusion_scores(network, params, [batch] * n) for n in (1, 1024))
    np.testing.assert_array_equal(many["a"], 1024 * one["a"])


def test_a_batch_without_examples_is_refused():
    network = lambda params, x, act: act(x @ params["a"])  # noqa: E731
    with pytest.raises(ValueError, match="batches of one or more examples, got none in batch 1"):
        pruning.path_exclusion_scores(
            network, {"a": jnp.ones((2, 1))}, [jnp.ones((1, 2)), jnp.ones((0, 2))]
        )
