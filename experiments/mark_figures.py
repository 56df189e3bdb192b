"""The figures of ``experiments.missing_the_mark``."""

from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from experiments.mark_claims import Findings
from experiments.mark_plan import AFTER_TRAINING, METHODS, Plan
from experiments.report.paired import Pairs, at_sparsity, finite_deviation, finite_mean

# Okabe and Ito's palette, told apart by colour-blind readers, and a few more.
LOOKS = {
    "random": ("#999999", "o"),
    "magnitude": ("#E69F00", "s"),
    "snip": ("#56B4E9", "^"),
    "snip-second-draw": ("#88CCEE", "<"),
    "snip-iterative": ("#004488", ">"),
    "force": ("#332288", "1"),
    "grasp": ("#CC79A7", "v"),
    "grasp-absolute": ("#882255", "x"),
    "synflow": ("#009E73", "D"),
    "random-uniform": ("#666666", "2"),
    "random-er": ("#AAAA00", "3"),
    "random-erk": ("#EEDD88", "4"),
    "random-igq": ("#BBCC33", "8"),
    "random-smart-ratios": ("#FFAABB", "d"),
    "k-starts": ("#806000", "P"),
    "dissipating-gradients": ("#D55E00", "*"),
    "magnitude-after-training": ("#000000", "h"),
    "lottery-ticket-rewinding": ("#0072B2", "p"),
}
VARIANTS = {
    "none": ("unmodified", "#000000", "o"),
    "shuffle": ("shuffled in layers", "#E69F00", "s"),
    "reinit": ("other weights", "#56B4E9", "^"),
    "invert": ("inverted", "#CC79A7", "v"),
}
_ENDS = 0.01, 0.999  # Log odds of 0 and 1 are infinite.
_TICKS = 0.02, 0.05, *np.arange(1, 9) / 10, 0.55, 0.65, 0.75, 0.85, 0.9, 0.95, 0.97, 0.98, 0.99, 0.995


def methods_figure(found: Findings, plan: Plan, title: str) -> Figure:
    """Final test accuracy against sparsity, a line a method.

    Args:
        found: Of the whole run.
        plan: What was trained.
        title: Above the axes.

    Returns:
        The figure: means and standard deviations over seeds.
    """
    figure, axes = plt.subplots(figsize=(10, 6), layout="constrained")
    _dense(axes, found)
    for method in _in_order(plan):
        colour, marker = LOOKS[method]
        style = "--" if method in AFTER_TRAINING else "-"
        _line(axes, found.accuracy(method), plan.sparsities, (method, colour, marker), style)
    _finish(axes, plan.sparsities)
    axes.legend(fontsize=8, ncols=2, loc="lower left")
    figure.suptitle(title)
    return figure


def seeds_figure(found: Findings, plan: Plan, title: str) -> Figure:
    """Final test accuracy at the run's only sparsity: methods and their ablations, every seed.

    Args:
        found: Of the whole run.
        plan: What was trained, at one sparsity.
        title: Above the axes.

    Returns:
        The figure: a dot for each seed, a marker for their mean. The axis is that of log odds, on which
        98 and 99 % are as far apart as 50 and 67 %; below 1 and above 99.9 % it ends.
    """
    (sparsity,) = plan.sparsities
    methods = _in_order(plan)
    accuracies = {
        (variant, place): at_sparsity(found.accuracy(method, variant), sparsity)
        for variant in VARIANTS
        for place, method in enumerate(methods)
    }
    variants = [v for v in VARIANTS if any(accuracies[v, place].size for place in range(len(methods)))]
    figure, axes = plt.subplots(figsize=(3 + 1.1 * len(methods), 6), layout="constrained")
    dense = finite_mean(np.array(list(found.accuracy("dense").values())))
    axes.axhline(np.clip(dense, *_ENDS), color="#999999", linewidth=1, linestyle="-.", label="dense")
    for number, variant in enumerate(variants):
        label, colour, marker = VARIANTS[variant]
        aside = 0.17 * (number - (len(variants) - 1) / 2)
        for place in range(len(methods)):
            seeds = np.clip(accuracies[variant, place], *_ENDS)
            axes.plot([place + aside] * len(seeds), seeds, ".", color=colour, markersize=3)
        means = [finite_mean(accuracies[variant, place]) for place in range(len(methods))]
        places = np.arange(len(methods)) + aside
        axes.plot(places, np.clip(means, *_ENDS), marker, color=colour, label=label, alpha=0.7)
    axes.set_yscale("logit")
    low, high = _limits(np.concatenate([*accuracies.values(), [dense]]))
    shown = [tick for tick in _TICKS if low <= tick <= high]
    if len(shown) < 3:
        shown = [tick for tick in MaxNLocator(6).tick_values(low, high) if low <= tick <= high]
    axes.set_ylim(low, high)
    axes.set_yticks(shown, [f"{tick:.4g}%" for tick in 100 * np.array(shown)])
    axes.minorticks_off()
    axes.set_xticks(range(len(methods)), methods, rotation=20, ha="right")
    axes.set_ylabel(f"final test accuracy, {sparsity:.4g} of the weights removed")
    axes.grid(axis="y", alpha=0.3)
    axes.legend(fontsize=8)
    figure.suptitle(title)
    return figure


