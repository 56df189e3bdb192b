"""How the compacted function may be called, what else can be rewritten, and what is refused."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import pruning

from .networks import (
    PERCEPTRON,
    compacted,
    draw,
    keep,
    perceptron,
)


@pytest.mark.slow
def test_a_compiled_function_is_called_again_and_compiled_in_another():
    """What was traced within one compiled function is not kept for others."""
    small = compacted(perceptron, PERCEPTRON, {"b": keep((4, 2), 0, [0, 1, 3])}, draw(1, 3))
    x = draw(2, 3)
    expected = small.apply_fn(small.variables, x)
    for function in (jax.jit(small.apply_fn), jax.jit(lambda p, x: small.apply_fn(p, x) + 0)):
        for _ in range(2):
            np.testing.assert_allclose(function(small.variables, x), expected, rtol=1e-12)
    held = {}
    rewritten = small.rewrite(lambda p, x: held["scale"] * perceptron(p, x))

    def scaled(scale):
        held["scale"] = scale
        return rewritten(small.variables, x)

    for function in (jax.jit(scaled), jax.jit(lambda scale: scaled(scale) + 0)):
        for scale in (1.0, 2.0):
            np.testing.assert_allclose(function(scale), scale * expected, rtol=1e-12)


def test_another_function_of_the_variables_is_rewritten():
    def training(p, x):
        y = x @ p["a"]
        moved = 0.9 * p["mean"] + 0.1 * jnp.mean(y, axis=0)
        return (y - jnp.mean(y, axis=0, keepdims=True)) @ p["b"], moved

    def apply_fn(p, x):
        return (x @ p["a"] - p["mean"][None]) @ p["b"]

    params = {"a": draw(3, 4), "mean": np.zeros(4), "b": draw(4, 2)}
    small = compacted(apply_fn, params, {"b": keep((4, 2), 0, [1, 2])}, draw(1, 3))
    found, moved = small.rewrite(training)(small.variables, draw(5, 3))
    masked = {**params, "b": params["b"] * np.array([0, 1, 1, 0])[:, None]}
    expected, expected_mean = training(masked, draw(5, 3))
    np.testing.assert_allclose(found, expected)
    np.testing.assert_allclose(moved, expected_mean[1:3])


def test_one_example_for_itself_is_refused_and_a_mistake_keeps_its_error():
    params = {"a": draw(1, 4), "b": draw(4, 2)}
    masks = {"a": np.ones((1, 4), bool), "b": keep((4, 2), 0, [0, 1, 3])}

    def of_one(p, x):
        return x @ p["a"] @ p["b"]

    with pytest.raises(ValueError, match=r"takes \[\(1,\)\] and not two of it: pass jax.vmap"):
        pruning.compact(of_one, params, masks, draw(1))
    of_several = jax.vmap(of_one, in_axes=(None, 0))
    assert pruning.compact(of_several, params, masks, draw(1)[None]).variables["a"].shape == (1, 3)
    with pytest.raises(TypeError, match=r"got \(3,\) and \(1,\)"):
        pruning.compact(of_one, params, masks, draw(1, 3))


@pytest.mark.slow
def test_examples_that_are_put_together_and_none_at_all():
    def apply_fn(p, x):
        return (x @ p["a"]).reshape(len(x) * 2, 2) @ p["b"]

    params = {"a": draw(3, 4), "b": draw(2, 2)}
    masks = {"b": keep((2, 2), 0, [1])}
    small = pruning.compact(apply_fn, params, {**dict.fromkeys(params), **masks}, draw(1, 3))
    for count in (1, 2, 5):
        x = draw(count, 3)
        expected = apply_fn(pruning.apply_masks(params, {"a": None, **masks}), x)
        np.testing.assert_allclose(small.apply_fn(small.variables, x), expected, rtol=1e-12)
    several = compacted(
        lambda p, x: x.reshape(-1, 3) @ p["a"],
        {"a": draw(3, 4)},
        {"a": keep((3, 4), 0, [0])},
        draw(1, 5, 3),
    )
    assert several.apply_fn(several.variables, draw(0, 5, 3)).shape == (0, 4)


def different_units():
    """One branch lacks its third unit, the other its second."""

    def apply_fn(p, x):
        return x @ p["a"] @ p["b"] + x @ p["e"] @ p["f"]

    params = {"a": draw(3, 4), "b": draw(4, 2), "e": draw(3, 4, seed=1), "f": draw(4, 2, seed=1)}
    masks = {"b": keep((4, 2), 0, [0, 1, 3]), "f": keep((4, 2), 0, [0, 2, 3])}
    return compacted(apply_fn, params, masks, draw(1, 3))


def test_what_cannot_be_is_refused_by_name():
    small = compacted(perceptron, PERCEPTRON, {"b": keep((4, 2), 0, [0, 1, 3])}, draw(1, 3))
    with pytest.raises(ValueError, match=r"'reduce_max' needs entries that were removed"):
        small.rewrite(lambda p, x: x @ p["a"].max(axis=1))(small.variables, draw(1, 3))
    with pytest.raises(ValueError, match=r"compacted array at \['a'\], of shape \(3, 3\), got \(3, 4\)"):
        small.apply_fn(PERCEPTRON, draw(1, 3))
    with pytest.raises(ValueError, match="a tree like the compacted variables"):
        small.apply_fn({"a": small.variables["a"]}, draw(1, 3))
    with pytest.raises(ValueError, match=r"of shapes \[\(3,\)\] after the first axis, got \[\(4,\)\]"):
        small.apply_fn(small.variables, draw(1, 4))
    with pytest.raises(ValueError, match="expected arrays as inputs, got str 'eval'"):
        pruning.compact(
            lambda p, x, how: x,
            PERCEPTRON,
            dict.fromkeys(PERCEPTRON) | {"b": np.ones((4, 2), bool)},
            draw(1, 3),
            "eval",
        )
    with pytest.raises(
        ValueError, match=r"an array at \['scale'\], got the number 2.0: pass jnp.asarray"
    ):
        compacted(perceptron, {**PERCEPTRON, "scale": 2.0}, {"b": np.ones((4, 2), bool)}, draw(1, 3))
    with pytest.raises(ValueError, match=r"got ShapeDtypeStruct.*: pass jnp.zeros of that shape"):
        pruning.compact(
            perceptron,
            PERCEPTRON,
            dict.fromkeys(PERCEPTRON) | {"b": np.ones((4, 2), bool)},
            jax.ShapeDtypeStruct((1, 3), float),
        )
    with pytest.raises(ValueError, match="with other variables"):
        different_units().rewrite(lambda p, x: jnp.sum((x @ p["a"]) * (x @ p["e"]), axis=1))(
            different_units().variables, draw(1, 3)
        )
    with pytest.raises(ValueError, match="depends on the inputs and on kept weights"):
        pruning.compact(
            perceptron,
            PERCEPTRON,
            {**dict.fromkeys(PERCEPTRON), "b": jnp.zeros((4, 2), bool)},
            draw(1, 3),
        )
    with pytest.raises(ValueError, match="mask of shape"):
        pruning.compact(
            perceptron, PERCEPTRON, {**dict.fromkeys(PERCEPTRON), "b": jnp.ones((4, 3), bool)}, draw(1, 3)
        )
    with pytest.raises(ValueError, match="outside jit"):
        jax.jit(lambda p: pruning.compact(perceptron, p, pruning.full_masks(p), draw(1, 3)).variables)(
            PERCEPTRON
        )
