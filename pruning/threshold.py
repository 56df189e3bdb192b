"""Where a count is reached: the search under every selection.

Keys are unsigned integers in a list of arrays. Each pass over them counts, for seven probes at once,
how many lie below, and leaves an eighth of the interval; the first probes are quantiles of a sample,
and the search ends as soon as the count is met. So a threshold among millions of scores takes five to
ten passes, sorts nothing but the sample, and copies nothing.

The steps are module-level functions and the keys travel in the loop's state, so that JAX knows the
loop again and calls outside ``jit`` compile once.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

PROBES = 7
SAMPLE = 2**14

Keys = list[jax.Array]


class Search(NamedTuple):
    """The state of a search for the largest threshold below which no more than ``number`` keys lie.

    Attributes:
        low: No more than ``number`` keys lie below it.
        high: More do, or it is larger than every key.
        below: How many lie below ``low``.
        probes: The thresholds to try next, rising, none above ``high``.
        number: The count looked for.
        keys: What is counted.
        tied: The key whose holders alone count, by their place from the end; None while the keys
            themselves are searched.
    """

    low: jax.Array
    high: jax.Array
    below: jax.Array
    probes: jax.Array
    number: jax.Array
    keys: Keys
    tied: jax.Array | None = None


def lowest(keys: Keys, number: jax.Array) -> list[jax.Array]:
    """Marks the lowest keys; of equal ones the last (in the list, and in flat order in an array).

    Args:
        keys: Arrays of one unsigned dtype, all smaller than its largest value.
        number: How many to mark, an int32 scalar from 0 to the number of keys.

    Returns:
        Bool arrays of the same shapes with exactly ``number`` entries True.
    """
    zero = jnp.zeros((), keys[0].dtype)
    largest = jnp.full((), jnp.iinfo(zero.dtype).max, zero.dtype)
    start = Search(zero, largest, jnp.int32(0), _sample_quantiles(keys, number), number, keys)
    found = jax.lax.while_loop(_is_open, _narrow, start)

    zero, size = jnp.uint32(0), jnp.uint32(sum(leaf.size for leaf in keys) + 1)
    number, probes = number - found.below, _equally_spaced(zero, size)
    start = Search(zero, size, jnp.int32(0), probes, number, keys, found.low)
    last = jax.lax.while_loop(_is_open, _narrow, start).low
    return [
        (key < found.low) | ((key == found.low) & (place < last))
        for key, place in zip(keys, _places_from_end(keys), strict=True)
    ]


def _is_open(search: Search) -> jax.Array:
    return (search.high - search.low > 1) & (search.below < search.number)


def _narrow(search: Search) -> Search:
    """Moves both ends to the nearest probes and sets the next probes between them."""
    counts = _counts_below(search)
    fits = counts <= search.number
    low = jnp.max(jnp.where(fits, search.probes, search.low))
    high = jnp.min(jnp.where(fits, search.high, search.probes))
    below = jnp.max(jnp.where(fits, counts, search.below))
    return search._replace(low=low, high=high, below=below, probes=_equally_spaced(low, high))


def _equally_spaced(low: jax.Array, high: jax.Array) -> jax.Array:
    width, parts = high - low, PROBES + 1
    places = jnp.arange(1, parts, dtype=width.dtype)
    return low + width // parts * places + width % parts * places // parts


def _counts_below(search: Search) -> jax.Array:
    """How many keys lie below each probe, in one pass: a reduction with seven results is one loop."""
    if search.tied is None:
        below = [[key < probe for probe in search.probes] for key in search.keys]
    else:
        below = [
            [(key == search.tied) & (place < probe) for probe in search.probes]
            for key, place in zip(search.keys, _places_from_end(search.keys), strict=True)
        ]
    counts = [_sums([bits.astype(jnp.int32) for bits in of_leaf]) for of_leaf in below]
    return jnp.stack([sum(of_probe, start=jnp.int32(0)) for of_probe in zip(*counts, strict=True)])


def _sums(leaves: list[jax.Array]) -> list[jax.Array]:
    def add(left: tuple, right: tuple) -> tuple:
        return tuple(a + b for a, b in zip(left, right, strict=True))

    zeros = (jnp.int32(0),) * len(leaves)
    return jax.lax.reduce(tuple(leaves), zeros, add, range(leaves[0].ndim))


def _places_from_end(keys: Keys) -> list[jax.Array]:
    """How many keys stand behind each one."""
    places, behind = [], sum(leaf.size for leaf in keys)
    for leaf in keys:
        first, behind = jnp.uint32(behind - 1), behind - leaf.size
        places.append(first - jnp.arange(leaf.size, dtype=jnp.uint32).reshape(leaf.shape))
    return places


def _sample_quantiles(keys: Keys, number: jax.Array) -> jax.Array:
    """Probes around where a sample puts the threshold: three standard deviations to either side."""
    size = sum(leaf.size for leaf in keys)
    sample = jnp.sort(jnp.concatenate([leaf.ravel()[:: max(1, size // SAMPLE)] for leaf in keys]))
    fraction = number / jnp.float32(size)
    spread = 3 * jnp.sqrt(sample.size * fraction * (1 - fraction)) + 1
    places = sample.size * fraction + spread * jnp.linspace(-1, 1, PROBES)
    return sample[jnp.clip(places, 0, sample.size - 1).astype(jnp.int32)]
