"""Where a count is reached: the search under every selection.

Keys are integers in a list of arrays, ordered as the scores are. Each pass over them counts, for three
probes at once, how many lie below. The probes stand around the place where the threshold is if keys are
spread evenly between the two ends of what is left, in a window that narrows as fast as that guess proves
right; where it has failed (ties, gaps) they divide what is left. The search ends as soon as the count is
met. Where it is met among equal keys, the search goes on among their places. So a threshold among
millions of scores takes about ten passes over them, sorts nothing and copies nothing but the keys.

Nothing but counts passes between leaves, or between the devices on which they lie: three numbers a leaf
and pass. The compiled program has three loops a leaf (its keys, the counts of a pass, the masks), and no
number of its own in any of them, so that those of leaves of one shape are compiled once: the time to
compile grows with the number of leaves, and what is there for each must be little
(``docs/decisions.md``, "Selection").
"""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from pruning.trees.placement import flat_places, is_manual, zero_over

# Half of the widest window, as a fraction of what is left: probes that divide it.
_WIDEST = 0.25
# A guess that was right to within a fraction of what was left is so again, twice as roughly.
_CAUTION = 2.0
# How many layers' counts are added up in one loop.
_PART = 32


class Search(NamedTuple):
    """The state of a search for the largest threshold below which no more than ``number`` entries lie.

    First it is a key, of which ``low``, ``high`` and ``probes`` are unsigned integers in the same order.
    Then, among equal keys, it is a place, counted from the end: those that come first are kept.

    Attributes:
        low: No more than ``number`` entries lie below it.
        high: More do, or it is larger than every one.
        below: How many lie below ``low``.
        above: How many lie below ``high``.
        probes: The thresholds to try next, three strictly between the two where there is room.
        window: Half of the window in which the threshold is looked for, as a fraction of what is left.
        number: The count looked for.
        among_ties: Whether it is a place that is looked for.
        tied: The key at which the count lies, when it is a place that is looked for.
        below_tied: How many keys are lower than that.
        level: Whether the scores rank nothing: all are 0, or all infinite.
        keys: What is counted.
        starts: For each array the place of its first entry, less the first probe if that is a place.
            (If these did not change they would be constants, and each array's loop would be its own.)
    """

    low: jax.Array
    high: jax.Array
    below: jax.Array
    above: jax.Array
    probes: jax.Array
    window: jax.Array
    number: jax.Array
    among_ties: jax.Array
    tied: jax.Array
    below_tied: jax.Array
    level: jax.Array
    keys: list[jax.Array]
    starts: list[jax.Array]


@jax.jit
def without_lowest(
    scores: list[jax.Array], masks: list[jax.Array | None], number: jax.Array
) -> tuple[list[jax.Array], jax.Array]:
    """Keeps all but the lowest scores; of equal ones those that come first.

    Args:
        scores: Float arrays. An entry comes before those of later arrays, and of its own in flat order.
        masks: For each a bool array of its shape, or None: what is False ranks below all else, and is
            not kept in any case.
        number: How many to leave out, an int32 scalar from 0 to the number of scores.

    Returns:
        Bool arrays of the same shapes, of which all but ``number`` entries are True where no more are
        masked; and whether the scores rank nothing, since all are 0, or infinite, and none is masked.
    """
    signed = np.dtype("i8" if any(leaf.dtype == jnp.float64 for leaf in scores) else "i4")
    zero = zero_over([number, scores, masks])
    keys = [_keys(leaf, mask, signed) for leaf, mask in zip(scores, masks, strict=True)]
    if is_manual():
        keys = [key + lax.convert_element_type(zero, signed) for key in keys]
    nothing = lax.convert_element_type(zero, _unsigned(signed))
    sizes = np.cumsum([leaf.size for leaf in scores][::-1], dtype=np.int32)[::-1]
    found = lax.while_loop(
        _is_open,
        _narrow,
        Search(
            low=nothing,
            high=nothing + np.array(np.iinfo(nothing.dtype).max, nothing.dtype),
            below=zero,
            above=zero + sum(leaf.size for leaf in scores),
            probes=nothing + _first_probes(nothing.dtype),
            window=lax.convert_element_type(zero, np.float32) + np.float32(_WIDEST),
            number=number + zero,
            among_ties=zero > 0,
            tied=lax.convert_element_type(zero, signed),
            below_tied=zero,
            level=zero > 0,
            keys=keys,
            starts=[zero + size for size in sizes],
        ),
    )
    tied = jnp.where(found.among_ties, found.tied, _signed(found.low))
    place = jnp.where(found.among_ties, _from_first(found, found.low), 0)
    kept = [
        _at_least(key, tied, start, place) for key, start in zip(found.keys, found.starts, strict=True)
    ]
    return [
        bits if mask is None else bits & mask for bits, mask in zip(kept, masks, strict=True)
    ], found.level


