"""SynFlow: paths by hand, the same total in every layer, and what happens when the total overflows."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import pruning

# Two inputs, two hidden units, one output.
PARAMS = {
    "in": jnp.array([[1.0, -2.0], [0.5, 3.0]]),
    "out": jnp.array([[2.0], [-1.0]]),
    "bias": jnp.array([-0.5, 1.0]),
}


def linear(params):
    return jnp.ones((1, 2)) @ params["in"] @ params["out"]


def biased(params):
    return jax.nn.relu(jnp.ones((1, 2)) @ params["in"] + params["bias"][None]) @ params["out"]


def test_paths_by_hand():
    # |in| @ |out|: the hidden units hold 1.5 and 5, the output 3 + 5 = 8.
    scores = pruning.synflow_scores(linear, PARAMS)
    assert scores["in"].tolist() == [[2, 2], [1, 3]]
    assert scores["out"].tolist() == [[3], [5]]
    assert scores["bias"] is None


def test_a_bias_feeds_the_flow_with_its_absolute_value_and_has_no_score():
    # 0.5 and 1 more in the hidden units; nothing that comes in before them sees it.
    scores = pruning.synflow_scores(biased, PARAMS)
    assert scores["in"].tolist() == [[2, 2], [1, 3]]
    assert scores["out"].tolist() == [[4], [6]]
    assert scores["bias"] is None


def test_signs_do_not_matter():
    flipped = jax.tree.map(jnp.negative, PARAMS)
    expected, found = (pruning.synflow_scores(biased, params) for params in (PARAMS, flipped))
    assert jax.tree.map(jnp.array_equal, found, expected) == {"in": True, "out": True, "bias": None}


def test_all_outputs_of_a_network_with_several_count():
    def outputs(params):
        hidden = jnp.ones((1, 2)) @ params["in"]
        return {"head": hidden @ params["out"], "others": [hidden, jnp.zeros(3)]}

    # Each hidden unit flows to the head by |out| and to an output of its own by 1.
    scores = pruning.synflow_scores(outputs, PARAMS)
    assert scores["in"].tolist() == [[3, 6 - 2], [1.5, 9 - 3]]
    assert scores["out"].tolist() == [[3], [5]]


def test_a_predicate_of_the_caller_is_asked():
    scores = pruning.synflow_scores(biased, PARAMS, prunable=lambda path, leaf: leaf.ndim == 1)
    assert scores["in"] is None
    assert scores["out"] is None
    assert scores["bias"].tolist() == [0.5 * 2, 1 * 1]


def test_leaves_that_are_not_floats_reach_the_network_as_they_are():
    others = {"shift": jnp.int32(-3), "table": jnp.full((2, 2), -1), "key": jax.random.key(0)}

    def output(params):
        assert params["key"].dtype == others["key"].dtype
        return linear(params) * params["shift"] * params["table"][0, 0]

    scores = pruning.synflow_scores(output, {**PARAMS, **others})
    assert scores["out"].tolist() == [[3 * 3], [3 * 5]]
    assert [name for name, leaf in scores.items() if leaf is not None] == ["in", "out"]


SHAPES = [(3, 5), (5, 4), (4, 6), (6, 2)]


def deep(params):
    activations = jnp.ones((1, 3))
    for weights in params:
        activations = jax.nn.relu(activations @ weights)
    return activations


@jax.jit
def totals(params):
    """The sum of scores of each layer, and the output."""
    scores = pruning.synflow_scores(deep, params)
    return [jnp.sum(layer) for layer in scores], jnp.sum(deep(jax.tree.map(jnp.abs, params)))


WEIGHTS = st.just(0.0) | st.floats(-4, 4, width=32, allow_subnormal=False)


@settings(deadline=None)
@given(st.tuples(*[hnp.arrays(np.float32, shape, elements=WEIGHTS) for shape in SHAPES]))
def test_the_scores_of_every_layer_add_up_to_the_output(params):
    """Pruned weights (zeros) and dead units included."""
    with jax.enable_x64(True):
        sums, output = totals([jnp.asarray(layer, jnp.float64) for layer in params])
    np.testing.assert_allclose(sums, output, rtol=1e-12, atol=1e-300)


DEPTH = 25


def overflowing(dtype):
    """The output is 200 to the power 25, more than 1e57."""
    return [jnp.full((2, 2), -100, dtype)] * DEPTH


def very_deep(params):
    activations = jnp.ones((1, 2), params[0].dtype)
    for weights in params:
        activations = activations @ weights
    return activations


def test_an_overflow_is_an_error_that_says_what_to_do():
    with pytest.raises(ValueError, match=r"got inf in float32: .* compute in float64 .*enable_x64"):
        pruning.synflow_scores(very_deep, overflowing(jnp.float32))


def test_float64_holds_what_float32_does_not():
    with jax.enable_x64(True):
        scores = jax.jit(lambda params: pruning.synflow_scores(very_deep, params))(overflowing("float64"))
        sums = [float(jnp.sum(layer)) for layer in scores]
    assert {layer.dtype for layer in scores} == {jnp.dtype("float64")}
    np.testing.assert_allclose(sums, 2 * 200.0**DEPTH, rtol=1e-12)


def test_a_traced_overflow_makes_every_score_nan():
    """Also those that are finite themselves: a layer of zeros beside the flow."""
    params = {"deep": overflowing(jnp.float32), "beside": jnp.zeros((2, 2))}

    def output(params):
        return very_deep(params["deep"]), params["beside"]

    scores = jax.jit(lambda params: pruning.synflow_scores(output, params))(params)
    assert all(jnp.isnan(leaf).all() for leaf in jax.tree.leaves(scores))


def test_params_without_a_prunable_leaf_are_an_error():
    with pytest.raises(ValueError, match=r"at least one prunable leaf .* none of \['bias'\]"):
        pruning.synflow_scores(lambda params: params["bias"], {"bias": PARAMS["bias"]})


W = {"w": jnp.array([[1.0, -2.0], [3.0, 0.5]])}


def chain(p):
    return functools.reduce(lambda h, name: h @ p[name], sorted(p), jnp.ones((1, 2)))


def test_synflow_underflow_is_an_error():
    with pytest.raises(ValueError, match="float64"):
        pruning.synflow_scores(chain, {f"w{i:02d}": jnp.full((2, 2), 1e-3) for i in range(20)})


def test_synflow_of_a_pruned_weight_between_large_ones_is_zero():
    params = {"a": jnp.full((2, 1), 1e30), "b": jnp.zeros((1, 1)), "c": jnp.full((1, 1), 1e30)}
    assert pruning.synflow_scores(chain, params)["b"].tolist() == [[0.0]]


def test_an_integer_or_absent_output_is_named():
    with pytest.raises(ValueError, match="output"):
        pruning.synflow_scores(lambda p: None, W)


def test_synflow_of_nan_params_does_not_speak_of_overflow():
    with pytest.raises(ValueError, match="NaN in the params"):
        pruning.synflow_scores(lambda p: jnp.ones((1, 2)) @ p["w"], {"w": W["w"] * jnp.nan})
