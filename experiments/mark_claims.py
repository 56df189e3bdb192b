"""What ``experiments.missing_the_mark`` found: the paper's findings as a table of paired differences.

Every cell is computed from the rows; none is written to fit a result. A difference is ours minus theirs
in final test accuracy, paired by seed and sparsity, averaged over the sparsities of a band, with a 95 %
interval over seeds.

Source of the findings: Frankle et al. 2021 (arXiv 2009.08576), sections 4 to 6.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

from experiments.engine.run_folder import Row
from experiments.mark_plan import AFTER_TRAINING, DURING_TRAINING, Plan
from experiments.report.paired import Estimate, Pairs, differences, estimate

BANDS = ((0.0, 0.8), (0.8, 0.95), (0.95, 1.0))
MARGIN = 0.005  # what "hardly hurts" allows: half an accuracy point
EARLY = ("magnitude", "snip", "grasp", "synflow")  # what the paper calls early pruning


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


class Findings:
    """Final accuracies by method, variant and pruning step."""

    def __init__(self, rows: Sequence[Row], *, epochs: int) -> None:
        """Sorts the rows.

        Args:
            rows: All rows of the run.
            epochs: Length of a full training.
        """
        self.final = [row for row in rows if row["epoch"] == epochs]

    def accuracy(self, method: str, variant: str = "none", step: int | None = None) -> Pairs:
        """Final test accuracy (fraction; NaN where training failed) by (seed, sparsity).

        Args:
            method: Its name.
            variant: none, shuffle, reinit or invert.
            step: Where it pruned; None for the method's own place: initialization, or for
                lottery-ticket rewinding the step it rewinds to.

        Returns:
            The accuracies.
        """
        return {
            (row["seed"], row["sparsity_target"]): float("nan") if row["failed"] else row["test_accuracy"]
            for row in self.final
            if (row["method"], row["variant"]) == (method, variant) and _is_at(row, step)
        }

    def has(self, *methods: str) -> bool:
        """Whether the run has all of these methods."""
        return set(methods) <= {row["method"] for row in self.final}


def findings_table(findings: Iterable[Finding], plan: Plan) -> list[str]:
    """The verdicts, as the lines of a Markdown table.

    Args:
        findings: What is to be decided.
        plan: What was trained.

    Returns:
        One row a statement; bands without a sparsity have no column.
    """
    bands = [band for band in BANDS if any(_in(sparsity, band) for sparsity in plan.sparsities)]
    heads = [f"sparsity {low:g} to {high:g}" for low, high in bands]
    lines = ["| finding | " + " | ".join(heads) + " |", "|---" * (len(bands) + 1) + "|"]
    for finding in findings:
        cells = []
        for band in bands:
            result = estimate({key: gap for key, gap in finding.gaps.items() if _in(key[1], band)})
            cells.append(_cell(result, finding.holds))
        lines.append(f"| {finding.statement} | " + " | ".join(cells) + " |")
    return lines


def of_the_paper(found: Findings, plan: Plan) -> Iterator[Finding]:
    """The paper's findings.

    Args:
        found: Of the whole run.
        plan: What was trained.

    Yields:
        Those for which the run has the methods.
    """
    early = [method for method in EARLY if found.has(method)]
    if found.has("random"):
        for method in early:
            yield _better(found, method, "random")
    for late in (late for late in AFTER_TRAINING if found.has(late)):
        for method in early:
            yield _better(found, late, method)
    for ablation in ("shuffle", "reinit"):
        if ablation in plan.ablations:
            for method in early:
                yield _changed(found, method, ablation, "hardly hurts", _hardly_below)
            for method in (late for late in AFTER_TRAINING if found.has(late)):
                yield _changed(found, method, ablation, "hurts", _below)
    if "invert" in plan.ablations:
        for method, says, holds in (
            ("magnitude", "hurts", _below),
            ("snip", "hurts", _below),
            ("grasp", "hardly hurts", _hardly_below),
        ):
            if found.has(method):
                yield _changed(found, method, "invert", says, holds)
    if found.has("grasp", "grasp-absolute"):
        yield _better(found, "grasp-absolute", "grasp")
    for step in plan.steps:
        for method in early:
            gaps = differences(found.accuracy(method, step=step), found.accuracy(method))
            yield Finding(f"{method} at step {step} beats {method} at initialization", gaps, _above)


def of_the_first_system(found: Findings) -> Iterator[Finding]:
    """Where K-starts and dissipating gradients stand on the same grid; not of the paper.

    Args:
        found: Of the whole run.

    Yields:
        A comparison with each other method.
    """
    for method in (method for method in DURING_TRAINING if found.has(method)):
        others = ("random", "magnitude", "snip", "grasp-absolute", "synflow", *AFTER_TRAINING)
        for other in (other for other in others if found.has(other)):
            yield _better(found, method, other)


def _better(found: Findings, ours: str, theirs: str) -> Finding:
    gaps = differences(found.accuracy(ours), found.accuracy(theirs))
    return Finding(f"{ours} beats {theirs}", gaps, _above)


def _changed(
    found: Findings, method: str, ablation: str, says: str, holds: Callable[[Estimate], int]
) -> Finding:
    gaps = differences(found.accuracy(method, ablation), found.accuracy(method))
    return Finding(f"{ablation} {says} {method}", gaps, holds)


def _above(result: Estimate) -> int:
    return result.sign


def _below(result: Estimate) -> int:
    return -result.sign


def _hardly_below(result: Estimate) -> int:
    """Whether the interval lies above the margin, or below it."""
    return int(result.mean - result.half_width > -MARGIN) - int(result.mean + result.half_width < -MARGIN)


def _cell(result: Estimate, holds: Callable[[Estimate], int]) -> str:
    if result.seeds == 0:
        return "not run"
    points = f"{100 * result.mean:+.2f}"
    if result.seeds == 1:
        return f"{points}, one seed"
    verdict = {1: "**holds**", 0: "undecided", -1: "**does not hold**"}[holds(result)]
    return f"{points} ± {100 * result.half_width:.2f}, {verdict}"


def _in(sparsity: float, band: tuple[float, float]) -> bool:
    return band[0] <= sparsity < band[1]


def _is_at(row: Row, step: int | None) -> bool:
    if step is not None:
        return row["pruned_at_step"] == step
    return row["pruned_at_step"] == 0 or row["method"] in AFTER_TRAINING
