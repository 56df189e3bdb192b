"""Whatever the network and its masks, compaction changes no output and no gradient of what is left."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax import lax

import pruning

ACTIVATIONS = (jax.nn.relu, jnp.tanh, jax.nn.sigmoid, jax.nn.gelu)
WIDTHS = st.sampled_from((2, 4, 6))
NHWC = ("NHWC", "HWIO", "NHWC")


class Builder:
    """A network that is drawn layer by layer, with its params."""

    def __init__(self, data):
        self.data = data
        self.random = np.random.default_rng(data.draw(st.integers(0, 99)))
        self.params, self.layers = {}, []
        # Where compacting again may go further: of a convolution's groups one may be left, which has no
        # groups then; and a gate whose constant is 0 for now is gone, with which more can go.
        self.may_go_on = False

    def weights(self, *shape):
        name = f"{len(self.params):02}"
        self.params[name] = self.random.normal(size=shape)
        return name

    def add(self, layer):
        self.layers.append(layer)

    def bias(self, channels, rank):
        """A bias, the four arrays of a normalisation, or nothing."""
        kind = self.data.draw(st.sampled_from(("bias", "normalisation", "none")))
        names = [self.weights(channels) for _ in range({"bias": 1, "normalisation": 4, "none": 0}[kind])]

        def apply(p, x):
            parts = [p[name].reshape((1,) * (rank - 1) + (-1,)) for name in names]
            if kind == "normalisation":
                mean, variance, scale, bias = parts
                return (x - mean) * lax.rsqrt(jnp.abs(variance) + 0.1) * scale + bias
            return x + parts[0] if parts else x

        return apply

    def activation(self):
        return self.data.draw(st.sampled_from(ACTIVATIONS))

    def dense(self, width, to):
        kernel, bias, activation = self.weights(width, to), self.bias(to, 2), self.activation()
        return lambda p, x: activation(bias(p, x @ p[kernel]))

    def vector_layer(self, width):
        kind = self.data.draw(
            st.sampled_from(("dense", "residual", "gated", "beside", "heads", "layer norm"))
        )
        if kind == "dense":
            to = self.data.draw(WIDTHS)
            self.add(self.dense(width, to))
            return to
        if kind == "residual":
            inner = self.data.draw(WIDTHS)
            first, second = self.dense(width, inner), self.dense(inner, width)
            self.add(lambda p, x: x + second(p, first(p, x)))
            return width
        if kind == "gated":
            self.may_go_on = True
            to = self.data.draw(WIDTHS)
            one, other = self.dense(width, to), self.dense(width, to)
            self.add(lambda p, x: one(p, x) * other(p, x))
            return to
        if kind == "beside":
            to, beside = self.data.draw(WIDTHS), self.data.draw(WIDTHS)
            one, other = self.dense(width, to), self.dense(width, beside)
            self.add(lambda p, x: jnp.concatenate([one(p, x), other(p, x)], axis=1))
            return to + beside
        if kind == "heads":
            scale = self.weights(1, 2, 1)
            self.add(lambda p, x: (x.reshape(len(x), 2, -1) * p[scale]).reshape(len(x), -1))
            return width
        self.add(lambda p, x: x - jnp.mean(x, axis=1, keepdims=True))
        return width

    def convolution(self, channels, to, side, groups=1):
        size = self.data.draw(st.sampled_from((1, 2, 3)))
        padding = "SAME" if size > side else self.data.draw(st.sampled_from(("SAME", "VALID")))
        stride = self.data.draw(st.sampled_from((1, 1, 2)))
        kernel, bias = self.weights(size, size, channels // groups, to), self.bias(to, 4)
        activation = self.activation()

        def apply(p, x):
            y = lax.conv_general_dilated(
                x,
                p[kernel],
                (stride, stride),
                padding,
                dimension_numbers=NHWC,
                feature_group_count=groups,
            )
            return activation(bias(p, y))

        left = side if padding == "SAME" else side - size + 1
        return apply, -(-left // stride)

    def image_layer(self, channels, side):
        kind = self.data.draw(st.sampled_from(("convolution", "residual", "depthwise", "groups", "pool")))
        if kind == "convolution":
            to = self.data.draw(WIDTHS)
            apply, side = self.convolution(channels, to, side)
            self.add(apply)
            return to, side
        if kind in ("depthwise", "groups"):
            self.may_go_on |= kind == "groups"
            apply, side = self.convolution(
                channels, channels, side, groups=channels if kind == "depthwise" else 2
            )
            self.add(apply)
            return channels, side
        if kind == "residual":
            kernel, bias = self.weights(3, 3, channels, channels), self.bias(channels, 4)

            def block(p, x):
                y = lax.conv_general_dilated(x, p[kernel], (1, 1), "SAME", dimension_numbers=NHWC)
                return x + jax.nn.relu(bias(p, y))

            self.add(block)
            return channels, side
        if side < 2:
            return channels, side
        how = self.data.draw(st.sampled_from(((-jnp.inf, lax.max), (0.0, lax.add))))
        padding = self.data.draw(st.sampled_from(("SAME", "VALID")))
        self.add(lambda p, x: lax.reduce_window(x, *how, (1, 2, 2, 1), (1, 2, 2, 1), padding))
        return channels, -(-side // 2) if padding == "SAME" else side // 2

    def network(self, kind, depth):
        """A network of vectors, or of images and then vectors, with 2 outputs."""
        if kind == "images":
            channels, side = 2, 5
            for _ in range(depth):
                channels, side = self.image_layer(channels, side)
            width = channels * side * side
            self.add(lambda p, x: x.reshape(len(x), -1))
        else:
            width = 4
            for _ in range(depth):
                width = self.vector_layer(width)
        head, bias = self.weights(width, 2), self.bias(2, 2)
        self.add(lambda p, x: bias(p, x @ p[head]))

        def apply_fn(p, x):
            for layer in self.layers:
                x = layer(p, x)
            return x

        inputs = (3, 5, 5, 2) if kind == "images" else (3, 4)
        return apply_fn, self.random.normal(size=inputs)

    def masks(self):
        """Weights at random, and whole inputs and outputs of kernels."""
        density = self.data.draw(st.sampled_from((0.2, 0.6, 1.0)))

        def mask(leaf):
            if leaf.ndim < 2 or leaf.shape[0] == 1 == leaf.shape[-1]:
                return None
            kept = self.random.random(leaf.shape) < density
            kept &= (
                self.random.random((*leaf.shape[:-2], 1, leaf.shape[-1])).max(
                    tuple(range(leaf.ndim - 2)), keepdims=True
                )
                < 0.9
            )
            return kept & (self.random.random((leaf.shape[-2], 1)) < 0.8)

        return {name: mask(leaf) for name, leaf in self.params.items()}


def check(data, kind):
    builder = Builder(data)
    apply_fn, x = builder.network(kind, data.draw(st.integers(1, 4)))
    params, masks = builder.params, builder.masks()
    masked = pruning.apply_masks(params, masks)
    try:
        small = pruning.compact(apply_fn, params, masks, x[:1])
    except ValueError as error:
        assert "depends on the inputs" in str(error)
        np.testing.assert_allclose(np.ptp(apply_fn(masked, x), axis=0), 0, atol=1e-12)
        return

    def loss(function, p):
        return jnp.sum(jnp.sin(function(p, x)))

    found, expected = small.apply_fn(small.variables, x), apply_fn(masked, x)
    scale = np.abs(expected).max()
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-10 * scale)
    rows = dict(zip(params, small.report.arrays, strict=True))
    gradients, whole = (
        jax.grad(lambda p: loss(small.apply_fn, p))(small.variables),
        jax.grad(lambda p: loss(apply_fn, p))(masked),
    )
    for name, row in rows.items():
        assert all(len(left) <= size for left, size in zip(row.entries, row.shape, strict=True))
        there = np.ix_(*row.entries)
        kept = 1 if masks[name] is None else masks[name][there]
        np.testing.assert_allclose(
            kept * gradients[name], kept * whole[name][there], rtol=1e-8, atol=1e-9 * max(scale, 1)
        )
    # Where constant units have to stay, all before the same weights do, also one that could go alone.
    if builder.may_go_on or small.report.left_whole:
        return
    again = pruning.compact(small.apply_fn, small.variables, small.masks, x[:1])
    assert [row.compacted_shape for row in again.report.arrays] == [
        row.compacted_shape for row in rows.values()
    ]


@pytest.mark.parametrize("kind", ["vectors", "images"])
@settings(max_examples=1, deadline=None, derandomize=True)
@given(data=st.data())
def test_outputs_and_gradients_stay_and_a_second_time_changes_nothing(kind, data):
    with jax.enable_x64(True):
        check(data, kind)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["vectors", "images"])
@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_outputs_and_gradients_stay_of_many_more(kind, data):
    with jax.enable_x64(True):
        check(data, kind)
