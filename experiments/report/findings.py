"""Statements that paired differences decide, as the lines of a table.

Every cell is computed from the rows; none is written to fit a result. A difference is ours minus theirs
in final test accuracy, paired by seed and sparsity, averaged over the sparsities of a band, with a 95 %
interval over seeds.
"""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from math import isfinite, isnan
from typing import NamedTuple

from experiments.report.markdown import table
from experiments.report.paired import TOO_FEW, Estimate, Pairs, differences, estimate
from experiments.report.table import Results, label

BANDS = ((0.0, 0.8), (0.8, 0.95), (0.95, 1.0))
UNCORRECTED = (
    "Differences in accuracy points, paired by seed, with 95 % intervals over seeds that are not "
    "corrected for their number."
)
MARGIN = 0.005
"""What "hardly hurts" allows: half an accuracy point."""


DIFFERENCE = "difference"
NOT_RUN = "not run"


class Finding(NamedTuple):
    """A statement that a comparison decides.

    Attributes:
        statement: Said of ours, about theirs.
        gaps: Ours minus theirs, by seed and sparsity; or what else a true statement has above zero.
        holds: Of an estimate: whether it bears the statement out (1), contradicts it (-1), or neither.
        measure: What the gaps are.
    """

    statement: str
    gaps: Pairs
    holds: Callable[[Estimate], int]
    measure: str = DIFFERENCE

    def at(self, sparsities: Collection[float]) -> "Finding":
        """The same statement, of these sparsities alone."""
        return self._replace(gaps={key: gap for key, gap in self.gaps.items() if key[1] in sparsities})


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


def sentence(finding: Finding) -> str:
    """The verdict over all sparsities, as an item of a list, and the estimate at each."""
    known = {key: gap for key, gap in finding.gaps.items() if isfinite(gap)}
    if not known:
        return f"- {finding.statement}: nothing in this run tells."
    result = estimate(finding.gaps)
    verdict = TOO_FEW if isnan(result.half_width) else _verdict(result, finding.holds)
    positive = sum(gap > 0 for gap in known.values())
    at_each = []
    for sparsity in sorted({sparsity for _, sparsity in known}):
        found = estimate(finding.at([sparsity]).gaps)
        width = "" if isnan(found.half_width) else f" ± {found.half_width:.4f}"
        at_each.append(f"{sparsity:g}: {found.mean:+.4f}{width}")
    return (
        f"- {finding.statement}: {verdict}; {finding.measure} {result}, above zero in {positive} of "
        f"{len(known)} pairs ({', '.join(at_each)})."
    )


def findings_table(findings: Iterable[Finding], results: Results) -> list[str]:
    """The verdicts, one row a statement, one column a band; bands without a sparsity have none."""
    columns = {}
    for low, high in BANDS:
        if among := [sparsity for sparsity in results.sparsities if low <= sparsity < high]:
            columns[f"sparsity {low:g} to {high:g}"] = among
    return _table(findings, columns)


def by_sparsity(findings: Iterable[Finding], results: Results) -> list[str]:
    """The verdicts, one row a statement, one column a sparsity."""
    return _table(findings, {f"sparsity {s:g}": [s] for s in results.sparsities})


def by_run(columns: Sequence[tuple[str, Sequence[Finding]]]) -> list[str]:
    """The verdicts of several runs, one row a statement, one column a run, over all its sparsities.

    Args:
        columns: What each run is called, and its findings.
    """
    names = [name for name, _ in columns]
    statements = {one.statement: one.measure for _, findings in columns for one in findings}
    found = [{one.statement: one for one in findings} for _, findings in columns]

    rows = [
        [statement if measure == DIFFERENCE else f"{statement} ({measure}, in hundredths)"]
        + [_cell(findings[statement]) if statement in findings else NOT_RUN for findings in found]
        for statement, measure in statements.items()
    ]
    return table(["statement", *names], rows)


def sections_by_sparsity(parts: Mapping[str, Sequence[Finding]], results: Results) -> list[str]:
    """A section of a summary for each title that has findings, with their verdicts at each sparsity."""
    lines = []
    for title, findings in parts.items():
        if findings:
            lines += ["", f"## {title}", "", UNCORRECTED, "", *by_sparsity(findings, results)]
    return lines


def _table(findings: Iterable[Finding], columns: Mapping[str, Collection[float]]) -> list[str]:
    """One row a statement, a column for the sparsities of each name."""
    rows = [
        [finding.statement, *(_cell(finding.at(among)) for among in columns.values())]
        for finding in findings
    ]
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
    for method in (m for m in results.at_sparsities if m in among):
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


def _cell(finding: Finding) -> str:
    result = estimate(finding.gaps)
    if not finding.gaps:
        return NOT_RUN
    if result.seeds == 0:
        return "diverged" if finding.measure == DIFFERENCE else "unknown"
    return f"{result.points}, {'one seed' if result.seeds == 1 else _verdict(result, finding.holds)}"


def _verdict(result: Estimate, holds: Callable[[Estimate], int]) -> str:
    return {1: "**holds**", 0: "undecided", -1: "**does not hold**"}[holds(result)]
