"""What more candidates buy: the fittest and the best of 1, 2, 4, ... up to all candidates of a search.

Of fewer candidates than there are, every choice is as likely: what is told is the expected accuracy over
all choices of so many. The fittest is the one of the highest combined fitness, as it is among all
candidates; the best is the one of the highest final test accuracy, which no method could know.
"""

from collections.abc import Callable
from typing import NamedTuple

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure
from scipy.special import gammaln

from experiments.methods.searched import Candidates
from experiments.report.accuracy import titled
from experiments.report.markdown import table
from experiments.report.paired import Estimate, Pairs, differences, estimate, of_seeds
from experiments.report.searches import final_accuracies, searches
from experiments.report.table import Results


class SmallerSearch(NamedTuple):
    """Expected final accuracies of searches with some number of candidates, by seed and sparsity.

    Attributes:
        count: How many candidates.
        fittest: Of the candidate that the combined fitness chooses.
        best: Of the candidate that turns out to be the best.
    """

    count: int
    fittest: Pairs
    best: Pairs


def smaller_searches(results: Results, method: str) -> list[SmallerSearch]:
    """Of 1, 2, 4, ... candidates and of all; nothing where a search has but one.

    Searches of which a candidate has diverged are left out.
    """
    whole = {
        key: found
        for key, found in searches(results, method).items()
        if np.isfinite(final_accuracies(found)).all()
    }
    most = min((len(found.rows) for found in whole.values()), default=0)
    if most <= 1:
        return []
    counts = sorted({*(2**power for power in range(most.bit_length())), most})

    def expected(count: int, ranked_by: Callable[[Candidates], np.ndarray]) -> Pairs:
        return {
            key: _expected_first(final_accuracies(found), ranked_by(found), count)
            for key, found in whole.items()
        }

    return [
        SmallerSearch(
            count,
            expected(count, lambda found: found.fitness["combined"]),
            expected(count, final_accuracies),
        )
        for count in counts
    ]


def _expected_first(accuracies: np.ndarray, ranks: np.ndarray, count: int) -> float:
    """The mean, over all choices of so many, of the accuracy of the one that ranks highest.

    The one of rank i from below, from 0, is the highest of ``count`` in C(i, count - 1) choices.
    """
    below = np.arange(len(accuracies))
    with np.errstate(divide="ignore"):
        choices = np.exp(_log_binomial(below, count - 1) - _log_binomial(len(accuracies), count))
    return float(choices @ accuracies[np.argsort(ranks, kind="stable")])


def _log_binomial(n: np.ndarray | int, k: int) -> np.ndarray:
    """Of C(n, k), minus infinity where n < k."""
    n = np.asarray(n, float)
    possible = np.where(n >= k, n, k)
    found = gammaln(possible + 1) - gammaln(k + 1) - gammaln(possible - k + 1)
    return np.where(n >= k, found, -np.inf)


def candidates_lines(found: list[SmallerSearch], results: Results) -> list[str]:
    """A table, a line a number of candidates, and what the last ones have added."""
    head = ["candidates"]
    for sparsity in results.sparsities:
        head += [f"sparsity {sparsity:g}: fittest", "best"]
    rows = []
    for one in found:
        cells = (
            _cell(pairs, sparsity, results)
            for sparsity in results.sparsities
            for pairs in (one.fittest, one.best)
        )
        rows.append([str(one.count), *cells])
    fewer, all_of_them = found[-2], found[-1]
    gains = (
        f"- From {fewer.count} to {all_of_them.count} candidates the {name} gains "
        f"{estimate(differences(after, before)).points} points, averaged over the sparsities."
        for name, before, after in (
            ("fittest", fewer.fittest, all_of_them.fittest),
            ("best", fewer.best, all_of_them.best),
        )
    )
    return [*table(head, rows), "", *gains]


def _at(pairs: Pairs, sparsity: float) -> Estimate:
    return estimate({key: value for key, value in pairs.items() if key[1] == sparsity})


def _cell(pairs: Pairs, sparsity: float, results: Results) -> str:
    at = _at(pairs, sparsity)
    return at.points.removeprefix("+") + of_seeds(at.seeds, results.seeds) if at.seeds else "diverged"


def candidates_figure(found: list[SmallerSearch], results: Results) -> Figure:
    """Accuracy against the number of candidates, a panel a sparsity."""
    sparsities, counts = results.sparsities, [one.count for one in found]
    size = (2.6 * len(sparsities) + 1.2, 3.2)
    figure, panels = plt.subplots(1, len(sparsities), figsize=size, layout="constrained", squeeze=False)
    for axes, sparsity in zip(panels[0], sparsities, strict=True):
        for name, colour, marker in (("best", "#999999", "s"), ("fittest", "#806000", "P")):
            at = [_at(getattr(one, name), sparsity) for one in found]
            means = [100 * one.mean for one in at]
            widths = [100 * np.nan_to_num(one.half_width) for one in at]
            axes.errorbar(
                counts, means, widths, color=colour, marker=marker, capsize=2, label=f"the {name}"
            )
        axes.set_xscale("log", base=2)
        axes.set_xticks(counts, [str(count) for count in counts])
        axes.set_xlabel("candidates")
        axes.set_title(f"sparsity {sparsity:.1%}", fontsize=9)
        axes.grid(alpha=0.3)
    panels[0][0].set_ylabel("final test accuracy (%)")
    panels[0][0].legend(fontsize=8)
    titled(figure, f"{results.title}: what more candidates buy, mean and 95 % interval over seeds")
    return figure