def _is_open(search: Search) -> jax.Array:
    return (search.high - search.low > 1) & (search.below < search.number)


def _narrow(search: Search) -> Search:
    """Moves both ends to the nearest probes and sets the next probes between them."""
    number, probes = search.number, search.probes
    counts = _counts_below(search)
    fits = counts <= number
    low = jnp.max(jnp.where(fits, probes, search.low))
    high = jnp.min(jnp.where(fits, search.high, probes))
    below = jnp.max(jnp.where(fits, counts, search.below))
    above = jnp.min(jnp.where(fits, search.above, counts))
    # Never among places: no two entries have the same.
    tied = (high - low <= 1) & (below < number)
    size, unsigned = sum(leaf.size for leaf in search.keys), low.dtype
    unranked = (
        (below == 0) & (above == size) & ((low == _key(0.0, unsigned)) | (low == _key(np.inf, unsigned)))
    )
    shrunk = jnp.where(tied, np.float32(0), _float(high - low) / _float(search.high - search.low))
    moved = search._replace(
        low=jnp.where(tied, np.array(0, unsigned), low),
        high=jnp.where(tied, np.array(size + 1, unsigned), high),
        below=below,
        above=above,
        among_ties=search.among_ties | tied,
        tied=jnp.where(tied, _signed(low), search.tied),
        below_tied=jnp.where(tied, below, search.below_tied),
        level=search.level | (tied & unranked),
    )
    moved = _with_probes(moved, shrunk)
    further = _first_place(moved) - _first_place(search)
    return moved._replace(starts=[start - further for start in search.starts])


def _with_probes(search: Search, shrunk: jax.Array) -> Search:
    """Sets the probes, after a pass that left a fraction of what was there."""
    left = search.high - search.low
    width, between = _float(left), _float(search.above - search.below)
    place = _float(search.number - search.below) / between
    deviation = jnp.sqrt(place * (1 - place) / between) + 1 / between
    window = jnp.maximum(_CAUTION * search.window * shrunk, 2 * deviation)
    window = jnp.where((shrunk > 0.55) | (window > _WIDEST), np.float32(_WIDEST), window)
    around = place + window * np.array([-1, 0, 1], np.float32)
    # Where many are tied the threshold is next to the lower end.
    places = jnp.where(window < _WIDEST, around, np.array([0, 0.36, 0.68], np.float32))
    # A float32 near 2**32 may lie above the largest integer.
    largest = np.float32(2.0) ** np.iinfo(left.dtype).bits * np.float32(1 - 2**-24)
    ahead = lax.convert_element_type(jnp.clip(jnp.clip(places, 0, 1) * width, 1, largest), left.dtype)
    probes = search.low + jnp.minimum(ahead, jnp.maximum(left, 2) - 1)
    return search._replace(probes=probes, window=window)


def _first_place(search: Search) -> jax.Array:
    return lax.convert_element_type(jnp.where(search.among_ties, search.probes[0], 0), np.int32)


