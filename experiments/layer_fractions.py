r"""Does a search among masks add anything once every layer keeps the right fraction of its weights?

    python -m experiments.layer_fractions
    python -m experiments.layer_fractions --dataset mnist --model lenet-300-100 --data-dir DIR

Expected: other layer fractions add far more to a random mask than a search does; at 98 % which weights
the mask of SNIP or SynFlow keeps counts more than both. About a minute on one CPU core for the first
command, digits with LeNet-300-100, 525 networks. Interrupted, the same command goes on; finished, it
prints the stored summary.

K-starts searches among random masks whose layers keep what an allocation, or the mask of SNIP or SynFlow,
says. Each search stands beside one random mask of the same layers, trained as long (of SNIP and SynFlow
their mask, shuffled within layers), and beside the mask itself.

Source: Haroon 2022 (arXiv 2209.02201) for the search; Frankle et al. 2021 (arXiv 2009.08576) for masks
that are shuffled within layers.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from experiments.engine.experiment import Experiment, main, of_methods, training
from experiments.methods.asked import Methods, MethodsOptions
from experiments.methods.point import Point
from experiments.methods.study import Study
from experiments.options.options import own_first

if TYPE_CHECKING:
    from experiments.report.findings import Finding
    from experiments.report.table import Results

SHUFFLE = "shuffle"
SEARCHES = {
    "k-starts": ("random-uniform", "none"),
    "k-starts-erk": ("random-erk", "none"),
    "k-starts-igq": ("random-igq", "none"),
    "k-starts-snip": ("snip", SHUFFLE),
    "k-starts-synflow": ("synflow", SHUFFLE),
}
"""A search, and one random mask of its layers: a method and its variant."""
SCORED = tuple(method for method, variant in SEARCHES.values() if variant == SHUFFLE)
"""Methods whose masks give layers what they keep."""
UNIFORM = "random-uniform"


@own_first
@dataclass(frozen=True, kw_only=True)
class LayerFractions(MethodsOptions):
    """Compare searches in several layer fractions with one random mask of each."""

    experiment = "layer_fractions"

    methods: Methods = (*(method for method, _ in SEARCHES.values()), *SEARCHES)
    sparsities: tuple[float, ...] = (0.95, 0.98)
    """fractions of the prunable weights to remove"""
    seeds: int = 5
    """independent repetitions: initial weights, data order, masks"""


def points(options: LayerFractions, study: Study) -> Sequence[Point]:
    """The networks of every method, and scored masks that are shuffled."""
    asked = of_methods(options, study)
    return [*asked, *(point._replace(variant=SHUFFLE) for point in asked if point.method in SCORED)]


def figures(results: "Results") -> dict[str, Any]:
    """The accuracies of methods, and of all networks."""
    from experiments.report import accuracy, dots

    return {
        "accuracy": accuracy.accuracy_figure(results, baseline=UNIFORM),
        "networks": dots.dots_figure(results, _networks(results)),
    }


def summary(results: "Results", reference: Path | None) -> list[str]:
    """Accuracies, what layers add to a random mask, and what a search adds to that."""
    from experiments.report import at_same_sparsity, findings, markdown
    from experiments.report.costs import K_STARTS
    from experiments.report.paired import percent_cell

    search = results.study.knobs.search
    searching = any(method.startswith(K_STARTS) for method in results.methods)
    searches = f" K-starts chooses among {search.k} masks after {search.search_epochs} epochs."
    lines = [
        f"# layer_fractions: {results.title}",
        "",
        "Final test accuracy in percent, mean ± standard deviation over seeds; dense: "
        f"{percent_cell(results.dense())}.{searches if searching else ''}",
        "",
        *markdown.accuracies_by_method(results, _networks(results)),
    ]
    lines += findings.sections_by_sparsity(_parts(results), results)
    lines += at_same_sparsity.sections(results)
    return lines + markdown.diverged(results)


def _parts(results: "Results") -> "dict[str, list[Finding]]":
    """What the run decides, by the title of a section."""
    return {
        "What the layers add to a random mask": _layers(results),
        "What a search adds": _searches(results),
        "Whether it adds more in other layers": _more(results),
        "What is left of scores": _scores(results),
    }


def _networks(results: "Results") -> list[tuple[str, str]]:
    """Methods that prune to given sparsities, scored ones followed by their shuffled masks."""
    return [
        (method, variant)
        for method in results.at_sparsities
        for variant in (("none", SHUFFLE) if method in SCORED else ("none",))
    ]


def _layers(results: "Results") -> "list[Finding]":
    """A random mask of each kind over one whose layers all keep the same."""
    from experiments.report.findings import better

    return [
        better(results, method, UNIFORM, (variant, "none"))
        for method, variant in SEARCHES.values()
        if method != UNIFORM and results.has(method, UNIFORM)
    ]


def _searches(results: "Results") -> "list[Finding]":
    """Each search over one random mask of its layers."""
    from experiments.report.findings import better

    return [
        better(results, search, method, ("none", variant))
        for search, (method, variant) in SEARCHES.items()
        if results.has(search, method)
    ]


def _more(results: "Results") -> "list[Finding]":
    """What each search adds, over what the search in uniform layers adds."""
    from experiments.report.findings import compared
    from experiments.report.paired import differences
    from experiments.report.table import label

    gains = {
        search: differences(results.accuracy(search), results.accuracy(method, variant))
        for search, (method, variant) in SEARCHES.items()
        if results.has(search, method)
    }
    uniform = gains.pop("k-starts", {})
    return [
        compared(f"{label(search)} adds more than {label('k-starts')}", gain, uniform)
        for search, gain in gains.items()
        if uniform
    ]


def _scores(results: "Results") -> "list[Finding]":
    """A search in the layers of a scored mask over the mask, and the mask over itself, shuffled."""
    from experiments.report.findings import below, better, changed

    found = []
    for search, (method, variant) in SEARCHES.items():
        if method in SCORED and results.has(method):
            found.append(changed(results, method, variant, "hurts", below))
            found += [better(results, search, method)] if results.has(search) else []
    return found


EXPERIMENT = Experiment(
    options=LayerFractions,
    help=__doc__,
    prepare=training(points),
    figures=figures,
    summary=summary,
    findings=lambda results: [one for part in _parts(results).values() for one in part],
)

if __name__ == "__main__":
    main(EXPERIMENT)
