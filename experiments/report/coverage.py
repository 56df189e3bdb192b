"""How much of the weights dynamic sparse training has ever kept, and what comes of it."""

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from experiments.methods.method import When
from experiments.methods.registry import find_method
from experiments.report.accuracy import error_axis, titled
from experiments.report.markdown import table
from experiments.report.paired import percent_cell
from experiments.report.table import Results, Table, label

EXPLORED = "explored"
"""The column of the share of the weights that a network has ever kept."""


def explored(results: Results) -> list[str]:
    """The methods of a run whose masks move."""
    if EXPLORED not in results.table:
        return []
    return [m for m in results.methods if results.of(m)[EXPLORED].notna().any()]


def coverage_table(results: Results) -> list[str]:
    """The coverage in percent: a line a sparsity, a column a method whose masks move."""
    methods, rows = explored(results), []
    for sparsity in results.sparsities:
        found = [_at(results, method, sparsity)[EXPLORED] for method in methods]
        rows.append([f"{sparsity:g}", *(percent_cell(column.dropna()) for column in found)])
    return table(["sparsity", *map(label, methods)], rows)


def coverage_figure(results: Results) -> Figure:
    """Final test error against coverage, a marker a network and a panel a sparsity.

    A mask held still has explored what it keeps. Methods that prune while the network trains, or
    afterwards, have kept other weights before, of which nothing is known: they are not drawn.
    """
    count, moving = len(results.sparsities), explored(results)
    methods = [m for m in results.methods if m in moving or find_method(m).when is When.BEFORE]
    figure, panels = plt.subplots(
        1, count, figsize=(3.4 * count + 1, 4.2), layout="constrained", squeeze=False
    )
    for axes, sparsity in zip(panels.flat, results.sparsities, strict=True):
        for method in methods:
            rows, look = _at(results, method, sparsity), find_method(method).look
            share = 1 - rows["sparsity"]
            if EXPLORED in rows:
                share = rows[EXPLORED].astype(float).fillna(share)
            error = 1 - rows["test_accuracy"].astype(float)
            axes.scatter(
                share, error, s=22, color=look.colour, marker=look.marker or "o", label=look.label
            )
        axes.set_title(f"sparsity {sparsity:g}", fontsize=10)
        axes.set_xlabel("weights ever kept")
        axes.xaxis.set_major_formatter(FuncFormatter(lambda share, _: f"{100 * share:g}%"))
        error_axis(axes)
        axes.grid(alpha=0.3)
    panels.flat[0].legend(fontsize=7)
    titled(figure, f"{results.title}: final test error against the share of weights ever kept")
    return figure


def _at(results: Results, method: str, sparsity: float) -> Table:
    rows = results.of(method)
    return rows[(rows["sparsity_target"] == sparsity) & ~rows["failed"].astype(bool)]
