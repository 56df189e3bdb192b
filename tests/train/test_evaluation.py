"""Losses by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import optax

from train.evaluation import cross_entropy, smoothed_cross_entropy

# Classes with probabilities of 1/2, 1/4 and 1/4.
LOGITS = jnp.log(jnp.array([[2.0, 1.0, 1.0], [1.0, 2.0, 1.0]]))
LABELS = jnp.array([0, 2])


def test_smoothed_labels_by_hand_and_against_optaxs():
    # 0.3 shared by three classes: labels of 0.8, 0.1 and 0.1.
    bits = [0.8 * 1 + 0.1 * 2 + 0.1 * 2, 0.1 * 2 + 0.1 * 1 + 0.8 * 2]
    found = smoothed_cross_entropy(LOGITS, LABELS, 0.3)
    np.testing.assert_allclose(found, np.log(2) * np.array(bits), rtol=1e-6)
    targets = optax.smooth_labels(jax.nn.one_hot(LABELS, 3), 0.3)
    np.testing.assert_allclose(found, optax.softmax_cross_entropy(LOGITS, targets), rtol=1e-6)


def test_without_smoothing_the_program_is_that_of_plain_labels():
    def program(loss):
        return str(jax.make_jaxpr(loss)(LOGITS, LABELS))

    assert program(lambda *given: smoothed_cross_entropy(*given, 0.0)) == program(cross_entropy)
