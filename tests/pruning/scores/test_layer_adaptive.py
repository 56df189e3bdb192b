"""LAMP by hand: sums of what is at least as large, ties, zeros, and layers that are never emptied."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import pruning


def test_scores_by_hand():
    found = pruning.layer_adaptive_magnitude_scores(
        {"a": jnp.array([[1.0, -3.0], [2.0, 0.0]]), "b": jnp.array([[1e-20, 2e-20]])}
    )
    np.testing.assert_allclose(found["a"], [[1 / 14, 1], [4 / 13, 0]], rtol=1e-6)
    np.testing.assert_allclose(found["b"], [[1 / 5, 1]], rtol=1e-6)  # Squares would underflow.


def test_of_equal_weights_the_first_scores_highest():
    found = pruning.layer_adaptive_magnitude_scores({"a": jnp.array([[2.0, 2.0, -2.0]])})
    np.testing.assert_allclose(found["a"], [[1, 1 / 2, 1 / 3]], rtol=1e-6)


def test_the_largest_of_each_layer_goes_last():
    params = {"small": jnp.array([[1e-6, 2e-6]]), "large": jnp.arange(1.0, 9.0).reshape(2, 4)}
    masks = pruning.global_masks(pruning.layer_adaptive_magnitude_scores(params), 0.8)
    assert [int(masks[name].sum()) for name in params] == [1, 1]
    zeros = pruning.layer_adaptive_magnitude_scores({"a": jnp.zeros((2, 2))})
    np.testing.assert_array_equal(zeros["a"], 0)


def test_stacked_layers_are_ranked_as_if_they_were_unrolled():
    first, second = jax.random.normal(jax.random.key(0), (2, 8, 8)) * jnp.array([0.01, 1])[:, None, None]
    apart = pruning.layer_adaptive_magnitude_scores({"a": first, "b": second})
    stacked = pruning.layer_adaptive_magnitude_scores(
        {"w": jnp.stack([first, second])}, layout=pruning.stacked_layout()
    )
    np.testing.assert_array_equal(stacked["w"], jnp.stack([apart["a"], apart["b"]]))


@pytest.mark.parametrize("bad", [jnp.nan, jnp.inf])
def test_what_is_not_finite_is_refused_by_selection(bad):
    scores = pruning.layer_adaptive_magnitude_scores({"w": jnp.array([[bad, 2.0, 3.0, 1.0]])})
    assert jnp.isnan(scores["w"]).all()
    with pytest.raises(ValueError, match="NaN"):
        pruning.global_masks(scores, 0.5)


@pytest.mark.slow
def test_float16_keeps_the_order_of_magnitudes():
    weights = jax.random.normal(jax.random.key(0), (512, 512), jnp.float16)
    scores = pruning.layer_adaptive_magnitude_scores({"w": weights})["w"]
    assert scores.dtype == jnp.float32
    np.testing.assert_array_equal(
        pruning.global_masks({"w": scores}, 0.1)["w"],
        pruning.global_masks({"w": jnp.abs(weights)}, 0.1)["w"],
    )


def test_within_a_layer_no_smaller_weight_scores_higher():
    """A sum of many numbers, taken by parts, may fall where a small one is added."""
    weights = jax.random.normal(jax.random.key(0), (1, 100_000), jnp.bfloat16)
    scores = pruning.layer_adaptive_magnitude_scores({"w": weights})["w"]
    falling = scores[0, jnp.argsort(jnp.abs(weights[0]), descending=True, stable=True)]
    assert (falling[1:] <= falling[:-1]).all()
