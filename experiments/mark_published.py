"""Published accuracies, set beside those of ``experiments.missing_the_mark``.

A CSV with the columns network, dataset, method, variant, sparsity_percent, accuracy (percent) and std
(percent, may be empty). Recipes differ, so differences to random pruning at the same sparsity are set
beside each other too.
"""

import csv
import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from experiments.mark_claims import Findings
from experiments.mark_plan import METHODS, Plan
from experiments.paired import at_sparsity, finite_mean, percent_cell

COLUMNS = ("network", "dataset", "method", "variant", "sparsity_percent", "accuracy", "std")
METHOD_NAMES = {"graspabs": "grasp-absolute", "LTR/IMP": "lottery-ticket-rewinding"}
# The first word of a published variant; what is scored after some training has no counterpart here.
VARIANT_NAMES = {"shuffled": "shuffle", "reinitialized": "reinit", "inverted": "invert", "scored": None}
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


class Reference(NamedTuple):
    """Accuracies that others published.

    Attributes:
        name: Of their file.
        accuracies: Of one network on one data set.
    """

    name: str
    accuracies: list[Published]


def read_accuracies(path: Path, *, model: str, dataset: str) -> Reference:
    """The published accuracies of a network on a data set.

    Args:
        path: The CSV.
        model: Our name of the network; theirs may lack hyphens, or say more.
        dataset: Its name.

    Returns:
        What has a counterpart here, in the order of the file.

    Raises:
        ValueError: If columns are missing, or the file has nothing of this network and data set.
    """
    with path.open() as file:
        lines = list(csv.DictReader(file))
    missing = set(COLUMNS) - set(lines[0] if lines else ())
    if missing:
        raise ValueError(
            f"expected a CSV with the columns {', '.join(COLUMNS)}, {path} lacks "
            f"{', '.join(sorted(missing))}"
        )
    ours = re.compile(re.escape(_bare(model)) + r"(?!\d)")
    of_network = [
        line
        for line in lines
        if ours.search(_bare(line["network"])) and _bare(line["dataset"]) == _bare(dataset.split(":")[0])
    ]
    if not of_network:
        there = sorted({f"{line['network']} on {line['dataset']}" for line in lines})
        raise ValueError(f"expected accuracies of {model} on {dataset}, {path} has {', '.join(there)}")
    return Reference(path.name, [published for line in of_network for published in _published(line)])


def beside_table(published: Reference, found: Findings, plan: Plan) -> list[str]:
    """Ours beside theirs, as the lines of a Markdown table.

    Args:
        published: Of the same network and data set.
        found: Of the whole run.
        plan: What was trained.

    Returns:
        A row a published accuracy at a sparsity that we have too, by sparsity and method.
    """
    lines = [
        "| sparsity | method | published as | published | ours | theirs over random | ours over random |",
        "|---|---|---|---|---|---|---|",
    ]
    rank = list(METHODS).index
    for sparsity in plan.sparsities:
        at = [
            p
            for p in published.accuracies
            if math.isclose(p.sparsity, sparsity, rel_tol=0, abs_tol=SAME_SPARSITY)
        ]
        their_random = [p.accuracy for p in at if p.method == "random" and p.variant == "none"]
        our_random = _ours(found, "random", "none", sparsity)
        for theirs in sorted(at, key=lambda p: (rank(p.method), p.variant)):
            ours = _ours(found, theirs.method, theirs.variant, sparsity)
            if not ours.size:
                continue
            cells = (
                f"{sparsity:g}",
                theirs.method if theirs.variant == "none" else f"{theirs.method}, {theirs.variant}",
                theirs.says,
                _with_spread(100 * theirs.accuracy, 100 * theirs.deviation),
                percent_cell(ours),
                f"{100 * (theirs.accuracy - their_random[0]):+.2f}" if their_random else "",
                f"{100 * (finite_mean(ours) - finite_mean(our_random)):+.2f}" if our_random.size else "",
            )
            lines.append(f"| {' | '.join(cells)} |")
    return lines


def _published(line: dict[str, str]) -> Iterator[Published]:
    method = METHOD_NAMES.get(line["method"], line["method"])
    variant = VARIANT_NAMES.get(line["variant"].split(" ")[0], "none")
    if method in METHODS and variant is not None:
        yield Published(
            method,
            variant,
            line["variant"],
            float(line["sparsity_percent"]) / 100,
            float(line["accuracy"]) / 100,
            float(line["std"] or "nan") / 100,
        )


def _ours(found: Findings, method: str, variant: str, sparsity: float) -> np.ndarray:
    return at_sparsity(found.accuracy(method, variant), sparsity)


def _bare(name: str) -> str:
    return name.lower().replace("-", "").replace("_", "")


def _with_spread(mean: float, deviation: float) -> str:
    return f"{mean:.2f}" if math.isnan(deviation) else f"{mean:.2f} ± {deviation:.2f}"
