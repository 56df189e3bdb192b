"""Scores and masks of ResNet-20 with batch normalisation against the reference implementations' arrays.

The reference scores in inference mode; its SynFlow makes the running means positive as well.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import pruning
from tests.pruning.oracles import OPTIMISED
from train.models import make_model

from .torch_state import (
    ORACLES,
    by_torch_name,
    linen_variables,
    load_resnet20_bn,
    needs_oracles,
    nhwc,
    state_dict,
)

pytestmark = needs_oracles
MODEL = make_model("resnet-20", num_classes=10)
entropy = optax.softmax_cross_entropy_with_integer_labels


@pytest.fixture(scope="module")
def oracle():
    return load_resnet20_bn()


def scoring(method, oracle, dtype):
    """The params, and params -> scores."""
    variables = jax.tree.map(lambda leaf: jnp.asarray(leaf, dtype), linen_variables(state_dict(oracle)))
    params, stats = variables["params"], variables["batch_stats"]
    images, labels = jnp.asarray(nhwc(oracle["x"]), dtype), jnp.asarray(oracle["y"])

    def logits(params, images, stats=stats):
        return MODEL.apply({"params": params, "batch_stats": stats}, images)

    def loss(params, batch, temperature=1):
        return entropy(logits(params, batch[0]) / temperature, batch[1]).mean()

    def output(params):
        return logits(params, jnp.ones_like(images[:1]), jax.tree.map(jnp.abs, stats))

    score = {
        "snip": lambda params: pruning.snip_scores(loss, params, [(images, labels)]),
        "grasp": lambda params: pruning.grasp_scores(
            lambda params, batch: loss(params, batch, 200), params, [(images, labels)]
        ),
        "synflow": lambda params: pruning.synflow_scores(output, params),
        "magnitude": pruning.magnitude_scores,
    }[method]
    return params, score


@functools.cache
def scores_in_float64(method):
    with jax.enable_x64(True):
        params, score = scoring(method, load_resnet20_bn(), "float64")
        return jax.jit(score)(params)


@pytest.mark.parametrize(
    "method", [pytest.param(m, marks=pytest.mark.slow) for m in ("snip", "grasp", "synflow")]
)
def test_scores_in_float64(method, oracle):
    scores = by_torch_name(scores_in_float64(method))
    assert set(scores) == set(oracle["prunable_names"])
    with np.load(ORACLES / f"resnet20_bn_scores_{method}.npz") as file:
        norm = float(file["norm64"])
        compare(scores, {name: file[f"score64/{name}"] * norm for name in scores}, "float64", 1e-9)


@pytest.mark.slow
@pytest.mark.parametrize("method", ["snip", "grasp", "synflow"])
def test_scores_in_float32(method, oracle):
    """Against our own float64, on the images in which no ReLU changes sides by rounding.

    In one of the others a single one does, which moves whole layers' gradients by 1e-4.
    """
    same = {**oracle, "x": oracle["x"][agreeing(oracle)], "y": oracle["y"][agreeing(oracle)]}
    assert len(same["y"]) >= 30
    params, score = scoring(method, same, "float32")
    # Code that is not optimised rounds otherwise, and turns a ReLU that is not turned here.
    found = by_torch_name(jax.jit(score, compiler_options=OPTIMISED)(params))
    with jax.enable_x64(True):
        params, score = scoring(method, same, "float64")
        expected = by_torch_name(jax.jit(score, compiler_options=OPTIMISED)(params))
        compare(found, expected, "float32", 1e-5)


def agreeing(oracle):
    """Which images' ReLUs are on the same side in float32 and float64."""
    active = []
    for dtype in ("float32", "float64"):
        with jax.enable_x64(dtype == "float64"):
            variables = jax.tree.map(
                lambda leaf, dtype=dtype: jnp.asarray(leaf, dtype), linen_variables(state_dict(oracle))
            )
            images = jnp.asarray(nhwc(oracle["x"]), dtype)
            _, found = MODEL.apply(
                variables, images, capture_intermediates=True, mutable=["intermediates"]
            )
            leaves = jax.tree.leaves(found["intermediates"])
            active.append(
                np.concatenate([np.asarray(leaf > 0).reshape(40, -1) for leaf in leaves], axis=1)
            )
    return np.all(active[0] == active[1], axis=1)


def compare(scores, expected, dtype, tolerance):
    for name, found in scores.items():
        assert found.dtype == dtype
        atol = tolerance * np.abs(expected[name]).max()
        np.testing.assert_allclose(found, expected[name], rtol=tolerance, atol=atol, err_msg=name)


@pytest.mark.slow
@pytest.mark.parametrize("method", ["magnitude", "snip", "grasp", "synflow"])
def test_masks_bit_for_bit(method, oracle):
    """95 % sparsity in float64: one round for all but SynFlow, which takes 100."""
    with jax.enable_x64(True):
        if method == "synflow":
            params, score = scoring(method, oracle, "float64")
            masks = jax.jit(lambda p: pruning.iterative_masks(score, p, 0.95, rounds=100))(params)
        else:
            masks = pruning.global_masks(scores_in_float64(method), 0.95)
    with np.load(ORACLES / "resnet20_bn_masks.npz") as file:
        for name, found in by_torch_name(masks).items():
            expected = file[f"mask64/{method}/d0.05/{name}"] != 0
            np.testing.assert_array_equal(found, expected, err_msg=name)