def _limits(accuracies: np.ndarray) -> tuple[float, float]:
    """The ends of an axis of log odds that shows all accuracies, with a margin."""
    known = np.clip(accuracies[np.isfinite(accuracies)], *_ENDS)
    odds = np.log(known / (1 - known)) if known.size else np.zeros(1)
    margin = max(0.1, 0.05 * np.ptp(odds))
    low, high = 1 / (1 + np.exp(-np.array([odds.min() - margin, odds.max() + margin])))
    return float(low), float(high)


def ablations_figure(found: Findings, plan: Plan, title: str) -> Figure:
    """One panel a method, with its ablations and random pruning.

    Args:
        found: Of the whole run.
        plan: What was trained.
        title: Above the panels.

    Returns:
        The figure.
    """
    methods = [m for m in _in_order(plan) if any(found.accuracy(m, v) for v in plan.ablations)]
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
    for axes, method in zip(panels.flat, methods, strict=False):
        _dense(axes, found)
        if found.has("random"):
            look = ("random pruning", "#999999", ".")
            _line(axes, found.accuracy("random"), plan.sparsities, look, ":")
        for variant, look in VARIANTS.items():
            _line(axes, found.accuracy(method, variant), plan.sparsities, look, "-")
        axes.set_title(method, fontsize=10)
        _finish(axes, plan.sparsities)
    for axes in panels.flat[len(methods) :]:
        axes.set_visible(False)
    if methods:
        panels.flat[0].legend(fontsize=7, loc="lower left")
    figure.suptitle(title)
    return figure


def steps_figure(found: Findings, plan: Plan, title: str) -> Figure:
    """Final accuracy against the step at which a method prunes, a panel a sparsity.

    Args:
        found: Of the whole run.
        plan: What was trained.
        title: Above the panels.

    Returns:
        The figure; the axis of steps is linear up to the first above 0, then logarithmic.
    """
    count = len(plan.step_sparsities)
    figure, panels = plt.subplots(
        1, count, figsize=(5.5 * count, 4.5), layout="constrained", squeeze=False
    )
    steps = [0, *plan.steps]
    for axes, sparsity in zip(panels.flat, plan.step_sparsities, strict=True):
        _dense(axes, found)
        at_steps = [method for method in _in_order(plan) if method not in AFTER_TRAINING]
        for method in (method for method in at_steps if found.accuracy(method, step=plan.steps[0])):
            colour, marker = LOOKS[method]
            groups = [at_sparsity(found.accuracy(method, step=step), sparsity) for step in steps]
            axes.errorbar(
                steps,
                [finite_mean(group) for group in groups],
                [finite_deviation(group) for group in groups],
                label=method,
                color=colour,
                marker=marker,
                capsize=2,
            )
        for method in (m for m in AFTER_TRAINING if found.has(m)):
            mean = finite_mean(at_sparsity(found.accuracy(method), sparsity))
            axes.axhline(mean, color=LOOKS[method][0], linestyle="--", linewidth=1, label=method)
        axes.set_xscale("symlog", linthresh=plan.steps[0])
        axes.set_xlim(-plan.steps[0] / 10, 1.2 * plan.steps[-1])
        axes.set_xticks(steps, [str(step) for step in steps])
        axes.minorticks_off()
        axes.set_xlabel("training step at which weights are pruned")
        axes.set_ylabel("final test accuracy")
        axes.yaxis.set_major_formatter(PercentFormatter(1))
        axes.grid(alpha=0.3)
        axes.set_title(f"sparsity {100 * sparsity:.4g}%", fontsize=10)
    panels.flat[0].legend(fontsize=7)
    figure.suptitle(title)
    return figure


def _in_order(plan: Plan) -> list[str]:
    return [method for method in METHODS if method in plan.methods]


def _dense(axes: Axes, found: Findings) -> None:
    mean = finite_mean(np.array(list(found.accuracy("dense").values())))
    axes.axhline(mean, color="#999999", linewidth=1, linestyle="-.", label="dense")


def _line(
    axes: Axes, pairs: Pairs, sparsities: Sequence[float], look: tuple[str, str, str], style: str
) -> None:
    """A method over the grid; the axis is logarithmic in what is kept."""
    if not pairs:
        return
    label, colour, marker = look
    groups = [at_sparsity(pairs, sparsity) for sparsity in sparsities]
    axes.errorbar(
        [1 - sparsity for sparsity in sparsities],
        [finite_mean(group) for group in groups],
        [finite_deviation(group) for group in groups],
        label=label,
        color=colour,
        marker=marker,
        markersize=4,
        linestyle=style,
        linewidth=1.2,
        elinewidth=0.7,
    )


def _finish(axes: Axes, sparsities: Sequence[float]) -> None:
    axes.set_xscale("log")
    axes.set_xlim(1.1, min(1 - sparsity for sparsity in sparsities) / 1.1)
    shown = sparsities[:: max(1, len(sparsities) // 7)]
    labels = [f"{100 * sparsity:.4g}%" for sparsity in shown]
    axes.set_xticks([1 - sparsity for sparsity in shown], labels)
    axes.minorticks_off()
    axes.tick_params(axis="x", labelsize=7, rotation=30)
    axes.set_xlabel("sparsity (weights removed)")
    axes.set_ylabel("final test accuracy")
    axes.yaxis.set_major_formatter(PercentFormatter(1))
    axes.grid(alpha=0.3)
