r"""The referee's table: every method at equal training epochs, and how sure the differences are.

    python -m experiments.referee
    python -m experiments.referee --dataset mnist --model lenet-300-100 --data-dir DIR --epochs 6

Expected: at small sparsities most methods cannot be told apart; the sparser, the more it matters that
every layer keeps enough, and masks that follow the training lead. The first command took 12 minutes on
one CPU core when it had 44 methods (docs/results/referee-digits), seven fewer than now; the second takes
hours. Interrupted, the same command goes on; finished, it prints the stored summary.

All networks of a seed share initial weights, data order and the recipe's learning rate, and are trained
for the same number of epochs. Each method is compared, in pairs of the same seed, with random pruning
and with the method of the highest mean accuracy, of those that the most seeds have; the intervals are
corrected by Holm's procedure for the number of comparisons, which leaves fewer sure differences than
single ones would.

Source: the methods' papers (docs/methods.md); Frankle et al. 2021 (arXiv 2009.08576) for the question;
Holm 1979 for the correction.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from experiments.engine.experiment import Experiment, main, training
from experiments.engine.mask_costs import mask_costs
from experiments.methods.registry import check_methods, find_method, to_sparsities
from experiments.options.options import own_first
from experiments.options.training import GridOptions

if TYPE_CHECKING:
    from experiments.report.table import Results

NAMES = tuple(name for name in to_sparsities() if find_method(name).at_sparsities)


@own_first
@dataclass(frozen=True, kw_only=True)
class Referee(GridOptions):
    """Compare every method with random pruning and with the best one, at equal training epochs."""

    experiment = "referee"

    methods: Annotated[tuple[str, ...], tyro.conf.arg(help=f"who prunes, of {', '.join(NAMES)}")] = NAMES
    sparsities: tuple[float, ...] = (0.8, 0.9, 0.95, 0.98)
    """fractions of the prunable weights to remove"""
    seeds: int = 10
    """independent repetitions: initial weights, data order, masks"""

    def __post_init__(self) -> None:
        """Raises a ValueError that names the option that is wrong."""
        super().__post_init__()
        check_methods(self, self.methods, NAMES, "has no sparsity to choose")


def figures(results: "Results") -> dict[str, Any]:
    """Differences to random pruning, and the accuracies."""
    from experiments.report import accuracy, referee, referee_figure

    found = {"accuracy": accuracy.accuracy_figure(results, baseline=referee.BASELINE)}
    if results.has(referee.BASELINE) and len(results.methods) > 1:
        found["referee"] = referee_figure.referee_figure(referee.referee(results))
    return found


def summary(results: "Results", reference: Path | None) -> list[str]:
    """Which method one would pick, and a table for each sparsity."""
    from experiments.report import markdown, referee
    from experiments.report.paired import percent_cell
    from experiments.report.table import counted

    found = referee.referee(results)
    swept = results.table["learning_rate"].dropna().unique()
    rate = swept[0] if len(swept) else results.settings["recipe"]["learning_rate"]
    lines = [
        f"# referee: {results.title}",
        "",
        f"{counted(len(found.methods), 'method')}, each trained for {counted(results.epochs, 'epoch')} "
        f"at one learning rate, {rate:g}{_of_gates(results, rate)}, which was tuned for none of them. "
        f"Dense: {percent_cell(results.dense())}.",
        "",
        *referee.when_lines(found.methods),
        "",
        "## Which one would one pick",
        "",
        *referee.verdicts(found),
    ]
    of_most = "" if found.best_have_highest_mean() else ", of the methods that the most seeds have,"
    controls = referee.control_table(results)
    if controls:
        lines += [
            "",
            "## Each method over what differs in one thing alone",
            "",
            "Differences in points at each sparsity, paired by seed, with intervals corrected by Holm; "
            "bold where 0 lies outside.",
            "",
            *controls,
        ]
    for sparsity in found.run:
        lines += ["", f"## Sparsity {sparsity:g}", "", *referee.referee_table(found, sparsity)]
    lines += [
        "",
        "Final test accuracy in percent, mean ± standard deviation over seeds. Differences in points, "
        f"paired by seed, {referee.intervals(found)}. The best is the one of the highest mean{of_most} "
        "in the same runs, so that it looks a little better than it is.",
        "",
        "A method's own cost is what comes on top of training one network: forward-backward passes, as "
        "epochs of the training, and seconds of the run's machine. Compilation is left out of these, and "
        "what a method adds to each step (docs/benchmarks.md).",
    ]
    return lines + markdown.kept_otherwise(results) + markdown.diverged(results)


def _of_gates(results: "Results", rate: float) -> str:
    """The rate of gates and learned scores, where some method has them and it is another."""
    gates = results.settings["gate_learning_rate"]
    there = any(find_method(method).has_gates for method in results.methods)
    return f" (of gates {gates:g})" if there and gates not in (None, rate) else ""


EXPERIMENT = Experiment(
    options=Referee,
    help=__doc__,
    prepare=training(facts=mask_costs),
    figures=figures,
    summary=summary,
)

if __name__ == "__main__":
    main(EXPERIMENT)
