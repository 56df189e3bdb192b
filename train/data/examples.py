"""A few examples of each class, for what looks at a little data before training."""

import numpy as np

from train.data.datasets import Split


def balanced_examples(split: Split, per_class: int, *, seed: int) -> Split:
    """A few examples of each class, drawn without replacement.

    Args:
        per_class: How many of each class, or all of a class that has fewer.
    """
    rng = np.random.default_rng(seed)
    labels = np.asarray(split.labels)
    chosen = np.concatenate(
        [rng.permutation(np.flatnonzero(labels == label))[:per_class] for label in np.unique(labels)]
    )
    return Split(np.asarray(split.images[chosen]), labels[chosen])
