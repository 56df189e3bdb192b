"""Drawn masks: how often, which gradient, and the rescaling."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import pruning


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float32])
@pytest.mark.parametrize("gate", [-2.0, 0.0, 3.0])
def test_a_mask_is_open_as_often_as_its_gate_says(dtype, gate):
    count = 40_000
    masks = pruning.sampled_masks(jax.random.key(0), {"w": jnp.full((200, 200), gate, dtype)})
    drawn = np.asarray(masks["w"], np.float32)
    assert set(np.unique(drawn)) == {0.0, 1.0}
    probability = 1 / (1 + np.exp(-gate))
    spread = 5 * np.sqrt(probability * (1 - probability) / count)
    assert abs(drawn.mean() - probability) < spread + (2**-9 if dtype == jnp.bfloat16 else 0)


def test_whatever_the_gates_masks_are_zeros_and_ones():
    gates = {"w": jax.random.normal(jax.random.key(1), (300, 300))}
    for draw in (pruning.sampled_masks, jax.jit(pruning.sampled_masks)):
        assert np.unique(draw(jax.random.key(0), gates)["w"]).tolist() == [0, 1]


def test_the_gradient_is_that_of_the_probability():
    gates = {"w": jnp.array([[-1.0, 0.0, 2.0]])}
    found = jax.grad(lambda g: jnp.sum(pruning.sampled_masks(jax.random.key(1), g)["w"]))(gates)
    probability = 1 / (1 + np.exp([1.0, 0.0, -2.0]))
    np.testing.assert_allclose(found["w"][0], probability * (1 - probability), rtol=1e-5)


def test_a_bfloat16_gate_that_is_wide_open_can_close_again():
    gates = {"w": jnp.full((2, 2), 7.0, jnp.bfloat16)}
    found = jax.grad(lambda g: jnp.sum(pruning.sampled_masks(jax.random.key(1), g)["w"]))(gates)
    assert (np.asarray(found["w"], np.float32) > 0).all()


def test_layers_of_one_shape_are_drawn_apart():
    gates = {"a": jnp.zeros((8, 8)), "b": jnp.zeros((8, 8))}
    masks = pruning.sampled_masks(jax.random.key(0), gates)
    assert not np.array_equal(masks["a"], masks["b"])


def test_rescaling_divides_by_what_is_kept_and_leaves_an_empty_layer():
    masks = {"a": jnp.array([[1.0, 0.0, 0.0, 1.0]]), "b": jnp.zeros((1, 3))}
    found = pruning.rescaled_masks(masks)
    np.testing.assert_array_equal(found["a"], [[2, 0, 0, 2]])
    np.testing.assert_array_equal(found["b"], [[0, 0, 0]])
    gradient = jax.grad(lambda m: jnp.sum(pruning.rescaled_masks(m)["a"]))(masks)
    np.testing.assert_array_equal(gradient["a"], [[2, 2, 2, 2]])  # the fraction is a constant


@pytest.mark.parametrize("dtype", ["bfloat16", "float8_e4m3fn"])
def test_short_dtypes_promote_nothing(dtype):
    """In float32, as the dtypes of a byte have no promotion and strict promotion has none at all."""
    gates = {"w": jnp.array([[3.0, -3.0]], dtype)}
    with jax.numpy_dtype_promotion("strict"):
        drawn = pruning.sampled_masks(jax.random.key(0), gates)
        found = [drawn, pruning.rescaled_masks(drawn), pruning.soft_masks(gates, 2.0)]
        found.append(pruning.next_round(gates, 2.0))
    assert {tree["w"].dtype for tree in found} == {jnp.dtype(dtype)}


def test_bools_are_rescaled_as_numbers():
    found = pruning.rescaled_masks({"w": jnp.array([[True, False, False, False]])})
    np.testing.assert_array_equal(found["w"], [[4.0, 0.0, 0.0, 0.0]])
    assert found["w"].dtype == jnp.float32
