"""Every public name keeps one contract, in every container and dtype. The table is in rows.py."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import pruning

from .checks import array
from .containers import make_params
from .rows import ROWS

CONTAINER_CASES = [
    (name, container) for name, row in sorted(ROWS.items()) for container in row.containers
]
DTYPE_CASES = [(name, dtype) for name, row in sorted(ROWS.items()) for dtype in row.dtypes]
every_traced = pytest.mark.parametrize("name", sorted(name for name, row in ROWS.items() if row.traced))
every_keyed = pytest.mark.parametrize("name", sorted(name for name, row in ROWS.items() if row.keyed))
every_differentiable = pytest.mark.parametrize(
    "name", sorted(name for name, row in ROWS.items() if row.grads)
)


@functools.cache
def compiled(name):
    """The row's call under jit, and the list that grows by one with every trace."""
    traces = []

    def run(key, params):
        traces.append(name)
        return ROWS[name].run(key, params)

    return jax.jit(run), traces


def assert_same(found, expected):
    assert jax.tree.structure(found) == jax.tree.structure(expected)
    for one, other in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(array(one), array(other), rtol=1e-5, atol=1e-6)


def test_every_public_name_has_a_row():
    assert set(ROWS) == set(pruning.__all__)


def test_all_names_exist_and_are_sorted():
    assert all(hasattr(pruning, name) for name in pruning.__all__)
    assert list(pruning.__all__) == sorted(pruning.__all__)


@pytest.mark.parametrize(("name", "container"), CONTAINER_CASES)
def test_holds_in_every_container(name, container):
    params = make_params(container)
    ROWS[name].check(ROWS[name].run(jax.random.key(1), params), params)


@pytest.mark.parametrize(("name", "dtype"), DTYPE_CASES)
def test_holds_in_every_dtype(name, dtype):
    with jax.enable_x64(dtype == "float64"):
        params = make_params("nested", dtype)
        ROWS[name].check(ROWS[name].run(jax.random.key(1), params), params)


@every_traced
def test_jit_gives_what_eager_gives(name):
    key, params = jax.random.key(1), make_params()
    assert_same(compiled(name)[0](key, params), ROWS[name].run(key, params))


@every_traced
def test_a_second_call_does_not_trace_again(name):
    run, traces = compiled(name)
    params = make_params()
    run(jax.random.key(1), params)
    run(jax.random.key(2), jax.tree.map(lambda p: p * 3, params))
    assert len(traces) == 1


@every_traced
def test_vmap_gives_what_a_loop_gives(name):
    keys = jax.random.split(jax.random.key(1), 2)
    several = [make_params(), jax.tree.map(lambda p: p[::-1] * -3, make_params())]
    together = jax.jit(jax.vmap(ROWS[name].run))(keys, jax.tree.map(lambda *p: jnp.stack(p), *several))
    for index, (key, params) in enumerate(zip(keys, several, strict=True)):
        assert_same(jax.tree.map(lambda leaf, i=index: leaf[i], together), compiled(name)[0](key, params))


@every_keyed
def test_the_key_decides(name):
    run, params = compiled(name)[0], make_params()
    first, again, other = (run(jax.random.key(seed), params) for seed in (1, 1, 2))
    assert all(jax.tree.leaves(jax.tree.map(lambda a, b: (array(a) == array(b)).all(), first, again)))
    assert not all(jax.tree.leaves(jax.tree.map(lambda a, b: (array(a) == array(b)).all(), first, other)))


@every_differentiable
def test_gradients_are_finite(name):
    def total(params):
        return sum(jnp.sum(leaf) for leaf in jax.tree.leaves(ROWS[name].run(jax.random.key(1), params)))

    gradients = jax.grad(total)(make_params())
    assert all(np.isfinite(array(leaf)).all() for leaf in jax.tree.leaves(gradients))
