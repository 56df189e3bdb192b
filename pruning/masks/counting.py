"""From a sparsity to a whole number of weights, exactly, whether the sparsity is known or traced."""

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from pruning.trees.counts import check_counts, is_whole
from pruning.trees.leaves import check_countable, is_traced
from pruning.trees.precision import check_precise

# Undoes the rounding of products like 0.7 * 10; smaller than any sparsity step that could matter.
TOLERANCE = 1e-6
LAST_STEP = int(np.iinfo(np.int32).max)
"""Where optax's counts of steps stay."""


def check_sparsity(sparsity: Any, name: str = "sparsity") -> None:
    """Checks that a sparsity lies in [0, 1); a traced one cannot be read and passes.

    Args:
        sparsity: The fraction of prunable weights to remove.
        name: What the error calls it.

    Raises:
        ValueError: If it is outside [0, 1), NaN, no number, or shorter than float32, traced or not.
    """
    check_precise(**{name: sparsity})
    if is_traced(sparsity):
        return
    try:
        if isinstance(sparsity, str):
            raise TypeError("a string")
        value = float(sparsity)
    except (TypeError, ValueError) as error:
        raise ValueError(f"expected {name} to be one number, got {sparsity!r}") from error
    if not 0 <= value < 1:
        raise ValueError(
            f"expected {name} in [0, 1) (the fraction of prunable weights removed), got {value}"
        )


def pruned_count(sparsity: Any, size: Any) -> Any:
    r"""How many of ``size`` weights a sparsity removes: :math:`\lfloor s\,n + 10^{-6} \rfloor`.

    Never more than asked for and never all of them. A float32 sparsity, as a traced one is, has been
    rounded to 24 bits and may stand for any real within half a unit in its last place; where a whole
    number of weights lies in that range the nearest is taken, so that ``0.95 * 266200`` comes out as
    it does from a concrete sparsity. Of millions of weights several numbers may lie there, and the
    count may be off by one or two: pass a concrete sparsity, a float64, or the count
    (``selection.keep_highest``) where that matters.

    Args:
        sparsity: A number in [0, 1), or a traced scalar.
        size: The number of weights, below 2**31; or a traced int32 (of none, none is removed).

    Returns:
        An int, or an int32 scalar where either is traced.

    Raises:
        ValueError: If a concrete sparsity is outside [0, 1), one is shorter than float32, or there are
            2**31 weights or more.

    Source: the rule of the Synaptic-Flow reference implementation (Tanaka et al. 2020,
    arXiv 2006.05467).

    >>> pruned_count(0.7, 10)
    7
    """
    check_sparsity(sparsity)
    if is_traced(size):
        return _counted(jnp.asarray(sparsity), size)
    check_countable(size)
    if is_traced(sparsity):
        return _counted(sparsity, size)
    if not _is_short(sparsity):
        return max(0, min(math.floor(float(sparsity) * size + TOLERANCE), size - 1))
    with jax.ensure_compile_time_eval():  # A number also where what is around it is compiled.
        return int(_counted(jnp.asarray(sparsity), size))


def _counted(sparsity: Any, size: Any) -> jax.Array:
    """``pruned_count`` as an array computes it."""
    if sparsity.dtype == jnp.float64:
        count = jnp.floor(sparsity * jnp.float64(size) + TOLERANCE).astype(jnp.int32)
    else:
        below_one = np.nextafter(np.float32(1), np.float32(0))
        mantissa, exponent = jnp.frexp(jnp.clip(sparsity.astype(jnp.float32), 0, below_one))
        # Halves of a unit in the last place: one more is the upper end of what it may stand for.
        halves = (mantissa * 2**25).astype(jnp.uint32)
        shift = 25 + jnp.minimum(-exponent, 31).astype(jnp.uint32)
        highest, nearest = (
            _shifted_product(halves + 1, size, shift),
            _shifted_product(halves, size, shift - 1),
        )
        count = jnp.minimum(highest, (nearest + 1) >> 1).astype(jnp.int32)
    return jnp.maximum(jnp.minimum(count, size - 1), 0)


def counted_share(fraction: Any, count: Any, name: str) -> Any:
    r"""How many of some weights a fraction of them is: :math:`\lfloor f n + 10^{-6} \rfloor`.

    Counted as ``pruned_count`` does, so that it is the same number where it is compiled; but f may be 1.

    Args:
        fraction: f in [0, 1]; a number, or a traced scalar.
        count: n, an int32 scalar; may be traced.
        name: What an error calls the fraction.

    Returns:
        An int32 scalar.

    Raises:
        ValueError: If a concrete fraction is below 0 or no number, or one is shorter than float32.
    """
    check_precise(**{name: fraction})
    if not is_traced(fraction) and not float(fraction) >= 0:
        raise ValueError(f"expected {name} in [0, 1], got {fraction}")
    if not is_traced(fraction) and float(fraction) >= 1:  # An array compared in a program is traced.
        return count
    share = jnp.int32(pruned_count(fraction, count if is_traced(count) else int(count)))
    return jnp.where(jnp.asarray(fraction) >= 1, count, share)


