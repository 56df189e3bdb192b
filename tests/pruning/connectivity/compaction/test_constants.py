"""What removed units have added: where it comes from, where it goes, and when they stay instead."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

import pruning

from .networks import (
    PERCEPTRON,
    compacted,
    convolve,
    draw,
    keep,
    perceptron,
    relu_of_ones,
    shapes,
)


def test_a_unit_that_nothing_leads_into_goes_and_its_constant_goes_to_the_next_bias():
    small = compacted(perceptron, PERCEPTRON, {"a": keep((3, 4), 1, [1, 2])}, draw(1, 3))
    assert shapes(small) == {"a": (3, 2), "bias": (2,), "b": (2, 2), "c": (2,)}
    # relu(-1) is 0, relu(4) is not.
    np.testing.assert_allclose(small.variables["c"], PERCEPTRON["c"] + 4 * PERCEPTRON["b"][3])


def normalised(p, x):
    p = {name: leaf if leaf.ndim > 1 else leaf[None] for name, leaf in p.items()}
    y = (x @ p["a"] - p["mean"]) * lax.rsqrt(p["var"] + 1e-5) * p["scale"] + p["bias"]
    z = jax.nn.relu(y) @ p["b"]
    return jnp.tanh((z - p["mean2"]) * p["scale2"]) @ p["c"]


def test_a_constant_goes_into_a_running_mean():
    params = {
        **{"a": draw(3, 4), "b": draw(4, 3), "c": draw(3, 2)},
        **{"mean": draw(4), "var": np.ones(4), "scale": draw(4), "bias": np.array([1.0, 2, 3, 4])},
        **{"mean2": draw(3), "scale2": draw(3)},
    }
    small = compacted(normalised, params, {"a": keep((3, 4), 1, [0, 2])}, draw(1, 3))
    assert shapes(small)["b"] == (2, 3)
    dead = (-params["mean"] / np.sqrt(1 + 1e-5) * params["scale"] + params["bias"])[np.array([1, 3])]
    moved = jnp.maximum(dead, 0) @ params["b"][np.array([1, 3])]
    np.testing.assert_allclose(small.variables["mean2"], params["mean2"] - moved)


def convolutional(padding):
    def apply_fn(p, x):
        x = jax.nn.relu(convolve(x, p["a"], "SAME") + p["bias"].reshape(1, 1, 1, -1))
        x = jax.nn.relu(convolve(x, p["b"], padding) + p["bias2"].reshape(1, 1, 1, -1))
        x = lax.reduce_window(x, -jnp.inf, lax.max, (1, 2, 2, 1), (1, 2, 2, 1), "VALID")
        return x.reshape(x.shape[0], -1) @ p["c"] + p["bias3"][None]

    return apply_fn


def convolutional_params(pixels):
    return {
        **{"a": draw(3, 3, 2, 4), "bias": np.array([0.0, 1, 1, 0])},
        **{"b": draw(3, 3, 4, 3), "bias2": np.ones(3), "c": draw(pixels * 3, 2), "bias3": np.zeros(2)},
    }


def test_channels_go_through_pools_and_a_flattened_image():
    params = convolutional_params(4)
    masks = {"a": keep((3, 3, 2, 4), 3, [0, 2]), "b": keep((3, 3, 4, 3), 3, [1, 2])}
    small = compacted(convolutional("VALID"), params, masks, draw(1, 6, 6, 2))
    assert shapes(small)["a"] == (3, 3, 2, 2)
    assert shapes(small)["b"] == (3, 3, 2, 2)
    assert shapes(small)["c"] == (8, 2)
    assert small.report.left_whole == ()


@pytest.mark.slow
def test_a_constant_that_padding_makes_depend_on_the_position_stays_and_is_named():
    params = convolutional_params(9)
    masks = {"a": keep((3, 3, 2, 4), 3, [0, 2]), "b": keep((3, 3, 4, 3), 3, [1, 2])}
    small = compacted(convolutional("SAME"), params, masks, draw(1, 6, 6, 2))
    # Channel 1 is relu(1) everywhere, channel 3 relu(0).
    np.testing.assert_array_equal(small.report.arrays[0].entries[3], [0, 1, 2])
    (said,) = small.report.left_whole
    assert said.startswith("constant units before ['b'] stay")
    assert shapes(small)["c"] == (18, 2)


def test_a_constant_on_an_axis_that_no_weight_has_is_computed_as_before():
    """Of a backbone that the network holds itself nothing is cut, so nothing is missing."""
    first, second = draw(3, 4), draw(4, 3)
    first[:, 2] = 0

    def apply_fn(p, x):
        hidden = jax.nn.relu(x @ first + 1)
        return jax.nn.relu(hidden @ second + p["c"][None]) @ p["w"]

    params = {"c": draw(3), "w": draw(3, 2)}
    small = compacted(apply_fn, params, {"w": np.ones((3, 2), bool)}, draw(1, 3))
    np.testing.assert_array_equal(small.variables["c"], params["c"])


def test_what_is_not_wanted_and_short_of_a_constant_all_the_same_keeps_it():
    """The second unit adds, by weights that the network holds itself, to what nobody reads alone."""
    first, last = draw(2, 3, seed=1), draw(3, 2, seed=2)
    first[1], last[0] = [1, 0, 0], 0

    def apply_fn(p, x):
        return jnp.tanh(relu_of_ones(p, x) @ first) @ last

    params = {"a": draw(3, 2)}
    small = compacted(apply_fn, params, {"a": keep((3, 2), 1, [0])}, draw(1, 3))
    assert shapes(small) == {"a": (3, 2)}


def test_a_constant_does_not_go_into_a_weight_that_is_pruned():
    masks = {"a": keep((3, 4), 1, [0, 1, 3]), "c": np.array([False, True])}
    small = compacted(perceptron, PERCEPTRON, masks, draw(1, 3))
    assert shapes(small)["a"] == (3, 4)  # The unit stays, since its constant of relu(3) has no place.
    assert small.variables["c"][0] == 0


@pytest.mark.parametrize(
    ("bias", "units"), [pytest.param(3.0, 3, marks=pytest.mark.slow), (1 + 2**-6, 4)]
)
def test_a_constant_does_not_go_into_a_weight_that_would_round_it(bias, units):
    """The constants are 3 and 1 + 1/64; with 100 added bfloat16, of 8 binary digits, holds 103 alone."""

    def apply_fn(p, x):
        p = {name: leaf.astype(jnp.float32) for name, leaf in p.items()}
        return perceptron(p, x.astype(jnp.float32))

    params = PERCEPTRON | {"bias": np.full(4, bias), "b": np.ones((4, 2)), "c": np.full(2, 100.0)}
    params = {name: jnp.asarray(leaf, jnp.bfloat16) for name, leaf in params.items()}
    masks = {**dict.fromkeys(params), "a": keep((3, 4), 1, [0, 1, 3])}
    x = draw(4, 3)
    small = pruning.compact(apply_fn, params, masks, x)
    assert small.variables["a"].shape == (3, units)
    assert [said.endswith("a lower precision") for said in small.report.left_whole] == [True] * (
        units - 3
    )
    expected = apply_fn(pruning.apply_masks(params, masks), x)
    np.testing.assert_allclose(small.apply_fn(small.variables, x), expected, rtol=1e-6)


def test_a_constant_does_not_go_past_a_whole_number():
    def apply_fn(p, x):
        return (relu_of_ones(p, x) @ p["b"]).astype(int).astype(float) + p["c"][None] + 0 * x[:, :2]

    params = {"a": draw(3, 4), "b": draw(4, 2), "c": draw(2)}
    small = compacted(apply_fn, params, {"a": keep((3, 4), 1, [0, 1, 3])}, draw(1, 3))
    assert shapes(small)["a"] == (3, 4)


@pytest.mark.slow
@pytest.mark.parametrize("factor", ["contraction", "scale"])
def test_a_constant_does_not_go_past_another_weight_whose_gradient_would_miss_it(factor):
    def apply_fn(p, x):
        y = relu_of_ones(p, x) @ p["b"]
        return (y @ p["w"] if factor == "contraction" else y * p["w"][:1]) + p["c"][None]

    params = {"a": draw(3, 4), "b": draw(4, 2), "w": draw(2, 2, seed=1), "c": draw(2)}
    small = compacted(apply_fn, params, {"a": keep((3, 4), 1, [0, 1, 3])}, draw(1, 3))
    x = draw(5, 3)
    masked = {**params, "a": params["a"] * keep((3, 4), 1, [0, 1, 3])}
    found, expected = (
        jax.grad(lambda p, f=f: jnp.sum(jnp.sin(f(p, x))))(p)["w"]
        for f, p in ((small.apply_fn, small.variables), (apply_fn, masked))
    )
    np.testing.assert_allclose(found, expected[: len(found)], rtol=1e-10)
    assert small.report.left_whole


@pytest.mark.parametrize("shared", [True, False])
def test_a_constant_that_a_weight_makes_which_stays_is_computed_as_before(shared):
    """A slope of all units learns from each of them; one of its own goes with its unit."""

    def apply_fn(p, x):
        y = x @ p["a"] + p["bias"][None]
        return jnp.where(y > 0, y, p["slope"].reshape(1, -1) * y) @ p["b"] + p["c"][None]

    params = PERCEPTRON | {"bias": -np.ones(4), "slope": draw(1 if shared else 4)}
    small = compacted(apply_fn, params, {"a": keep((3, 4), 1, [1, 2])}, draw(1, 3))
    assert shapes(small)["b"] == ((4, 2) if shared else (2, 2))
    assert len(small.report.left_whole) == shared


@pytest.mark.slow
def test_what_is_random_or_no_number_is_no_constant():
    def dropped(p, x):
        kept = jax.random.bernoulli(jax.random.key(0), 0.5, (len(x), 4))
        return jnp.where(kept, relu_of_ones(p, x), 0) @ p["b"]

    params = {"a": draw(3, 4), "b": draw(4, 2), "c": draw(2)}
    full = {"a": np.ones((3, 4), bool), "b": np.ones((4, 2), bool)}
    assert shapes(compacted(dropped, params, full, draw(1, 3)))["a"] == (3, 4)

    def divided(p, x):
        y = x @ p["a"]
        unit = y / jnp.linalg.norm(y, axis=1, keepdims=True)  # 0 / 0 at an input of zeros
        return unit @ p["b"] + relu_of_ones(p, x) @ p["b"] + p["c"][None]

    masks = {"a": keep((3, 4), 1, [0, 1, 3])}
    small = pruning.compact(divided, params, {**dict.fromkeys(params), **masks}, jnp.zeros((1, 3)))
    masked = {**params, "a": params["a"] * masks["a"]}
    x = draw(4, 3)
    np.testing.assert_allclose(small.apply_fn(small.variables, x), divided(masked, x), rtol=1e-10)


@pytest.mark.parametrize("dtype", [jnp.float8_e4m3fn, jnp.bfloat16])
def test_constants_go_into_short_weights_whatever_the_promotion(dtype):
    """2 + 2 is 4 in any of them."""
    params = {"a": np.ones((1, 3)), "bias": np.full(3, 2), "b": np.ones((3, 1))}
    params = {name: jnp.asarray(leaf, jnp.float32) for name, leaf in params.items()}
    params["c"] = jnp.full(1, 2, dtype)

    def apply_fn(p, x):
        return jax.nn.relu(x @ p["a"] + p["bias"][None]) @ p["b"] + p["c"].astype(jnp.float32)[None]

    masks = {**dict.fromkeys(params), "a": jnp.array([[True, False, True]])}
    with jax.numpy_dtype_promotion("strict"):
        small = pruning.compact(apply_fn, params, masks, jnp.ones((1, 1), jnp.float32))
    assert small.variables["a"].shape == (1, 2)
    assert small.variables["c"].tolist() == [4]
