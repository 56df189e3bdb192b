"""ResNet-20 against the oracle, whose logits PyTorch computed in float64."""

import jax
import numpy as np
import pytest

import pruning
from train.models import make_model

from .by_hand import abstract_variables, draw_images, draw_variables
from .torch_state import (
    by_torch_name,
    linen_variables,
    load_resnet20_bn,
    needs_oracles,
    nhwc,
    state_dict,
)

MODEL = make_model("resnet-20", num_classes=10)


@pytest.fixture(scope="module")
def oracle():
    return load_resnet20_bn()


@needs_oracles
def test_every_tensor_finds_its_place(oracle):
    variables = linen_variables(state_dict(oracle))
    expected = abstract_variables("resnet-20", (32, 32, 3))[1]
    assert jax.tree.map(np.shape, variables) == jax.tree.map(lambda leaf: leaf.shape, expected)


@pytest.mark.slow
@needs_oracles
def test_float64_logits(oracle):
    state = state_dict(oracle)
    with jax.enable_x64(True):
        variables = jax.tree.map(np.float64, linen_variables(state))
        logits = jax.jit(MODEL.apply)(variables, nhwc(oracle["x"][:4]).astype(np.float64))
    assert logits.dtype == np.float64
    expected = oracle["logits64"][:4]
    np.testing.assert_allclose(logits, expected, rtol=0, atol=1e-12 * np.abs(expected).max())


@needs_oracles
def test_names_of_the_prunable_weights(oracle):
    """The names find what `pruning` calls prunable, in the layout of the state dict."""
    variables = linen_variables(state_dict(oracle))
    masks = pruning.full_masks(variables["params"])
    assert by_torch_name(masks).keys() == set(oracle["prunable_names"])
    for name, weight in by_torch_name(variables["params"]).items():
        assert np.array_equal(weight, oracle[f"state/{name}"]), name


@pytest.mark.parametrize("train", [False, True])
def test_float64_is_not_rounded_on_the_way(train):
    """With float64 images and variables no intermediate value is float32."""
    images = draw_images(2, 8, 8, 3)
    variables = draw_variables(MODEL, images)
    with jax.enable_x64(True):
        images, variables = jax.tree.map(np.float64, (images, variables))
        apply = lambda v, x: MODEL.apply(v, x, train=train, mutable=["batch_stats"])  # noqa: E731
        program = str(jax.make_jaxpr(apply)(variables, images))
    assert "f64[" in program
    assert "f32[" not in program
