"""What more candidates buy: the fittest and the best of 1, 2, 4, ... up to all candidates of a search.

The candidates of a seed are divided into groups of as many as are asked for, and the groups' numbers are
averaged, so that a seed counts once and few candidates are not judged by one group alone. The fittest is
chosen within its group by the combined fitness, before the end; the best is the one of the highest final
test accuracy, which no method could know.
"""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure

from experiments.methods.searched import Candidates
from experiments.report.accuracy import titled
from experiments.report.markdown import table
from experiments.report.paired import (
    Pairs,
    at_sparsity,
    differences,
    estimate,
    finite_deviation,
    finite_max,
    finite_mean,
    percent_cell,
)
from experiments.report.searches import final_accuracies, searches
from experiments.report.table import Results


class OfSome(NamedTuple):
    """Final accuracies where a search has some number of candidates, by seed and sparsity.

    Attributes:
        count: How many candidates.
        fittest: Of the candidate that the combined fitness chooses.
        best: Of the candidate that turns out to be the best.
    """

    count: int
    fittest: Pairs
    best: Pairs


def of_some(results: Results, method: str) -> list[OfSome]:
    """For 1, 2, 4, ... candidates, as far as there are as many in every search."""
    found = searches(results, method)
    least = min((len(one.rows) for one in found.values()), default=0)
    counts = [2**power for power in range(least.bit_length())]
    return [
        OfSome(
            count,
            _over_groups(results, found, count, _of_fittest),
            _over_groups(results, found, count, lambda one: finite_max(final_accuracies(one))),
        )
        for count in counts
    ]


def _of_fittest(found: Candidates) -> float:
    return float(final_accuracies(found)[found.fittest("combined")])


def _over_groups(
    results: Results,
    found: dict[tuple[int, float], Candidates],
    count: int,
    accuracy: Callable[[Candidates], float],
) -> Pairs:
    length = results.settings["search_epochs"]
    return {
        key: finite_mean(np.array([accuracy(group) for group in _groups(one, count, length)]))
        for key, one in found.items()
    }


def _groups(found: Candidates, count: int, search_epochs: int) -> Iterator[Candidates]:
    for first in range(0, len(found.rows) - count + 1, count):
        yield Candidates(found.rows[first : first + count], search_epochs)


def candidates_lines(found: list[OfSome], results: Results) -> list[str]:
    """A table, a line a number of candidates, and what the last doubling has added."""
    head = ["candidates"]
    for sparsity in results.sparsities:
        head += [f"sparsity {sparsity:g}: fittest", "best"]
    rows = []
    for one in found:
        cells = (
            percent_cell(at_sparsity(pairs, sparsity))
            for sparsity in results.sparsities
            for pairs in (one.fittest, one.best)
        )
        rows.append([str(one.count), *cells])
    half, whole = found[-2], found[-1]
    gains = (
        f"- From {half.count} to {whole.count} candidates the {name} gains "
        f"{estimate(differences(after, before)).points} points, averaged over the sparsities."
        for name, before, after in (
            ("fittest", half.fittest, whole.fittest),
            ("best", half.best, whole.best),
        )
    )
    return [*table(head, rows), "", *gains]


def candidates_figure(found: list[OfSome], results: Results) -> Figure:
    """Accuracy against the number of candidates, a panel a sparsity."""
    sparsities, counts = results.sparsities, [one.count for one in found]
    size = (2.6 * len(sparsities) + 1.2, 3.2)
    figure, panels = plt.subplots(1, len(sparsities), figsize=size, layout="constrained", squeeze=False)
    for axes, sparsity in zip(panels[0], sparsities, strict=True):
        for name, colour, marker in (("best", "#999999", "s"), ("fittest", "#806000", "P")):
            of_seeds = [at_sparsity(getattr(one, name), sparsity) for one in found]
            means = [100 * finite_mean(values) for values in of_seeds]
            spread = [100 * finite_deviation(values) for values in of_seeds]
            look = {"color": colour, "marker": marker, "capsize": 2, "label": f"the {name}"}
            axes.errorbar(counts, means, spread, **look)
        axes.set_xscale("log", base=2)
        axes.set_xticks(counts, [str(count) for count in counts])
        axes.set_xlabel("candidates")
        axes.set_title(f"sparsity {sparsity:.1%}", fontsize=9)
        axes.grid(alpha=0.3)
    panels[0][0].set_ylabel("final test accuracy (%)")
    panels[0][0].legend(fontsize=8)
    titled(figure, f"{results.title}: what more candidates buy, mean and standard deviation over seeds")
    return figure
