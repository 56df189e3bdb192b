"""Figures of lottery tickets: their accuracy, and what it took to find them."""

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure

from experiments.methods.registry import find_method
from experiments.report.accuracy import DENSE_COLOUR, draw, error_axis, kept_axis, titled
from experiments.report.paired import finite_deviation, finite_mean
from experiments.report.table import label
from experiments.report.tickets import Tickets


def tickets_figure(found: Tickets) -> Figure:
    """Final test error of tickets against what they keep, a line a method."""
    figure, axes = plt.subplots(figsize=(9, 6), layout="constrained")
    dense = 1 - finite_mean(np.array(list(found.dense.values())))
    axes.axhline(dense, color=DENSE_COLOUR, linewidth=1, linestyle="-.", label="Dense")
    for method in found.results.methods:
        tickets = found.tickets(method)
        if tickets:
            errors = np.array([1 - ticket.accuracy for ticket in tickets])
            spread = np.array([finite_deviation(np.array([*t.accuracies.values()])) for t in tickets])
            # On a log axis a bar must end above 0.
            bars = np.array([np.minimum(spread, 0.9 * errors), spread])
            kept = [1 - ticket.sparsity for ticket in tickets]
            draw(axes, kept, errors, bars, find_method(method).look)
    error_axis(axes, " of the ticket")
    kept_axis(axes)
    axes.legend(fontsize=8)
    titled(figure, f"{found.results.title}: tickets, mean and standard deviation over seeds")
    return figure


def cost_figure(found: Tickets) -> Figure:
    """Epochs of search against what tickets keep; what is further right and lower is cheaper."""
    figure, axes = plt.subplots(figsize=(9, 6), layout="constrained")
    for method in (m for m in found.results.methods if m != "imp-reinit"):
        look = find_method(method).look
        for matching in (True, False):
            chosen = [t for t in found.tickets(method) if found.matches(t) == matching]
            axes.scatter(
                [1 - ticket.sparsity for ticket in chosen],
                [ticket.epochs for ticket in chosen],
                facecolors=look.colour if matching else "none",
                edgecolors=look.colour,
                marker=look.marker,
                label=label(method) if matching else None,
            )
    kept_axis(axes)
    axes.set_ylabel("epochs of search (all starts together)")
    axes.set_ylim(bottom=0)
    if axes.get_legend_handles_labels()[1]:
        axes.legend(fontsize=8, title="filled: as good as dense")
    titled(figure, f"{found.results.title}: what it takes to find a ticket")
    return figure
