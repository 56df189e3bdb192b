"""The final errors of single networks, a line a method and variant: what a curve would hide."""

from collections.abc import Sequence

import matplotlib.pyplot as plt
from matplotlib.figure import Figure

from experiments.methods.registry import find_method
from experiments.report.accuracy import error_axis, titled
from experiments.report.paired import at_sparsity, finite_mean
from experiments.report.table import Results, label


def dots_figure(results: Results, networks: Sequence[tuple[str, str]]) -> Figure:
    """A dot a seed and a stroke at the mean, a panel a sparsity.

    Args:
        results: The table of a run.
        networks: Methods and variants, from the top down.
    """
    sparsities = results.sparsities
    figure, panels = plt.subplots(
        1,
        len(sparsities),
        figsize=(3 * len(sparsities) + 2.5, 0.24 * len(networks) + 1.2),
        layout="constrained",
        squeeze=False,
        sharey=True,
    )
    for axes, sparsity in zip(panels[0], sparsities, strict=True):
        for line, (method, variant) in enumerate(networks):
            errors = 1 - at_sparsity(results.accuracy(method, variant), sparsity)
            colour = find_method(method).look.colour
            axes.plot(errors, [line] * len(errors), ".", color=colour, markersize=4, alpha=0.6)
            axes.plot(finite_mean(errors), line, "|", color=colour, markersize=11)
        error_axis(axes, across=True)
        axes.set_title(f"sparsity {sparsity:.1%}", fontsize=9)
        axes.grid(alpha=0.3)
    panels[0][0].set_yticks(range(len(networks)), [label(*network) for network in networks], fontsize=8)
    panels[0][0].invert_yaxis()
    titled(figure, f"{results.title}: a dot a seed, a stroke at the mean")
    return figure
