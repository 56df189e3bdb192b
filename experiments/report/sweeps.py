"""Runs with several learning rates or weight decays: one table of all, and each with its own report."""

from collections.abc import Iterator

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure

from experiments.methods.registry import find_method, in_order
from experiments.report.accuracy import DENSE_COLOUR, draw, error_axis, titled
from experiments.report.markdown import cell, table
from experiments.report.paired import at_sparsity, differences, estimate, finite_deviation, finite_mean
from experiments.report.table import Results, label

AXES = {"learning_rate": "learning rate", "weight_decay": "weight decay"}


def by_sweep(results: Results) -> Iterator[tuple[str, Results]]:
    """The results of each learning rate and weight decay, with what they are called; one without."""
    swept = [axis for axis in AXES if results.table[axis].nunique() > 1]
    if not swept:
        yield "", results
        return
    for values, rows in results.table.groupby(swept, dropna=False):
        rows.attrs = results.table.attrs
        names = (f"{AXES[axis]} {value:g}" for axis, value in zip(swept, values, strict=True))
        yield ", ".join(names), Results(rows)


def suffix(name: str) -> str:
    """What the names of a part's files end with; nothing where there is no sweep."""
    return f"-{name.replace(', ', '-').replace(' ', '-')}" if name else ""


def sweep_lines(parts: list[tuple[str, Results]]) -> list[str]:
    """What a summary says of all parts together; no table where no sparsities were asked for."""
    lines = [*sweep_table(parts), ""] if parts[0][1].sparsities else []
    own = [label(method) for method in _methods(parts) if not find_method(method).at_sparsities]
    if own:
        names = "; ".join(own)
        lines += [f"Methods that find their own sparsity stand in the parts below: {names}.", ""]
    if chosen := chosen_table(parts):
        lines += ["## What validation would choose", "", *chosen, ""]
    return lines


def sweep_table(parts: list[tuple[str, Results]]) -> list[str]:
    """Final test accuracies in percent: a line a method and sparsity, a column a part of the sweep."""
    rows = []
    for method in _methods(parts):
        found = [(results, results.accuracy(method)) for _, results in parts]
        for sparsity in sorted({key[1] for _, pairs in found for key in pairs if key[1] == key[1]}):
            cells = [cell(at_sparsity(pairs, sparsity), results) for results, pairs in found]
            rows.append([label(method), f"{sparsity:g}", *cells])
    dense = [cell(results.dense(), results) for _, results in parts]
    return table(["method", "sparsity", *(name for name, _ in parts)], [["Dense", "0", *dense], *rows])


def chosen_table(parts: list[tuple[str, Results]]) -> list[str]:
    """What validation accuracy would choose: a line a method and sparsity; none without validation.

    The choice is that of the highest mean over seeds, of the parts in which the fewest seeds
    diverged; its test accuracy stands beside that of the recipe's own part of the sweep, where there
    is one.
    """
    if "validation_accuracy" not in parts[0][1].table:
        return []
    own = next((part for _, part in parts if _is_the_recipes(part)), None)
    rows = []
    for method in _methods(parts):
        for sparsity in parts[0][1].sparsities:
            validated = [_validated(part, method, sparsity) for _, part in parts]
            known = [
                (np.isnan(found).sum(), -finite_mean(found), place)
                for place, found in enumerate(validated)
                if np.isfinite(found).any()
            ]
            if not known:
                continue
            name, chosen = parts[min(known)[2]]
            accuracy = chosen.accuracy(method)
            cells = [cell(at_sparsity(accuracy, sparsity), chosen)]
            if own is not None:
                gaps = differences(accuracy, own.accuracy(method))
                at_this = {key: gap for key, gap in gaps.items() if key[1] == sparsity}
                cells.append("the same" if chosen is own else estimate(at_this).points)
            rows.append([label(method), f"{sparsity:g}", name, *cells])
    if not rows:
        return []
    head = ["method", "sparsity", "chosen by validation", "test accuracy"]
    return table([*head, "over the recipe's"] if own is not None else head, rows)


def _is_the_recipes(part: Results) -> bool:
    """Whether a part of a sweep is at the recipe's learning rate and weight decay."""
    recipe = part.settings["recipe"]
    swept = [axis for axis in AXES if part.table[axis].notna().any()]
    return all((part.table[axis] == recipe[axis]).all() for axis in swept)


def _methods(parts: list[tuple[str, Results]]) -> list[str]:
    """The methods of any part, in the order of tables: parts of runs that were merged may lack some."""
    return in_order({method for _, results in parts for method in results.methods})


def _validated(part: Results, method: str, sparsity: float) -> np.ndarray:
    """The validation accuracies of the networks that were run, NaN of those that diverged; (seeds,)."""
    rows = part.of(method)
    rows = rows[rows["sparsity_target"] == sparsity]
    return rows["validation_accuracy"].mask(rows["failed"].astype(bool)).to_numpy(float)


def sweep_figure(parts: list[tuple[str, Results]]) -> Figure:
    """Final test error of each part of the sweep, a panel a sparsity, a line a method."""
    results = parts[0][1]
    count = len(results.sparsities)
    figure, panels = plt.subplots(
        1, count, figsize=(4.2 * count + 0.5, 4.6), layout="constrained", sharey=True, squeeze=False
    )
    places = range(len(parts))
    dense = [1 - finite_mean(np.array(part.dense())) for _, part in parts]
    for axes, sparsity in zip(panels.flat, results.sparsities, strict=True):
        if np.isfinite(dense).any():
            axes.plot(places, dense, color=DENSE_COLOUR, linewidth=1, linestyle="-.", label="Dense")
        for method in _methods(parts):
            seeds = [at_sparsity(part.accuracy(method), sparsity) for _, part in parts]
            if any(len(of_part) for of_part in seeds):
                error = np.array([1 - finite_mean(of_part) for of_part in seeds])
                spread = np.array([finite_deviation(of_part) for of_part in seeds])
                bars = np.array([np.minimum(spread, 0.9 * error), spread])
                draw(axes, places, error, bars, find_method(method).look)
        axes.set_title(f"{100 * sparsity:.4g} % of the weights removed", fontsize=10)
        axes.set_xticks(places, [name for name, _ in parts], rotation=20, ha="right", fontsize=8)
        axes.grid(alpha=0.3)
    error_axis(panels.flat[0])  # shared
    panels.flat[0].legend(fontsize=7)
    titled(figure, f"{results.title}: a sweep, mean and standard deviation over seeds")
    return figure