def exponential_sparsities(sparsity: Any, rounds: int) -> Any:
    r"""Sparsities that remove the same fraction of what is left in each round.

    .. math:: s_i = 1 - (1 - s)^{i / n}, \quad i = 1, \dots, n

    Args:
        sparsity: The last one, in [0, 1).
        rounds: Their number n, at least 1.

    Returns:
        An array of shape (rounds,): float64 numpy, or of the sparsity's dtype where it is traced or a
        float32.

    Raises:
        ValueError: If the sparsity is outside [0, 1) or rounds is below 1.

    Source: Tanaka et al. 2020 (arXiv 2006.05467), algorithm 1.
    """
    check_sparsity(sparsity)
    check_counts(rounds=rounds)
    steps = np.arange(1, rounds + 1) / rounds
    if not _is_short(sparsity):
        before = 1 - (1 - float(sparsity)) ** steps[:-1]
        return np.append(np.minimum(before, float(sparsity)), float(sparsity))
    density = 1 - sparsity
    before = 1 - density ** jnp.asarray(steps[:-1], density.dtype)
    return jnp.append(jnp.minimum(before, sparsity), sparsity)


def cubic_sparsities(sparsity: Any, checks: int, *, initial: float = 0.0) -> Any:
    r"""Sparsities that rise fast at first and level off, for ``gradual_magnitude``.

    .. math:: s_i = s_f + (s_0 - s_f) (1 - i / n)^3, \quad i = 1, \dots, n

    Args:
        sparsity: The last one, :math:`s_f`, in [0, 1).
        checks: Their number n, at least 1.
        initial: :math:`s_0`, in [0, 1), before the first.

    Returns:
        An array of shape (checks,): float64 numpy, or of the sparsity's dtype where it is traced or a
        float32.

    Raises:
        ValueError: If a sparsity is outside [0, 1), the initial one is above the last, or checks is
            below 1.

    Source: Zhu and Gupta 2017 (arXiv 1710.01878), equation 1.

    >>> cubic_sparsities(0.8, 2).round(4).tolist()
    [0.7, 0.8]
    """
    check_sparsity(sparsity)
    check_sparsity(initial, "the initial sparsity")
    known = not is_traced(sparsity) and not is_traced(initial)
    check_counts(checks=checks)
    if known and initial > float(sparsity):
        raise ValueError(
            f"expected an initial sparsity up to the last one ({float(sparsity)}), got {initial}"
        )
    left = (1 - np.arange(1, checks + 1) / checks) ** 3
    if known and not _is_short(sparsity):
        return float(sparsity) + (float(initial) - float(sparsity)) * left
    sparsity = jnp.asarray(sparsity)
    first, left = jnp.asarray(initial, sparsity.dtype), jnp.asarray(left, sparsity.dtype)
    return sparsity + (first - sparsity) * left


def check_rising(sparsities: Any) -> None:
    """Checks a schedule of sparsities, one a check.

    Args:
        sparsities: Shape (checks,); what is traced cannot be read and passes.

    Raises:
        ValueError: If there is none, one is out of range, or they decrease.
    """
    several = isinstance(sparsities, list | tuple) or np.ndim(sparsities) == 1
    if not several or len(sparsities) == 0:
        raise ValueError(f"expected a sequence of sparsities, one a check, got {sparsities!r}")
    parts = sparsities if isinstance(sparsities, list | tuple) else [sparsities]
    if any(is_traced(part) for part in parts):
        return
    known = np.asarray(sparsities)
    for index, value in enumerate(known):
        check_sparsity(value, f"sparsities[{index}]")
    if np.any(known[1:] < known[:-1]):
        raise ValueError(
            f"expected sparsities that do not decrease (pruned weights stay so), got {sparsities}"
        )


def check_steps(**steps: tuple[Any, int]) -> None:
    """Checks numbers of steps.

    Args:
        **steps: By name, each with the least that it may be; what is traced cannot be read and passes.

    Raises:
        ValueError: If one is no whole number, too small, or beyond the int32 in which steps are counted.
    """
    for name, (value, least) in steps.items():
        if is_traced(value):
            continue
        if not is_whole(value) or value < least:
            raise ValueError(f"expected {name} >= {least}, a whole number of steps, got {value!r}")
        if value > LAST_STEP:
            raise ValueError(f"expected {name} <= {LAST_STEP}, as far as steps count, got {value!r}")


def _is_short(sparsity: Any) -> bool:
    """Whether a sparsity must not be taken for more digits than it has: traced, or a float32."""
    return is_traced(sparsity) or getattr(sparsity, "dtype", jnp.float64) != jnp.float64


def _shifted_product(halves: Any, size: Any, shift: Any) -> Any:
    """``(halves * size) >> shift`` in 32-bit integers, for shifts of 24 to 56 and results below 2**32."""
    high, low = halves >> 16, halves & 0xFFFF
    size_high, size_low = jnp.uint32(size >> 16), jnp.uint32(size & 0xFFFF)
    middle = size_high * low + size_low * high + ((size_low * low) >> 16)
    upper, lower = size_high * high + (middle >> 16), middle & 0xFFFF
    # The product is upper * 2**32 + lower * 2**16 and less; what is shifted by 32 or more is 0.
    return jnp.where(shift < 32, (upper << (32 - shift)) | (lower >> (shift - 16)), upper >> (shift - 32))
