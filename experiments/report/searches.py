"""The candidates of searches whose training went to the end: is the fittest the best?"""

from collections.abc import Callable

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure

from experiments.methods.searched import FITNESSES, Candidates, searches_of
from experiments.report.accuracy import titled
from experiments.report.paired import Pairs, rank_correlation
from experiments.report.table import Results, as_rows


def over_candidates(results: Results, method: str, reduce: Callable[[np.ndarray], float]) -> Pairs:
    """The final accuracies of a search's candidates as one number, by (seed, sparsity)."""
    return {key: reduce(final_accuracies(found)) for key, found in searches(results, method).items()}


def rank_correlations(results: Results, method: str, fitness: str) -> Pairs:
    """Spearman's correlation of search-time fitness and final accuracy over the candidates."""
    return {
        key: rank_correlation(found.fitness[fitness], final_accuracies(found))
        for key, found in searches(results, method).items()
    }


def fitness_figure(results: Results, method: str = "k-starts") -> Figure:
    """Search-time fitness against final accuracy, both relative to the search's own mean."""
    all_searches, sparsities = searches(results, method), results.sparsities
    figure, panels = plt.subplots(
        len(FITNESSES),
        len(sparsities),
        figsize=(2.1 * len(sparsities) + 1.2, 6),
        layout="constrained",
        squeeze=False,
        sharey="col",
    )
    for line, fitness in zip(panels, FITNESSES, strict=True):
        for axes, sparsity in zip(line, sparsities, strict=True):
            correlations = []
            for (seed, target), found in all_searches.items():
                accuracies = 100 * final_accuracies(found)
                finite = np.isfinite(accuracies)
                if target != sparsity or not finite.any():
                    continue
                values, accuracies = found.fitness[fitness][finite], accuracies[finite]
                correlations.append(rank_correlation(values, accuracies))
                axes.scatter(
                    (values - values.mean()) / (values.std() or 1),
                    accuracies - accuracies.mean(),
                    s=7,
                    color=plt.get_cmap("tab20")(seed % 20),
                    alpha=0.7,
                )
            known = [value for value in correlations if np.isfinite(value)]
            text = f"mean rank corr. {np.mean(known):+.2f}" if known else "no correlation"
            axes.set_title(text, fontsize=8)
            axes.grid(alpha=0.3)
            axes.tick_params(labelsize=7)
        line[0].set_ylabel(f"{fitness} fitness\n\naccuracy − mean\n(points)", fontsize=8)
    for axes, sparsity in zip(panels[-1], sparsities, strict=True):
        axes.set_xlabel(f"fitness, standardised\nsparsity {sparsity:.1%}", fontsize=8)
    titled(
        figure,
        f"{results.title}: does fitness foretell accuracy?\n(a point a candidate, a colour a seed)",
    )
    return figure


def searches(results: Results, method: str) -> dict[tuple[int, float], Candidates]:
    """The searches of a method, by seed and sparsity."""
    table = results.table[(results.table["method"] == method) & results.table["candidate"].notna()]
    found = searches_of(as_rows(table), method, results.settings["search_epochs"])
    return {(int(one.rows[0][0]["seed"]), float(one.rows[0][0]["sparsity_target"])): one for one in found}


def final_accuracies(found: Candidates) -> np.ndarray:
    """Of the candidates of a search, after the last epoch; NaN where training failed."""
    last = [max(rows, key=lambda row: row["epoch"]) for rows in found.rows]
    return np.array([float("nan") if row["failed"] else row["test_accuracy"] for row in last])
