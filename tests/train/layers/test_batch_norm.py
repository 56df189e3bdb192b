"""The fast BatchNorm against flax's, and against the formulas in float64."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from train.layers.batch_norm import BatchNorm, normalise

EPSILON = 1e-5


@pytest.fixture(autouse=True)
def on_cpu(monkeypatch):
    """The step under test is chosen on CPU; test it wherever the tests run."""
    monkeypatch.setattr(jax, "default_backend", lambda: "cpu")


def by_definition(x, scale, bias):
    """BatchNorm without a backward pass of its own."""
    axes = tuple(range(x.ndim - 1))
    mean, variance = jnp.mean(x, axes, keepdims=True), jnp.var(x, axes, keepdims=True)
    channels = mean.shape
    y = (x - mean) / jnp.sqrt(variance + EPSILON) * scale.reshape(channels) + bias.reshape(channels)
    return y, mean.ravel(), variance.ravel()


def draw(shape=(4, 3, 2, 5), dtype=np.float64):
    rng = np.random.default_rng(3)
    return tuple(jnp.asarray(1 + rng.normal(size=s), dtype) for s in (shape, shape[-1:], shape[-1:]))


def loss_of(function):
    """A loss with another slope at every output; the statistics have a part in it."""

    def loss(x, scale, bias):
        leaves = function(x, scale, bias)
        weights = [jnp.arange(1, 1 + leaf.size, dtype=leaf.dtype).reshape(leaf.shape) for leaf in leaves]
        return sum(jnp.sum(jnp.sin(leaf) * weight) for leaf, weight in zip(leaves, weights, strict=True))

    return loss


def hessian_vector_product(function, *arguments):
    """Reverse over reverse, along the point itself."""

    def slope(*a):
        gradients = jax.grad(loss_of(function), argnums=(0, 1, 2))(*a)
        return sum(jnp.vdot(g, lax.stop_gradient(v)) for g, v in zip(gradients, a, strict=True))

    return jax.grad(slope, argnums=(0, 1, 2))(*arguments)


def third_derivative(function, *arguments):
    def curvature(*a):
        return sum(jnp.vdot(h, v) for h, v in zip(hessian_vector_product(function, *a), a, strict=True))

    return jax.grad(curvature, argnums=(0, 1, 2))(*arguments)


def assert_close(actual, expected, tolerance):
    assert jax.tree.structure(actual) == jax.tree.structure(expected)
    for a, b in zip(jax.tree.leaves(actual), jax.tree.leaves(expected), strict=True):
        assert (a.shape, a.dtype) == (b.shape, b.dtype)
        scale = max(1.0, float(np.abs(b).max()))
        np.testing.assert_allclose(a, b, rtol=0, atol=tolerance * scale)


FAST = functools.partial(normalise, EPSILON)


@pytest.mark.parametrize("shape", [(4, 3, 2, 5), (7, 3)])
def test_values_and_derivatives_in_float64(shape):
    def derivatives(function):
        gradient = jax.grad(loss_of(function), argnums=(0, 1, 2))
        return jax.jit(lambda *a: (function(*a), gradient(*a), hessian_vector_product(function, *a)))

    with jax.enable_x64(True):
        arguments = draw(shape)
        ours, exact = (derivatives(function)(*arguments) for function in (FAST, by_definition))
    for found, expected, tolerance in zip(ours, exact, (1e-13, 1e-12, 1e-11), strict=True):
        assert_close(found, expected, tolerance)


@pytest.mark.slow
def test_third_derivatives():
    with jax.enable_x64(True):
        arguments = draw((4, 2, 2))
        third = jax.jit(third_derivative, static_argnums=0)
        assert_close(*(third(f, *arguments) for f in (FAST, by_definition)), 1e-10)


def test_under_jit_vmap_and_scan():
    with jax.enable_x64(True):
        members = [jnp.stack([a, a * a + 1]) for a in draw()]
        gradient = jax.jit(jax.grad(loss_of(FAST), argnums=(0, 1, 2)))
        alone = [gradient(*(a[i] for a in members)) for i in range(2)]
        expected = jax.tree.map(lambda *leaves: jnp.stack(leaves), *alone)
        assert_close(jax.jit(jax.vmap(gradient))(*members), expected, 1e-12)
        scanned = lax.scan(lambda carry, a: (carry, gradient(*a)), None, tuple(members))[1]
        assert_close(scanned, expected, 1e-12)


def test_a_mean_large_against_the_spread():
    """In float32 the difference of mean square and squared mean has nothing left of the variance."""
    rng = np.random.default_rng(3)
    x = (1000 + rng.normal(size=(64, 8, 8, 2))).astype(np.float32)
    exact = x.astype(np.float64)
    _, mean, variance = FAST(x, jnp.ones(2), jnp.zeros(2))
    np.testing.assert_allclose(mean, exact.mean((0, 1, 2)), rtol=1e-6)
    np.testing.assert_allclose(variance, exact.var((0, 1, 2)), rtol=1e-5)


def layers(**options):
    options = {"momentum": 0.75, "epsilon": 1e-3, **options}
    return BatchNorm(**options), nn.BatchNorm(**options)


def variables_of(channels, dtype=np.float32):
    rng = np.random.default_rng(4)
    draw = lambda: jnp.asarray(1 + rng.random(channels), dtype)  # noqa: E731
    return {
        "params": {"scale": draw(), "bias": draw()},
        "batch_stats": {"mean": draw(), "var": draw()},
    }


def step(layer, variables, x, **call):
    """Result, new statistics and gradients by parameters and x."""

    def loss(params, x):
        y, changed = layer.apply({**variables, "params": params}, x, mutable=["batch_stats"], **call)
        return jnp.sum(jnp.sin(y.astype(jnp.float32))), (y, changed)

    return jax.jit(jax.value_and_grad(loss, argnums=(0, 1), has_aux=True))(variables["params"], x)


@pytest.mark.parametrize("use_running_average", [False, True])
@pytest.mark.parametrize(
    ("x_dtype", "dtype", "tolerance"),
    [
        (np.float32, None, 2e-5),
        (jnp.bfloat16, jnp.bfloat16, 2e-2),
        (jnp.bfloat16, None, 2e-2),
        (np.float32, jnp.bfloat16, 2e-2),
        (np.float16, jnp.float16, 4e-3),
    ],
)
def test_layer_is_flax_s(x_dtype, dtype, tolerance, use_running_average):
    """Values, gradients, statistics, all their dtypes, and the variables' names and initial values."""
    fast, plain = layers(dtype=dtype, use_running_average=use_running_average)
    x = draw((8, 3, 2, 5), x_dtype)[0]
    initial = [layer.init_with_output(jax.random.key(1), x) for layer in (fast, plain)]
    assert_close(*initial, tolerance)
    variables = variables_of(5)
    assert_close(step(fast, variables, x), step(plain, variables, x), tolerance)


