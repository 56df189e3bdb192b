"""Where a count is reached: the search under every selection.

Keys are unsigned integers in a list of arrays. Each pass over them counts, for seven probes at once,
how many lie below. The first probes are quantiles of a sample; then they stand around the place where
the threshold is if keys are spread evenly between two probes, and once that has not helped (ties, gaps)
they divide the interval evenly. The search ends as soon as the count is met. So a threshold among
millions of scores takes three to six passes, sorts nothing but the sample, and copies nothing.

The steps are module-level functions and the keys travel in the loop's state, so that JAX knows the
loop again and calls outside ``jit`` compile once.
"""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp

from pruning.conditions import for_any_member

PROBES = 7
SAMPLE = 2**14

Keys = list[jax.Array]


class Search(NamedTuple):
    """The state of a search for the largest threshold below which no more than ``number`` keys lie.

    Attributes:
        low: No more than ``number`` keys lie below it.
        high: More do, or it is larger than every key.
        below: How many lie below ``low``.
        above: How many lie below ``high``.
        probes: The thresholds to try next, none above ``high``.
        number: The count looked for.
        keys: What is counted.
        uneven: Whether keys have been found not to be spread evenly.
        tied: The key whose holders alone count, by their place from the end; None while the keys
            themselves are searched.
    """

    low: jax.Array
    high: jax.Array
    below: jax.Array
    above: jax.Array
    probes: jax.Array
    number: jax.Array
    keys: Keys
    uneven: jax.Array
    tied: jax.Array | None = None


def lowest(keys: Keys, number: jax.Array) -> list[jax.Array]:
    """Marks the lowest keys; of equal ones the last (in the list, and in flat order in an array).

    Args:
        keys: Arrays of one unsigned dtype, all smaller than its largest value.
        number: How many to mark, an int32 scalar from 0 to the number of keys.

    Returns:
        Bool arrays of the same shapes with exactly ``number`` entries True.
    """
    zero, size = jnp.zeros((), keys[0].dtype), sum(leaf.size for leaf in keys)
    largest = jnp.full((), jnp.iinfo(zero.dtype).max, zero.dtype)
    probes = _sample_quantiles(keys, number)
    start = Search(zero, largest, jnp.int32(0), jnp.int32(size), probes, number, keys, jnp.bool(False))
    found = jax.lax.while_loop(_is_open, _narrow, start)
    # Not always: XLA would compute the places before it knows that the loop has nothing to do.
    last = jax.lax.cond(for_any_member(found.below < number), _end_of_ties, _no_ties, found)
    return [
        (key < found.low) | ((key == found.low) & near_end(last).reshape(key.shape))
        for key, near_end in zip(keys, _nearer_the_end(keys), strict=True)
    ]


def _end_of_ties(found: Search) -> jax.Array:
    """The place, counted from the end, below which a key equal to ``found.low`` is marked."""
    zero, size = jnp.uint32(0), jnp.uint32(sum(leaf.size for leaf in found.keys) + 1)
    ties, number = found.above - found.below, found.number - found.below
    probes = _equally_spaced(zero, size)
    uneven = jnp.bool(False)
    start = Search(zero, size, jnp.int32(0), ties, probes, number, found.keys, uneven, found.low)
    return jax.lax.while_loop(_is_open, _narrow, start).low


def _no_ties(found: Search) -> jax.Array:
    del found
    return jnp.uint32(0)


def _is_open(search: Search) -> jax.Array:
    return (search.high - search.low > 1) & (search.below < search.number)


