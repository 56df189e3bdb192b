"""Published accuracies, set beside those of a run.

A CSV with the columns network, dataset, method, variant, sparsity_percent, accuracy (percent) and std
(percent, may be empty). Recipes differ, so differences to random pruning at the same sparsity are set
beside each other too.
"""

import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from experiments.methods.registry import METHODS
from experiments.report.markdown import table
from experiments.report.paired import at_sparsity, finite_mean, percent_cell, rank_correlation
from experiments.report.reference_table import Line, read_table
from experiments.report.table import Results, label
from experiments.report.writing import REFERENCE

COLUMNS = ("network", "dataset", "method", "variant", "sparsity_percent", "accuracy", "std")
METHOD_NAMES = {"graspabs": "grasp-absolute", "LTR/IMP": "lottery-ticket-rewinding"}
# Words in a published variant; scores after some training have no counterpart here.
VARIANT_NAMES = {
    "shuffle": "shuffle",
    "reinit": "reinit",
    "invert": "invert",
    "rewind point": None,
}
BEST_EPOCH = ("best epoch", "max test acc")
SAME_SPARSITY = 5e-4


class Published(NamedTuple):
    """A published accuracy.

    Attributes:
        method: As we call it.
        variant: none, shuffle, reinit or invert.
        says: How the source describes it.
        sparsity: Fraction removed.
        accuracy: Test accuracy, fraction.
        deviation: Standard deviation, fraction; NaN where none is given.
    """

    method: str
    variant: str
    says: str
    sparsity: float
    accuracy: float
    deviation: float

    @property
    def of_best_epoch(self) -> bool:
        """Whether it is of the best test epoch; ours are of the final one."""
        return any(words in self.says for words in BEST_EPOCH)


class Reference(NamedTuple):
    """Accuracies that others published.

    Attributes:
        name: The name of the file that they come from.
        accuracies: Of one network on one data set.
    """

    name: str
    accuracies: list[Published]

    def at(self, sparsity: float) -> list[Published]:
        """Those of the same sparsity."""
        return [
            one
            for one in self.accuracies
            if math.isclose(one.sparsity, sparsity, rel_tol=0, abs_tol=SAME_SPARSITY)
        ]


def read_accuracies(path: Path, *, model: str, dataset: str) -> Reference:
    """The published accuracies of a network on a data set.

    Args:
        model: Our name of the network; theirs may lack hyphens, or say more.

    Returns:
        What has a counterpart here, in the order of the file.

    Raises:
        ValueError: If columns are missing, the file has nothing of this network and data set, or what
            it has are no numbers.
    """
    lines = read_table(path, COLUMNS).lines
    of_network = [
        line
        for line in lines
        if _is_called(line.text("network"), model)
        and _is_called(line.text("dataset"), dataset.split(":")[0])
    ]
    if not of_network:
        there = sorted({f"{line.text('network')} on {line.text('dataset')}" for line in lines})
        raise ValueError(
            f"expected accuracies of {model} on {dataset}, {path} has {', '.join(there) or 'none'}"
        )
    return Reference(
        path.name.removeprefix(REFERENCE),
        [published for line in of_network for published in _published(line)],
    )


def beside(path: Path, results: Results) -> list[str]:
    """A section of a summary: ours beside theirs, at sparsities that both have.

    Raises:
        ValueError: As ``read_accuracies``.
    """
    published = read_accuracies(
        path, model=results.settings["model"], dataset=results.settings["dataset"]
    )
    return [
        "",
        f"## Beside {published.name}",
        "",
        "Published accuracies at the same sparsity (within half a tenth of a percent). Recipes differ: "
        "the last two columns compare what each method gains over random pruning. Where the source "
        "says so, theirs are of the best test epoch; ours are of the final one. GraSP in the code of "
        "Tanaka et al. 2020 has its sign inverted.",
        "",
        *_table(published, results),
        *_orders(published, results),
    ]


