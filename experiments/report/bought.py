"""What sparsity buys: size, operations and measured time against what is kept."""

import textwrap
from typing import Any

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from experiments.methods.registry import find_method
from experiments.report.accuracy import error_axis, kept_axis, titled
from experiments.report.markdown import table
from experiments.report.paired import percent_cell
from experiments.report.table import Results, Table, label

MEASURED = "speedup_compacted_128"
"""A column that networks have whose compacted form was measured."""
ERROR = "error"
"""A panel's part that is no column: 1 - accuracy."""
SPEEDUPS = {
    "speedup_compacted_128": "compacted, batch of 128",
    "speedup_compacted_1": "compacted, one example",
    "speedup_csr_1": "compressed rows, one example, dense layers alone",
}


def measured(results: Results) -> list[str]:
    """The methods of which something was measured."""
    if MEASURED not in results.table:
        return []
    return [m for m in results.methods if results.of(m)["weights"].notna().any()]


def bought_lines(results: Results) -> list[str]:
    """What networks save, and from which sparsity on they are faster."""
    return [
        "Shares are of the dense network, medians over seeds. Kept: by the masks; left: in the compacted "
        "arrays; operations: of an example, after compaction, and as an ideal sparse kernel would need "
        "them; bytes: of all arrays by gzip, of a file of the kept weights and a bit a weight, and of "
        "that of the compacted network. Speed: how often faster than the dense network measured in turn, "
        "the median over seeds of the medians of 7 pairs, with the lowest and the highest pair; CSR: the "
        "dense layers alone.",
        "",
        *bought_table(results),
        "",
        "## Faster from which sparsity on",
        "",
        "The lowest sparsity from which on every pair of every seed was faster than dense.",
        "",
        *first_gains(results),
    ]


def bought_table(results: Results) -> list[str]:
    """A line a method and sparsity: medians over seeds."""
    head = (
        *(
            "method",
            "sparsity",
            "accuracy",
            "weights",
            "kept",
            "left",
            "operations",
            "of an ideal sparse one",
        ),
        *("bytes, gzip", "packed", "compacted", "128 examples, times as fast", "one example", "CSR, one"),
    )
    rows = [
        [label(method), sparsity, *_cells(found)]
        for method in measured(results)
        for sparsity, found in _points(results, method)
    ]
    return table(list(head), rows)


def _cells(rows: Table) -> list[str]:
    def share(part: str, of: str) -> str:
        shares = (rows[part] / rows[of]).dropna()
        return f"{100 * np.median(shares):.3g} %" if len(shares) else "cut"

    def speed(column: str) -> str:
        if column not in rows or not rows[column].notna().any():
            return "cut"
        middle, low, high = (
            rows[column].median(),
            rows[f"{column}_low"].min(),
            rows[f"{column}_high"].max(),
        )
        return f"{middle:.2f} ({low:.2f} to {high:.2f})"

    accuracy = _accuracies(rows).dropna()
    return [
        percent_cell(accuracy) if len(accuracy) else "",
        f"{int(rows['weights'].median()):,}",
        share("weights_kept", "weights"),
        share("weights_compacted", "weights"),
        share("flops_compacted", "flops_dense"),
        share("flops_ideal_sparse", "flops_dense"),
        share("bytes_gzip", "bytes_dense"),
        share("bytes_packed", "bytes_dense"),
        share("bytes_compacted", "bytes_dense"),
        *map(speed, ("speedup_compacted_128", "speedup_compacted_1", "speedup_csr_1")),
    ]


def first_gains(results: Results) -> list[str]:
    """A line a method, a column a way to run it."""
    rows = [
        [label(method), *(_faster_from(results, method, column) for column in SPEEDUPS)]
        for method in measured(results)
    ]
    return table(["method", *SPEEDUPS.values()], rows)


def _faster_from(results: Results, method: str, column: str) -> str:
    first = None
    for sparsity, found in _points(results, method):
        if f"{column}_low" not in found:
            continue
        # A network that is cut in two is not faster either.
        if not (found[f"{column}_low"] > 1).all():
            first = None
        elif first is None:
            first = sparsity
    return "none of these" if first is None else first


def bought_figure(results: Results) -> Figure:
    """Accuracy, size and speed against what is kept; a line a method, medians over seeds."""
    has_accuracy = results.table["test_accuracy"].notna().any()
    panels: list[tuple[str, str, Any]] = [
        ("bytes on disk, of the dense ones", "bytes_packed", "bytes_dense"),
        ("weights after compaction, of all", "weights_compacted", "weights"),
        *((f"times as fast: {what}", c, None) for c, what in SPEEDUPS.items() if c in results.table),
    ]
    if has_accuracy:
        panels.insert(0, ("final test error", ERROR, None))
    columns = 3
    lines = -(-len(panels) // columns)
    figure, grid = plt.subplots(
        lines, columns, figsize=(4.6 * columns, 3.8 * lines), layout="constrained", squeeze=False
    )
    for axes, (what, part, of) in zip(grid.flat, panels, strict=False):
        _panel(axes, results, part, of)
        axes.set_title("\n".join(textwrap.wrap(what, 44)), fontsize=9)
    for axes in list(grid.flat)[len(panels) :]:
        axes.set_axis_off()
    grid.flat[0].legend(fontsize=7)
    titled(figure, f"{results.title}: what sparsity buys")
    return figure


def _accuracies(rows: Table) -> Any:
    """Of the networks that did not diverge; the others are missing."""
    return rows["test_accuracy"].where(~rows["failed"].astype(bool)).astype(float)


def _panel(axes: Axes, results: Results, part: str, of: str | None) -> None:
    for method in measured(results):
        look, kept, medians = find_method(method).look, [], []
        for _, found in _points(results, method):
            values = 1 - _accuracies(found) if part == ERROR else found[part] / (found[of] if of else 1)
            kept.append(1 - found["sparsity"].median())
            medians.append(values.astype(float).median())
        axes.plot(
            kept,
            medians,
            color=look.colour,
            marker=look.marker or "o",
            markersize=4,
            linewidth=1.2,
            label=look.label,
        )
    if part.startswith("speedup"):
        axes.axhline(1, color="#999999", linewidth=1, linestyle=":")
    if part == ERROR:
        error_axis(axes)
    else:
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.yaxis.set_minor_formatter(NullFormatter())
        shown = (lambda value, _: f"{100 * value:.3g}%") if of else (lambda value, _: f"{value:.3g}")
        axes.yaxis.set_major_formatter(FuncFormatter(shown))
    kept_axis(axes)
    axes.grid(alpha=0.3)


def _points(results: Results, method: str) -> list[tuple[str, Table]]:
    """What was measured of a method, a point of its curve each: its sparsity, and its networks.

    Of a method that finds its own sparsity there is one for every setting, at the mean sparsity.
    """
    rows = results.of(method)
    rows = rows[rows["weights"].notna()]
    if find_method(method).at_sparsities:
        return [(f"{sparsity:g}", found) for sparsity, found in rows.groupby("sparsity_target")]
    found = [(group["sparsity"].mean(), setting, group) for setting, group in rows.groupby("setting")]
    return [
        (f"{sparsity:.3f} (setting {setting:g})", group)
        for sparsity, setting, group in sorted(found, key=lambda point: point[:2])
    ]
