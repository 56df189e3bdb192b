"""The step of training at which networks are pruned, and their accuracy at the end."""

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure

from experiments.methods.method import When
from experiments.methods.registry import find_method
from experiments.report.accuracy import DENSE_COLOUR, draw, error_axis, titled
from experiments.report.paired import at_sparsity, finite_deviation, finite_mean
from experiments.report.table import Results, label


def pruning_steps(results: Results) -> list[int]:
    """The steps after initialization at which methods of one moment have pruned."""
    rows = results.final[results.final["method"].isin(_of_one_moment(results))]
    return sorted(int(step) for step in rows["pruned_at_step"].unique() if step > 0)


def steps_figure(results: Results) -> Figure:
    """Final error against the step, a panel a sparsity.

    The axis of steps is linear up to the first above 0, then logarithmic.
    """
    later = pruning_steps(results)
    rows = results.final[results.final["pruned_at_step"].isin(later)]
    rows = rows[rows["method"].isin(_of_one_moment(results))]
    sparsities = sorted(rows["sparsity_target"].unique())
    methods = [m for m in results.methods if m in set(rows["method"])]
    count, steps = len(sparsities), [0, *later]
    figure, panels = plt.subplots(
        1, count, figsize=(5.5 * count, 4.5), layout="constrained", squeeze=False
    )
    dense = 1 - finite_mean(np.array(results.dense()))
    for axes, sparsity in zip(panels.flat, sparsities, strict=True):
        axes.axhline(dense, color=DENSE_COLOUR, linewidth=1, linestyle="-.", label="Dense")
        for method in methods:
            groups = [at_sparsity(results.accuracy(method, step=step), sparsity) for step in steps]
            errors = np.array([1 - finite_mean(group) for group in groups])
            spread = np.array([finite_deviation(group) for group in groups])
            bars = np.array([np.minimum(spread, 0.9 * errors), spread])
            draw(axes, steps, errors, bars, find_method(method).look)
        for method in (m for m in results.methods if find_method(m).when is When.AFTER):
            error = 1 - finite_mean(at_sparsity(results.accuracy(method), sparsity))
            look = find_method(method).look
            axes.axhline(error, color=look.colour, linestyle="--", linewidth=1, label=label(method))
        axes.set_xscale("symlog", linthresh=later[0])
        axes.set_xlim(-later[0] / 10, 1.2 * later[-1])
        axes.set_xticks(steps, [str(step) for step in steps])
        axes.minorticks_off()
        axes.set_xlabel("training step at which weights are pruned")
        error_axis(axes)
        axes.grid(alpha=0.3)
        axes.set_title(f"{100 * sparsity:.4g} % of the weights removed", fontsize=10)
    panels.flat[0].legend(fontsize=7)
    titled(figure, f"{results.title}: pruning later, mean and standard deviation over seeds")
    return figure


def _of_one_moment(results: Results) -> list[str]:
    return [m for m in results.methods if find_method(m).when is When.BEFORE]
