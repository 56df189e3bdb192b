"""ProsPr: by hand on a quadratic, SNIP without a step, and what cannot be trained on."""

import jax.numpy as jnp
import numpy as np
import pytest

import pruning

METHODS = (pruning.prospr_scores, pruning.prospr_first_order_scores)
BATCH = jnp.eye(2)


def quadratic(params, x):
    """(w1^2 + w2^2) / 2 for x of the identity."""
    return jnp.mean((x @ params["w"]) ** 2)


def test_steps_on_a_quadratic_by_hand():
    """The gradient is w, so a step multiplies by 1 - rate: f_T = r^T w and dL/dw = r^(2T) w."""
    params = {"w": jnp.array([[1.0], [-2.0]])}
    for steps in (0, 1, 3):
        r = 0.75**steps
        full, first = (m(quadratic, params, [BATCH] * (steps + 1), learning_rate=0.25) for m in METHODS)
        np.testing.assert_allclose(full["w"].ravel(), r**2 * np.array([1, 4]), rtol=1e-6)
        np.testing.assert_allclose(first["w"].ravel(), r * np.array([1, 4]), rtol=1e-6)


def test_momentum_by_hand():
    """w = 1, rate 1/4, momentum 1/2: f1 = 3/4; v2 = 1/2 + 3/4; f2 = 7/16, and that is df2/dw."""
    found = pruning.prospr_scores(
        lambda params, x: jnp.sum((params["w"] + x) ** 2) / 2,
        {"w": jnp.array([[1.0]])},
        [jnp.float32(0), jnp.float32(0), jnp.float32(3)],
        learning_rate=0.25,
        momentum=0.5,
    )
    np.testing.assert_allclose(found["w"], (7 / 16 + 3) * 7 / 16)


def test_params_that_are_not_scored_take_the_steps_too():
    """L = (w b)^2 / 2 from w = b = 1 at rate 1/2: both end at 1/2, so dL/dw there is 1/8."""

    def loss(params, x):
        return x * jnp.sum((params["w"] * params["b"][None]) ** 2) / 2

    params = {"w": jnp.ones((1, 1)), "b": jnp.ones(1)}
    found = pruning.prospr_first_order_scores(loss, params, [jnp.ones(())] * 2, learning_rate=0.5)
    np.testing.assert_allclose(found["w"], 1 / 8)
    assert found["b"] is None


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    ("batches", "knobs", "says"),
    [
        ([], {}, "at least one batch"),
        ([BATCH, jnp.ones((1, 2)), BATCH], {}, "alike in structure, shapes and dtypes, got 2"),
        ([BATCH], {"learning_rate": 0}, "learning_rate > 0, got 0"),
        ([BATCH], {"learning_rate": float("nan")}, "learning_rate > 0, got nan"),
        ([BATCH], {"learning_rate": None}, "learning_rate > 0, got None"),
        ([BATCH], {"momentum": "0.9"}, r"momentum in \[0, 1\), got '0.9'"),
        ([BATCH], {"momentum": 1.0}, r"momentum in \[0, 1\), got 1.0"),
        (
            [BATCH] * 3,
            {"learning_rate": 1e30},
            "the loss after the inner steps, or its derivative, is not finite",
        ),
    ],
)
def test_what_cannot_be_scored_is_refused(method, batches, knobs, says):
    params = {"w": jnp.array([[1.0], [-2.0]])}
    with pytest.raises(ValueError, match=says):
        method(quadratic, params, batches, **{"learning_rate": 0.25} | knobs)
