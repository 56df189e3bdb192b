"""From bytes to what a model sees, as a recipe says."""

import dataclasses

import jax
import numpy as np
import pytest

from tests.train.populations.test_population import RECIPE, dataset
from train.data.preprocessing import preprocess, preprocess_for_training

DATA = dataset(shape=(8, 8, 3))
IMAGES = DATA.train.images[:16]


def test_a_recipe_s_moments_come_before_the_data_set_s():
    own = dataclasses.replace(RECIPE, mean=(0.1, 0.2, 0.3), std=(0.5, 0.6, 0.7))
    expected = (IMAGES / 255 - np.array([0.1, 0.2, 0.3])) / np.array([0.5, 0.6, 0.7])
    np.testing.assert_allclose(preprocess(IMAGES, DATA, own), expected, atol=1e-5)
    np.testing.assert_allclose(preprocess(IMAGES, DATA, RECIPE), (IMAGES / 255 - 0.5) / 0.25, atol=1e-5)


@pytest.mark.parametrize("changes", [{"flip": True}, {"crop_padding": 2}])
def test_images_are_changed_by_the_key(changes):
    recipe = dataclasses.replace(RECIPE, **changes)
    keys = jax.random.split(jax.random.key(0), 2)
    one, again, other = (
        np.asarray(preprocess_for_training(key, IMAGES, DATA, recipe)) for key in (keys[0], *keys)
    )
    np.testing.assert_array_equal(one, again)
    assert (one != other).any()


def test_flips_and_crops_are_drawn_apart():
    """Each from a half of the key: crops are those of a recipe without flips, and the reverse."""
    key = jax.random.key(3)
    cropped = dataclasses.replace(RECIPE, crop_padding=1)
    both = preprocess_for_training(key, IMAGES, DATA, dataclasses.replace(cropped, flip=True))
    alone = preprocess_for_training(key, IMAGES, DATA, cropped)
    flipped = np.asarray(jax.random.bernoulli(jax.random.split(key)[0], shape=(len(IMAGES),)))
    assert flipped.any()
    assert not flipped.all()
    same = (np.asarray(both) == np.asarray(alone)).all(axis=(1, 2, 3))
    np.testing.assert_array_equal(same, ~flipped)
