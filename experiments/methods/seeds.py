"""The keys of a seed, the same in all experiments: what is compared in pairs shares init and order."""

from typing import NamedTuple

import jax

VERSION = 2
"""Of the table below. In version 1 some experiments used keys for other purposes (see CHANGELOG.md)."""


class SeedKeys(NamedTuple):
    """The keys of one seed, typed. New ones come last: then the others stay what they are.

    Attributes:
        init: Draws the initial weights.
        order: Of the order of the data, and of augmentation.
        other_init: Of other initial weights, for the ablation and for re-initialised tickets.
        second_draw: Of weights that are scored while others are trained.
        scores: Of random scores and masks.
        shuffle: Of the ablation that permutes masks within layers.
        candidates: Draws the masks of a search.
        other_order: Of another order of the data.
        growth: Of weights that grow at random while a network trains.
    """

    init: jax.Array
    order: jax.Array
    other_init: jax.Array
    second_draw: jax.Array
    scores: jax.Array
    shuffle: jax.Array
    candidates: jax.Array
    other_order: jax.Array
    growth: jax.Array


def seed_keys(seed: int) -> SeedKeys:
    """The keys of a seed, counting from 0."""
    return SeedKeys(*jax.random.split(jax.random.key(seed), len(SeedKeys._fields)))
