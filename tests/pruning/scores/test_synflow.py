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


def random_layers(count, scale, bias=None):
    random = np.random.default_rng(0)
    names = [f"{place:03d}" for place in range(count)]
    params = {name: jnp.asarray(random.normal(size=(8, 8)) * scale, jnp.float32) for name in names}
    return params if bias is None else params | {f"{name}b": jnp.full(8, bias) for name in names}


def perceptron(params):
    x = jnp.ones((1, 8), params["000"].dtype)
    for name in sorted(name for name in params if len(name) == 3):
        bias = params.get(f"{name}b", jnp.zeros(8, x.dtype))
        x = jax.nn.relu(x @ params[name] + bias[None])
    return x


def in_rounds(score):
    return jax.jit(lambda params: pruning.iterative_masks(score, params, 0.95, rounds=10))


@pytest.mark.parametrize(("scale", "bias"), [(1e-4, None), (1e4, 0.0)])
@pytest.mark.slow
def test_a_deep_network_without_biases_is_ranked_in_float32_as_in_float64(scale, bias):
    """R is 1e-51 and 1e77: all scores have a common factor. A bias of zeros is none."""

    def score(params):
        return pruning.synflow_scores(perceptron, params)

    params = random_layers(16, scale, bias)
    found = jax.jit(score)(params)
    with jax.enable_x64(True):
        expected = jax.jit(score)(jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float64), params))
        ratios = np.concatenate(
            [np.ravel(np.asarray(found[n], np.float64) / expected[n]) for n in expected if len(n) == 3]
        )
    factor = 2.0 ** np.round(np.log2(ratios.mean()))
    np.testing.assert_allclose(ratios, factor, rtol=1e-5)


@pytest.mark.slow
def test_rounds_of_a_deep_network_empty_no_layer_in_float32():
    params = random_layers(16, 1e-4)
    masks = in_rounds(lambda masked: pruning.synflow_scores(perceptron, masked))(params)
    assert min(int(mask.sum()) for mask in masks.values()) > 0


@pytest.mark.slow
def test_a_shallow_network_keeps_its_scores_to_the_bit():
    """Operation by operation; compiled, XLA may round a product of another program otherwise."""
    scores = pruning.synflow_scores(perceptron, random_layers(3, 0.3))
    weights = jax.tree.map(jnp.abs, random_layers(3, 0.3))
    gradients = jax.grad(lambda params: jnp.sum(perceptron(params)))(weights)
    for name, weight in weights.items():
        assert scores[name].tolist() == (weight * gradients[name]).tolist()


@pytest.mark.slow
def test_a_stack_of_layers_in_a_scan_is_scaled_too():
    def scanned(params):
        step = lambda x, w: (jax.nn.relu(x @ w), None)  # noqa: E731
        return jax.lax.scan(step, jnp.ones((1, 8)), params["w"])[0]

    params = random_layers(16, 1e-4)
    stacked = jax.jit(lambda p: pruning.synflow_scores(scanned, p))(
        {"w": jnp.stack([params[name] for name in sorted(params)])}
    )["w"]
    apart = jax.jit(lambda p: pruning.synflow_scores(perceptron, p))(params)
    ratios = stacked / jnp.stack([apart[name] for name in sorted(apart)])
    np.testing.assert_allclose(ratios, ratios[0, 0, 0], rtol=1e-5)


def test_a_layer_that_the_output_does_not_see_scores_zero():
    params = random_layers(3, 0.3, 0.1) | {"beside": jnp.ones((2, 2))}
    assert not pruning.synflow_scores(perceptron, params)["beside"].any()


def standardised(params):
    hidden = jnp.ones((1, 4)) @ params["a"]
    centred = hidden - hidden.mean()
    return jax.nn.relu(centred / jnp.sqrt((centred**2).mean() + 1e-6)) @ params["b"]


