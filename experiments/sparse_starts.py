r"""Where dissipating gradients begin, and what of a sparse start helps.

    python -m experiments.sparse_starts
    python -m experiments.sparse_starts --dataset mnist --model lenet-300-100 --data-dir DIR

Expected: at high sparsity weights had better dissipate from a network that begins under a mask, and it
matters which one. Three minutes on one CPU core for the first command, digits with LeNet-300-100.
Interrupted, the same command goes on; finished, it prints the stored summary.

A start from one random mask differs from a dense one in three things, and variants change one at a
time. It prunes later and faster (``late``: a dense start with the sparsities of a masked one). It ends
with other layer sparsities (``layers``: each of the two starts ends with those of the other; what a layer
keeps falls exponentially on the way, and the random mask of the masked start has it half way down). And
some weights are gone at random before training: this is what is left when a dense start does both
(``late-layers``).

The masks of other methods at the same early sparsity are other starts; each method without
dissipation, at the final sparsity, stands beside them.

Source: Haroon 2022 (arXiv 2209.02201) for the combination of a masked start and dissipation.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from experiments.engine.experiment import Experiment, main, of_methods, training
from experiments.methods.dissipating import LATE, LATE_LAYERS, LAYERS
from experiments.methods.point import Point
from experiments.methods.registry import check_methods, to_sparsities
from experiments.methods.study import Study
from experiments.options.options import own_first
from experiments.options.training import GridOptions

if TYPE_CHECKING:
    from experiments.report.table import Results

DENSE_START, RANDOM_START = "dissipating-gradients", "random+dissipating-gradients"
VARIANTS = {DENSE_START: (LATE, LAYERS, LATE_LAYERS), RANDOM_START: (LAYERS,)}
"""What is changed of the two starts, where both are run."""
STARTS = {
    RANDOM_START: "random-uniform",
    "random-erk+dissipating-gradients": "random-erk",
    "random-igq+dissipating-gradients": "random-igq",
    "snip+dissipating-gradients": "snip",
    "synflow+dissipating-gradients": "synflow",
}
"""Dissipation from a mask, and the method that makes it."""


@own_first
@dataclass(frozen=True, kw_only=True)
class SparseStarts(GridOptions):
    """Compare the networks from which weights dissipate, and what tells them apart."""

    experiment = "sparse_starts"

    methods: Annotated[
        tuple[str, ...], tyro.conf.arg(help=f"who prunes, of {', '.join(to_sparsities())}")
    ] = (*STARTS.values(), DENSE_START, *STARTS)
    sparsities: tuple[float, ...] = (0.95, 0.98, 0.99)
    """fractions of the prunable weights to remove"""
    seeds: int = 5
    """independent repetitions: initial weights, data order, masks"""

    def __post_init__(self) -> None:
        """Raises a ValueError that names the option that is wrong."""
        super().__post_init__()
        check_methods(self, self.methods, to_sparsities(), "searches in rounds")


def points(options: SparseStarts, study: Study) -> Sequence[Point]:
    """The networks of every method, and the variants of the two starts."""
    asked = of_methods(options, study)
    both = VARIANTS.keys() <= set(options.methods)
    changed = [
        point._replace(variant=variant)
        for point in asked
        for variant in (VARIANTS.get(point.method, ()) if both else ())
    ]
    return [*asked, *changed]


def figures(results: "Results") -> dict[str, Any]:
    """The accuracies."""
    from experiments.report import accuracy

    return {"accuracy": accuracy.accuracy_figure(results, baseline=RANDOM_START)}


def summary(results: "Results", reference: Path | None) -> list[str]:
    """Accuracies, what of a sparse start helps, and which start does."""
    from experiments.report import findings, markdown
    from experiments.report.paired import percent_cell

    lines = [
        f"# sparse_starts: {results.title}",
        "",
        "Final test accuracy in percent, mean ± standard deviation over seeds; dense: "
        f"{percent_cell(results.dense())}. Weights dissipate at the end of the first "
        f"{results.study.prune_epochs} epochs; under a mask from epoch "
        f"{results.study.knobs.search.search_epochs + 1} on.",
        "",
        *markdown.accuracies_by_method(results, _networks(results)),
    ]
    parts = {
        "What of a sparse start helps": _explanations(results) if results.has(*VARIANTS) else [],
        "Which start": _starts(results),
    }
    for title, found in parts.items():
        if found:
            lines += [
                "",
                f"## {title}",
                "",
                findings.UNCORRECTED,
                "",
                *findings.by_sparsity(found, results),
            ]
    return lines + markdown.diverged(results)


def _networks(results: "Results") -> list[tuple[str, str]]:
    """Methods, each followed by its variants."""
    variants = VARIANTS if results.has(*VARIANTS) else {}
    return [
        (method, variant) for method in results.methods for variant in ("none", *variants.get(method, ()))
    ]


def _explanations(results: "Results") -> list[Any]:
    """What each change of a start does, and what is left of the difference between the two."""
    from experiments.report.findings import compared

    def of(method: str, variant: str = "none") -> Any:
        return results.accuracy(method, variant)

    dense, masked = of(DENSE_START), of(RANDOM_START)
    late, layers, both = (of(DENSE_START, variant) for variant in VARIANTS[DENSE_START])
    return [
        compared("A random mask at the start helps", masked, dense),
        compared("Pruning as late helps a dense start", late, dense),
        compared("The random start's layer sparsities help a dense start", layers, dense),
        compared("Both help a dense start", both, dense),
        compared(
            "The dense start's layer sparsities hurt a random start", masked, of(RANDOM_START, LAYERS)
        ),
        compared("The random mask is better than a dense start that does both", masked, both),
    ]


def _starts(results: "Results") -> list[Any]:
    """Every masked start over its mask alone, over a dense start, and over a random one."""
    from experiments.report.findings import better

    return [
        better(results, start, other)
        for start, static in STARTS.items()
        for other in (static, DENSE_START, RANDOM_START)
        if start != other and results.has(start, other)
    ]


EXPERIMENT = Experiment(
    options=SparseStarts,
    help=__doc__,
    prepare=training(points),
    figures=figures,
    summary=summary,
)

if __name__ == "__main__":
    main(EXPERIMENT)
