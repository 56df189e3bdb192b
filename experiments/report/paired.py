"""Paired comparisons over seeds, with their uncertainty.

The seed is the unit: what several sparsities give for one seed is averaged first, because members of
one seed share initialization and data order.
"""

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
from scipy import stats

Pairs = Mapping[tuple[int, float], float]  # (seed, sparsity) -> value
TOO_FEW = "too few seeds to tell"
ROUNDING = 1e-9
"""How far apart equal values may come out of float arithmetic: far below one image of any test set."""


@dataclass(frozen=True)
class Estimate:
    """A mean over seeds and how sure it is.

    Attributes:
        mean: Over seeds.
        half_width: Of the 95 % confidence interval (Student's t); NaN where it has none: of one seed, and
            of two that agree to the digit, as two small test sets can by chance.
        seeds: How many.
    """

    mean: float
    half_width: float
    seeds: int

    @property
    def sign(self) -> int:
        """1 or -1 where the interval leaves zero out, else 0."""
        return int(np.sign(self.mean)) if abs(self.mean) > self.half_width else 0

    @property
    def points(self) -> str:
        """The mean in percentage points with its interval, if there is one: "+1.20 ± 0.35"."""
        spread = "" if np.isnan(self.half_width) else f" ± {100 * self.half_width:.2f}"
        return f"{100 * self.mean:+.2f}{spread}"

    def __str__(self) -> str:
        if np.isnan(self.half_width):
            of = "1 seed" if self.seeds == 1 else f"{self.seeds} seeds"
            return f"{self.mean:+.4f} ({of})" if self.seeds else "unknown"
        return f"{self.mean:+.4f} ± {self.half_width:.4f} (95 % interval, {self.seeds} seeds)"


def estimate(values: Pairs) -> Estimate:
    """The mean of values over seeds."""
    by_seed = defaultdict(list)
    for (seed, _), value in values.items():
        if not np.isnan(value):
            by_seed[seed].append(value)
    means = np.array([np.mean(of_seed) for of_seed in by_seed.values()])
    if len(means) == 0:
        return Estimate(float("nan"), float("nan"), 0)
    if len(means) == 1 or (len(means) == 2 and np.ptp(means) < ROUNDING):
        return Estimate(float(np.mean(means)), float("nan"), len(means))
    half_width = stats.t.ppf(0.975, len(means) - 1) * np.std(means, ddof=1) / np.sqrt(len(means))
    return Estimate(float(np.mean(means)), float(half_width), len(means))


def at_sparsity(values: Pairs, sparsity: float) -> np.ndarray:
    """The values of one sparsity, over seeds.

    Args:
        sparsity: As in the keys.

    Returns:
        Shape (seeds,).
    """
    return np.array([value for (_, target), value in values.items() if target == sparsity])


def finite_mean(values: np.ndarray) -> float:
    """The mean of what is finite; NaN where nothing is.

    Args:
        values: Any shape.
    """
    known = values[np.isfinite(values)]
    return float(np.mean(known)) if known.size else float("nan")


def finite_max(values: np.ndarray) -> float:
    """The largest of what is finite; NaN where nothing is.

    Args:
        values: Any shape.
    """
    known = values[np.isfinite(values)]
    return float(np.max(known)) if known.size else float("nan")


def finite_deviation(values: np.ndarray) -> float:
    """The standard deviation (n - 1) of what is finite; 0 where fewer than two are.

    Args:
        values: Any shape.
    """
    known = values[np.isfinite(values)]
    return float(np.std(known, ddof=1)) if known.size > 1 else 0.0


def percent_cell(values: Iterable[float]) -> str:
    """Fractions over seeds as a table shows them: "97.20 ± 0.08", in percent.

    Returns:
        Mean and standard deviation; the number alone if one is finite; "diverged" if none is, and "none"
        if there is none.
    """
    percent = 100 * np.array(list(values))
    if not len(percent):
        return "none"
    finite = np.isfinite(percent).sum()
    if finite < 2:
        return f"{finite_mean(percent):.2f}" if finite else "diverged"
    return f"{finite_mean(percent):.2f} ± {finite_deviation(percent):.2f}"


def of_seeds(count: int, seeds: int) -> str:
    """What a table adds where only some seeds have a number: " (3 of 5 seeds)"; else nothing."""
    return "" if count == seeds else f" ({count} of {seeds} seeds)"


def differences(ours: Pairs, theirs: Pairs) -> dict[tuple[int, float], float]:
    """Ours minus theirs where both are there."""
    return {key: ours[key] - theirs[key] for key in ours if key in theirs}


def at_same_kept(curve: Iterable[tuple[float, float]], kept: float) -> float | None:
    """A method's accuracy at a fraction kept, linear in its logarithm between the points of its curve.

    Args:
        curve: Pairs of the fraction kept and the accuracy; those that keep nothing play no part.
        kept: The fraction kept, above 0.

    Returns:
        The accuracy; None outside of the curve, by more than a thousandth of what its end keeps.
    """
    known = sorted(point for point in curve if point[0] > 0)
    if not known or not 0.999 * known[0][0] <= kept <= 1.001 * known[-1][0]:
        return None
    logs = [math.log(fraction) for fraction, _ in known]
    return float(np.interp(math.log(kept), logs, [accuracy for _, accuracy in known]))


def rank_correlation(first: np.ndarray, second: np.ndarray) -> float:
    """Spearman's rank correlation; NaN where one side is constant or has fewer than 3 finite pairs.

    Args:
        first: Shape (n,).
        second: Shape (n,).

    Returns:
        A number in [-1, 1], or NaN.
    """
    finite = np.isfinite(first) & np.isfinite(second)
    first, second = first[finite], second[finite]
    if len(first) < 3 or np.ptp(first) == 0 or np.ptp(second) == 0:
        return float("nan")
    correlation, _ = stats.spearmanr(first, second)
    return float(np.asarray(correlation))