@pytest.mark.slow
def test_scores_are_magnitudes_where_a_network_subtracts():
    """As in the reference: z = |w dR/d|w||, also where a larger weight gives a smaller output."""
    random = np.random.default_rng(0)
    params = {
        "a": jnp.asarray(random.normal(size=(4, 8)), jnp.float32),
        "b": jnp.asarray(random.normal(size=(8, 3)), jnp.float32),
    }
    weights = jax.tree.map(jnp.abs, params)
    gradients = jax.grad(lambda p: jnp.sum(standardised(p)))(weights)
    signed = jax.tree.map(jnp.multiply, weights, gradients)
    assert (signed["a"] < -0.01).any()
    scores = pruning.synflow_scores(standardised, params)
    for name, product in signed.items():
        np.testing.assert_allclose(scores[name], jnp.abs(product), rtol=1e-5, atol=1e-7)


@pytest.mark.slow
def test_float16_ranks_a_deep_network():
    params = jax.tree.map(lambda leaf: leaf.astype(jnp.float16), random_layers(12, 0.02))
    scores = pruning.synflow_scores(perceptron, params)
    assert all(leaf.dtype == jnp.float16 and (leaf > 0).all() for leaf in jax.tree.leaves(scores))


def test_a_layer_of_zeros_is_no_alarm():
    params = random_layers(3, 0.3) | {
        "001": jnp.zeros((8, 8)).at[0, 0].set(1),
        "beside": jnp.zeros((2, 2)),
    }
    with jax.debug_nans(True):
        scores = jax.jit(lambda p: pruning.synflow_scores(perceptron, p))(params)
        assert int((scores["001"] > 0).sum()) == 1
        assert not jnp.any(pruning.displacement_scores(params, params)["beside"])


def test_functions_among_the_leaves_are_left_alone():
    """As a whole Equinox model has them."""
    params = {**PARAMS, "activation": jax.nn.relu, "name": None, "rate": 0.5}

    def output(params):
        return params["activation"](linear(params)) * params["rate"]

    scores = pruning.synflow_scores(output, params)
    assert scores["out"].tolist() == [[1.5], [2.5]]
    assert scores["activation"] is None


def test_outputs_of_several_dtypes_under_strict_promotion():
    def outputs(params):
        return linear(params), linear(params).astype(jnp.bfloat16), jnp.arange(2)

    with jax.numpy_dtype_promotion("strict"):
        scores = jax.jit(lambda params: pruning.synflow_scores(outputs, params))(PARAMS)
    assert scores["out"].tolist() == [[6], [10]]


def test_a_traced_overflow_makes_every_score_nan():
    """Also those that are finite themselves: a layer of zeros beside the flow."""
    params = {"deep": overflowing(jnp.float32), "beside": jnp.zeros((2, 2))}

    def output(params):
        return very_deep(params["deep"]), params["beside"]

    scores = jax.jit(lambda params: pruning.synflow_scores(output, params))(params)
    assert all(jnp.isnan(leaf).all() for leaf in jax.tree.leaves(scores))


def chain(p):
    return functools.reduce(lambda h, name: h @ p[name], sorted(p), jnp.ones((1, 2)))


def test_synflow_of_a_pruned_weight_between_large_ones_is_zero():
    params = {"a": jnp.full((2, 1), 1e30), "b": jnp.zeros((1, 1)), "c": jnp.full((1, 1), 1e30)}
    assert pruning.synflow_scores(chain, params)["b"].tolist() == [[0.0]]


SMALL = {f"w{i:02d}": jnp.full((2, 2), 1e-3) for i in range(20)}


@pytest.mark.parametrize(
    ("output", "params", "message"),
    [
        # With a bias: it is no common factor that is too large.
        (
            lambda p: very_deep(p) + 1,
            overflowing("float32"),
            r"got inf in float32: .*float64 .*x64",
        ),
        (
            perceptron,
            random_layers(16, 1e-4, 0.1),
            r"got 0 for all of \['000'\]: its flow underflows .*float64",
        ),
        (lambda p: chain(p) + chain(p) ** 2, SMALL, r"no weight is 0: .*float64"),
        (linear, {**PARAMS, "in": PARAMS["in"] * jnp.nan}, "NaN in the params"),
        (lambda p: None, PARAMS, "output"),
        (lambda p: p["bias"], {"bias": jnp.ones(2)}, r"at least one prunable leaf .* none of \['bias'\]"),
    ],
)
def test_what_has_no_scores_is_named(output, params, message):
    with pytest.raises(ValueError, match=message):
        pruning.synflow_scores(output, params)
