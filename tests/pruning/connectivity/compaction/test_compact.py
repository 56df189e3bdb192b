"""Units that go, those that stay, and where their constants go, on networks small enough to see."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

import pruning


@pytest.fixture(autouse=True)
def double_precision():
    with jax.enable_x64(True):
        yield


def draw(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape)


def keep(shape, axis, entries):
    """A mask that keeps some entries of an axis."""
    along = np.isin(np.arange(shape[axis]), entries)
    return jnp.broadcast_to(
        along.reshape([-1 if a == axis % len(shape) else 1 for a in range(len(shape))]), shape
    )


def compacted(apply_fn, params, masks, x):
    """The compacted network; its outputs are checked on several examples."""
    masks = {name: masks.get(name) for name in params}
    small = pruning.compact(apply_fn, params, masks, x)
    several = jnp.concatenate([x, 2 * x, -x])
    expected = apply_fn(pruning.apply_masks(params, masks), several)
    np.testing.assert_allclose(small.apply_fn(small.variables, several), expected, rtol=1e-12, atol=1e-12)
    return small


def shapes(small):
    return {name: leaf.shape for name, leaf in small.variables.items()}


def perceptron(p, x):
    return jax.nn.relu(x @ p["a"] + p["bias"][None]) @ p["b"] + p["c"][None]


PERCEPTRON = {"a": draw(3, 4), "bias": np.array([-1.0, 2.0, 3.0, 4.0]), "b": draw(4, 2), "c": draw(2)}


def test_a_unit_that_nothing_leads_out_of_goes():
    small = compacted(perceptron, PERCEPTRON, {"b": keep((4, 2), 0, [0, 1, 3])}, draw(1, 3))
    assert shapes(small) == {"a": (3, 3), "bias": (3,), "b": (3, 2), "c": (2,)}
    np.testing.assert_array_equal(small.variables["bias"], [-1, 2, 4])
    np.testing.assert_array_equal(small.variables["c"], PERCEPTRON["c"])


def test_a_unit_that_nothing_leads_into_goes_and_its_constant_goes_to_the_next_bias():
    small = compacted(perceptron, PERCEPTRON, {"a": keep((3, 4), 1, [1, 2])}, draw(1, 3))
    assert shapes(small) == {"a": (3, 2), "bias": (2,), "b": (2, 2), "c": (2,)}
    # relu(-1) is 0, relu(4) is not.
    np.testing.assert_allclose(small.variables["c"], PERCEPTRON["c"] + 4 * PERCEPTRON["b"][3])


def test_what_is_left_has_its_masks_its_entries_and_a_report():
    masks = {"a": keep((3, 4), 1, [1, 2]) & (np.arange(12).reshape(3, 4) != 1)}
    small = compacted(perceptron, PERCEPTRON, masks, draw(1, 3))
    np.testing.assert_array_equal(small.masks["a"], [[False, True], [True, True], [True, True]])
    assert small.masks["b"] is None
    row = small.report.arrays[0]
    assert (row.path, row.shape, row.compacted_shape) == ("['a']", (3, 4), (3, 2))
    assert (row.kept, row.compacted_kept) == (5, 5)
    np.testing.assert_array_equal(PERCEPTRON["a"][np.ix_(*row.entries)], PERCEPTRON["a"][:, 1:3])
    assert small.report.left_whole == ()


def test_of_a_layer_of_which_nothing_is_wanted_one_unit_is_left():
    def apply_fn(p, x):
        return x + perceptron(p, x) @ p["d"]

    params = {**PERCEPTRON, "d": draw(2, 3)}
    small = compacted(apply_fn, params, {"b": jnp.zeros((4, 2), bool)}, draw(1, 3))
    assert shapes(small)["a"] == (3, 1)


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


def test_a_compiled_function_is_called_again_and_compiled_in_another():
    """What was traced within one compiled function is not kept for others."""
    small = compacted(perceptron, PERCEPTRON, {"b": keep((4, 2), 0, [0, 1, 3])}, draw(1, 3))
    x = draw(2, 3)
    expected = small.apply_fn(small.variables, x)
    for function in (jax.jit(small.apply_fn), jax.jit(lambda p, x: small.apply_fn(p, x) + 0)):
        for _ in range(2):
            np.testing.assert_allclose(function(small.variables, x), expected, rtol=1e-12)
    scaled = jax.jit(
        lambda scale: small.rewrite(lambda p, x: scale * perceptron(p, x))(small.variables, x)
    )
    for scale in (1.0, 2.0):
        np.testing.assert_allclose(scaled(scale), scale * expected, rtol=1e-12)


def test_a_residual_stream_loses_only_what_nobody_reads_or_writes():
    def apply_fn(p, x):
        x = x @ p["in"]
        x = x + jnp.tanh(x @ p["a"]) @ p["b"]
        return x @ p["out"]

    params = {"in": draw(3, 5), "a": draw(5, 4), "b": draw(4, 5), "out": draw(5, 2)}
    masks = {
        "in": keep((3, 5), 1, [0, 1, 3, 4]),  # writes not to 2
        "b": keep((4, 5), 1, [0, 2, 4]),  # nor to 1 and 3
        "out": keep((5, 2), 0, [0, 1, 2, 3]),  # reads not from 4
        "a": keep((5, 4), 0, [0, 1, 2]),  # nor from 3 and 4
    }
    small = compacted(apply_fn, params, masks, draw(1, 3))
    assert shapes(small) == {"in": (3, 4), "a": (4, 4), "b": (4, 4), "out": (4, 2)}


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


NHWC = ("NHWC", "HWIO", "NHWC")


def convolve(x, kernel, padding="VALID", groups=1, strides=(1, 1)):
    return lax.conv_general_dilated(
        x, kernel, strides, padding, dimension_numbers=NHWC, feature_group_count=groups
    )


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


def test_a_constant_that_padding_makes_depend_on_the_position_stays_and_is_named():
    params = convolutional_params(9)
    masks = {"a": keep((3, 3, 2, 4), 3, [0, 2]), "b": keep((3, 3, 4, 3), 3, [1, 2])}
    small = compacted(convolutional("SAME"), params, masks, draw(1, 6, 6, 2))
    # Channel 1 is relu(1) everywhere, channel 3 relu(0).
    np.testing.assert_array_equal(small.report.arrays[0].entries[3], [0, 1, 2])
    (said,) = small.report.left_whole
    assert said.startswith("constant units before ['b'] stay")
    assert shapes(small)["c"] == (18, 2)


def test_channels_go_through_a_maximum_past_a_border_of_minus_infinity():
    def apply_fn(p, x):
        x = jnp.pad(x @ p["a"], ((0, 0), (1, 1), (0, 0)), constant_values=-jnp.inf)
        return jnp.mean(jnp.maximum(x[:, :-1], x[:, 1:]), axis=1) @ p["b"]

    params = {"a": draw(3, 4), "b": draw(4, 2)}
    small = compacted(apply_fn, params, {"a": keep((3, 4), 1, [0, 2])}, draw(1, 5, 3))
    assert shapes(small) == {"a": (3, 2), "b": (2, 2)}


def test_each_channel_alone_and_channels_in_groups():
    def apply_fn(p, x):
        x = convolve(x, p["a"])
        x = convolve(jnp.tanh(x), p["depthwise"], groups=6)
        x = convolve(jnp.tanh(x), p["grouped"], groups=3)
        return jnp.mean(x, axis=(1, 2)) @ p["c"]

    params = {
        "a": draw(1, 1, 2, 6),
        "depthwise": draw(2, 2, 1, 6),
        "grouped": draw(1, 1, 2, 9),
        "c": draw(9, 2),
    }
    small = compacted(apply_fn, params, {"c": keep((9, 2), 0, [0, 6, 8])}, draw(1, 4, 4, 2))
    # The second group, outputs 3 to 5 of inputs 2 and 3, leads nowhere; no group's second output does.
    assert shapes(small) == {
        "a": (1, 1, 2, 4),
        "depthwise": (2, 2, 1, 4),
        "grouped": (1, 1, 2, 4),
        "c": (4, 2),
    }


def test_parts_put_side_by_side_taken_apart_turned_and_padded():
    def apply_fn(p, x):
        both = jnp.concatenate([x @ p["a"], jnp.tanh(x) @ p["b"]], axis=1)
        left, right = jnp.split(both[:, ::-1], 2, axis=1)
        wide = jnp.pad(left * right, ((0, 0), (1, 2)))
        return wide[:, 1:5] @ p["c"]

    params = {"a": draw(3, 5), "b": draw(3, 3), "c": draw(4, 2)}
    small = compacted(apply_fn, params, {"c": keep((4, 2), 0, [1, 3])}, draw(1, 3))
    # Entry i of the product is 7 - i times 3 - i of both: 6 times 2, and 4 times 0.
    assert shapes(small) == {"a": (3, 3), "b": (3, 1), "c": (2, 2)}


def attention(p, x):
    q, k, v = (jnp.einsum("bti,ihd->bthd", x, p[name]) for name in ("q", "k", "v"))
    weights = jax.nn.softmax(jnp.einsum("bthd,bshd->bhts", q, k))
    return jnp.einsum("bthd,hdo->bto", jnp.einsum("bhts,bshd->bthd", weights, v), p["o"])


@pytest.mark.parametrize("mask", [{"o": keep((4, 3, 2), 0, [0, 3])}, {"v": keep((5, 4, 3), 1, [0, 3])}])
def test_a_head_goes_with_its_queries_and_keys(mask):
    params = {**{name: draw(5, 4, 3, seed=i) for i, name in enumerate("qkv")}, "o": draw(4, 3, 2)}
    small = compacted(attention, params, mask, draw(1, 6, 5))
    assert shapes(small) == {"q": (5, 2, 3), "k": (5, 2, 3), "v": (5, 2, 3), "o": (2, 3, 2)}


def test_a_gated_unit_goes_with_its_gate():
    def apply_fn(p, x):
        return (jax.nn.silu(x @ p["gate"]) * (x @ p["up"])) @ p["down"]

    params = {"gate": draw(3, 4), "up": draw(3, 4), "down": draw(4, 2)}
    by_gate = compacted(apply_fn, params, {"gate": keep((3, 4), 1, [0, 1])}, draw(1, 3))
    assert shapes(by_gate) == {"gate": (3, 2), "up": (3, 2), "down": (2, 2)}


def test_normalising_over_features_keeps_those_that_add_to_its_sums():
    """The variance reads x - mean, which is no 0 where x is."""

    def apply_fn(p, x):
        x = x @ p["a"]
        x = x - jnp.mean(x, axis=-1, keepdims=True)
        return x * lax.rsqrt(jnp.mean(x**2, axis=-1, keepdims=True) + 1e-6) @ p["b"]

    params = {"a": draw(3, 4), "b": draw(4, 2)}
    masks = {"a": keep((3, 4), 1, [0, 1]), "b": keep((4, 2), 0, [0, 1])}
    assert shapes(compacted(apply_fn, params, masks, draw(1, 3))) == {"a": (3, 4), "b": (4, 2)}


def test_what_is_not_followed_stays_whole_and_is_named():
    def apply_fn(p, x):
        y = lax.fori_loop(0, 2, lambda _, y: jnp.sin(y), x @ p["a"])
        return jax.nn.relu(y @ p["b"]) @ p["c"]

    params = {"a": draw(3, 4), "b": draw(4, 4), "c": draw(4, 2)}
    masks = {"a": keep((3, 4), 1, [0]), "c": keep((4, 2), 0, [0, 1])}
    small = compacted(apply_fn, params, masks, draw(1, 3))
    assert shapes(small) == {"a": (3, 4), "b": (4, 2), "c": (2, 2)}
    assert small.report.left_whole == ("what enters 'scan' stays whole: its axes are not followed",)


def test_compacting_twice_changes_nothing():
    masks = {
        name: jnp.asarray(np.random.default_rng(3).random(PERCEPTRON[name].shape) < 0.3) for name in "ab"
    }
    once = compacted(perceptron, PERCEPTRON, masks, draw(1, 3))
    twice = compacted(once.apply_fn, once.variables, once.masks, draw(1, 3))
    assert shapes(twice) == shapes(once)


def test_another_function_of_the_variables_is_rewritten():
    def training(p, x):
        y = x @ p["a"]
        moved = 0.9 * p["mean"] + 0.1 * jnp.mean(y, axis=0)
        return (y - jnp.mean(y, axis=0, keepdims=True)) @ p["b"], moved

    def apply_fn(p, x):
        return (x @ p["a"] - p["mean"][None]) @ p["b"]

    params = {"a": draw(3, 4), "mean": np.zeros(4), "b": draw(4, 2)}
    small = compacted(apply_fn, params, {"b": keep((4, 2), 0, [1, 2])}, draw(1, 3))
    found, moved = small.rewrite(training)(small.variables, draw(5, 3))
    masked = {**params, "b": params["b"] * np.array([0, 1, 1, 0])[:, None]}
    expected, expected_mean = training(masked, draw(5, 3))
    np.testing.assert_allclose(found, expected)
    np.testing.assert_allclose(moved, expected_mean[1:3])


# --- constants: where they come from, and where they may go --------------------------------------


def relu_of_ones(p, x):
    return jax.nn.relu(x @ p["a"] + 1)


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


def test_a_constant_does_not_go_past_a_whole_number():
    def apply_fn(p, x):
        return (perceptron(p, x) * 0 + jax.nn.relu(x @ p["a"] + 1) @ p["b"]).astype(int) + p["d"][None]

    params = {**PERCEPTRON, "d": draw(2)}
    compacted(apply_fn, params, {"a": keep((3, 4), 1, [0, 1, 3])}, draw(1, 3))


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


def test_a_kept_weight_that_is_zero_is_there():
    """A branch that begins at zero, as of a residual block or of LoRA, is not pruned."""
    params = {"a": draw(3, 4), "b": np.zeros((4, 3)), "scale": np.zeros(3)}

    def apply_fn(p, x):
        return x + jnp.tanh(x @ p["a"]) @ p["b"] * p["scale"][None]

    full = {"a": np.ones((3, 4), bool), "b": np.ones((4, 3), bool)}
    assert shapes(compacted(apply_fn, params, full, draw(1, 3)))["a"] == (3, 4)


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
    small = compacted(apply_fn, params, {"b": keep((4, 2), 0, [0, 1, 3])}, draw(1, 3))
    gradient = jax.grad(lambda p: jnp.sum(small.apply_fn(p, draw(2, 3))))(small.variables)["a"]
    expected = jax.grad(lambda p: jnp.sum(apply_fn(p, draw(2, 3))))({**params, "b": params["b"]})["a"]
    assert gradient.shape == (3, 4)
    assert np.isfinite(gradient).all()
    assert expected.shape == (3, 4)


def test_kernels_of_several_networks_in_one_convolution():
    def apply_fn(p, x):
        y = jax.vmap(lambda kernel: convolve(x, kernel))(p["k"])
        return jnp.mean(y, axis=(0, 2, 3)) @ p["o"]

    params = {"k": draw(2, 1, 1, 2, 4), "o": draw(4, 2)}
    compacted(apply_fn, params, {"o": keep((4, 2), 0, [0, 2])}, draw(1, 3, 3, 2))


def test_examples_that_are_put_together_and_none_at_all():
    def apply_fn(p, x):
        return (x @ p["a"]).reshape(len(x) * 2, 2) @ p["b"]

    params = {"a": draw(3, 4), "b": draw(2, 2)}
    masks = {"b": keep((2, 2), 0, [1])}
    small = pruning.compact(apply_fn, params, {**dict.fromkeys(params), **masks}, draw(1, 3))
    for count in (1, 2, 5):
        x = draw(count, 3)
        expected = apply_fn(pruning.apply_masks(params, {"a": None, **masks}), x)
        np.testing.assert_allclose(small.apply_fn(small.variables, x), expected, rtol=1e-12)
    several = compacted(
        lambda p, x: x.reshape(-1, 3) @ p["a"],
        {"a": draw(3, 4)},
        {"a": keep((3, 4), 0, [0])},
        draw(1, 5, 3),
    )
    assert several.apply_fn(several.variables, draw(0, 5, 3)).shape == (0, 4)


# --- what is refused ------------------------------------------------------------------------------


def different_units():
    """One branch lacks its third unit, the other its second."""

    def apply_fn(p, x):
        return x @ p["a"] @ p["b"] + x @ p["e"] @ p["f"]

    params = {"a": draw(3, 4), "b": draw(4, 2), "e": draw(3, 4, seed=1), "f": draw(4, 2, seed=1)}
    masks = {"b": keep((4, 2), 0, [0, 1, 3]), "f": keep((4, 2), 0, [0, 2, 3])}
    return compacted(apply_fn, params, masks, draw(1, 3))


def test_what_cannot_be_is_refused_by_name():
    small = compacted(perceptron, PERCEPTRON, {"b": keep((4, 2), 0, [0, 1, 3])}, draw(1, 3))
    with pytest.raises(ValueError, match=r"'reduce_max' needs entries that were removed"):
        small.rewrite(lambda p, x: x @ p["a"].max(axis=1))(small.variables, draw(1, 3))
    with pytest.raises(ValueError, match=r"compacted array at \['a'\], of shape \(3, 3\), got \(3, 4\)"):
        small.apply_fn(PERCEPTRON, draw(1, 3))
    with pytest.raises(ValueError, match="a tree like the compacted variables"):
        small.apply_fn({"a": small.variables["a"]}, draw(1, 3))
    with pytest.raises(ValueError, match=r"of shapes \[\(3,\)\] after the first axis, got \[\(4,\)\]"):
        small.apply_fn(small.variables, draw(1, 4))
    with pytest.raises(ValueError, match="expected arrays as inputs, got str 'eval'"):
        pruning.compact(
            lambda p, x, how: x,
            PERCEPTRON,
            dict.fromkeys(PERCEPTRON) | {"b": np.ones((4, 2), bool)},
            draw(1, 3),
            "eval",
        )
    with pytest.raises(ValueError, match="with other variables"):
        different_units().rewrite(lambda p, x: jnp.sum((x @ p["a"]) * (x @ p["e"]), axis=1))(
            different_units().variables, draw(1, 3)
        )
    with pytest.raises(ValueError, match="depends on the inputs and on kept weights"):
        pruning.compact(
            perceptron,
            PERCEPTRON,
            {**dict.fromkeys(PERCEPTRON), "b": jnp.zeros((4, 2), bool)},
            draw(1, 3),
        )
    with pytest.raises(ValueError, match="mask of shape"):
        pruning.compact(
            perceptron, PERCEPTRON, {**dict.fromkeys(PERCEPTRON), "b": jnp.ones((4, 3), bool)}, draw(1, 3)
        )
    with pytest.raises(ValueError, match="outside jit"):
        jax.jit(lambda p: pruning.compact(perceptron, p, pruning.full_masks(p), draw(1, 3)).variables)(
            PERCEPTRON
        )
