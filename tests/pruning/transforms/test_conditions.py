"""``compute_where``: the right side for every member, and no work where no member needs it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.extend.core import jaxprs_in_params

import pruning
from pruning.transforms.conditions import compute_where
from tests.compilations import compiled_programs


def choose(condition):
    return compute_where(condition, lambda: jnp.float32(1), jnp.float32(0))


def scalar_conditions(jaxpr):
    """The shapes of the predicates of all ``cond``s in a program, however deep."""
    found = [e.invars[0].aval.shape for e in jaxpr.eqns if e.primitive.name == "cond"]
    for equation in jaxpr.eqns:
        for inner in jaxprs_in_params(equation.params):
            found += scalar_conditions(inner)
    return found


@pytest.mark.parametrize("depth", [0, 1, 2, 3])
def test_each_member_has_its_side_and_nested_ensembles_still_branch(depth):
    """Under vmap a plain ``cond`` on a batched condition would have become a ``select``."""
    conditions = np.arange(2**depth).reshape((2,) * depth) == 1
    function = choose
    for _ in range(depth):
        function = jax.vmap(function)
    program = jax.make_jaxpr(function)(conditions)
    assert scalar_conditions(program.jaxpr) == [()]
    np.testing.assert_array_equal(jax.jit(function)(conditions), conditions)


@pytest.mark.parametrize(
    "tx",
    [
        pruning.dissipate(0.1, check_every=3, stop_after=9),
        pruning.dissipate_settled(0.1, check_every=3, stop_after=9),
        pruning.gradual_magnitude([0.5], check_every=3),
        pruning.accumulate_gradients(first=2),
    ],
)
def test_steps_of_ensembles_of_ensembles_still_branch(tx):
    params = {"w": jnp.ones((2, 3, 4, 5))}
    state = jax.vmap(jax.vmap(tx.init))(params)
    state = state._replace(count=jnp.arange(6, dtype=jnp.int32).reshape(2, 3))
    program = jax.make_jaxpr(jax.vmap(jax.vmap(tx.update)))(params, state, params)
    conditions = scalar_conditions(program.jaxpr)
    assert conditions
    assert set(conditions) == {()}


def test_some_axes_may_not_be_batched():
    """The condition differs over the outer members only, what is computed over the inner ones."""

    def member(condition, x):
        return compute_where(condition, lambda: x + 1, x)

    function = jax.vmap(jax.vmap(member, in_axes=(None, 0)), in_axes=(0, None))
    arguments = jnp.array([True, False, True]), jnp.arange(2.0)
    assert scalar_conditions(jax.make_jaxpr(function)(*arguments).jaxpr) == [()]
    np.testing.assert_array_equal(function(*arguments), [[1, 2], [0, 1], [1, 2]])


def test_gradients_pass():
    def value(x, condition):
        return compute_where(condition, lambda: x**2, x)

    found = jax.vmap(jax.grad(value), in_axes=(None, 0))(3.0, jnp.array([True, False]))
    np.testing.assert_allclose(found, [6, 1])


def test_steps_outside_jit_compile_nothing_anew_where_no_check_is_due():
    params = {"w": jnp.ones((3, 5))}
    tx = pruning.dissipate(0.1, check_every=10, stop_after=10)
    _, state = tx.update(params, tx.init(params), params)
    with compiled_programs() as names:
        for _ in range(3):
            _, state = tx.update(params, state, params)
    assert names == []
