"""Images of few channels are convolved as patches where TPUs ask for it, to the same numbers."""

import jax
import jax.numpy as jnp
import pytest

from tests.train.layers.test_convolution import CASES, NHWC, PLAIN, assert_close, draw, loss_of
from train.layers.convolution import conv_general_dilated
from train.lowering import LOWERINGS, lowered

SOME = ("resnet 3x3 stride 2", "even kernel, low side", "cropped", "dilated images", "dilated kernel")


@pytest.mark.parametrize("name", SOME)
def test_values_gradients_and_products_with_the_hessian_are_those_of_lax(name):
    case = CASES[name]

    def derivatives(convolution):
        def found(x, w):
            gradients = jax.grad(loss_of(convolution, case), argnums=(0, 1), has_aux=True)
            # Forward over reverse: there is no rule of our own that would refuse it.
            _, (product, _) = jax.jvp(gradients, (x, w), (x, w))
            return gradients(x, w), product

        return jax.jit(found)

    with jax.enable_x64(True), lowered(LOWERINGS["tpu"]):
        x, w = draw(case)
        assert_close(derivatives(conv_general_dilated)(x, w), derivatives(PLAIN)(x, w))


def program(channels, name):
    """Of a convolution of so many channels, as it is written."""
    images, kernel = jnp.zeros((2, 6, 6, channels)), jnp.zeros((3, 3, channels, 8))

    def convolve(images, kernel):
        return conv_general_dilated(images, kernel, (1, 1), "SAME", dimension_numbers=NHWC)

    with lowered(LOWERINGS[name]):
        return str(jax.make_jaxpr(convolve)(images, kernel))


def test_no_others_are():
    assert "dot_general" in program(4, "tpu")
    for channels, name in ((5, "tpu"), (4, "accelerator")):
        assert "dot_general" not in program(channels, name)


def test_the_backward_pass_makes_the_patches_anew():
    images, kernel = jnp.zeros((2, 6, 6, 1)), jnp.zeros((3, 3, 1, 2))

    def loss(kernel):
        found = conv_general_dilated(images, kernel, (1, 1), "SAME", dimension_numbers=NHWC)
        return jnp.sum(found**2)

    with lowered(LOWERINGS["tpu"]):
        _, backward = jax.vjp(loss, kernel)
    kept = [leaf.shape for leaf in jax.tree.leaves(backward) if hasattr(leaf, "shape")]
    assert (2, 6, 6, 9) not in kept
    assert (2, 6, 6, 1) in kept
