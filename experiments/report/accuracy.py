"""Accuracy against sparsity, a line a method: the error on a log axis, and the difference to a baseline.

Where accuracies crowd near the top the two axes show what is talked about: errors of 2 and 3 % are as far
apart as of 20 and 30 %, and a difference of a tenth of a point can be seen. Methods stand in panels by
when they prune, at most eight in each.
"""

from collections.abc import Sequence
from textwrap import wrap

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from experiments.methods.method import Look, When
from experiments.methods.registry import find_method
from experiments.report.paired import finite_deviation, finite_mean
from experiments.report.table import Results, Table

MOST_IN_A_PANEL = 8
DENSE_COLOUR = "#000000"


def accuracy_figure(results: Results, *, baseline: str) -> Figure:
    """The figure: means and standard deviations over seeds.

    Args:
        results: The table of a run.
        baseline: The method that the right panels subtract, paired by seed and sparsity. Methods that
            find their own sparsity are on the left alone.
    """
    groups = _panels([m for m in results.methods if m != baseline])
    baseline = baseline if results.has(baseline) else ""
    figure, panels = plt.subplots(
        len(groups),
        2 if baseline else 1,
        figsize=(13 if baseline else 8, 4.4 * len(groups) + 0.7),
        layout="constrained",
        squeeze=False,
        sharex=True,
    )
    for line, (heading, methods) in zip(panels, groups, strict=True):
        shown = [baseline, *methods] if baseline else methods
        _errors(line[0], results, shown)
        line[0].set_title(heading, fontsize=10, loc="left")
        if baseline:
            _differences(line[1], results, methods, baseline)
        line[0].legend(fontsize=8, loc="best")
    for axes in panels.flat:
        kept_axis(axes)
    titled(
        figure,
        f"{results.title}: final test error of pruned networks, mean and standard deviation over seeds",
    )
    return figure


def _panels(methods: Sequence[str]) -> list[tuple[str, list[str]]]:
    """Methods by when they prune, at most so many in a panel; few of several kinds share one."""
    if len(methods) <= MOST_IN_A_PANEL:
        return [("", list(methods))]
    groups: list[tuple[str, list[str]]] = []
    for when in When:
        of_kind = [m for m in methods if find_method(m).when is when]
        heading, before = groups[-1] if groups else ("", [])
        if before and of_kind and len(before) + len(of_kind) <= MOST_IN_A_PANEL:
            groups[-1] = (f"{heading}, or {when}", before + of_kind)
            continue
        count = -(-len(of_kind) // MOST_IN_A_PANEL)
        size = -(-len(of_kind) // max(1, count))
        for part in range(count):
            groups.append((f"Pruned {when}", of_kind[part * size : (part + 1) * size]))
    return groups


def curve(rows: Table) -> Table:
    """A line a point of a method's curve: mean sparsity, mean and deviation of the accuracy, seeds."""
    rows = rows[~rows["failed"].astype(bool)]
    points = rows.groupby(["sparsity_target", "setting", "round"], dropna=False)
    found = points.agg(
        sparsity=("sparsity", "mean"),
        accuracy=("test_accuracy", "mean"),
        deviation=("test_accuracy", "std"),
        seeds=("seed", "nunique"),
    )
    return found.fillna({"deviation": 0.0}).sort_values("sparsity")


def _errors(axes: Axes, results: Results, methods: Sequence[str]) -> None:
    dense = np.array(results.dense())
    if dense.size:
        error = 1 - finite_mean(dense)
        axes.axhline(error, color=DENSE_COLOUR, linewidth=1, linestyle="-.", label="Dense")
    for method in methods:
        points, look = curve(results.of(method)), find_method(method).look
        mean = 1 - points["accuracy"]
        # On a log axis a bar must end above 0.
        lower = np.minimum(points["deviation"], 0.9 * mean)
        bars = np.array([lower, points["deviation"]])
        draw(axes, 1 - points["sparsity"], mean, bars, look)
    error_axis(axes)
    axes.grid(alpha=0.3, which="both")


def _differences(axes: Axes, results: Results, methods: Sequence[str], baseline: str) -> None:
    axes.axhline(0, color=find_method(baseline).look.colour, linewidth=1)
    theirs = results.accuracy(baseline)
    for method in methods:
        ours = results.accuracy(method)
        groups: dict[float, list[float]] = {}
        for key in ours.keys() & theirs.keys():
            groups.setdefault(key[1], []).append(100 * (ours[key] - theirs[key]))
        order = sorted(groups)
        means = [finite_mean(np.array(groups[s])) for s in order]
        bars = [finite_deviation(np.array(groups[s])) for s in order]
        if order:
            draw(axes, [1 - s for s in order], means, bars, find_method(method).look)
    axes.set_yscale("symlog", linthresh=1)
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:+g}"))
    name = find_method(baseline).look.label
    axes.set_ylabel(f"accuracy minus that of {name}\n(points; log axis beyond ±1)")
    axes.grid(alpha=0.3)


def draw(axes: Axes, x, y, bars, look: Look, label: str | None = None, style: str = "-") -> None:
    """A method's line with error bars, as it looks on every figure."""
    axes.errorbar(
        x,
        y,
        bars,
        label=label or look.label,
        color=look.colour,
        marker=look.marker or None,
        markersize=4.5,
        linestyle=style,
        linewidth=1.2,
        elinewidth=0.7,
    )


def titled(figure: Figure, title: str) -> None:
    """Gives a figure its title, in as many lines as its width needs."""
    figure.suptitle("\n".join(wrap(title, int(10 * figure.get_figwidth()))))


def kept_axis(axes: Axes) -> None:
    """The weights kept, on a log axis that runs towards sparser networks."""
    axes.set_xscale("log")
    low, high = sorted(axes.get_xlim())
    if not low > 0:  # Nothing is drawn: all networks have diverged.
        low, high = 0.01, 1.0
    # Methods at one sparsity may differ by a weight, and the range be next to none: no less than thrice.
    wider = max(1.0, (3 * low / high) ** 0.5)
    axes.set_xlim(high * wider, low / wider)
    _percent(axes.xaxis)
    axes.set_xlabel("weights kept")
    axes.grid(alpha=0.3)


def error_axis(axes: Axes, of: str = "", *, across: bool = False) -> None:
    """The final test error on a log axis, in percent, once all is drawn; better is up, across right."""
    name, better = ("x", "right") if across else ("y", "up")
    axes.set(**{f"{name}scale": "log"})
    low, high = sorted(getattr(axes, f"get_{name}lim")())
    if not low > 0:  # Nothing is drawn: all networks have diverged.
        low, high = 0.01, 1.0
    axes.set(**{f"{name}lim": (high, low)})
    _percent(getattr(axes, f"{name}axis"))
    axes.set(**{f"{name}label": f"final test error{of} (log axis, better is {better})"})


def _percent(axis: Axis) -> None:
    axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:.3g}%"))
    axis.set_minor_formatter(NullFormatter())
