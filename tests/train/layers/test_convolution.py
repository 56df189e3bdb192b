import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax import lax
from jax.extend import core

from train.layers.bilinear import part_size
from train.layers.convolution import conv_general_dilated

NHWC = ("NHWC", "HWIO", "NHWC")
PLAIN = lax.conv_general_dilated

# image, kernel, strides, padding, lhs_dilation, rhs_dilation
CASES = {
    "3x3": ((6, 5), (3, 3), (1, 1), "SAME", None, None),
    "stride 2 does not divide": ((8, 7), (3, 3), (2, 2), "VALID", None, None),
    "resnet 3x3 stride 2": ((8, 6), (3, 3), (2, 2), ((1, 1), (1, 1)), None, None),
    "resnet 1x1 stride 2": ((8, 7), (1, 1), (2, 2), ((0, 0), (0, 0)), None, None),
    "stride 3, uneven": ((9, 7), (2, 3), (3, 3), ((0, 2), (1, 0)), None, None),
    "unequal strides": ((7, 10), (5, 2), (1, 3), "SAME", None, None),
    "even kernel, low side": ((7, 6), (4, 4), (2, 2), "SAME_LOWER", None, None),
    "stride above kernel": ((11, 8), (2, 1), (3, 2), "VALID", None, None),
    "kernel as large as the image": ((5, 4), (5, 4), (1, 1), "VALID", None, None),
    "padding above kernel": ((3, 4), (2, 2), (2, 1), ((3, 4), (5, 2)), None, None),
    "cropped": ((8, 9), (3, 2), (2, 1), ((-1, 0), (1, -2)), None, None),
    "no window fits": ((2, 5), (3, 2), (1, 1), "VALID", None, None),
    "dilated kernel": ((9, 8), (3, 2), (2, 1), "SAME", None, (2, 3)),
    "dilated images": ((4, 5), (3, 3), (1, 2), ((1, 1), (0, 2)), (2, 3), (1, 2)),
    "small images": ((2, 2), (3, 3), (1, 1), ((1, 1), (1, 1)), None, None),
    "small images, stride 2": ((2, 3), (3, 3), (2, 1), ((1, 1), (1, 2)), None, None),
    "small images, dilated": ((2, 2), (3, 2), (1, 1), ((3, 2), (1, 1)), (3, 2), (2, 1)),
    "small images, cropped": ((2, 3), (3, 3), (1, 1), ((2, 2), (3, -1)), None, None),
    "small images, no window fits": ((2, 2), (3, 2), (2, 1), "VALID", None, None),
}


@pytest.fixture(autouse=True)
def on_cpu(monkeypatch):
    """The gradients under test are chosen on CPU; test them wherever the tests run."""
    monkeypatch.setattr(jax, "default_backend", lambda: "cpu")


def draw(case, dtype=np.float64, images=2):
    """Images of two channels and a kernel for three."""
    image, kernel, *_ = case
    rng = np.random.default_rng(3)
    x, w = rng.normal(size=(images, *image, 2)), rng.normal(size=(*kernel, 2, 3))
    return jnp.asarray(x, dtype), jnp.asarray(w, dtype)


def loss_of(convolution, case):
    """A loss with another slope at every output."""
    _, _, strides, padding, image_dilation, kernel_dilation = case

    def loss(x, w):
        y = convolution(
            x,
            w,
            strides,
            padding,
            lhs_dilation=image_dilation,
            rhs_dilation=kernel_dilation,
            dimension_numbers=NHWC,
            precision="highest",
        )
        return jnp.sum(jnp.sin(y) * jnp.arange(1, 1 + y.size, dtype=y.dtype).reshape(y.shape)), y

    return loss


@functools.cache
def value_and_gradients(convolution, case):
    gradients = jax.grad(loss_of(convolution, case), argnums=(0, 1), has_aux=True)
    return jax.jit(gradients)


@functools.cache
def first_and_second_derivatives(convolution, case):
    """Values and gradients, and the Hessian times the point itself, reverse over reverse."""

    def slope(x, w):
        dx, dw = jax.grad(lambda *a: loss_of(convolution, case)(*a)[0], argnums=(0, 1))(x, w)
        return jnp.vdot(dx, lax.stop_gradient(x)) + jnp.vdot(dw, lax.stop_gradient(w))

    def both(x, w):
        return value_and_gradients(convolution, case)(x, w), jax.grad(slope, argnums=(0, 1))(x, w)

    return jax.jit(both)


def layouts(program):
    """The layouts of all convolutions in a jaxpr's text."""
    spec = r"lhs_spec=(\([\d, ]+\)), rhs_spec=(\([\d, ]+\)), out_spec=(\([\d, ]+\))"
    return set(re.findall(spec, program))


