"""Scores and masks against arrays that the reference implementations produced."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import pruning

from .oracles import (
    NETWORKS,
    OPTIMISED,
    cross_entropy,
    expected_masks,
    expected_scores,
    load,
    needs_oracles,
)

pytestmark = needs_oracles
TEMPERATURE = 200  # GraSP's
CASES = ("mlp", "conv")
METHODS = ("snip", "grasp", "synflow", "magnitude")
FAST = ("synflow", "magnitude")


def scoring(case, method, x, y):
    """params -> scores."""
    network = NETWORKS[case]

    def loss(params, batch):
        return cross_entropy(network(params, batch[0]), batch[1])

    def cooled_loss(params, batch):
        return cross_entropy(network(params, batch[0]) / TEMPERATURE, batch[1])

    def output(params):
        return network(params, jnp.ones_like(x[:1]))

    return {
        "snip": lambda params: pruning.snip_scores(loss, params, [(x, y)]),
        "grasp": lambda params: pruning.grasp_scores(cooled_loss, params, [(x, y)]),
        "synflow": lambda params: pruning.synflow_scores(output, params),
        "magnitude": pruning.magnitude_scores,
    }[method]


@pytest.mark.parametrize(("precision", "tolerance"), [(64, 1e-9), (32, 1e-5)])
@pytest.mark.parametrize("method", ["snip", pytest.param("grasp", marks=pytest.mark.slow), "synflow"])
@pytest.mark.parametrize("case", CASES)
def test_scores(case, method, precision, tolerance):
    with jax.enable_x64(precision == 64):
        params, x, y = load(case, f"float{precision}")
        scores = jax.jit(scoring(case, method, x, y))(params)
    compare(scores, expected_scores(case, method, 64), f"float{precision}", tolerance)


@pytest.mark.parametrize("case", CASES)
def test_synflow_without_biases(case):
    """With no bias every layer's scores add up to the sum of outputs."""
    with jax.enable_x64(True):
        params, x, y = load(case)
        params = {n: leaf * 0 if n.endswith("bias") else leaf for n, leaf in params.items()}
        scores = jax.jit(scoring(case, "synflow", x, y))(params)
        sums = [float(leaf.sum()) for leaf in jax.tree.leaves(scores)]
    compare(scores, expected_scores(case, "synflow_zerobias", 64), "float64", 1e-9)
    np.testing.assert_allclose(sums, sums[0], rtol=1e-12)


@pytest.mark.parametrize(
    "method", [m if m in FAST else pytest.param(m, marks=pytest.mark.slow) for m in METHODS]
)
@pytest.mark.parametrize("case", [pytest.param("mlp", marks=pytest.mark.slow), "conv"])
def test_masks_bit_for_bit(case, method):
    """One round for all but SynFlow, which takes 100."""
    rounds = 100 if method == "synflow" else 1
    with jax.enable_x64(True):
        params, x, y = load(case)
        score = scoring(case, method, x, y)
        prune = jax.jit(
            lambda params, s: pruning.iterative_masks(score, params, s, rounds=rounds),
            compiler_options=OPTIMISED if method in ("synflow", "grasp") else None,
        )
        for density in ("0.2", "0.05", "0.01"):
            masks = prune(params, 1 - float(density))
            expected = expected_masks(case, method, density)
            assert expected
            for name, mask in expected.items():
                np.testing.assert_array_equal(np.asarray(masks[name]), mask, err_msg=name)


def compare(scores, expected, dtype, tolerance):
    """To a relative tolerance of each layer's largest score."""
    assert expected
    for name, layer in expected.items():
        assert scores[name].dtype == dtype
        np.testing.assert_allclose(
            np.asarray(scores[name]), layer, rtol=tolerance, atol=tolerance * np.abs(layer).max() * 0.1
        )
    assert {name for name, leaf in scores.items() if leaf is not None} == set(expected)
