"""The figures of ``experiments.compare``."""

from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator, PercentFormatter

from experiments.compare_claims import Findings
from experiments.compare_search import FITNESSES
from experiments.report.paired import (
    Pairs,
    at_sparsity,
    differences,
    finite_deviation,
    finite_mean,
    rank_correlation,
)

# Okabe and Ito's palette: told apart by colour-blind readers.
LINES = {
    ("random", None): ("random", "#999999", "o"),
    ("k-starts", "weight"): ("K-starts, weight fitness", "#E69F00", "s"),
    ("k-starts", "gradient"): ("K-starts, gradient fitness", "#56B4E9", "^"),
    ("k-starts", "combined"): ("K-starts, combined fitness", "#0072B2", "D"),
    ("dissipate-to", None): ("dissipating gradients", "#009E73", "v"),
    ("random+dissipate-to", None): ("random + dissipating gradients", "#CC79A7", "X"),
    ("k-starts+dissipate-to", None): ("K-starts + dissipating gradients", "#D55E00", "P"),
}


def accuracy_figure(findings: Findings, title: str) -> Figure:
    """Final test accuracy against sparsity, and its difference to random pruning, paired by seed.

    Args:
        findings: Of the whole run.
        title: Above the axes.

    Returns:
        The figure: means and standard deviations over seeds.
    """
    figure, (left, right) = plt.subplots(1, 2, figsize=(12, 5), layout="constrained")
    random = findings.accuracy("random")
    sparsities = sorted({sparsity for _, sparsity in random})
    for index, ((method, variant), look) in enumerate(LINES.items()):
        shift = 0.3 * (index / (len(LINES) - 1) - 0.5)
        accuracies = findings.accuracy(method, variant)
        _errorbars(left, accuracies, sparsities, shift, look)
        if method != "random":
            gaps = differences(accuracies, random)
            _errorbars(right, {k: 100 * v for k, v in gaps.items()}, sparsities, shift, look)
    dense = np.array(list(findings.accuracy("dense").values()))
    mean, spread = finite_mean(dense), finite_deviation(dense)
    left.axhline(mean, color="black", linewidth=1, linestyle="--", label="dense")
    left.axhspan(mean - spread, mean + spread, color="black", alpha=0.1, linewidth=0)
    left.set_ylabel("final test accuracy")
    left.yaxis.set_major_formatter(PercentFormatter(1))
    left.legend(fontsize=8, loc="lower left")
    right.axhline(0, color="#999999", linewidth=1)
    right.set_ylabel("difference to random pruning (points; linear within ±1)")
    right.set_yscale("symlog", linthresh=1)
    right.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:+g}"))
    for axes in (left, right):
        axes.set_xticks(range(len(sparsities)), [f"{sparsity:.1%}" for sparsity in sparsities])
        axes.set_xlabel("sparsity (weights removed)")
        axes.grid(axis="y", alpha=0.3)
    figure.suptitle(title)
    return figure


def sparsity_figure(findings: Findings, title: str) -> Figure:
    """Sparsity over epochs: bands on the left, schedules of sparsities on the right.

    Args:
        findings: Of the whole run.
        title: Above the axes.

    Returns:
        The figure.
    """
    figure, (left, right) = plt.subplots(1, 2, figsize=(9.5, 4), layout="constrained", sharey=True)
    variants = sorted(
        {row["variant"] for row in findings.final if row["method"] == "dissipate"}, key=float
    )
    for index, variant in enumerate(variants):
        colour = plt.get_cmap("viridis")(index / max(1, len(variants)))
        rows = [r for r in findings.rows if r["method"] == "dissipate" and r["variant"] == variant]
        _curve(left, rows, f"fraction {variant}", colour, "-")
    targets = sorted({sparsity for _, sparsity in findings.accuracy("dissipate-to")})
    for method, style in (("dissipate-to", "-"), ("k-starts+dissipate-to", "--")):
        for index, target in enumerate(targets):
            colour = plt.get_cmap("plasma")(index / max(1, len(targets)))
            rows = [r for r in findings.rows if r["method"] == method and r["sparsity_target"] == target]
            label = f"to {target:.1%}" if style == "-" else None
            _curve(right, rows, label, colour, style)
    right.plot([], [], color="black", linestyle="--", label="after K-starts")
    for axes, name in ((left, "within a fraction of the start"), (right, "to given sparsities")):
        axes.set_title(name, fontsize=10)
        axes.set_xlabel("epoch")
        axes.set_ylim(0, 1.02)
        axes.grid(alpha=0.3)
        axes.legend(fontsize=8, loc="lower right")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    left.set_ylabel("sparsity (weights removed)")
    figure.suptitle(title)
    return figure


def fitness_figure(findings: Findings, title: str) -> Figure:
    """Search-time fitness against final accuracy, both relative to the search's own mean.

    Args:
        findings: Of the whole run.
        title: Above the axes.

    Returns:
        The figure; the rank correlation in each panel is the mean over its searches.
    """
    groups = {
        key: [row for row in rows if not row["failed"]] for key, rows in findings.candidates().items()
    }
    sparsities = sorted({sparsity for _, sparsity in groups})
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
            for (seed, target), rows in groups.items():
                if target != sparsity or not rows:
                    continue
                values = np.array([row[f"fitness_{fitness}"] for row in rows])
                accuracies = 100 * np.array([row["test_accuracy"] for row in rows])
                correlations.append(rank_correlation(values, accuracies))
                colour = plt.get_cmap("tab20")(seed % 20)
                axes.scatter(
                    (values - values.mean()) / (values.std() or 1),
                    accuracies - accuracies.mean(),
                    s=7,
                    color=colour,
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
    figure.suptitle(f"{title}\n(a point a candidate, a colour a seed)")
    return figure


def _curve(axes: Axes, rows: Sequence[dict], label: str | None, colour, style: str) -> None:
    epochs = sorted({row["epoch"] for row in rows})
    values = [[row["sparsity"] for row in rows if row["epoch"] == epoch] for epoch in epochs]
    mean, spread = (np.array([reduce(value) for value in values]) for reduce in (np.mean, np.std))
    axes.plot(epochs, mean, label=label, color=colour, linestyle=style, marker=".", markersize=4)
    axes.fill_between(epochs, mean - spread, mean + spread, color=colour, alpha=0.2)


def _errorbars(
    axes: Axes, pairs: Pairs, sparsities: Sequence[float], shift: float, look: tuple[str, str, str]
) -> None:
    """One method's line, shifted a little so that error bars do not hide each other."""
    label, colour, marker = look
    groups = [at_sparsity(pairs, sparsity) for sparsity in sparsities]
    axes.errorbar(
        [index + shift for index in range(len(sparsities))],
        [finite_mean(group) for group in groups],
        [finite_deviation(group) for group in groups],
        label=label,
        color=colour,
        marker=marker,
        markersize=5,
        capsize=2,
        linewidth=1.3,
    )
