"""Each method's difference to random pruning with its interval, a panel a sparsity."""

from collections.abc import Sequence

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from experiments.methods.registry import find_method
from experiments.report.accuracy import titled
from experiments.report.paired import finite_mean
from experiments.report.referee import Refereed
from experiments.report.table import label


def referee_figure(found: Refereed) -> Figure:
    """The figure: methods ordered by their mean difference over the sparsities.

    A panel's axis spans what most methods differ by; what lies beyond stands at its edge, as a number.
    """
    results = found.results
    methods = [m for m in found.methods if any(name == m for name, _ in found.over_random)]
    mean = {
        m: finite_mean(np.array([e.mean for (name, _), e in found.over_random.items() if name == m]))
        for m in methods
    }
    methods = sorted(methods, key=lambda m: np.nan_to_num(mean[m], nan=-1))
    count = max(1, len(results.sparsities))
    figure, panels = plt.subplots(
        1,
        count,
        figsize=(3.3 * count + 2.2, 0.27 * len(methods) + 1.7),
        layout="constrained",
        sharey=True,
        squeeze=False,
    )
    for axes, sparsity in zip(panels.flat, results.sparsities, strict=True):
        _panel(axes, found, methods, sparsity)
        axes.set_title(f"sparsity {sparsity:g}", fontsize=10)
        axes.set_xlabel("accuracy over random pruning (points)", fontsize=8)
    panels.flat[0].set_yticks(range(len(methods)), [label(method) for method in methods])
    titled(
        figure,
        f"{results.title}: each method over random pruning, intervals corrected by Holm; filled markers "
        "are surely not level with it",
    )
    return figure


def _panel(axes: Axes, found: Refereed, methods: Sequence[str], sparsity: float) -> None:
    estimates = {
        place: found.over_random[method, sparsity]
        for place, method in enumerate(methods)
        if (method, sparsity) in found.over_random
    }
    estimates = {place: e for place, e in estimates.items() if np.isfinite(e.mean)}
    low, high = _limits([100 * estimate.mean for estimate in estimates.values()])
    axes.set_xlim(low, high)
    axes.axvline(0, color="#999999", linewidth=1)
    for place, estimate in estimates.items():
        look, points = find_method(methods[place]).look, 100 * estimate.mean
        there = float(np.clip(points, low, high))
        axes.errorbar(
            there,
            place,
            xerr=100 * np.nan_to_num(estimate.half_width) if there == points else None,
            color=look.colour,
            marker=look.marker or "o",
            markersize=5,
            markerfacecolor=look.colour if estimate.sign else "white",
            elinewidth=0.9,
            linestyle="none",
            clip_on=there == points,
        )
        if there != points:
            inwards = 6 if points < low else -6
            axes.annotate(
                f"{points:+.2g}",
                (there, place),
                xytext=(inwards, 0),
                textcoords="offset points",
                ha="left" if inwards > 0 else "right",
                va="center",
                fontsize=7,
            )
    axes.grid(alpha=0.3)
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:+g}")
    axes.tick_params(labelsize=8)


def _limits(points: Sequence[float]) -> tuple[float, float]:
    """What an axis shows: all, but for what lies far beyond the tenth to the ninetieth in a hundred."""
    if not points:
        return -1.0, 1.0
    low, high = np.percentile([*points, 0], [10, 90])
    span = max(high - low, 0.1)
    inside = [point for point in (*points, 0) if low - span <= point <= high + span]
    return min(inside) - 0.15 * span, max(inside) + 0.15 * span
