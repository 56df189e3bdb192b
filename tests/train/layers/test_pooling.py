import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from train.layers.pooling import max_pool_2x2


def flax_pool(x):
    return nn.max_pool(x, (2, 2), strides=(2, 2))


def distinct(shape):
    """No two entries alike, in no order, signs mixed."""
    size = int(np.prod(shape))
    values = np.random.default_rng(0).permutation(size) - size // 2
    return jnp.asarray(values.reshape(shape), jnp.float32)


def test_by_hand():
    image = jnp.array([[1.0, 2, -5, -6], [4, 3, -8, -7], [0, 9, 1, 1], [0, 0, 1, 2]])
    pooled = max_pool_2x2(image.reshape(1, 4, 4, 1))
    np.testing.assert_array_equal(pooled.reshape(2, 2), [[4, -5], [9, 2]])


@pytest.mark.parametrize("shape", [(2, 4, 6, 3), (1, 5, 4, 2), (2, 7, 3, 1), (3, 2, 2, 1)])
def test_values_and_gradients_are_those_of_flax(shape):
    """Odd last rows and columns are dropped, and get no gradient."""
    x = distinct(shape)
    ours, ours_pullback = jax.vjp(max_pool_2x2, x)
    flax, flax_pullback = jax.vjp(flax_pool, x)
    cotangent = distinct(flax.shape)
    np.testing.assert_array_equal(ours, flax)
    np.testing.assert_array_equal(*ours_pullback(cotangent), *flax_pullback(cotangent))


@pytest.mark.parametrize(
    ("shape", "pooled"),
    [
        ((2, 1, 4, 3), (2, 1, 2, 3)),
        ((2, 5, 1, 3), (2, 2, 1, 3)),
        ((2, 1, 1, 3), (2, 1, 1, 3)),
        ((4, 2, 6, 5, 3), (4, 2, 3, 2, 3)),
        ((6, 5, 3), (3, 2, 3)),
    ],
)
def test_shapes(shape, pooled):
    assert max_pool_2x2(jnp.zeros(shape)).shape == pooled


def test_a_side_of_one_is_kept():
    x = jnp.array([3.0, 1, 2, 5]).reshape(1, 1, 4, 1)
    np.testing.assert_array_equal(max_pool_2x2(x).ravel(), [3, 5])
    np.testing.assert_array_equal(max_pool_2x2(x[:, :, :1]), x[:, :, :1])


def test_ties_share_the_gradient():
    x = jnp.array([2.0, 2, 1, 0]).reshape(1, 2, 2, 1)
    gradient = jax.grad(lambda x: jnp.sum(max_pool_2x2(x)))(x)
    np.testing.assert_array_equal(gradient.ravel(), [0.5, 0.5, 0, 0])


def test_dtype_jit_and_vmap():
    x = distinct((3, 2, 4, 5, 2)).astype(jnp.bfloat16)
    looped = jnp.stack([max_pool_2x2(member) for member in x])
    vmapped = jax.jit(jax.vmap(max_pool_2x2))(x)
    assert vmapped.dtype == jnp.bfloat16
    np.testing.assert_array_equal(vmapped.astype(jnp.float32), looped.astype(jnp.float32))
