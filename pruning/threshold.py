"""Where a count is reached: the search under every selection.

Keys are unsigned integers in a list of arrays, ordered as the scores are. Each pass over them counts,
for three probes at once, how many lie below. The probes stand around the place where the threshold is if
keys are spread evenly between the two ends of what is left, in a window that narrows as fast as that
guess proves right; where it has failed (ties, gaps) they divide what is left. The search ends as soon as
the count is met. Where many keys are equal the search goes on once more, among their places. So a
threshold among millions of scores takes about ten passes over them, sorts nothing and copies nothing.

Nothing but counts passes between leaves, or between the devices on which they lie: three numbers a leaf
and pass. A pass is one loop a leaf in the compiled program, and there is one search in it whether or not
scores are tied: the time to compile grows with the number of leaves, so what is there for each must be
little (``docs/decisions.md``, "Selection").

The steps are module-level functions and the scores travel in the loop's state, so that JAX knows the
loop again and calls outside ``jit`` compile once.
"""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from pruning.placement import flat_places, is_manual, zero_over

NAN = 1
"""The key of NaN; minus infinity has a higher one, what is pruned already has 0."""

# Half of the widest window, as a fraction of what is left: probes that divide it.
_WIDEST = 0.25
# A guess that was right to within a fraction of what was left is so again, twice as roughly.
_CAUTION = 2.0
# How many layers' counts are added up in one kernel.
_PART = 16


class Search(NamedTuple):
    """The state of a search for the largest threshold below which no more than ``number`` keys lie.

    Attributes:
        low: No more than ``number`` keys lie below it.
        high: More do, or it is larger than every key.
        below: How many lie below ``low``.
        above: How many lie below ``high``.
        probes: The thresholds to try next, three strictly between the two where there is room.
        window: Half of the window in which the threshold is looked for, as a fraction of what is left.
        number: The count looked for.
        keys: What is counted.
    """

    low: jax.Array
    high: jax.Array
    below: jax.Array
    above: jax.Array
    probes: jax.Array
    window: jax.Array
    number: jax.Array
    keys: list[jax.Array]


class Selection(NamedTuple):
    """The state of a selection: a search among the scores, then one among equal ones if need be.

    Attributes:
        kept: Which entries are not among the lowest.
        exact: Whether as many are left out as are to be.
        ranked: Whether the search among the scores is done, so that ``tied`` holds.
        level: Whether the scores rank nothing: all are 0, or all infinite.
        tied: The key at which the count lies; only some of its holders are to be left out.
        number: How many to leave out.
        behind: For each of the scores how many entries there are from its first one to the end.
        scores: The scores, floats.
        masks: Weights that are pruned already (False), or None, for each of the scores.
    """

    kept: list[jax.Array]
    exact: jax.Array
    ranked: jax.Array
    level: jax.Array
    tied: jax.Array
    number: jax.Array
    behind: list[jax.Array]
    scores: list[jax.Array]
    masks: list[jax.Array | None]


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
    unsigned = _unsigned(scores)
    # XLA does not know it: kernels for arrays of one shape are compiled once if no number tells them
    # apart.
    zero = lax.optimization_barrier(zero_over([number, scores, masks]))
    behind = np.cumsum([leaf.size for leaf in scores][::-1], dtype=np.int32)[::-1]
    start = Selection(
        kept=[jnp.zeros_like(leaf, dtype=bool) | (zero > 0) for leaf in scores],
        exact=zero > 0,
        ranked=zero > 0,
        level=zero > 0,
        tied=lax.convert_element_type(zero, unsigned),
        number=number + zero,
        behind=[zero + size for size in behind],
        scores=scores,
        masks=masks,
    )
    if is_manual():
        start = start._replace(
            scores=[jnp.where(zero > 0, jnp.zeros_like(leaf), leaf) for leaf in scores],
            masks=[None if mask is None else mask | (zero > 0) for mask in masks],
        )
    found = lax.while_loop(_is_inexact, _select, start)
    return found.kept, found.level


def keys_of(scores: jax.Array, mask: jax.Array | None, unsigned: Any) -> jax.Array:
    """Unsigned integers in the order of the scores; 0 where pruned already, ``NAN`` for NaN.

    Args:
        scores: A float array.
        mask: What is not pruned already, or None.
        unsigned: ``uint32``, or ``uint64`` where some scores are float64.

    Returns:
        An array of that dtype.
    """
    signed, top = np.dtype(f"i{unsigned.itemsize}"), np.iinfo(unsigned).bits - 1
    sign = np.array(np.iinfo(signed).min, signed)
    scores = lax.convert_element_type(scores, np.dtype(f"f{unsigned.itemsize}"))
    bits = lax.bitcast_convert_type(scores, signed)
    # Both zeros are one score: the sign of a zero must not break a tie. (As numbers, subnormal
    # ones are zero too on CPUs.)
    bits = jnp.where(bits == sign, np.array(0, signed), bits)
    # Negative numbers are turned round, and all are brought above 0.
    keys = bits ^ (lax.shift_right_arithmetic(bits, np.array(top, signed)) | sign)
    keys = lax.bitcast_convert_type(keys, unsigned)
    keys = jnp.where(scores != scores, np.array(NAN, unsigned), keys)
    return keys if mask is None else jnp.where(mask, keys, np.array(0, unsigned))


def _is_inexact(selection: Selection) -> jax.Array:
    return ~selection.exact