def program(layer, x, **call):
    return str(jax.make_jaxpr(functools.partial(step, layer, variables_of(x.shape[-1]), **call))(x))


def test_initializers_and_parameters_dtype_are_heard():
    ones, twos = (nn.initializers.constant(value) for value in (1.0, 2.0))
    fast, _ = layers(use_running_average=False, scale_init=twos, bias_init=ones, param_dtype=jnp.bfloat16)
    params = jax.jit(fast.init)(jax.random.key(0), jnp.zeros((2, 3)))["params"]
    assert params["scale"].tolist() == [2, 2, 2]
    assert params["bias"].tolist() == [1, 1, 1]
    assert params["scale"].dtype == params["bias"].dtype == jnp.bfloat16


def test_half_precision_is_computed_in_single():
    """Near 100 bfloat16 has steps of 0.5: only x and the result may be rounded to it."""
    fast, _ = layers(use_running_average=False, dtype=jnp.bfloat16)
    x = 100 + draw((8, 3, 2, 5), jnp.bfloat16)[0]
    exact, variables = np.asarray(x, np.float64), variables_of(5)
    old, new = variables["batch_stats"], step(fast, variables, x)[0][1][1]["batch_stats"]
    np.testing.assert_allclose(new["mean"], 0.75 * old["mean"] + 0.25 * exact.mean((0, 1, 2)), rtol=1e-6)
    np.testing.assert_allclose(new["var"], 0.75 * old["var"] + 0.25 * exact.var((0, 1, 2)), rtol=1e-5)


