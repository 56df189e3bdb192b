r"""Dynamic sparse training: does it help that masks move, and where should they begin?

    python -m experiments.dynamic_sparse_training
    python -m experiments.dynamic_sparse_training --dataset mnist --model lenet-300-100 --data-dir DIR

Expected: masks that move by gradients stay above the same masks held still, the more so the sparser they
are, and explore more of the weights than they keep. About a minute on 2 CPU cores for the first
command, digits with LeNet-300-100. Interrupted, the same command goes on; finished, it prints the stored
summary.

Every method that moves masks stands beside the method that holds them where it begins: RigL, SET and a
random mask of ERK, RigL from SNIP and SNIP, RigL from SynFlow and SynFlow. SRigL has none beside it: it
begins with a random mask of its own, all layers of one sparsity and all units of a layer with as many
weights. All are trained for the same number of epochs.

Source: Evci et al. 2020 (arXiv 1911.11134); Mocanu et al. 2018 (arXiv 1707.04780); Lasby et al. 2024
(arXiv 2305.02299); the coverage is that of Liu et al. 2021 (arXiv 2102.02887).
"""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from experiments.engine.experiment import Experiment, main, training
from experiments.methods.asked import Methods, MethodsOptions
from experiments.options.options import own_first

if TYPE_CHECKING:
    from experiments.report.table import Results

STATIC = "random-erk"
BEGINNINGS = {
    "set": STATIC,
    "rigl": STATIC,
    "rigl-snip": "snip",
    "rigl-synflow": "synflow",
}
"""Methods that move masks, and what holds the mask with which they begin."""
WITHOUT_STILL = "srigl"
"""It moves a mask that no method holds."""


@own_first
@dataclass(frozen=True, kw_only=True)
class DynamicSparseTraining(MethodsOptions):
    """Compare masks that move while the network trains with the same masks held still."""

    experiment = "dynamic_sparse_training"

    methods: Methods = (STATIC, "snip", "synflow", *BEGINNINGS, WITHOUT_STILL)
    sparsities: tuple[float, ...] = (0.8, 0.9, 0.95, 0.98)
    """fractions of the prunable weights to remove"""
    seeds: int = 5
    """independent repetitions: initial weights, data order, masks"""


def figures(results: "Results") -> dict[str, Any]:
    """Accuracies, and accuracy against coverage."""
    from experiments.report import accuracy, coverage

    found = {"accuracy": accuracy.accuracy_figure(results, baseline=STATIC)}
    if coverage.explored(results):
        found["coverage"] = coverage.coverage_figure(results)
    return found


def summary(results: "Results", reference: Path | None) -> list[str]:
    """Accuracies, what moving adds, and how much of the weights was ever kept."""
    from experiments.report import at_same_sparsity, costs, coverage, findings, markdown
    from experiments.report.paired import percent_cell
    from experiments.report.table import counted

    pairs = [(moving, still) for moving, still in BEGINNINGS.items() if results.has(moving, still)]
    better = [findings.better(results, moving, still) for moving, still in pairs]
    lines = [
        f"# dynamic_sparse_training: {results.title}",
        "",
        "Final test accuracy in percent, mean ± standard deviation over seeds; dense: "
        f"{percent_cell(results.dense())}. Every network is trained for "
        f"{counted(results.epochs, 'epoch')}.{costs.on_top(results)}",
    ]
    if results.at_sparsities:
        lines += ["", *markdown.accuracies(results, results.at_sparsities)]
    if better:
        lines += [
            "",
            "## Over the mask held still",
            "",
            "Differences in accuracy points, paired by seed and averaged over the sparsities of a band, "
            "with 95 % intervals over seeds.",
            "",
            *findings.findings_table(better, results),
        ]
    if coverage.explored(results):
        lines += [
            "",
            "## Coverage",
            "",
            "The share of all weights that was ever kept, in percent; a still mask has what it keeps.",
            "",
            *coverage.coverage_table(results),
        ]
    lines += at_same_sparsity.sections(results)
    return lines + markdown.kept_otherwise(results) + markdown.diverged(results)


EXPERIMENT = Experiment(
    options=DynamicSparseTraining,
    help=__doc__,
    prepare=training(),
    figures=figures,
    summary=summary,
)

if __name__ == "__main__":
    main(EXPERIMENT)
