"""However a network is written, its paths and its multiply-adds are the same."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

import pruning
from train.layers.convolution import conv_general_dilated

X = jnp.ones((1, 2))
# Three square layers, stacked: unit 1 is cut off after the first one.
LAYERS = np.array([[[1, 0], [1, 1]], [[1, 0], [0, 0]], [[1, 1], [1, 1]]], bool)
EFFECTIVE = [[[1, 0], [1, 0]], [[1, 0], [0, 0]], [[1, 1], [0, 0]]]
CONSTANT = np.full((2, 2), -1.0, np.float32)


def layer(x, kernel):
    return jax.nn.relu(x @ kernel)


def unrolled(apply):
    def output_fn(p):
        x = X
        for index in range(3):
            x = apply(x, p["layers"][index])
        return x

    return output_fn


def scanned(p):
    return lax.scan(lambda x, kernel: (layer(x, kernel), None), X, p["layers"])[0]


def scanned_backwards(p):
    flipped = p["layers"][::-1]
    return lax.scan(lambda x, kernel: (layer(x, kernel), None), X, flipped, reverse=True)[0]


def scanned_by_index(p):
    """Everything fixed, nothing sliced; the last output of those stacked."""

    def step(carry, _):
        x, index = carry
        kernel = p["layers"][0] * (index == 0) + p["layers"][1] * (index == 1)
        x = layer(x, jnp.where(index == 2, p["layers"][2], kernel))
        return (x, index + 1), x

    return lax.scan(step, (X, 0), None, length=3)[1][-1]


def scanned_outputs_backwards(p):
    """Of what is stacked the first entry is the last step's."""

    def step(x, kernel):
        x = layer(x, kernel)
        return x, x

    return lax.scan(step, X, p["layers"][::-1], reverse=True)[1][0]


@jax.custom_vjp
def own_gradient(x, kernel):
    return layer(x, kernel)


own_gradient.defvjp(lambda x, w: (layer(x, w), None), lambda _, dy: (0 * dy, jnp.zeros((2, 2))))


@jax.custom_jvp
def own_tangent(x, kernel):
    return layer(x, kernel)


own_tangent.defjvp(lambda primals, tangents: (layer(*primals), 0 * tangents[0]))


def by_convolution(x, kernel):
    numbers = ("NHWC", "HWIO", "NHWC")
    image, kernel = x[:, None, None], kernel[None, None]
    y = conv_general_dilated(image, kernel, (1, 1), "VALID", dimension_numbers=numbers)
    return jax.nn.relu(y)[:, 0, 0]


def with_constants(x, kernel):
    """Constants through every kind of call, and loops over constants."""
    one = lax.fori_loop(0, 3, lambda _, y: y @ CONSTANT, jnp.ones((1, 2)))
    one = lax.cond(one.sum() > 0, jnp.abs, jnp.negative, one) + jax.nn.relu(one)
    one = own_gradient(jax.jit(jnp.exp)(one), jnp.abs(jnp.asarray(CONSTANT)))
    return jax.jit(lambda y: layer(y * CONSTANT[:1], kernel))(x) * one


WRITTEN = {
    "plain": unrolled(layer),
    "jit": unrolled(jax.jit(layer)),
    "nested jit": jax.jit(unrolled(jax.jit(jax.jit(layer)))),
    "checkpoint": unrolled(jax.checkpoint(layer)),
    "checkpoint of constants": unrolled(jax.checkpoint(lambda x, w: layer(x * CONSTANT[:1], w))),
    "custom_vjp": unrolled(own_gradient),
    "custom_jvp": unrolled(own_tangent),
    "convolution": unrolled(by_convolution),
    "vmap": unrolled(lambda x, w: jax.vmap(lambda row: jax.nn.relu(row @ w))(x)),
    "einsum": unrolled(lambda x, w: jax.nn.relu(jnp.einsum("oi,bi->bo", w.T, x))),
    "weights first": unrolled(lambda x, w: jax.nn.relu(w.T @ x.T).T),
    "reshaped": unrolled(lambda x, w: layer(x, w.reshape(4).reshape(2, 2)[::-1, ::-1][::-1, ::-1])),
    "cast": unrolled(lambda x, w: layer(x.astype("bfloat16"), w.astype("bfloat16")).astype("float32")),
    "constants": unrolled(with_constants),
    "scan": scanned,
    "loop": lambda p: lax.fori_loop(0, 3, lambda index, x: layer(x, p["layers"][index]), X),
    "scan backwards": scanned_backwards,
    "stacked outputs": scanned_outputs_backwards,
}


def effective(output_fn):
    found = pruning.effective_masks(output_fn, {"layers": jnp.ones((3, 2, 2))}, {"layers": LAYERS})
    return np.asarray(found["layers"], int).tolist()


@pytest.mark.parametrize("name", WRITTEN)
def test_a_network_has_the_same_paths_and_flops_however_it_is_written(name):
    assert effective(WRITTEN[name]) == EFFECTIVE
    (row,) = pruning.network_report(WRITTEN[name], {"layers": jnp.ones((3, 2, 2))}, {"layers": LAYERS})
    assert (row.dense_flops, row.sparse_flops) == (2 * 12, 2 * 8)
    assert (row.kept, row.effective_kept) == (8, 5)


def test_a_scan_may_choose_its_weights_by_a_counter():
    assert effective(scanned_by_index) == EFFECTIVE


def test_what_a_scan_collects_may_begin_as_a_constant():
    def output_fn(p):
        return lax.scan(lambda x, kernel: (layer(x, kernel), x), X, p["layers"])[1]

    assert effective(output_fn) == [[[1, 0], [1, 1]], [[1, 0], [0, 0]], [[0, 0], [0, 0]]]


def test_a_condition_may_take_either_branch():
    def output_fn(p):
        first, second = jnp.ones((1, 1)) @ p["first"], jnp.ones((1, 1)) @ p["second"]
        return lax.cond(True, lambda: first, lambda: second)

    params = {"first": jnp.ones((1, 1)), "second": jnp.ones((1, 1))}
    by_constant = pruning.effective_masks(output_fn, params, pruning.full_masks(params))
    assert by_constant["first"].all()

    def by_signal(p):
        x = jnp.ones((1, 1)) @ p["first"]
        return lax.cond(x.sum() > 0, jnp.sin, lambda x: x @ p["second"], x)

    assert pruning.sparsity(pruning.effective_masks(by_signal, params, pruning.full_masks(params))) == 0


def test_params_inside_a_while_loop_are_an_error_that_names_it():
    def output_fn(p):
        return lax.while_loop(lambda x: x.sum() < 9, lambda x: x @ p["w"], jnp.ones((1, 1)))

    with pytest.raises(ValueError, match="primitive 'while'"):
        pruning.effective_masks(output_fn, {"w": jnp.ones((1, 1))}, {"w": jnp.ones((1, 1), bool)})


def test_it_runs_where_the_network_closes_over_traced_values():
    params, masks = {"w": jnp.ones((2, 2))}, {"w": np.array([[1, 0], [0, 1]], bool)}

    @functools.partial(jax.vmap, in_axes=0)
    @jax.jit
    def found(pixels):
        return pruning.effective_masks(lambda p: pixels[None] @ p["w"], params, masks)["w"]

    by_pixel = found(jnp.eye(2))
    assert by_pixel.astype(int).tolist() == [[[1, 0], [0, 0]], [[0, 0], [0, 1]]]
