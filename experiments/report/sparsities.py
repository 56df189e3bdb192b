"""Sparsity over the epochs, of methods that prune while networks train; when it reaches given ones."""

import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from experiments.methods.method import When
from experiments.methods.registry import find_method
from experiments.report.accuracy import titled
from experiments.report.paired import finite_deviation
from experiments.report.table import Results, Table, counted, label

STYLES = [(line, marker) for marker in ".x+" for line in ("-", "--", ":", "-.")]
"""Of methods, one after the other, then again from the first: the line, and the marker of an epoch."""


def changing(results: Results) -> list[str]:
    """The methods of a run whose sparsity changes while networks train."""
    return [m for m in results.methods if find_method(m).when is When.DURING]


def sparsity_figure(results: Results) -> Figure:
    """Own sparsities on the left, a line a setting; given ones on the right, a line a sparsity."""
    figure, panels = plt.subplots(1, 2, figsize=(11, 4.4), layout="constrained", sharey=True)
    given = [m for m in changing(results) if find_method(m).at_sparsities]
    own = [m for m in changing(results) if not find_method(m).at_sparsities]
    for axes, methods, by, name in (
        (panels[0], own, "setting", "Methods that find their own sparsity, by setting"),
        (panels[1], given, "sparsity_target", "Methods with given sparsities"),
    ):
        _curves(axes, results, methods, by)
        axes.set_title(name, fontsize=10)
        axes.set_xlabel("epoch")
        axes.set_ylim(0, 1.02)
        axes.grid(alpha=0.3)
        if methods:
            axes.legend(fontsize=7, loc="lower right")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    panels[0].set_ylabel("sparsity (weights removed)")
    titled(figure, f"{results.title}: when weights go, mean and standard deviation over seeds")
    return figure


def _curves(axes: Axes, results: Results, methods: list[str], by: str) -> None:
    table = _of_whole_trainings(results)
    values = {m: sorted(table.loc[table["method"] == m, by].dropna().unique()) for m in methods}
    # The settings of one method are not those of another, as sparsities are.
    own = by == "setting" and len(methods) > 1
    texts = {(m, v): f"{label(m)} {v:g}" if own else f"{v:g}" for m in methods for v in values[m]}
    different = list(dict.fromkeys(texts.values()))
    colours = {t: plt.get_cmap("viridis")(place / len(different)) for place, t in enumerate(different)}
    labelled = set()
    for place_of_method, method in enumerate(methods):
        line, marker = STYLES[place_of_method % len(STYLES)]
        rows = table[table["method"] == method]
        for value in values[method]:
            epochs = rows[rows[by] == value].groupby("epoch")["sparsity"].agg(["mean", "std"])
            mean, spread = epochs["mean"], epochs["std"].fillna(0)
            x, text = epochs.index.astype(int), texts[method, value]
            colour, name = colours[text], None if text in labelled else text
            labelled.add(text)
            axes.plot(x, mean, label=name, color=colour, linestyle=line, marker=marker, markersize=4)
            axes.fill_between(x, mean - spread, mean + spread, color=colour, alpha=0.2)
        axes.plot(
            [], [], color="#000000", linestyle=line, marker=marker, markersize=4, label=label(method)
        )


def _of_whole_trainings(results: Results) -> Table:
    """The rows of networks that methods are judged by and that did not diverge."""
    table = results.table
    return table[table["candidate"].isna() & ~table["member"].isin(results.diverged())]


def reached(results: Results, method: str) -> list[str]:
    """After how many epochs a method that finds its own sparsity reaches given ones, a line a setting."""
    rows = _of_whole_trainings(results)
    rows = rows[rows["method"] == method]
    lines = []
    for setting, of_setting in rows.groupby("setting"):
        texts = []
        for sparsity in results.sparsities:
            first = of_setting[of_setting["sparsity"] >= sparsity].groupby("seed")["epoch"].min()
            text = f"{sparsity:g} " + (f"{first.mean():.1f} epochs" if len(first) else "never")
            few = len(first) and len(first) < results.seeds
            texts.append(text + (f" ({len(first)} of {results.seeds} seeds)" if few else ""))
        ends = of_setting.loc[of_setting["epoch"] == results.epochs, "sparsity"].to_numpy()
        checks = counted(results.settings["prune_epochs"], "epoch")
        lines.append(
            f"- {label(method)} {setting:g}, checked after each of the first {checks}, reaches sparsity "
            f"{', '.join(texts)}; it ends at {ends.mean():.3f} ± {finite_deviation(ends):.3f} (mean and "
            f"standard deviation of {counted(len(ends), 'seed')})."
        )
    return lines
