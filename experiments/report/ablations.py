"""Methods and their ablations: over the grid, or every seed where there is one sparsity."""

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from experiments.methods.method import Look
from experiments.methods.registry import find_method
from experiments.report.accuracy import DENSE_COLOUR, curve, draw, error_axis, kept_axis, titled
from experiments.report.paired import at_sparsity, finite_mean
from experiments.report.table import Results, label

VARIANTS = {
    "none": Look("unmodified", "#000000", "o"),
    "shuffle": Look("shuffled in layers", "#E69F00", "s"),
    "reinit": Look("other weights", "#56B4E9", "^"),
    "sparse-reinit": Look("other weights, own fan-in", "#0072B2", "X"),
    "invert": Look("inverted", "#CC79A7", "v"),
    "retrained": Look("other order of the data", "#009E73", "D"),
}
_ENDS = 0.01, 0.999  # Log odds of 0 and 1 are infinite.
_TICKS = 0.02, 0.05, *np.arange(1, 9) / 10, 0.55, 0.65, 0.75, 0.85, 0.9, 0.95, 0.97, 0.98, 0.99, 0.995


def ablations_figure(results: Results) -> Figure:
    """One panel a method: its error with its ablations, and that of random pruning."""
    wanted = results.settings["ablations"]
    methods = [m for m in results.methods if any(results.accuracy(m, v) for v in wanted)]
    columns = max(1, min(4, len(methods)))
    lines = max(1, -(-len(methods) // columns))
    figure, panels = plt.subplots(
        lines,
        columns,
        figsize=(4 * columns + 0.5, 3.4 * lines + 0.6),
        layout="constrained",
        sharey=True,
        squeeze=False,
    )
    dense = 1 - finite_mean(np.array(results.dense()))
    for axes, method in zip(panels.flat, methods, strict=False):
        axes.axhline(dense, color=DENSE_COLOUR, linewidth=1, linestyle="-.", label="dense")
        if results.has("random"):
            points = curve(results.of("random"))
            look = find_method("random").look
            draw(axes, 1 - points.sparsity, 1 - points.accuracy, None, look, "random pruning", ":")
        for variant, look in VARIANTS.items():
            points = curve(results.of(method, variant))
            if len(points):
                error = 1 - points.accuracy
                bars = np.array([np.minimum(points.deviation, 0.9 * error), points.deviation])
                draw(axes, 1 - points.sparsity, error, bars, look)
        axes.set_title(label(method), fontsize=10)
        kept_axis(axes)
    for axes in panels.flat[len(methods) :]:
        axes.set_visible(False)
    if methods:
        error_axis(panels.flat[0])  # shared
        panels.flat[0].legend(fontsize=7, loc="best")
    titled(figure, f"{results.title}: what ablations change, mean and standard deviation over seeds")
    return figure


def seeds_figure(results: Results) -> Figure:
    """Final test accuracy at the run's only sparsity: methods and their ablations, every seed.

    A dot for each seed, a marker for their mean. The axis is that of log odds, on which 98 and 99 % are
    as far apart as 50 and 67 %; below 1 and above 99.9 % it ends.
    """
    (sparsity,), methods = results.sparsities, results.methods
    accuracies = {
        (variant, place): at_sparsity(results.accuracy(method, variant), sparsity)
        for variant in VARIANTS
        for place, method in enumerate(methods)
    }
    variants = [v for v in VARIANTS if any(accuracies[v, p].size for p in range(len(methods)))]
    figure, axes = plt.subplots(figsize=(3 + 1.1 * len(methods), 6), layout="constrained")
    dense = finite_mean(np.array(results.dense()))
    axes.axhline(np.clip(dense, *_ENDS), color=DENSE_COLOUR, linewidth=1, linestyle="-.", label="dense")
    for number, variant in enumerate(variants):
        look, aside = VARIANTS[variant], 0.17 * (number - (len(variants) - 1) / 2)
        for place in range(len(methods)):
            seeds = np.clip(accuracies[variant, place], *_ENDS)
            axes.plot([place + aside] * len(seeds), seeds, ".", color=look.colour, markersize=3)
        means = [finite_mean(accuracies[variant, place]) for place in range(len(methods))]
        places = np.arange(len(methods)) + aside
        axes.plot(
            places, np.clip(means, *_ENDS), look.marker, color=look.colour, label=look.label, alpha=0.7
        )
    axes.set_yscale("logit")
    low, high = _limits(np.concatenate([*accuracies.values(), [dense]]))
    shown = [tick for tick in _TICKS if low <= tick <= high]
    if len(shown) < 3:
        shown = [tick for tick in MaxNLocator(6).tick_values(low, high) if low <= tick <= high]
    axes.set_ylim(low, high)
    axes.set_yticks(shown, [f"{tick:.4g}%" for tick in 100 * np.array(shown)])
    axes.minorticks_off()
    axes.set_xticks(range(len(methods)), [label(m) for m in methods], rotation=20, ha="right")
    axes.set_ylabel("final test accuracy (axis of log odds)")
    axes.grid(axis="y", alpha=0.3)
    axes.legend(fontsize=8)
    titled(figure, f"{results.title}: {100 * sparsity:.4g} % of the weights removed, every seed")
    return figure


def _limits(accuracies: np.ndarray) -> tuple[float, float]:
    """The ends of an axis of log odds that shows all accuracies, with a margin."""
    known = np.clip(accuracies[np.isfinite(accuracies)], *_ENDS)
    odds = np.log(known / (1 - known)) if known.size else np.zeros(1)
    margin = max(0.1, 0.05 * np.ptp(odds))
    low, high = 1 / (1 + np.exp(-np.array([odds.min() - margin, odds.max() + margin])))
    return float(low), float(high)