def _counts_below(search: Search) -> jax.Array:
    """How many entries lie below each probe, in one pass."""
    at = jnp.where(search.among_ties, _from_first(search, search.probes), _signed(search.probes))
    each = [at[probe] for probe in range(3)]
    sums = [
        _counts(key, start, search.tied, search.among_ties, each)
        for key, start in zip(search.keys, search.starts, strict=True)
    ]
    while len(sums) > 1:
        # In parts: one sum of hundreds would be one large loop, and those take long to compile.
        sums = [_sum(sums[at : at + _PART]) for at in range(0, len(sums), _PART)]
    return jnp.concatenate(sums[0]) + search.below_tied


def _from_first(search: Search, places: jax.Array) -> jax.Array:
    """Places less the first probe, in the dtype of the keys."""
    return lax.convert_element_type(places - search.probes[0], search.tied.dtype)


# What is done for each leaf is compiled into the program as it stands, but traced once a shape.


@partial(jax.jit, static_argnums=2)
def _keys(scores: jax.Array, mask: jax.Array | None, signed: np.dtype) -> jax.Array:
    """Integers in the order of the scores; the lowest where pruned already, the next one for NaN."""
    scores = lax.convert_element_type(scores, np.dtype(f"f{signed.itemsize}"))
    bits, lowest = lax.bitcast_convert_type(scores, signed), np.array(np.iinfo(signed).min, signed)
    # A negative number has the highest bit and its absolute value; both zeros are one score.
    keys = jnp.where(bits < 0, lowest - bits, bits)
    keys = jnp.where(scores != scores, lowest + np.array(1, signed), keys)
    return keys if mask is None else jnp.where(mask, keys, lowest)


@jax.jit
def _counts(
    keys: jax.Array, start: jax.Array, tied: jax.Array, among_ties: jax.Array, at: jax.Array
) -> list[jax.Array]:
    """How many entries lie below each threshold; a reduction with three results is one loop."""
    largest = np.array(np.iinfo(keys.dtype).max, keys.dtype)
    places = lax.convert_element_type(-flat_places(keys, -start), keys.dtype)
    values = jnp.where(among_ties, jnp.where(keys == tied, places, largest), keys)[None]
    below = tuple(lax.convert_element_type(values < at[probe], np.int32) for probe in range(3))
    return lax.reduce(below, (np.int32(0),) * 3, _add, range(1, values.ndim))


@jax.jit
def _sum(counts: list) -> list[jax.Array]:
    each = tuple(jnp.concatenate(of_probe)[None] for of_probe in zip(*counts, strict=True))
    return lax.reduce(each, (np.int32(0),) * 3, _add, [1])


@jax.jit
def _at_least(keys: jax.Array, tied: jax.Array, start: jax.Array, place: jax.Array) -> jax.Array:
    """What is higher than a key, or as high and not behind a place, counted from the end."""
    places = lax.convert_element_type(-flat_places(keys, -start), place.dtype)
    return jnp.where(keys == tied, places >= place, keys > tied)


def _add(left: tuple, right: tuple) -> tuple:
    return tuple(one + other for one, other in zip(left, right, strict=True))


def _float(value: jax.Array) -> jax.Array:
    return lax.convert_element_type(value, np.float32)


def _unsigned(signed: np.dtype) -> np.dtype:
    return np.dtype(f"u{signed.itemsize}")


def _signed(unsigned: jax.Array) -> jax.Array:
    """The key that is as high among signed integers."""
    signed = np.dtype(f"i{unsigned.dtype.itemsize}")
    return lax.bitcast_convert_type(unsigned, signed) ^ np.array(np.iinfo(signed).min, signed)


def _first_probes(unsigned: np.dtype) -> np.ndarray:
    """Scores are rarely below 0, and rarely as many below 2**-12 as above."""
    return np.stack([_key(value, unsigned) for value in (0.0, 2.0**-12, 1.0)])


def _key(value: float, unsigned: np.dtype) -> np.ndarray:
    """The key, unsigned, of a number that is not negative."""
    top = np.array(1, unsigned) << np.array(np.iinfo(unsigned).bits - 1, unsigned)
    return np.array(value, f"f{unsigned.itemsize}").view(unsigned) | top
