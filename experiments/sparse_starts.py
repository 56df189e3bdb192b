r"""Where dissipating gradients begin, and what of a sparse start helps.

    python -m experiments.sparse_starts
    python -m experiments.sparse_starts --dataset mnist --model lenet-300-100 --data-dir DIR

Expected: at high sparsity weights had better dissipate from a network that begins under a mask, and it
matters which one. About a minute on one CPU core for the first command, digits with LeNet-300-100, 290
networks. Interrupted, the same command goes on; finished, it prints the stored summary.

A start from one random mask, all layers at one sparsity, differs from a dense one in several things, and
variants change some of them:

- It is sparse from the first step on. ``early`` makes a dense start as sparse at the end of the first
  epoch, by dissipation, and goes on with the sparsities of the masked start. ``late`` waits until the
  masked start prunes, and then removes at once what the mask lacked.
- It ends with other layer sparsities. ``layers`` makes each of the two starts end with those of the
  other; ``own-layers`` with its own, which tells what else such a variant changes: weights are ranked
  within layers, and what a layer keeps falls exponentially, whatever the network as a whole would do. The
  first mask of the masked start's ``layers`` is random and has half of that way behind it.
- ``early-layers`` and ``late-layers`` do both. What they leave of the difference is that weights went at
  random and before training, in place of by dissipation and in its first epochs.

The masks of other methods at the same early sparsity are other starts; each method stands beside them
without dissipation, with its mask of the final sparsity.

Source: Haroon 2022 (arXiv 2209.02201) for the combination of a masked start and dissipation.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from experiments.engine.experiment import Experiment, main, of_methods, training
from experiments.methods.asked import Methods, MethodsOptions
from experiments.methods.dissipating import (
    EARLY,
    EARLY_LAYERS,
    LATE,
    LATE_LAYERS,
    LAYERS,
    OWN_LAYERS,
)
from experiments.methods.point import Point
from experiments.methods.study import Study
from experiments.options.options import own_first

if TYPE_CHECKING:
    from experiments.report.findings import Finding
    from experiments.report.table import Results

DENSE_START, RANDOM_START = "dissipating-gradients", "random+dissipating-gradients"
VARIANTS = {
    DENSE_START: (EARLY, LATE, OWN_LAYERS, LAYERS, EARLY_LAYERS, LATE_LAYERS),
    RANDOM_START: (OWN_LAYERS, LAYERS),
}
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
class SparseStarts(MethodsOptions):
    """Compare the networks from which weights dissipate, and what tells them apart."""

    experiment = "sparse_starts"

    methods: Methods = (*STARTS.values(), DENSE_START, *STARTS)
    sparsities: tuple[float, ...] = (0.95, 0.98, 0.99)
    """fractions of the prunable weights to remove"""
    seeds: int = 5
    """independent repetitions: initial weights, data order, masks"""


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
    """The accuracies of methods, and of all networks."""
    from experiments.report import accuracy, dots

    return {
        "accuracy": accuracy.accuracy_figure(results, baseline=RANDOM_START),
        "networks": dots.dots_figure(results, _networks(results)),
    }


def summary(results: "Results", reference: Path | None) -> list[str]:
    """Accuracies, what of a sparse start helps, and which start does."""
    from experiments.report import at_same_sparsity, findings, markdown
    from experiments.report.paired import percent_cell

    study, dissipation = results.study, ""
    if any(DENSE_START in method for method in results.methods):
        dissipation = f" Weights dissipate at the end of the first {study.prune_epochs} epochs"
        masked = any(method.endswith(f"+{DENSE_START}") for method in results.methods)
        first = study.knobs.search.search_epochs + 1
        dissipation += f"; under a mask from epoch {first} on." if masked else "."
    lines = [
        f"# sparse_starts: {results.title}",
        "",
        "Final test accuracy in percent, mean ± standard deviation over seeds; dense: "
        f"{percent_cell(results.dense())}.{dissipation}",
        "",
        *markdown.accuracies_by_method(results, _networks(results)),
    ]
    lines += findings.sections_by_sparsity(_parts(results), results)
    lines += at_same_sparsity.sections(results)
    return lines + markdown.untrained(results) + markdown.diverged(results)


def _parts(results: "Results") -> "dict[str, list[Finding]]":
    """What the run decides, by the title of a section."""
    return {
        "What of a sparse start helps": _explanations(results) if results.has(*VARIANTS) else [],
        "Which start": _starts(results),
    }


def _networks(results: "Results") -> list[tuple[str, str]]:
    """Methods that prune to given sparsities, each followed by its variants."""
    variants = VARIANTS if results.has(*VARIANTS) else {}
    return [
        (method, variant)
        for method in results.at_sparsities
        for variant in ("none", *variants.get(method, ()))
    ]


def _explanations(results: "Results") -> "list[Finding]":
    """What each change of a start does, and what is left of the difference between the two."""
    from experiments.report.findings import compared

    def of(method: str, variant: str = "none") -> Any:
        return results.accuracy(method, variant)

    dense, masked = of(DENSE_START), of(RANDOM_START)
    own, layers = of(DENSE_START, OWN_LAYERS), of(DENSE_START, LAYERS)
    both = of(DENSE_START, EARLY_LAYERS)
    return [
        compared("A random start beats a dense one", masked, dense),
        compared("Being as sparse early helps a dense start", of(DENSE_START, EARLY), dense),
        compared("Pruning as late helps a dense start", of(DENSE_START, LATE), dense),
        compared("Ranking within its own layers helps a dense start", own, dense),
        compared("The random start's layer sparsities help a dense start, over its own", layers, own),
        compared("Being as sparse early helps a dense start in the random start's layers", both, layers),
        compared(
            "Pruning as late helps a dense start in the random start's layers",
            of(DENSE_START, LATE_LAYERS),
            layers,
        ),
        compared("A random start beats a dense one that is as sparse early, in its layers", masked, both),
        compared(
            "Ranking within its own layers helps a random start", of(RANDOM_START, OWN_LAYERS), masked
        ),
        compared(
            "The dense start's layer sparsities help a random start, over its own",
            of(RANDOM_START, LAYERS),
            of(RANDOM_START, OWN_LAYERS),
        ),
    ]


def _starts(results: "Results") -> "list[Finding]":
    """Every masked start over its method without dissipation, over a dense and over a random start."""
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
    findings=lambda results: [one for part in _parts(results).values() for one in part],
)

if __name__ == "__main__":
    main(EXPERIMENT)