def equations(jaxpr):
    """All equations, inner ones included."""
    for eqn in jaxpr.eqns:
        yield eqn
        for inner in core.jaxprs_in_params(eqn.params):
            yield from equations(inner)


def assert_close(actual, expected, tolerance=1e-12):
    for a, b in zip(jax.tree.leaves(actual), jax.tree.leaves(expected), strict=True):
        assert a.shape == b.shape
        assert a.dtype == b.dtype
        scale = max(1.0, float(np.abs(b).max(initial=0)))
        np.testing.assert_allclose(a, b, rtol=0, atol=tolerance * scale)


def assert_those_of_lax(derivatives, case, dtype=np.float64, images=2, tolerance=1e-12):
    with jax.enable_x64(dtype == np.float64):
        x, w = draw(case, dtype, images)
        ours, plain = (derivatives(convolution, case) for convolution in (conv_general_dilated, PLAIN))
        assert_close(ours(x, w), plain(x, w), tolerance)


@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_values_gradients_and_hessians_are_those_of_lax(case):
    assert_those_of_lax(first_and_second_derivatives, case)


@pytest.mark.parametrize("images", [1, 8, 18, 34])
@pytest.mark.parametrize("name", ["resnet 3x3 stride 2", "small images"])
def test_any_number_of_images(name, images):
    """Gradients of kernels are summed over parts of the batch, where it has any of a good size."""
    assert_those_of_lax(value_and_gradients, CASES[name], images=images)


def test_parts_of_a_batch_have_about_sixteen_images():
    sizes = {1: 1, 4: 4, 8: 4, 16: 8, 34: 34, 45: 15, 60: 12, 64: 16, 100: 10, 101: 101, 128: 16, 512: 16}
    assert {batch: part_size(batch) for batch in sizes} == sizes


def test_small_images_are_convolved_by_one_product():
    for name in CASES:
        x, w = draw(CASES[name], jnp.float32)
        program = str(jax.make_jaxpr(functools.partial(loss_of(conv_general_dilated, CASES[name])))(x, w))
        is_product = "dot_general" in program and "conv_general_dilated[" not in program
        assert is_product == name.startswith("small")


@pytest.mark.parametrize("name", ["3x3", "resnet 1x1 stride 2", "stride 3, uneven"])
def test_float32(name):
    assert_those_of_lax(value_and_gradients, CASES[name], np.float32, tolerance=1e-5)


def test_bfloat16():
    case = CASES["resnet 3x3 stride 2"]
    x, w = draw(case, jnp.bfloat16)
    y = PLAIN(x, w, (2, 2), case[3], dimension_numbers=NHWC)
    for convolution in (conv_general_dilated, PLAIN):
        f = functools.partial(convolution, window_strides=(2, 2), padding=case[3], dimension_numbers=NHWC)
        out, pullback = jax.vjp(f, x, w)
        dx, dw = pullback(jnp.ones_like(y))
        assert out.dtype == dx.dtype == dw.dtype == jnp.bfloat16
        exact = jax.vjp(f, x.astype(jnp.float32), w.astype(jnp.float32))[1]
        for low, high in zip((dx, dw), exact(jnp.ones(y.shape)), strict=True):
            np.testing.assert_allclose(low.astype(jnp.float32), high, rtol=0.02, atol=0.1)


def test_a_kernel_s_gradient_in_bfloat16_is_as_exact_in_parts_as_whole():
    """A large batch: parts that were summed in bfloat16 would be four times as far off."""
    keys = jax.random.split(jax.random.key(0), 2)
    x, dy = (jax.random.normal(key, (1024, 4, 4, 2)).astype(jnp.bfloat16) for key in keys)
    w = jnp.ones((3, 3, 2, 2), jnp.bfloat16)

    def gradient(convolution, dtype=jnp.bfloat16):
        options = {"window_strides": (1, 1), "padding": "SAME", "dimension_numbers": NHWC}
        f = functools.partial(convolution, x.astype(dtype), **options)
        return np.asarray(jax.vjp(f, w.astype(dtype))[1](dy.astype(dtype))[0], np.float32)

    exact = gradient(PLAIN, jnp.float32)
    ours, whole = (np.std(gradient(one) - exact) for one in (conv_general_dilated, PLAIN))
    assert ours < 2 * whole


sides = st.tuples(st.integers(1, 7), st.integers(1, 7))
kernels = st.tuples(st.integers(1, 4), st.integers(1, 4))
strides = st.tuples(st.integers(1, 3), st.integers(1, 3))
pad = st.tuples(st.integers(0, 3), st.integers(0, 3))


@pytest.mark.slow
@settings(max_examples=10, deadline=None, derandomize=True, database=None)
@given(sides, kernels, strides, st.one_of(st.just("SAME"), st.just("VALID"), st.tuples(pad, pad)))
def test_any_geometry(image, kernel, strides, padding):
    """Also where the kernel is larger than the padded image and nothing comes out."""
    assert_those_of_lax(value_and_gradients, (image, kernel, strides, padding, None, None))


