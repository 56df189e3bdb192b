"""Rounds of pruning what is left: exact counts, whole network or layer by layer."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import pruning

SCORES = {
    "a": jnp.array([[5.0, 1.0, 7.0, 2.0]]),
    "b": jnp.array([[3.0, 4.0], [6.0, 8.0]]),
    "bias": None,
}
ALL = {"a": jnp.ones((1, 4), bool), "b": jnp.ones((2, 2), bool), "bias": None}


def test_the_network_is_ranked_as_a_whole():
    masks = pruning.prune_remaining(SCORES, ALL, 0.5)
    np.testing.assert_array_equal(masks["a"], [[True, False, True, False]])
    np.testing.assert_array_equal(masks["b"], [[False, False], [True, True]])
    again = pruning.prune_remaining(SCORES, masks, 0.25)
    np.testing.assert_array_equal(again["a"], [[False, False, True, False]])
    np.testing.assert_array_equal(again["b"], [[False, False], [True, True]])


def test_layers_have_fractions_of_their_own():
    masks = pruning.prune_remaining_by_layer(SCORES, ALL, {"a": 0.5, "b": 0.25, "bias": None})
    np.testing.assert_array_equal(masks["a"], [[True, False, True, False]])
    np.testing.assert_array_equal(masks["b"], [[False, True], [True, True]])


def test_a_pruned_weight_stays_so_whatever_its_score():
    masks = ALL | {"b": jnp.array([[True, True], [True, False]])}
    assert not pruning.prune_remaining(SCORES, masks, 0.5)["b"][1, 1]


@settings(deadline=None)
@given(st.integers(0, 99), st.integers(0, 400))
def test_the_fraction_is_of_what_is_left(percent, kept):
    scores = {"w": jnp.arange(400.0).reshape(4, 100)}
    masks = {"w": (jnp.arange(400) < kept).reshape(4, 100)}
    left = pruning.count_kept(pruning.prune_remaining(scores, masks, percent / 100))
    assert left == kept - min(math.floor(percent * kept / 100 + 1e-6), max(kept - 1, 0))


def test_traced_counts_are_those_of_known_masks():
    traced = jax.jit(pruning.prune_remaining)
    scores = {"w": jax.random.uniform(jax.random.key(0), (300, 887))}
    masks = {"w": jnp.ones((300, 887), bool)}
    for _ in range(6):
        following = pruning.prune_remaining(scores, masks, 0.2)
        np.testing.assert_array_equal(following["w"], traced(scores, masks, 0.2)["w"])
        masks = following
    assert not jnp.any(traced(scores, {"w": jnp.zeros((300, 887), bool)}, 0.2)["w"])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: pruning.prune_remaining(SCORES, ALL, 1.0), "fraction to remove in"),
        (lambda: pruning.prune_remaining({"a": SCORES["a"]}, ALL, 0.2), "structure"),
        (lambda: pruning.prune_remaining(SCORES | {"a": SCORES["a"] * jnp.nan}, ALL, 0.2), "NaN"),
        (
            lambda: pruning.prune_remaining_by_layer(SCORES, ALL, {"a": 0.2, "b": -0.1, "bias": None}),
            r"fraction to remove of \['b'\]",
        ),
        (
            lambda: pruning.prune_remaining_by_layer(SCORES, ALL, 0.2),
            "a fraction to remove for each layer",
        ),
    ],
)
def test_bad_input_is_an_error(call, message):
    with pytest.raises(ValueError, match=message):
        call()