def _narrow(search: Search) -> Search:
    """Moves both ends to the nearest probes and sets the next probes between them."""
    counts = _counts_below(search)
    fits = counts <= search.number
    low = jnp.max(jnp.where(fits, search.probes, search.low))
    high = jnp.min(jnp.where(fits, search.high, search.probes))
    below = jnp.max(jnp.where(fits, counts, search.below))
    above = jnp.min(jnp.where(fits, search.above, counts))
    uneven = search.uneven | (high - low > (search.high - search.low) // PROBES)
    evenly = uneven | (above - below <= 2 * PROBES)
    place = (search.number - below) / (above - below)
    probes = jnp.where(evenly, _equally_spaced(low, high), _interpolated(low, high, place, above - below))
    # Where many are tied the threshold is next to the lower end.
    probes = probes.at[0].set(low + 1)
    return search._replace(low=low, high=high, below=below, above=above, probes=probes, uneven=uneven)


def _equally_spaced(low: jax.Array, high: jax.Array) -> jax.Array:
    """Probes that divide the interval evenly, the first one aside."""
    width = high - low
    places = jnp.arange(PROBES, dtype=width.dtype)
    return low + width // PROBES * places + width % PROBES * places // PROBES


def _interpolated(low: jax.Array, high: jax.Array, place: jax.Array, between: jax.Array) -> jax.Array:
    """Probes around a place in the interval, the first one aside.

    That is where the threshold is if the keys between are spread evenly, give or take its standard
    deviation.
    """
    width = high - low
    deviation = jnp.sqrt(place * (1 - place) / between) + 1 / between
    places = place + deviation * jnp.float32([0, -3, -1, -0.3, 0.3, 1, 3])
    ahead = jnp.clip(places, 0, 1) * width.astype(jnp.float32)
    # Clipped again as integers: a float32 near 2**32 may lie above it.
    ahead = jnp.clip(ahead, 1, jnp.float32(2) ** (jnp.iinfo(width.dtype).bits - 1)).astype(width.dtype)
    return low + jnp.clip(ahead, 1, jnp.maximum(width, 2) - 1)


def _counts_below(search: Search) -> jax.Array:
    """How many keys lie below each probe, in one pass: a reduction with seven results is one loop."""
    if search.tied is None:
        below = [[key < probe for probe in search.probes] for key in search.keys]
    else:
        below = [
            [(key.ravel() == search.tied) & near_end(probe) for probe in search.probes]
            for key, near_end in zip(search.keys, _nearer_the_end(search.keys), strict=True)
        ]
    counts = [_sums([bits.astype(jnp.int32) for bits in of_leaf]) for of_leaf in below]
    return jnp.stack([sum(of_probe, start=jnp.int32(0)) for of_probe in zip(*counts, strict=True)])


def _sums(leaves: list[jax.Array]) -> list[jax.Array]:
    def add(left: tuple, right: tuple) -> tuple:
        return tuple(a + b for a, b in zip(left, right, strict=True))

    zeros = (jnp.int32(0),) * len(leaves)
    return jax.lax.reduce(tuple(leaves), zeros, add, range(leaves[0].ndim))


def _nearer_the_end(keys: Keys) -> list[Callable[[jax.Array], jax.Array]]:
    """For each array, flat: behind which keys fewer than a given number stand, in it and after it."""

    def nearer(number: jax.Array, left: int, leaf: jax.Array) -> jax.Array:
        # The number is added first, and to a flat count: XLA would compute places that do not depend on
        # it before a loop over numbers, in memory.
        return jnp.arange(leaf.size, dtype=jnp.uint32) + number >= jnp.uint32(left)

    sizes = [leaf.size for leaf in keys]
    return [partial(nearer, left=sum(sizes[place:]), leaf=leaf) for place, leaf in enumerate(keys)]


def _sample_quantiles(keys: Keys, number: jax.Array) -> jax.Array:
    """Probes around where a sample puts the threshold: three standard deviations to either side."""
    size = sum(leaf.size for leaf in keys)
    sample = jnp.sort(jnp.concatenate([leaf.ravel()[:: max(1, size // SAMPLE)] for leaf in keys]))
    fraction = number / jnp.float32(size)
    spread = 3 * jnp.sqrt(sample.size * fraction * (1 - fraction)) + 1
    places = sample.size * fraction + spread * jnp.linspace(-1, 1, PROBES)
    return sample[jnp.clip(places, 0, sample.size - 1).astype(jnp.int32)]
