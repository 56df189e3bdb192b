"""What of a mask is connected: effective beside direct sparsity."""

from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure

from experiments.methods.registry import find_method
from experiments.report.accuracy import titled
from experiments.report.markdown import table
from experiments.report.table import Results, label


def effective_table(results: Results) -> list[str]:
    """Effective sparsities in percent, a line a sparsity, a column a method."""
    rows = []
    for sparsity in results.sparsities:
        values = (_effective(results, method, sparsity) for method in results.methods)
        rows.append([f"{sparsity:g}", *map(_cell, values)])
    return table(["sparsity", *map(label, results.methods)], rows)


def compression_figure(results: Results) -> Figure:
    """Effective against direct compression, a line a method.

    Every seed is a point, medians are joined; a network that is cut in two has no point.
    """
    figure, axes = plt.subplots(figsize=(7, 5.5), layout="constrained")
    direct = 1 / (1 - results.table["sparsity"])
    # A little longer than the points reach, so that a single sparsity has axes too.
    line = [direct.min() / 1.1, direct.max() * 1.1]
    text = "all kept weights connected"
    axes.plot(line, line, color="#999999", linewidth=1, linestyle=":", label=text)
    for method in results.methods:
        look, rows = find_method(method).look, results.of(method)
        effective = compression(rows["effective_sparsity"])
        axes.scatter(1 / (1 - rows["sparsity"]), effective, color=look.colour, marker=look.marker, s=14)
        medians = rows.groupby("sparsity_target")[["sparsity", "effective_sparsity"]].median()
        axes.plot(
            1 / (1 - medians["sparsity"]),
            compression(medians["effective_sparsity"]),
            color=look.colour,
            marker=look.marker,
            markersize=4,
            linewidth=1.2,
            label=look.label,
        )
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlabel("compression by the masks")
    axes.set_ylabel("compression by what is connected")
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)
    titled(figure, f"{results.title}: what of a mask is connected")
    return figure


def _effective(results: Results, method: str, sparsity: float) -> np.ndarray:
    rows = results.of(method)
    return rows.loc[rows["sparsity_target"] == sparsity, "effective_sparsity"].to_numpy()


def compression(sparsities: Any) -> np.ndarray:
    """N / kept; NaN where nothing is kept."""
    sparsities = np.asarray(sparsities, float)
    return 1 / np.where(sparsities < 1, 1 - sparsities, np.nan)


def _cell(values: np.ndarray) -> str:
    if not len(values):
        return "not run"
    if np.all(values == 1):
        return "cut"
    low, middle, high = 100 * np.array([values.min(), np.median(values), values.max()])
    return f"{middle:.2f} ({low:.2f} to {high:.2f})"
