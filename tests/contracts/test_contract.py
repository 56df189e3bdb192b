"""Every public name keeps one contract, in every container and dtype. The table is in rows/."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import pruning

from .checks import array
from .containers import CONTAINERS, make_params
from .rows import ROWS

SLOW = pytest.mark.slow
simple = [name for name in sorted(ROWS) if not ROWS[name].composed]
traced = [name for name in sorted(ROWS) if ROWS[name].traced]
differentiable = [name for name in sorted(ROWS) if ROWS[name].grads]


KINDS = (
    ("nnx", "bfloat16"),
    *((container, "float32") for container in CONTAINERS),
    *(("nested", dtype) for dtype in ("bfloat16", "float16", "float64")),
)


def same(found, expected):
    assert jax.tree.structure(found) == jax.tree.structure(expected)
    pairs = zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True)
    return all(np.allclose(array(one), array(other), rtol=1e-5, atol=1e-6) for one, other in pairs)


def test_every_public_name_exists_in_order_and_has_a_row():
    assert all(hasattr(pruning, name) for name in pruning.__all__)
    assert list(pruning.__all__) == sorted(ROWS)


@pytest.mark.slow
@pytest.mark.parametrize("name", simple)
@pytest.mark.parametrize(("container", "dtype"), KINDS)
def test_holds_in_every_container_and_dtype(name, container, dtype):
    row = ROWS[name]
    # What a row brings along is float32, which float64 params promote.
    promotes = row.promotes or dtype == "float64"
    promotion = jax.numpy_dtype_promotion("standard" if promotes else "strict")
    with jax.enable_x64(dtype == "float64"), promotion:
        params = make_params(container, dtype)
        row.check(row.run(jax.random.key(1), params), params)


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=SLOW) if ROWS[name].heavy else name for name in traced]
)
def test_jit_is_eager_vmap_is_a_loop_nothing_is_traced_twice_and_the_key_decides(name):
    row, traces = ROWS[name], []

    @jax.jit
    def run(key, params):
        traces.append(name)
        return row.run(key, params)

    keys = jax.random.split(jax.random.key(1), 2)
    params = make_params("nnx")
    several = [params, jax.tree.map(lambda p: p[::-1] * -3, params)]
    loop = [run(key, params) for key, params in zip(keys, several, strict=True)]
    other = run(keys[1], several[0])
    assert len(traces) == 1
    if row.composed:
        row.check(loop[0], several[0])
    else:
        assert same(loop[0], row.run(keys[0], several[0]))
    together = jax.jit(jax.vmap(row.run))(keys, jax.tree.map(lambda *p: jnp.stack(p), *several))
    for index, alone in enumerate(loop):
        assert same(jax.tree.map(lambda leaf, i=index: leaf[i], together), alone)
    assert same(run(keys[0], several[0]), loop[0])
    assert same(other, loop[0]) != row.keyed


@pytest.mark.parametrize("name", differentiable)
def test_gradients_are_finite(name):
    def total(params):
        return sum(jnp.sum(leaf) for leaf in jax.tree.leaves(ROWS[name].run(jax.random.key(1), params)))

    gradients = jax.jit(jax.grad(total))(make_params())
    assert all(np.isfinite(array(leaf)).all() for leaf in jax.tree.leaves(gradients))
