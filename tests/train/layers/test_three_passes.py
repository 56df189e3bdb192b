"""The three passes of a TPU as one, seen on CPU: there a pass is made of factors that are rounded."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from tests.train.layers.test_convolution import CASES, NHWC, PLAIN, draw
from train.layers.convolution import conv_general_dilated
from train.lowering import LOWERINGS, lowered


def in_one_pass(x, w, *arguments, **options):
    """A convolution as a TPU computes it by default: of bfloat16 numbers, with float32 sums."""
    x, w = (factor.astype(jnp.bfloat16).astype(jnp.float32) for factor in (x, w))
    return PLAIN(x, w, *arguments, **options)


def derivatives(convolution, case, dtype):
    """Values, gradients, and the Hessian times the point itself."""
    plain = functools.partial(convolution, dimension_numbers=NHWC)

    def loss(x, w):
        y = plain(x, w, case[2], case[3], lhs_dilation=case[4], rhs_dilation=case[5])
        return jnp.sum(jnp.sin(y) * jnp.arange(1, 1 + y.size, dtype=y.dtype).reshape(y.shape)), y

    def slope(x, w):
        gradients = jax.grad(lambda *a: loss(*a)[0], argnums=(0, 1))(x, w)
        return sum(map(jnp.vdot, gradients, lax.stop_gradient((x, w))))

    def all_three(x, w):
        gradients, y = jax.grad(loss, argnums=(0, 1), has_aux=True)(x, w)
        return y, gradients, jax.grad(slope, argnums=(0, 1))(x, w)

    return jax.jit(all_three)(*draw(case, dtype))


def largest_errors(found, exact):
    """Of each array, as a fraction of the largest number in it."""
    return [
        float(np.abs(a - b).max(initial=0) / np.abs(b).max(initial=1e-9))
        for a, b in zip(*(map(np.asarray, jax.tree.leaves(both)) for both in (found, exact)), strict=True)
    ]


@pytest.mark.parametrize(
    "name", ["3x3", "stride 3, uneven", "dilated images", "small images, stride 2", "no window fits"]
)
def test_one_pass_over_thrice_the_channels_is_as_exact_as_three(name, monkeypatch):
    with jax.enable_x64(True):
        exact = derivatives(PLAIN, CASES[name], np.float64)
    monkeypatch.setattr(lax, "conv_general_dilated", in_one_pass)
    with lowered(LOWERINGS["tpu"]), jax.default_matmul_precision("tensorfloat32"):
        found = derivatives(conv_general_dilated, CASES[name], np.float32)
    assert max(largest_errors(found, exact)) < 1e-4
    if name == "3x3":
        assert max(largest_errors(derivatives(in_one_pass, CASES[name], np.float32), exact)) > 4e-3


@pytest.mark.parametrize(
    ("precision", "ours"), [("high", True), (("high", "high"), True), (("high", "highest"), False)]
)
def test_a_convolution_s_own_precision_comes_before_the_default(precision, ours):
    x, w = draw(CASES["3x3"], np.float32)

    def convolved(x, w):
        return conv_general_dilated(x, w, (1, 1), "SAME", dimension_numbers=NHWC, precision=precision)

    with lowered(LOWERINGS["tpu"]), jax.default_matmul_precision("float32"):
        program = str(jax.make_jaxpr(convolved)(x, w))
    assert ("reduce_precision" in program) == ours  # A cast may be left out by XLA.


@pytest.mark.parametrize(
    ("precision", "dtype", "ours"),
    [
        ("tensorfloat32", jnp.float32, True),
        ("high", jnp.float32, True),
        (None, jnp.float32, False),
        ("bfloat16", jnp.float32, False),
        ("float32", jnp.float32, False),
        ("tensorfloat32", jnp.bfloat16, False),
    ],
)
def test_only_three_passes_become_one(precision, dtype, ours):
    x, w = draw(CASES["3x3"], dtype)

    def program(convolution, name):
        with lowered(LOWERINGS[name]), jax.default_matmul_precision(precision):
            return str(
                jax.make_jaxpr(lambda x, w: convolution(x, w, (1, 1), "SAME", dimension_numbers=NHWC))(
                    x, w
                )
            )

    assert (program(conv_general_dilated, "tpu") != program(PLAIN, "tpu")) == ours
    assert program(conv_general_dilated, "accelerator") == program(PLAIN, "accelerator")