def test_activations_are_kept_in_their_dtype():
    """What the backward pass keeps of images is the images: no float32 copy."""
    x, scale, bias = draw((4, 3, 2, 5), jnp.bfloat16)
    scale, bias = scale.astype(jnp.float32), bias.astype(jnp.float32)
    backward = jax.vjp(FAST, x, scale, bias)[1]
    kept = [leaf.dtype for leaf in jax.tree.leaves(backward) if leaf.size == x.size]
    assert kept == [jnp.bfloat16]


@pytest.mark.parametrize(
    ("options", "call"),
    [
        ({"use_running_average": True}, {}),
        ({}, {"use_running_average": True}),
        ({"use_running_average": False, "axis": 1}, {}),
        ({"use_running_average": False}, {"mask": np.ones((5, 5, 1), bool)}),
        ({"use_running_average": False, "use_bias": False}, {}),
        ({"use_running_average": False, "use_scale": False}, {}),
        ({"use_running_average": False, "force_float32_reductions": False}, {}),
    ],
    ids=["inference", "inference in the call", "axis", "mask", "no bias", "no scale", "narrow sums"],
)
def test_what_is_not_covered_is_flax_s(options, call):
    x = jnp.ones((5, 5, 5))
    fast, plain = layers(**options)
    assert program(fast, x, **call) == program(plain, x, **call)


def test_complex_inputs_get_flax_s():
    x = jnp.asarray([[1, 2j], [3j, 4], [5, 6 - 1j]], jnp.complex64)
    results = [
        layer.init_with_output(jax.random.key(0), x) for layer in layers(use_running_average=False)
    ]
    assert_close(*results, 0)


@pytest.mark.parametrize("shape", [(3,), (4, 3)])
@pytest.mark.parametrize("dtype", [np.int32, np.float32])
def test_whole_numbers_and_single_vectors(shape, dtype):
    fast, plain = layers(use_running_average=False)
    x = jnp.arange(np.prod(shape), dtype=dtype).reshape(shape)

    def gradient(layer):
        apply = lambda v: jnp.sum(jnp.sin(layer.apply(v, x, mutable=["batch_stats"])[0]))  # noqa: E731
        return jax.grad(apply)(variables_of(3))["params"]

    assert_close(gradient(fast), gradient(plain), 1e-5)


def test_other_platforms_get_flax_s(monkeypatch):
    x = jnp.ones((5, 5, 5))
    fast, plain = layers(use_running_average=False)
    assert program(fast, x) != program(plain, x)
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    assert program(fast, x) == program(plain, x)


def test_statistics_over_a_named_axis():
    fast, plain = layers(use_running_average=False, axis_name="devices")
    x = draw((2, 3, 5), np.float32)[0]
    run = [
        jax.vmap(functools.partial(step, layer, variables_of(5)), axis_name="devices")
        for layer in (fast, plain)
    ]
    assert_close(run[0](x), run[1](x), 1e-6)


def test_cpu_has_no_forward_mode():
    """Documented; when it fails, the docstring is out of date."""
    arguments = draw((4, 3), np.float32)
    with pytest.raises(TypeError, match="forward-mode"):
        jax.jvp(FAST, arguments, arguments)
