"""NTK-SAP: batch statistics as constants of the masked network, fresh draws, and what is refused."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import pruning

KEY = jax.random.key(0)
FULL = {"w": jnp.ones((2, 3), bool)}
INPUTS = jnp.zeros((4, 2))


def init(key):
    return {"w": jax.random.normal(key, (2, 3))}


def output(params, inputs):
    return jnp.tanh(inputs @ params["w"])


def test_statistics_are_those_of_the_masked_network_and_serve_both():
    """Centred by a constant, the distance is that of the linear network, by hand."""
    params, n = {"w": jnp.array([[1.0], [2.0]])}, {"w": jnp.array([[1.0], [-1.0]])}
    x, masks = jnp.array([[1.0, 0.0], [0.0, 2.0]]), {"w": jnp.array([[True], [False]])}
    seen = []

    def mean(params, inputs):
        seen.append(params["w"])
        return jnp.mean(inputs @ params["w"])

    found = pruning.ntk_sap_draws(
        lambda params, inputs, mean: inputs @ params["w"] - mean,
        [(params, x, n)],
        masks,
        0.5,
        statistics_fn=mean,
    )
    # J = (0.5 m1)^2 + (-m2)^2, of which the second is pruned.
    np.testing.assert_allclose(found["w"], [[0.5], [0]])
    np.testing.assert_array_equal(seen[0], [[1], [0]])


@pytest.mark.slow
def test_every_draw_has_its_own_weights_inputs_and_noise():
    seen = []

    def spied(params, inputs):
        jax.debug.callback(
            lambda w, x: seen.append((float(w.sum()), float(x.sum()))), params["w"], inputs
        )
        return output(params, inputs)

    scores = pruning.ntk_sap_scores(KEY, init, spied, INPUTS, FULL, draws=3)
    jax.effects_barrier()
    assert len({x for _, x in seen}) == 3
    assert len({w for w, _ in seen}) == 6  # Of each draw the weights, and the perturbed ones.
    one = pruning.ntk_sap_scores(KEY, init, output, INPUTS, FULL, draws=1)
    assert not np.allclose(scores["w"], 3 * one["w"])


def test_pruned_weights_score_nothing():
    masks = {"w": FULL["w"].at[0, 1].set(False)}
    found = pruning.ntk_sap_scores(KEY, init, output, INPUTS, masks)
    np.testing.assert_array_equal(found["w"] > 0, masks["w"])


@pytest.mark.parametrize(
    ("masks", "knobs", "says"),
    [
        (FULL, {"draws": 0}, "draws >= 1, a whole number, got 0"),
        (FULL, {"noise": 0.0}, "noise > 0, got 0.0"),
        (FULL, {"noise": "small"}, "noise > 0, got 'small'"),
        ({"w": jnp.ones((3, 2), bool)}, {}, r"\['w'\]"),
    ],
)
def test_what_cannot_be_drawn_is_refused(masks, knobs, says):
    with pytest.raises(ValueError, match=says):
        pruning.ntk_sap_scores(KEY, init, output, INPUTS, masks, **knobs)


def test_no_draws_are_refused():
    with pytest.raises(ValueError, match="one draw or more"):
        pruning.ntk_sap_draws(output, [], FULL, 0.1)


@pytest.mark.parametrize("other", [{"w": jnp.ones((1, 2))}, {"v": jnp.ones((2, 1))}, {"w": None}])
def test_a_perturbation_that_does_not_fit_the_masks_is_refused(other):
    params, full = {"w": jnp.ones((2, 1))}, {"w": jnp.ones((2, 1), bool)}
    draw = (params, jnp.ones((1, 2)), other)
    with pytest.raises(ValueError, match="expected"):
        pruning.ntk_sap_draws(lambda params, x: x @ params["w"], [draw], full, 1.0)