def _select(selection: Selection) -> Selection:
    """One search: among the scores first, then among the places of equal ones."""
    # XLA would compute what is the same in both searches before the first, in memory.
    scores, masks, behind, ranked = lax.optimization_barrier(
        (selection.scores, selection.masks, selection.behind, selection.ranked)
    )
    tied, unsigned = selection.tied, selection.tied.dtype
    last, keys = _largest(unsigned) - np.array(1, unsigned), []
    for leaf, mask, size in zip(scores, masks, behind, strict=True):
        key = keys_of(leaf, mask, unsigned)
        # Those that come first are the furthest from the end, and are left out last.
        place = lax.convert_element_type(-flat_places(leaf, -size), unsigned)
        beside = jnp.where(key < tied, np.array(0, unsigned), last)
        keys.append(jnp.where(ranked, jnp.where(key == tied, place, beside), key))
    number, nothing = selection.number, tied * 0
    size = sum(leaf.size for leaf in scores)
    among_places = np.array([1, size // 3 + 2, 2 * size // 3 + 3], unsigned)
    start = Search(
        low=nothing,
        high=nothing + _largest(unsigned),
        below=number * 0,
        above=number * 0 + size,
        probes=jnp.where(ranked, among_places, _first_probes(unsigned)),
        window=_float(number * 0) + np.float32(_WIDEST),
        number=number,
        keys=keys,
    )
    found = lax.while_loop(_is_open, _narrow, start)
    kept = [key >= found.low for key in keys]
    alike = (found.below == 0) & (found.above == size)
    neither = (found.low == _key(0.0, unsigned)) | (found.low == _key(np.inf, unsigned))
    return selection._replace(
        kept=[bits if mask is None else bits & mask for bits, mask in zip(kept, masks, strict=True)],
        exact=ranked | (found.below == found.number),
        ranked=ranked | True,
        level=jnp.where(ranked, selection.level, alike & neither),
        tied=found.low,
    )


def _is_open(search: Search) -> jax.Array:
    return (search.high - search.low > 1) & (search.below < search.number)


def _narrow(search: Search) -> Search:
    """Moves both ends to the nearest probes and sets the next probes between them."""
    number, probes, before = search.number, search.probes, search.high - search.low
    counts = _counts_below(search.keys, probes)
    fits = counts <= number
    low = jnp.max(jnp.where(fits, probes, search.low))
    high = jnp.min(jnp.where(fits, search.high, probes))
    below = jnp.max(jnp.where(fits, counts, search.below))
    above = jnp.min(jnp.where(fits, search.above, counts))
    left = high - low
    width, between = _float(left), _float(above - below)
    shrunk, place = width / _float(before), _float(number - below) / between
    deviation = jnp.sqrt(place * (1 - place) / between) + 1 / between
    window = jnp.maximum(_CAUTION * search.window * shrunk, 2 * deviation)
    window = jnp.where((shrunk > 0.55) | (window > _WIDEST), np.float32(_WIDEST), window)
    around = place + window * np.array([-1, 0, 1], np.float32)
    # Where many are tied the threshold is next to the lower end.
    places = jnp.where(window < _WIDEST, around, np.array([0, 0.36, 0.68], np.float32))
    # A float32 near 2**32 may lie above the largest integer.
    largest = np.float32(2.0) ** np.iinfo(left.dtype).bits * np.float32(1 - 2**-24)
    ahead = lax.convert_element_type(jnp.clip(jnp.clip(places, 0, 1) * width, 1, largest), left.dtype)
    probes = low + jnp.minimum(ahead, jnp.maximum(left, 2) - 1)
    return search._replace(low=low, high=high, below=below, above=above, probes=probes, window=window)


def _counts_below(keys: list[jax.Array], probes: jax.Array) -> jax.Array:
    """How many keys lie below each probe, in one pass: a reduction with three results is one loop."""
    each, sums = [probes[index] for index in range(3)], []
    for leaf in keys:
        below = tuple(lax.convert_element_type(leaf < probe, jnp.int32) for probe in each)
        sums.append(lax.reduce(below, (np.int32(0),) * 3, _add, range(leaf.ndim)))
    while len(sums) > 1:
        # In parts: one sum of hundreds would be one large kernel, and those take long to compile.
        parts = [functools.reduce(_add, sums[at : at + _PART]) for at in range(0, len(sums), _PART)]
        sums = [lax.optimization_barrier(part) for part in parts]
    return jnp.stack(sums[0])


def _add(left: tuple, right: tuple) -> tuple:
    return tuple(one + other for one, other in zip(left, right, strict=True))


def _float(value: jax.Array) -> jax.Array:
    return lax.convert_element_type(value, jnp.float32)


def _unsigned(scores: list[jax.Array]) -> Any:
    return np.dtype("u8" if any(leaf.dtype == jnp.float64 for leaf in scores) else "u4")


def _largest(unsigned: Any) -> np.ndarray:
    return np.array(np.iinfo(unsigned).max, unsigned)


def _first_probes(unsigned: Any) -> np.ndarray:
    """Scores are rarely below 0, and rarely as many below 2**-12 as above."""
    return np.stack([_key(value, unsigned) for value in (0.0, 2.0**-12, 1.0)])


def _key(value: float, unsigned: Any) -> np.ndarray:
    """The key of a number that is not negative."""
    top = np.array(1, unsigned) << np.array(np.iinfo(unsigned).bits - 1, unsigned)
    return np.array(value, f"f{unsigned.itemsize}").view(unsigned) | top
