"""What ``experiments.compare`` found, as sentences with numbers: one line a claim of the paper.

Every line is computed from the rows; none is written to fit a result. Comparisons are paired by seed.

Source of the claims: Haroon 2022 (arXiv 2209.02201); the random-search question: arXiv 2403.08265.
"""

from collections.abc import Callable, Sequence

import numpy as np

from experiments.compare_plan import Plan
from experiments.compare_search import FITNESSES
from experiments.engine.run_folder import Row
from experiments.report.paired import (
    Pairs,
    differences,
    estimate,
    finite_deviation,
    finite_max,
    finite_mean,
    rank_correlation,
)


class Findings:
    """Final accuracies by method, seed and sparsity, and what follows from them."""

    def __init__(self, rows: Sequence[Row], *, epochs: int) -> None:
        """Sorts the rows.

        Args:
            rows: All rows of the run.
            epochs: Length of a full training.
        """
        self.rows = rows
        self.final = [row for row in rows if row["epoch"] == epochs]

    def accuracy(self, method: str, variant: str | None = None) -> Pairs:
        """Final test accuracy (fraction) by (seed, sparsity) of a method."""
        return {
            (row["seed"], row["sparsity_target"]): _accuracy(row)
            for row in self.final
            if row["method"] == method and (variant is None or row["variant"] == variant)
        }

    def candidates(self) -> dict[tuple[int, float], list[Row]]:
        """The k candidates' final rows, in order, with their fitness, by (seed, sparsity)."""
        groups: dict[tuple[int, float], list[Row]] = {}
        for row in self.final:
            if row["method"] == "candidate":
                groups.setdefault((row["seed"], row["sparsity_target"]), []).append(row)
        return {key: sorted(rows, key=lambda row: row["candidate"]) for key, rows in groups.items()}

    def over_candidates(self, reduce: Callable[[np.ndarray], float]) -> Pairs:
        """Reduces the final accuracies of the k candidates to one number each."""
        return {
            key: reduce(np.array([_accuracy(row) for row in rows]))
            for key, rows in self.candidates().items()
        }

    def rank_correlations(self, fitness: str) -> Pairs:
        """Spearman's correlation of search-time fitness and final accuracy over the candidates."""
        return {
            key: rank_correlation(
                np.array([row[f"fitness_{fitness}"] for row in rows]),
                np.array([_accuracy(row) for row in rows]),
            )
            for key, rows in self.candidates().items()
        }

    def epochs_to_reach(self, variant: str, sparsity: float) -> list[int | None]:
        """The first epoch at which each seed's band has reached a sparsity; None if never."""
        seeds = sorted({row["seed"] for row in self.rows})
        return [
            min(
                (
                    row["epoch"]
                    for row in self.rows
                    if row["method"] == "dissipate"
                    and row["variant"] == variant
                    and row["seed"] == seed
                    and row["sparsity"] >= sparsity
                ),
                default=None,
            )
            for seed in seeds
        ]


def claims(findings: Findings, plan: Plan) -> list[str]:
    """The verdicts, one line each.

    Args:
        findings: Of the whole run.
        plan: What was trained.

    Returns:
        Markdown list items.
    """
    lines = []
    mean_of_k = findings.over_candidates(finite_mean)
    best_of_k = findings.over_candidates(finite_max)
    for fitness in FITNESSES:
        ours = findings.accuracy("k-starts", fitness)
        name = f"K-starts ({fitness} fitness)"
        random = findings.accuracy("random")
        lines.append(_compared(f"{name} beats one random mask", ours, random))
        lines.append(_compared(f"{name} beats the mean of its k candidates", ours, mean_of_k))
        gap = estimate(differences(best_of_k, ours))
        lines.append(f"- {name} stays below the best of its k candidates after full training by {gap}.")
        lines.append(_correlation(fitness, findings.rank_correlations(fitness)))
    both = findings.accuracy("k-starts+dissipate-to")
    parts = {
        "K-starts (combined fitness)": findings.accuracy("k-starts", "combined"),
        "dissipating gradients to the same sparsity": findings.accuracy("dissipate-to"),
        "the same dissipation from one random mask": findings.accuracy("random+dissipate-to"),
        "random pruning": findings.accuracy("random"),
    }
    for name, part in parts.items():
        lines.append(_compared(f"The combination beats {name}", both, part))
    dissipated = findings.accuracy("dissipate-to")
    lines.append(
        _compared("Dissipating gradients beat random pruning", dissipated, parts["random pruning"])
    )
    again = estimate(
        differences(findings.accuracy("retrained"), findings.accuracy("k-starts", "combined"))
    )
    verdict = again.verdict(
        above="**helps**", below="**hurts**", level="**no difference that these seeds can tell**"
    )
    lines.append(
        "- Retraining the winner from its initial weights (in a new order of the data; in the same "
        f"order it is the same run): {verdict}; difference {again}."
    )
    lines += _dissipation(findings, plan)
    return lines


def _accuracy(row: Row) -> float:
    return float("nan") if row["failed"] else row["test_accuracy"]


def _compared(claim: str, ours: Pairs, theirs: Pairs) -> str:
    gaps = differences(ours, theirs)
    result = estimate(gaps)
    verdict = result.verdict(
        above="**yes**", below="**no, it is worse**", level="**not distinguishable**"
    )
    known = {key: gap for key, gap in gaps.items() if np.isfinite(gap)}
    better = sum(gap > 0 for gap in known.values())
    return (
        f"- {claim}: {verdict}; difference {result}, better in {better} of {len(known)} pairs "
        f"({_by_sparsity(known)})."
    )


def _by_sparsity(gaps: Pairs) -> str:
    """The estimate at each sparsity alone."""
    parts = []
    for sparsity in sorted({sparsity for _, sparsity in gaps}):
        found = estimate({key: gap for key, gap in gaps.items() if key[1] == sparsity})
        width = f" ± {found.half_width:.4f}" if found.seeds > 1 else ""
        parts.append(f"{sparsity:g}: {found.mean:+.4f}{width}")
    return ", ".join(parts)


def _correlation(fitness: str, correlations: Pairs) -> str:
    result = estimate(correlations)
    known = sum(not np.isnan(value) for value in correlations.values())
    verdict = result.verdict(
        above="**yes**", below="**no, it points the other way**", level="**not that one could tell**"
    )
    return (
        f"- {fitness.capitalize()} fitness at search time predicts final accuracy: {verdict}; "
        f"rank correlation over the k candidates {result}, from {known} searches."
    )


def _dissipation(findings: Findings, plan: Plan) -> list[str]:
    variants = sorted(
        {row["variant"] for row in findings.final if row["method"] == "dissipate"}, key=float
    )
    lines = []
    for variant in variants:
        reached = []
        for sparsity in plan.sparsities:
            found = findings.epochs_to_reach(variant, sparsity)
            known = [epoch for epoch in found if epoch is not None]
            text = f"{np.mean(known):.1f} epochs" if known else "never"
            if known and len(known) < len(found):
                text += f" ({len(known)} of {len(found)} seeds)"
            reached.append(f"{sparsity:g} {text}")
        ends = [
            row["sparsity"]
            for row in findings.final
            if row["method"] == "dissipate" and row["variant"] == variant
        ]
        lines.append(
            f"- Dissipating gradients with fraction {variant}, checked after each of the first "
            f"{plan.dissipate_epochs} epochs, reach sparsity {', '.join(reached)}; they end "
            f"at {np.mean(ends):.3f} ± {finite_deviation(np.array(ends)):.3f} (mean and standard "
            f"deviation of {len(ends)} seeds)."
        )
    return lines
