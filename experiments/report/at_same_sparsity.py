"""Methods that find their own sparsity, compared with others at the same one."""

from collections.abc import Iterator, Sequence

import pandas as pd

from experiments.methods.point import DENSE
from experiments.report.markdown import table
from experiments.report.paired import Estimate, at_same_kept, estimate, of_seeds, percent_cell
from experiments.report.table import Results, Table, label


def sections(results: Results) -> Iterator[str]:
    """A section for each method that finds its own sparsity, beside those that prune to given ones."""
    for method in results.of_own_sparsity:
        yield from beside_others(results, method, results.at_sparsities)


def beside_others(results: Results, method: str, others: Sequence[str]) -> Iterator[str]:
    """A method that finds its own sparsity, and its difference to each other method there."""
    yield from (
        "",
        f"## {label(method)}, and over the others at its sparsity",
        "",
        "Differences in accuracy points, paired by seed, with 95 % intervals; the others' accuracies are "
        "interpolated in the logarithm of what they keep, from the dense network's to that of the least "
        "that they were asked to keep.",
        "",
    )
    found = results.of(method)
    rows = []
    for setting, group in found[~found["failed"].astype(bool)].groupby("setting"):
        gaps = (over(results, group, [other, DENSE]) for other in others)
        cells = ["none" if gap.seeds == 0 else gap.points for gap in gaps]
        accuracy = percent_cell(group["test_accuracy"]) + of_seeds(len(group), results.seeds)
        kept = 1 - group["sparsity"].mean()
        rows.append((kept, [f"{setting:g}", f"{kept:.2%}", accuracy, *cells]))
    head = ["setting", "kept", "accuracy", *(f"over {label(other)}" for other in others)]
    yield from table(head, [row for _, row in sorted(rows, reverse=True)])


def over(results: Results, ours: Table, theirs: Sequence[str]) -> Estimate:
    """Accuracies minus those of other methods at the same sparsity, paired by seed.

    Args:
        results: The run's table, from which the other networks come.
        ours: The final rows of one method at one setting, one a seed.
        theirs: The methods whose networks make one curve a seed, interpolated linearly in the logarithm
            of what is kept; beyond its ends there is no comparison.
    """
    gaps, others = {}, pd.concat([results.of(method) for method in theirs])
    others = others[~others["failed"].astype(bool)]
    for seed, sparsity, accuracy in zip(
        ours["seed"], ours["sparsity"], ours["test_accuracy"], strict=True
    ):
        of_seed = others[others["seed"] == seed]
        curve = zip(1 - of_seed["sparsity"], of_seed["test_accuracy"], strict=True)
        there = at_same_kept(curve, 1 - sparsity)
        if there is not None:
            gaps[int(seed), 0.0] = float(accuracy) - there
    return estimate(gaps)
