"""LAMP by hand: sums of what is at least as large, ties, zeros, and layers that are never emptied."""

import jax.numpy as jnp
import numpy as np

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
