"""The results of ``experiments.pruning_methods``: the tidy table, the figure, the summary."""

from collections.abc import Iterator

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from experiments.engine.options import counted
from experiments.engine.processes import by_first
from experiments.engine.run_folder import Row, RunFolder, parquet, tidy_rows
from experiments.methods_plan import (
    COMBINED,
    CONTINUOUS,
    DENSE,
    DISSIPATING,
    FINE_TUNED,
    GATED,
    GRADUAL,
    METHODS,
    SEARCH,
    STOCHASTIC,
    SUPERMASK,
    MethodsPlan,
)
from experiments.report.figures import save_figures
from experiments.report.paired import (
    at_same_kept,
    estimate,
    finite_deviation,
    finite_mean,
    of_seeds,
    percent_cell,
)

# Okabe and Ito's palette, told apart by colour-blind readers, and a few more.
LOOKS = {
    "random": ("#999999", "o"),
    "magnitude": ("#E69F00", "s"),
    "snip": ("#56B4E9", "^"),
    "grasp": ("#CC79A7", "v"),
    "synflow": ("#009E73", "D"),
    FINE_TUNED: ("#000000", "h"),
    GRADUAL: ("#0072B2", "p"),
    DISSIPATING: ("#D55E00", "*"),
    COMBINED: ("#806000", "P"),
    CONTINUOUS: ("#882255", "X"),
    SUPERMASK: ("#44AA99", "d"),
    STOCHASTIC: ("#AA4499", "<"),
}


@by_first
def write_results(dataset: str, model: str, plan: MethodsPlan, folder: RunFolder) -> None:
    """Writes table, figure, and last of all the summary, which says that the run is complete.

    Args:
        dataset: The data set's name.
        model: The model's name.
        plan: What was trained.
        folder: With all members finished.
    """
    head = {"experiment": "pruning_methods", "dataset": dataset, "model": model}
    rows = tidy_rows(
        folder.rows(), head, ("method", "sparsity_target", "start", "seed", "candidate", "epoch")
    )
    folder.write("results.parquet", parquet(rows))
    final = [row for row in rows if row["method"] != SEARCH and row["epoch"] == plan.recipe.epochs]
    title = f"{model} on {dataset}, {counted(plan.seeds, 'seed')}, {counted(plan.recipe.epochs, 'epoch')}"
    save_figures(folder, {"accuracy": accuracy_figure(final, plan, title)})
    folder.write("summary.md", "\n".join(_summary(title, final, plan)) + "\n")


def points(final: list[Row], method: str) -> list[list[Row]]:
    """A method's finished networks, one group of seeds a point of its line, by sparsity.

    Args:
        final: Rows of the last epoch.
        method: Its name.

    Returns:
        Groups of rows; diverged networks are left out.
    """
    groups: dict[tuple, list[Row]] = {}
    for row in final:
        if row["method"] == method and not row["failed"]:
            groups.setdefault((row["sparsity_target"], row["start"]), []).append(row)
    return sorted(groups.values(), key=lambda group: finite_mean(_column(group, "sparsity")))


def accuracy_figure(final: list[Row], plan: MethodsPlan, title: str) -> Figure:
    """Final test accuracy against what is kept, a line a method.

    Args:
        final: Rows of the last epoch.
        plan: What was trained.
        title: Above the axes.

    Returns:
        The figure: means and standard deviations over seeds.
    """
    figure, axes = plt.subplots(figsize=(9, 6), layout="constrained")
    dense = [row["test_accuracy"] for row in final if row["method"] == DENSE and not row["failed"]]
    axes.axhline(
        finite_mean(np.array(dense)), color="#000000", linewidth=1, linestyle="-.", label="dense"
    )
    for method in (method for method in METHODS if method in plan.methods):
        groups, (colour, marker) = points(final, method), LOOKS[method]
        axes.errorbar(
            [1 - finite_mean(_column(group, "sparsity")) for group in groups],
            [finite_mean(_column(group, "test_accuracy")) for group in groups],
            [finite_deviation(_column(group, "test_accuracy")) for group in groups],
            label=method,
            color=colour,
            marker=marker,
            markersize=5,
            linewidth=1.2,
            elinewidth=0.7,
        )
    axes.set_xscale("log")
    axes.invert_xaxis()
    axes.xaxis.set_major_formatter(lambda kept, _: f"{100 * kept:.4g}%")
    axes.yaxis.set_major_formatter(PercentFormatter(1))
    axes.set_xlabel("weights kept")
    axes.set_ylabel("final test accuracy")
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8, loc="lower left")
    figure.suptitle(f"{title}\n(mean, standard deviation over seeds)")
    return figure


def _summary(title: str, final: list[Row], plan: MethodsPlan) -> Iterator[str]:
    methods = [method for method in METHODS if method in plan.methods and method not in GATED]
    dense = percent_cell(row["test_accuracy"] for row in final if row["method"] == DENSE)
    yield from (
        f"# pruning_methods: {title}",
        "",
        f"Final test accuracy in percent, mean ± standard deviation over seeds; dense: {dense}. Every "
        f"network is trained for {plan.recipe.epochs} epochs; what prunes while training does so in the "
        f"first {plan.prune_epochs}. {COMBINED} searches first, {plan.k} candidates for "
        f"{plan.search_epochs} epochs, which come on top.",
    )
    if methods:
        yield from ("", "| sparsity | " + " | ".join(methods) + " |", "|---" * (len(methods) + 1) + "|")
        for sparsity in plan.sparsities:
            cells = [
                percent_cell(
                    row["test_accuracy"]
                    for row in final
                    if (row["method"], row["sparsity_target"]) == (method, sparsity)
                )
                for method in methods
            ]
            yield f"| {sparsity:g} | " + " | ".join(cells) + " |"
    for gated in GATED:
        if gated in plan.methods:
            yield from _gated(gated, final, methods, plan.seeds)
    diverged = sorted(row["member"] for row in final if row["failed"])
    if diverged:
        yield from ("", f"**Diverged** (left out of the means): {', '.join(diverged)}.")


def _gated(gated: str, final: list[Row], methods: list[str], seeds: int) -> Iterator[str]:
    """A method with gates, and its difference to each method without at the sparsity that it found."""
    yield from (
        "",
        f"## {gated}, and over the others at its sparsity",
        "",
        "Differences in accuracy points, paired by seed, with 95 % intervals; the others' accuracies are "
        "interpolated in the logarithm of what they keep.",
        "",
        "| "
        + " | ".join(["start", "kept", "accuracy", *(f"over {method}" for method in methods)])
        + " |",
        "|---" * (len(methods) + 3) + "|",
    )
    for group in points(final, gated):
        kept = _column(group, "sparsity")
        accuracy = percent_cell(row["test_accuracy"] for row in group)
        cells = [accuracy + of_seeds(len(group), seeds)]
        for method in methods:
            gaps = {}
            for row in group:
                curve = [
                    (1 - other["sparsity"], other["test_accuracy"])
                    for other in final
                    if other["method"] in (method, DENSE)
                    and other["seed"] == row["seed"]
                    and not other["failed"]
                ]
                there = at_same_kept(curve, 1 - row["sparsity"])
                if there is not None:
                    gaps[row["seed"], 0.0] = row["test_accuracy"] - there
            result = estimate(gaps)
            cells.append("none" if result.seeds == 0 else result.points)
        yield f"| {group[0]['start']:g} | {1 - finite_mean(kept):.2%} | {' | '.join(cells)} |"


def _column(rows: list[Row], name: str) -> np.ndarray:
    return np.array([row[name] for row in rows])
