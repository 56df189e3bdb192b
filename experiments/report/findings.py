"""Statements that paired differences decide, as the lines of a table.

Every cell is computed from the rows; none is written to fit a result. A difference is ours minus theirs
in final test accuracy, paired by seed and sparsity, averaged over the sparsities of a band, with a 95 %
interval over seeds.
"""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from functools import partial
from operator import eq
from typing import NamedTuple

from experiments.methods.registry import find_method
from experiments.report.markdown import table
from experiments.report.paired import Estimate, Pairs, differences, estimate
from experiments.report.table import Results, label

BANDS = ((0.0, 0.8), (0.8, 0.95), (0.95, 1.0))
UNCORRECTED = (
    "Differences in accuracy points, paired by seed, with 95 % intervals over seeds that are not "
    "corrected for their number."
)
MARGIN = 0.005
"""What "hardly hurts" allows: half an accuracy point."""


class Finding(NamedTuple):
    """A statement that a comparison decides.

    Attributes:
        statement: Said of ours, about theirs.
        gaps: Ours minus theirs, by seed and sparsity.
        holds: Of an estimate: whether it bears the statement out (1), contradicts it (-1), or neither.
    """

    statement: str
    gaps: Pairs
    holds: Callable[[Estimate], int]


def compared(statement: str, ours: Pairs, theirs: Pairs) -> Finding:
    """A statement that holds where our accuracies are higher."""
    return Finding(statement, differences(ours, theirs), above)


def better(
    results: Results, ours: str, theirs: str, variants: tuple[str, str] = ("none", "none")
) -> Finding:
    """A method beats another.

    Args:
        results: The table of a run.
        variants: Of ours and theirs.
    """
    (one, other) = zip((ours, theirs), variants, strict=True)
    statement = f"{label(*one)} beats {label(*other)}"
    return compared(statement, results.accuracy(*one), results.accuracy(*other))


def changed(
    results: Results, method: str, ablation: str, says: str, holds: Callable[[Estimate], int]
) -> Finding:
    """An ablation changes a method."""
    gaps = differences(results.accuracy(method, ablation), results.accuracy(method))
    return Finding(f"{ablation} {says} {label(method)}", gaps, holds)


def findings_table(findings: Iterable[Finding], results: Results) -> list[str]:
    """The verdicts, one row a statement; bands without a sparsity have no column."""
    bands = [band for band in BANDS if any(_in(sparsity, band) for sparsity in results.sparsities)]
    within = {f"sparsity {b[0]:g} to {b[1]:g}": partial(_in, band=b) for b in bands}
    return _table(findings, within)


def by_sparsity(findings: Iterable[Finding], results: Results) -> list[str]:
    """The verdicts, one row a statement, one column a sparsity."""
    return _table(findings, {f"sparsity {s:g}": partial(eq, s) for s in results.sparsities})


def sections_by_sparsity(parts: Mapping[str, Sequence[Finding]], results: Results) -> list[str]:
    """A section of a summary for each title that has findings, with their verdicts at each sparsity."""
    lines = []
    for title, findings in parts.items():
        if findings:
            lines += ["", f"## {title}", "", UNCORRECTED, "", *by_sparsity(findings, results)]
    return lines


def _table(findings: Iterable[Finding], columns: Mapping[str, Callable[[float], bool]]) -> list[str]:
    """One row a statement, a column for the sparsities that each condition lets through."""
    rows = []
    for finding in findings:
        found = [
            estimate({key: gap for key, gap in finding.gaps.items() if within(key[1])})
            for within in columns.values()
        ]
        rows.append([finding.statement, *(_cell(result, finding.holds) for result in found)])
    return table(["finding", *columns], rows)


def other_methods(
    results: Results, among: Collection[str], baseline: str = "random"
) -> Iterator[Finding]:
    """Each method beside random pruning, and under the ablations that it has in the run.

    Args:
        results: The table of a run.
        among: The methods in question.
        baseline: Random pruning, as the run has it.
    """
    for method in (m for m in results.methods if m in among and find_method(m).at_sparsities):
        if results.has(baseline) and method != baseline:
            yield better(results, method, baseline)
        for ablation in results.settings.get("ablations", ()):
            if results.accuracy(method, ablation):
                yield changed(results, method, ablation, "hurts", below)


def above(result: Estimate) -> int:
    """The mean lies above zero."""
    return result.sign


def below(result: Estimate) -> int:
    """The mean lies below zero."""
    return -result.sign


def hardly_below(result: Estimate) -> int:
    """Whether the interval lies above the margin, or below it."""
    return int(result.mean - result.half_width > -MARGIN) - int(result.mean + result.half_width < -MARGIN)


def _cell(result: Estimate, holds: Callable[[Estimate], int]) -> str:
    if result.seeds == 0:
        return "not run"
    if result.seeds == 1:
        return f"{result.points}, one seed"
    verdict = {1: "**holds**", 0: "undecided", -1: "**does not hold**"}[holds(result)]
    return f"{result.points}, {verdict}"


def _in(sparsity: float, band: tuple[float, float]) -> bool:
    return band[0] <= sparsity < band[1]
