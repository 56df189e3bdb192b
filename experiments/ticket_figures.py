"""The figures of ``experiments.ticket_search``."""

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from experiments.report.paired import finite_deviation, finite_mean
from experiments.ticket_findings import Found, TicketFindings
from experiments.ticket_plan import IMP, IMP_CONTINUED, LRR, METHODS, PARALLEL, REINIT, SEQUENTIAL

# Okabe and Ito's palette, told apart by colour-blind readers.
LOOKS = {
    IMP: ("#0072B2", "o"),
    IMP_CONTINUED: ("#56B4E9", "s"),
    LRR: ("#009E73", "^"),
    REINIT: ("#999999", "v"),
    PARALLEL: ("#D55E00", "D"),
    SEQUENTIAL: ("#CC79A7", "P"),
}


def tickets_figure(found: TicketFindings, title: str) -> Figure:
    """Final test accuracy of tickets against what they keep, a line a method.

    Args:
        found: Of the whole run.
        title: Above the axes.

    Returns:
        The figure: means over seeds, standard deviations of both.
    """
    figure, axes = plt.subplots(figsize=(9, 6), layout="constrained")
    dense = finite_mean(np.array(list(found.dense.values())))
    axes.axhline(dense, color="#000000", linewidth=1, linestyle="-.", label="dense")
    for method in (method for method in METHODS if method in found.plan.methods):
        tickets, (colour, marker) = found.tickets(method), LOOKS[method]
        if not tickets:
            continue
        axes.errorbar(
            [1 - ticket.sparsity for ticket in tickets],
            [ticket.accuracy for ticket in tickets],
            [_deviation(ticket.accuracies) for ticket in tickets],
            [_deviation(ticket.sparsities) for ticket in tickets],
            label=method,
            color=colour,
            marker=marker,
            markersize=5,
            linewidth=1.2,
            elinewidth=0.7,
        )
    _kept_axis(axes)
    axes.set_ylabel("final test accuracy of the ticket")
    axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=1))
    axes.legend(fontsize=8)
    figure.suptitle(f"{title}\n(mean, standard deviation over seeds)")
    return figure


def cost_figure(found: TicketFindings, title: str) -> Figure:
    """Epochs of search against what tickets keep; filled where they match the dense network.

    Args:
        found: Of the whole run.
        title: Above the axes.

    Returns:
        The figure. What is further right and lower is sparser and cheaper.
    """
    figure, axes = plt.subplots(figsize=(9, 6), layout="constrained")
    for method in (m for m in METHODS if m in found.plan.methods and m != REINIT):
        tickets, (colour, marker) = found.tickets(method), LOOKS[method]
        for matching in (True, False):
            chosen: list[Found] = [t for t in tickets if found.matches(t) == matching]
            axes.scatter(
                [1 - ticket.sparsity for ticket in chosen],
                [ticket.epochs for ticket in chosen],
                facecolors=colour if matching else "none",
                edgecolors=colour,
                marker=marker,
                label=method if matching else None,
            )
    _kept_axis(axes)
    axes.set_ylabel("epochs of search (all starts together)")
    axes.set_ylim(bottom=0)
    axes.legend(fontsize=8, title="filled: as good as dense")
    figure.suptitle(title)
    return figure


def _kept_axis(axes: Axes) -> None:
    axes.set_xscale("log")
    axes.invert_xaxis()
    axes.xaxis.set_major_formatter(lambda kept, _: f"{100 * kept:.4g}%")
    axes.set_xlabel("weights kept")
    axes.grid(alpha=0.3)


def _deviation(values: dict[int, float]) -> float:
    return finite_deviation(np.array(list(values.values())))
