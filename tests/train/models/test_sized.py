"""A compacted network of the registry is again the model, with other numbers of units."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import pruning
from train.models import MODELS, make_model
from train.models.sized import resized

FAST = ("lenet-300-100",)


def variables_of(model, images):
    """Initial variables but for a few weights that training moves: biases, scales, statistics."""
    variables = jax.jit(model.init)(jax.random.key(0), images)
    moved = jax.tree.map(lambda leaf: leaf * 1.25 if leaf.ndim == 1 else leaf, variables)
    return jax.tree.map(lambda leaf: leaf.astype(jnp.float64), moved)


def training(model):
    return functools.partial(model.apply, train=True, mutable=["batch_stats"])


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if name in FAST else pytest.mark.slow) for name in MODELS]
)
def test_a_compacted_network_is_the_resized_model(name):
    with jax.enable_x64(True):
        model = make_model(name, num_classes=3)
        images = jax.random.normal(jax.random.key(1), (2, 16, 16, 3), jnp.float64)
        variables = variables_of(model, images)
        head = max(layer for layer in variables["params"] if layer.startswith(("dense", "head")))
        scores = pruning.magnitude_scores(variables["params"], prunable=pruning.prunable_except(head))
        masks = {"params": pruning.channel_masks(scores, 0.5)}
        masks |= {name: None for name in variables if name != "params"}
        small = pruning.compact(model.apply, variables, masks, images[:1])
        other = resized(model, small.variables["params"])
        expected = jax.jit(model.apply)(pruning.apply_masks(variables, masks), images)
        found = jax.jit(other.apply)(small.variables, images)
        np.testing.assert_allclose(found, expected, rtol=1e-10, atol=1e-10 * np.abs(expected).max())
        computed = jax.jit(small.apply_fn)(small.variables, images)
        np.testing.assert_allclose(computed, found, rtol=1e-12, atol=1e-12)

        again = jax.eval_shape(other.init, jax.random.key(0), images)
        assert jax.tree.map(jnp.shape, again) == jax.tree.map(jnp.shape, small.variables)
        # Residual sums keep what no block removes alone.
        left = sum(leaf.size for leaf in jax.tree.leaves(small.variables))
        assert left < 0.8 * sum(leaf.size for leaf in jax.tree.leaves(variables))

        rewritten = jax.jit(small.rewrite(training(model)))(small.variables, images)
        trained = jax.jit(training(other))(small.variables, images)
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-12), rewritten, trained
        )


def test_units_are_asked_for_by_path():
    model = make_model("resnet-20", num_classes=3).clone(units={"stage2/block1/conv1": 5})
    params = jax.eval_shape(model.init, jax.random.key(0), jnp.ones((1, 8, 8, 3)))["params"]
    block = params["stage2"]["block1"]
    assert block["conv1"]["kernel"].shape == (3, 3, 16, 5)
    assert block["bn1"]["scale"].shape == (5,)
    assert block["conv2"]["kernel"].shape == (3, 3, 5, 32)
