"""``compute_where``: the right side for every member, and no work where no member needs it."""

import jax
import jax.numpy as jnp
import numpy as np

from pruning.conditions import compute_where


def choose(condition):
    return compute_where(condition, lambda: jnp.float32(1), jnp.float32(0))


def test_it_selects():
    assert (float(choose(jnp.bool_(True))), float(choose(jnp.bool_(False)))) == (1, 0)


def test_it_selects_for_each_member():
    conditions = jnp.array([[True, False], [False, False]])
    np.testing.assert_array_equal(jax.vmap(jax.vmap(choose))(conditions), [[1, 0], [0, 0]])
    np.testing.assert_array_equal(jax.jit(jax.vmap(choose))(conditions[0]), [1, 0])


def test_members_still_branch():
    """Under vmap a plain ``cond`` on a batched condition would have become a ``select``."""
    program = str(jax.make_jaxpr(jax.vmap(choose))(jnp.array([True, False])))
    assert "cond[" in program


def test_gradients_pass():
    def value(x, condition):
        return compute_where(condition, lambda: x**2, x)

    found = jax.vmap(jax.grad(value), in_axes=(None, 0))(3.0, jnp.array([True, False]))
    np.testing.assert_allclose(found, [6, 1])
