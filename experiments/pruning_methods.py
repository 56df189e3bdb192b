"""Ways of pruning at equal training epochs: before, while and after the weights learn.

    python -m experiments.pruning_methods
    python -m experiments.pruning_methods --dataset mnist --model lenet-300-100 --data-dir DIR --seeds 5

Expected: the first in about a minute on 2 CPU cores, digits with LeNet-300-100; the second, with all of
the recipe's 16 epochs, in half an hour (its result with 6: docs/results/pruning-methods-mnist).
Interrupted, the same command goes on; finished, it prints the stored summary.

All networks of a seed share initial weights and data order, and are trained for the same number of
epochs. The searches of K-starts come on top and are said.

- random, magnitude, snip, grasp, synflow: masks at initialization.
- magnitude-fine-tuned: pruned by magnitude after --prune-epochs, in one shot, and trained on.
- gradual-magnitude: pruned by magnitude at the end of each of these epochs, on the cubic schedule.
- dissipating-gradients: the least displaced weights go at the end of each of them; with k-starts+ from
  the fittest of k random masks.
- continuous-sparsification: gates trained beside the weights, no rewinding: what is tested is the
  network's ticket at the end, with the weights that it has then. Its sparsity is found, not set.
- supermask: the same, but only the gates learn; the weights stay as they were initialised.
- stochastic-supermask: likewise, with masks that are drawn from the gates' probabilities at each step;
  what is tested keeps the weights with a probability above one half.

Source: Savarese et al. 2020 (arXiv 1912.04427), section 5; Zhou et al. 2019 (arXiv 1905.01067), section
5; Zhu and Gupta 2017 (arXiv 1710.01878); Frankle et al. 2021 (arXiv 2009.08576); Haroon 2022 (arXiv
2209.02201).
"""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from experiments.engine.experiment import Experiment, main, training
from experiments.methods.asked import Methods, MethodsOptions
from experiments.methods.method import When
from experiments.methods.registry import find_method
from experiments.options.options import own_first

if TYPE_CHECKING:
    from experiments.report.table import Results

BASELINES = "random", "random-uniform"
"""Random pruning that the others are set beside: the first that a run has."""


@own_first
@dataclass(frozen=True, kw_only=True)
class PruningMethods(MethodsOptions):
    """Compare ways of pruning at equal training epochs: before, while and after the weights learn."""

    experiment = "pruning_methods"

    methods: Methods = (
        "random",
        "magnitude",
        "snip",
        "grasp",
        "synflow",
        "magnitude-fine-tuned",
        "gradual-magnitude",
        "dissipating-gradients",
        "k-starts+dissipating-gradients",
        "continuous-sparsification",
        "supermask",
        "stochastic-supermask",
    )
    sparsities: tuple[float, ...] = (0.8, 0.9, 0.95, 0.98, 0.99)
    """fractions of the prunable weights to remove; methods with gates find their own"""


def figures(results: "Results") -> dict[str, Any]:
    """Accuracies."""
    from experiments.report import accuracy

    return {"accuracy": accuracy.accuracy_figure(results, baseline=_baseline(results))}


def summary(results: "Results", reference: Path | None) -> list[str]:
    """The accuracies, and methods that find their own sparsity beside the others there."""
    from experiments.report import at_same_sparsity, costs, findings, markdown
    from experiments.report.paired import percent_cell
    from experiments.report.table import counted

    given = results.at_sparsities
    lines = [
        f"# pruning_methods: {results.title}",
        "",
        "Final test accuracy in percent, mean ± standard deviation over seeds; dense: "
        f"{percent_cell(results.dense())}. Every network is trained for "
        f"{counted(results.epochs, 'epoch')}{_of_first_epochs(results)}.{costs.on_top(results)}",
    ]
    if given:
        lines += ["", *markdown.accuracies(results, given)]
    over_random = [*findings.other_methods(results, given, _baseline(results))]
    if over_random:
        lines += [
            "",
            "## Over random pruning",
            "",
            "Differences in accuracy points, paired by seed and averaged over the sparsities of a band, "
            "with 95 % intervals over seeds.",
            "",
            *findings.findings_table(over_random, results),
        ]
    lines += at_same_sparsity.sections(results)
    return lines + markdown.kept_otherwise(results) + markdown.diverged(results)


def _of_first_epochs(results: "Results") -> str:
    """Which methods prune in the first epochs alone: all that prune while training, or these by name."""
    from experiments.report.table import counted, label

    pruned = counted(results.settings["prune_epochs"], "epoch")
    during = [m for m in results.methods if find_method(m).when is When.DURING]
    early = [m for m in during if find_method(m).in_first_epochs]
    if early == during:
        return f"; what prunes while training does so in the first {pruned}"
    names = "; ".join(label(method) for method in early)
    return f"; these prune in the first {pruned}: {names}" if early else ""


def _baseline(results: "Results") -> str:
    return next((one for one in BASELINES if results.has(one)), BASELINES[0])


EXPERIMENT = Experiment(
    options=PruningMethods,
    help=__doc__,
    prepare=training(),
    figures=figures,
    summary=summary,
)

if __name__ == "__main__":
    main(EXPERIMENT)
