"""Examples that methods score: as many of each class, chosen by the seed."""

import numpy as np
import pytest

from train.data.datasets import load_dataset
from train.data.examples import balanced_examples


@pytest.fixture(scope="module")
def split():
    return load_dataset("digits").train


def test_data_are_ten_examples_a_class_and_the_seed_decides_which(split):
    first, again, other = (balanced_examples(split, 10, seed=seed) for seed in (0, 0, 1))
    assert np.bincount(first.labels).tolist() == [10] * 10
    np.testing.assert_array_equal(first.images, again.images)
    assert not np.array_equal(first.images, other.images)
    assert len(np.unique(first.images.reshape(100, -1), axis=0)) == 100


def test_a_class_with_few_examples_gives_what_it_has(split):
    few = type(split)(split.images[:15], np.array([0] * 12 + [1] * 3))
    assert np.bincount(balanced_examples(few, 10, seed=0).labels).tolist() == [10, 3]
