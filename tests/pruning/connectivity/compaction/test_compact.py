"""Units that go, and those that stay, on networks small enough to see."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from .networks import (
    PERCEPTRON,
    compacted,
    convolve,
    draw,
    keep,
    perceptron,
    shapes,
)


def test_a_unit_that_nothing_leads_out_of_goes():
    small = compacted(perceptron, PERCEPTRON, {"b": keep((4, 2), 0, [0, 1, 3])}, draw(1, 3))
    assert shapes(small) == {"a": (3, 3), "bias": (3,), "b": (3, 2), "c": (2,)}
    np.testing.assert_array_equal(small.variables["bias"], [-1, 2, 4])
    np.testing.assert_array_equal(small.variables["c"], PERCEPTRON["c"])


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


@pytest.mark.slow
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


@pytest.mark.slow
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


def test_of_layers_of_which_nothing_is_wanted_each_has_one_unit_and_no_second_look_finds_less():
    """What leads to the only unit of the later one is left, and no other."""

    def apply_fn(p, x):
        return x @ p["1"] @ p["2"] @ p["3"] + (x @ p["4"])

    params = {"1": draw(3, 4), "2": draw(4, 4), "3": draw(4, 2), "4": draw(3, 2)}
    second = np.zeros((4, 4), bool)
    second[2] = True
    masks = {"2": second, "3": np.zeros((4, 2), bool)}
    assert shapes(compacted(apply_fn, params, masks, draw(1, 3))) == {
        "1": (3, 1),
        "2": (1, 1),
        "3": (1, 2),
        "4": (3, 2),
    }


def test_a_kept_weight_that_is_zero_is_there():
    """A branch that begins at zero, as of a residual block or of LoRA, is not pruned."""
    params = {"a": draw(3, 4), "b": np.zeros((4, 3)), "scale": np.zeros(3)}

    def apply_fn(p, x):
        return x + jnp.tanh(x @ p["a"]) @ p["b"] * p["scale"][None]

    full = {"a": np.ones((3, 4), bool), "b": np.ones((4, 3), bool)}
    assert shapes(compacted(apply_fn, params, full, draw(1, 3)))["a"] == (3, 4)


@pytest.mark.parametrize("gate", [np.array([1.0, -1, 1, -1]), np.array([-1.0, -1, -1, -1])])
def test_a_unit_that_a_weight_shuts_for_now_is_there(gate):
    def apply_fn(p, x):
        return jnp.where(p["gate"][None] > 0, x @ p["a"], 0.0) @ p["b"] + x @ p["c"]

    params = {"a": draw(3, 4), "b": draw(4, 2), "c": draw(3, 2), "gate": gate}
    full = {name: np.ones(params[name].shape, bool) for name in ("a", "b")}
    assert shapes(compacted(apply_fn, params, full, draw(1, 3)))["a"] == (3, 4)


@pytest.mark.parametrize("there", [[0, 1, 2, 3], [0, 1, 2]])
def test_what_an_inner_choice_leaves_out_goes_with_what_is_pruned(there):
    def apply_fn(p, x):
        return x @ jnp.where(keep((3, 4), 1, there), p["a"], 0.0) @ p["b"]

    params = {"a": draw(3, 4), "b": draw(4, 2)}
    small = compacted(apply_fn, params, {"a": keep((3, 4), 1, [0, 2, 3])}, draw(1, 3))
    assert shapes(small)["b"] == (len({*there} - {1}), 2)


@pytest.mark.slow
def test_kernels_of_several_networks_in_one_convolution():
    def apply_fn(p, x):
        y = jax.vmap(lambda kernel: convolve(x, kernel))(p["k"])
        return jnp.mean(y, axis=(0, 2, 3)) @ p["o"]

    params = {"k": draw(2, 1, 1, 2, 4), "o": draw(4, 2)}
    compacted(apply_fn, params, {"o": keep((4, 2), 0, [0, 2])}, draw(1, 3, 3, 2))