def _orders(published: Reference, results: Results) -> list[str]:
    """How alike the methods are ordered, at each sparsity that has enough of them."""
    rows = []
    for sparsity in results.sparsities:
        for best_epoch in (False, True):
            theirs: dict[str, list[float]] = {}
            for one in published.at(sparsity):
                if one.variant == "none" and one.of_best_epoch == best_epoch:
                    theirs.setdefault(one.method, []).append(one.accuracy)
            ours = {method: finite_mean(_ours(results, method, "none", sparsity)) for method in theirs}
            both = [method for method in theirs if not math.isnan(ours[method])]
            correlation = rank_correlation(
                np.array([ours[method] for method in both]),
                np.array([np.mean(theirs[method]) for method in both]),
            )
            if not math.isnan(correlation):
                names = ", ".join(label(method) for method in both)
                epoch = "best epoch" if best_epoch else "final"
                rows.append([f"{sparsity:g}", names, epoch, f"{correlation:+.2f}"])
    if not rows:
        return []
    return [
        "",
        "Whether the methods have the same order: Spearman's rank correlation of their mean accuracies; "
        "where a method has several published ones, of the mean of these. Of a few methods it says "
        "little.",
        "",
        *table(["sparsity", "methods", "theirs", "rank correlation"], rows),
    ]


def _table(published: Reference, results: Results) -> list[str]:
    lines = [
        "| sparsity | method | published as | published | ours | theirs over random | ours over random |",
        "|---|---|---|---|---|---|---|",
    ]
    rank = list(METHODS).index
    for sparsity in results.sparsities:
        at = published.at(sparsity)
        their_random: dict[bool, list[float]] = {}
        for one in at:
            if (one.method, one.variant) == ("random", "none"):
                their_random.setdefault(one.of_best_epoch, []).append(one.accuracy)
        our_random = _ours(results, "random", "none", sparsity)
        for theirs in sorted(at, key=lambda p: (rank(p.method), p.variant)):
            ours = _ours(results, theirs.method, theirs.variant, sparsity)
            if not ours.size:
                continue
            cells = (
                f"{sparsity:g}",
                label(theirs.method, theirs.variant),
                theirs.says.replace("|", r"\|"),
                _with_spread(100 * theirs.accuracy, 100 * theirs.deviation),
                percent_cell(ours),
                _over(theirs.accuracy, their_random.get(theirs.of_best_epoch, [])),
                f"{100 * (finite_mean(ours) - finite_mean(our_random)):+.2f}" if our_random.size else "",
            )
            lines.append(f"| {' | '.join(cells)} |")
    return lines


def _published(line: Line) -> Iterator[Published]:
    method = METHOD_NAMES.get(line.text("method"), line.text("method"))
    says = line.text("variant")
    words = (name for word, name in VARIANT_NAMES.items() if word in says.lower())
    variant = next(words, "none")
    if method in METHODS and variant is not None:
        yield Published(
            method,
            variant,
            says,
            line.number("sparsity_percent", highest=100) / 100,
            line.number("accuracy", highest=100) / 100,
            line.number("std", highest=100) / 100 if line.text("std").strip() else math.nan,
        )


def _ours(results: Results, method: str, variant: str, sparsity: float) -> np.ndarray:
    return at_sparsity(results.accuracy(method, variant), sparsity)


def _is_called(theirs: str, ours: str) -> bool:
    """Whether a published name is, or contains as a word, one of ours; hyphens do not count."""
    words = re.split(r"[^a-z0-9]+", theirs.lower())
    bare = re.sub(r"[^a-z0-9]", "", ours.lower())
    return bare in (*words, "".join(words))


def _over(accuracy: float, random: list[float]) -> str:
    """What an accuracy gains over random pruning; over the mean, where several were published."""
    return f"{100 * (accuracy - np.mean(random)):+.2f}" if random else ""


def _with_spread(mean: float, deviation: float) -> str:
    return f"{mean:.2f}" if math.isnan(deviation) else f"{mean:.2f} ± {deviation:.2f}"
