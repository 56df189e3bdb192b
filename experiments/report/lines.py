"""Claims of a paper as sentences with numbers, computed from a run's rows; none is written to fit."""

import numpy as np

from experiments.report.paired import Pairs, differences, estimate, finite_deviation
from experiments.report.table import Results, counted, label


def compared(claim: str, ours: Pairs, theirs: Pairs) -> str:
    """Whether ours beat theirs, over all sparsities and at each."""
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


def correlation(fitness: str, correlations: Pairs) -> str:
    """Whether a fitness at search time predicts the accuracy after full training."""
    result = estimate(correlations)
    known = sum(not np.isnan(value) for value in correlations.values())
    verdict = result.verdict(
        above="**yes**", below="**no, it points the other way**", level="**not that one could tell**"
    )
    return (
        f"- {fitness.capitalize()} fitness at search time predicts final accuracy: {verdict}; "
        f"rank correlation over the k candidates {result}, from {known} searches."
    )


def reached(results: Results, method: str) -> list[str]:
    """After how many epochs a method that finds its own sparsity reaches given ones, a line a setting."""
    rows = results.table[results.table["method"] == method]
    lines = []
    for setting, of_setting in rows.groupby("setting"):
        texts = []
        for sparsity in results.sparsities:
            first = of_setting[of_setting["sparsity"] >= sparsity].groupby("seed")["epoch"].min()
            text = f"{sparsity:g} " + (f"{first.mean():.1f} epochs" if len(first) else "never")
            few = len(first) and len(first) < results.seeds
            texts.append(text + (f" ({len(first)} of {results.seeds} seeds)" if few else ""))
        ends = of_setting.loc[of_setting["epoch"] == results.epochs, "sparsity"].to_numpy()
        checks = counted(results.settings["prune_epochs"], "epoch")
        lines.append(
            f"- {label(method)} {setting:g}, checked after each of the first {checks}, reaches sparsity "
            f"{', '.join(texts)}; it ends at {ends.mean():.3f} ± {finite_deviation(ends):.3f} (mean and "
            f"standard deviation of {counted(len(ends), 'seed')})."
        )
    return lines


def _by_sparsity(gaps: Pairs) -> str:
    """The estimate at each sparsity alone."""
    parts = []
    for sparsity in sorted({sparsity for _, sparsity in gaps}):
        found = estimate({key: gap for key, gap in gaps.items() if key[1] == sparsity})
        width = f" ± {found.half_width:.4f}" if found.seeds > 1 else ""
        parts.append(f"{sparsity:g}: {found.mean:+.4f}{width}")
    return ", ".join(parts)