def test_vmap_over_members():
    case = CASES["resnet 3x3 stride 2"]
    with jax.enable_x64(True):
        x, w = draw(case)
        xs, ws = jnp.stack([x, -2 * x, x**2]), jnp.stack([w, w + 1, 3 * w])
        gradients = value_and_gradients(conv_general_dilated, case)
        plain = value_and_gradients(PLAIN, case)
        for axes in ((0, 0), (None, 0), (0, None)):
            members = [
                plain(x if axes[0] is None else xs[i], w if axes[1] is None else ws[i]) for i in range(3)
            ]
            looped = jax.tree.map(lambda *leaves: jnp.stack(leaves), *members)
            vmapped = jax.vmap(gradients, axes)(
                x if axes[0] is None else xs, w if axes[1] is None else ws
            )
            assert_close(vmapped, looped)


def test_every_convolution_of_both_orders_is_in_the_fast_layout():
    case = CASES["resnet 3x3 stride 2"]
    x, w = draw(case, jnp.float32)
    fast = ("(0, 3, 1, 2)", "(3, 2, 0, 1)", "(0, 3, 1, 2)")

    ours, plain = (
        str(jax.make_jaxpr(first_and_second_derivatives(convolution, case))(x, w))
        for convolution in (conv_general_dilated, PLAIN)
    )
    assert layouts(ours) == {fast}
    assert layouts(plain) > {fast}
    assert "HIGHEST" in ours
    assert "precision=None" not in ours


def test_no_kernel_is_larger_than_its_images():
    """XLA would swap them, and run a naive kernel."""
    x, w = draw(((8, 8), (3, 3)), jnp.float32, images=8)
    case = CASES["resnet 3x3 stride 2"]
    program = jax.make_jaxpr(first_and_second_derivatives(conv_general_dilated, case))(x, w)
    convolutions = [
        eqn for eqn in equations(program.jaxpr) if eqn.primitive is lax.conv_general_dilated_p
    ]
    assert len(convolutions) >= 6
    for eqn in convolutions:
        images, kernel = (var.aval.shape for var in eqn.invars)
        assert kernel[0] * kernel[1] <= images[1] * images[2]


def test_other_platforms_get_the_plain_convolution(monkeypatch):
    case = CASES["3x3"]
    x, w = draw(case, jnp.float32)

    def program(convolution):
        return str(jax.make_jaxpr(lambda x, w: loss_of(convolution, case)(x, w)[0])(x, w))

    assert program(conv_general_dilated) != program(PLAIN)
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    assert program(conv_general_dilated) == program(PLAIN)


def test_cpu_has_no_forward_mode():
    """Documented; when it fails, the docstring is out of date."""
    case = CASES["3x3"]
    x, w = draw(case, jnp.float32)
    with pytest.raises(TypeError, match="forward-mode"):
        jax.jvp(loss_of(conv_general_dilated, case), (x, w), (x, w))


@pytest.mark.parametrize(
    ("x_shape", "w_shape", "options"),
    [
        ((2, 6, 5, 4), (3, 3, 2, 6), {"dimension_numbers": NHWC, "feature_group_count": 2}),
        ((4, 6, 5, 3), (3, 3, 3, 2), {"dimension_numbers": NHWC, "batch_group_count": 2}),
        ((2, 3, 6, 5), (4, 3, 3, 3), {"dimension_numbers": ("NCHW", "OIHW", "NCHW")}),
        ((2, 3, 6, 5), (4, 3, 3, 3), {}),
        ((2, 6, 3), (3, 3, 4), {"dimension_numbers": ("NWC", "WIO", "NWC")}),
        (
            (2, 6, 5, 3),
            (3, 3, 3, 4),
            {"dimension_numbers": NHWC, "preferred_element_type": jnp.float32},
        ),
    ],
    ids=["groups", "batch groups", "NCHW", "no layout", "1-D", "element type"],
)
def test_what_is_not_covered_is_the_plain_convolution(x_shape, w_shape, options):
    x, w = np.ones(x_shape, np.float32), np.ones(w_shape, np.float32)

    def program(convolution):
        def loss(x, w):
            return jnp.sum(convolution(x, w, (1,) * (x.ndim - 2), "SAME", **options) ** 2)

        return str(jax.make_jaxpr(jax.value_and_grad(loss, argnums=(0, 1)))(x, w))

    assert program(conv_general_dilated) == program(PLAIN)


def test_a_wrong_number_of_channels_is_refused():
    with pytest.raises(ValueError, match="feature dimension"):
        conv_general_dilated(
            jnp.ones((1, 4, 4, 3)), jnp.ones((3, 3, 2, 5)), (1, 1), "SAME", dimension_numbers=NHWC
        )
