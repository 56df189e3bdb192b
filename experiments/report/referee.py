"""Every method beside random pruning and beside the best one: the referee's tables."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from experiments.methods.method import When
from experiments.methods.registry import find_method
from experiments.report.costs import Cost, Costs
from experiments.report.holm import FEWEST_SEEDS, holm_estimates, number_tested
from experiments.report.markdown import cell, table
from experiments.report.paired import (
    TOO_FEW,
    Estimate,
    Pairs,
    at_sparsity,
    differences,
    finite_mean,
)
from experiments.report.table import Results, counted, label

BASELINE = "random"
CONTROLS = {
    "k-starts": "random-uniform",
    "k-starts-erk": "random-erk",
    "k-starts-igq": "random-igq",
    "successive-elimination": "k-starts",
    "evolved-masks": "k-starts",
    "random-erk+dissipating-gradients": "random+dissipating-gradients",
    "random-igq+dissipating-gradients": "random+dissipating-gradients",
    "snip+dissipating-gradients": "random+dissipating-gradients",
    "synflow+dissipating-gradients": "random+dissipating-gradients",
    "k-starts+dissipating-gradients": "random+dissipating-gradients",
    "rigl": "random-erk",
    "set": "random-erk",
    "rigl-snip": "snip",
    "rigl-synflow": "synflow",
    "gradual-magnitude-ste": "gradual-magnitude",
    "snip-iterative": "snip",
    "grasp-iterative": "grasp",
    "synflow-l2": "synflow",
}
"""What a method is set against: the same without its search, moves or rounds, or from a random start."""
Name = tuple[str, float]
"""A method at a sparsity."""


@dataclass(frozen=True)
class Refereed:
    """Who is how good, and how sure that is.

    Attributes:
        results: The table of the run.
        methods: The names of the methods that were compared, in the order of tables.
        accuracies: For each method its final test accuracies, by seed and sparsity.
        costs: For each method what it costs on top of one training.
        run: At each sparsity the methods that were run there; runs that are merged may differ in theirs.
        best: At each sparsity the method of the highest mean accuracy, of those that the most seeds have.
        over_random: By method and sparsity the difference in accuracy to random pruning, where both
            were run.
        under_best: By method and sparsity the difference in accuracy to the best method there.
    """

    results: Results
    methods: list[str]
    accuracies: dict[str, Pairs]
    costs: dict[str, Cost]
    run: dict[float, list[str]]
    best: dict[float, str]
    over_random: dict[Name, Estimate]
    under_best: dict[Name, Estimate]

    def trained(self, sparsity: float) -> list[str]:
        """The methods of which some network did not diverge, in the order of tables."""
        accuracies = {m: at_sparsity(self.accuracies[m], sparsity) for m in self.run[sparsity]}
        return [m for m in self.methods if m in accuracies and np.isfinite(accuracies[m]).any()]

    def level_with_best(self, sparsity: float) -> list[str]:
        """The best, and those that are surely neither below nor above it, in the order of tables.

        What has no seed in common with the best cannot be told apart from it.
        """
        gaps = {method: self.under_best.get((method, sparsity)) for method in self.trained(sparsity)}
        return [method for method, gap in gaps.items() if gap is None or gap.sign == 0]

    def above_best(self, sparsity: float) -> dict[int, list[str]]:
        """Methods that are surely above the best, which more seeds have, by the seeds that both have."""
        found: dict[int, list[str]] = {}
        for method in self.trained(sparsity):
            gap = self.under_best.get((method, sparsity))
            if gap is not None and gap.sign > 0:
                found.setdefault(gap.seeds, []).append(method)
        return found

    def best_have_highest_mean(self) -> bool:
        """Whether no method that fewer seeds have has a higher mean than the best, at any sparsity."""
        return all(self.ranked(sparsity)[0] == best for sparsity, best in self.best.items())

    def cheapest(self, among: Sequence[str]) -> list[str]:
        """Those of the lowest cost in epochs; many methods have none of their own."""
        least = min(self.costs[method].epochs for method in among)
        return [method for method in among if self.costs[method].epochs == least]

    def ranked(self, sparsity: float) -> list[str]:
        """The methods that were run there by mean accuracy, the best first; diverged ones come last."""
        methods = self.run[sparsity]
        means = {m: finite_mean(at_sparsity(self.accuracies[m], sparsity)) for m in methods}
        return sorted(methods, key=lambda m: -np.nan_to_num(means[m], nan=-1))


def referee(results: Results) -> Refereed:
    """Compares all methods of a run that prune to given sparsities."""
    methods = results.at_sparsities
    accuracies = {method: results.accuracy(method) for method in methods}
    costs = Costs(results)
    run = {
        sparsity: [m for m in methods if at_sparsity(accuracies[m], sparsity).size]
        for sparsity in results.sparsities
    }
    run = {sparsity: there for sparsity, there in run.items() if there}
    best = {}
    for sparsity, there in run.items():
        values = {m: at_sparsity(accuracies[m], sparsity) for m in there}
        finite = {m: int(np.isfinite(values[m]).sum()) for m in there}
        best[sparsity] = max(
            there, key=lambda m: (finite[m], np.nan_to_num(finite_mean(values[m]), nan=-1))
        )
    against_random = {
        (method, sparsity): _gaps(accuracies, method, BASELINE, sparsity)
        for sparsity, there in run.items()
        for method in there
        if BASELINE in there and method != BASELINE
    }
    against_best = {
        (method, sparsity): _gaps(accuracies, method, best[sparsity], sparsity)
        for sparsity, there in run.items()
        for method in there
        if method != best[sparsity]
    }
    return Refereed(
        results,
        methods,
        accuracies,
        {method: costs.of(method) for method in methods},
        run,
        best,
        _compared(against_random),
        _compared(against_best),
    )


def verdicts(found: Refereed) -> list[str]:
    """Which method one would pick at each sparsity, and how sure that is: a line each."""
    lines = []
    for sparsity, best in found.best.items():
        if found.results.seeds < FEWEST_SEEDS:
            seeds = counted(found.results.seeds, "seed")
            lines.append(f"- At sparsity {sparsity:g}: {label(best)}, by {seeds}: {TOO_FEW}.")
            continue
        trained, level = found.trained(sparsity), found.level_with_best(sparsity)
        if len(trained) < 2:
            only = f"{label(best)} alone was trained there" if trained else "every network diverged"
            lines.append(f"- At sparsity {sparsity:g}: {only}.")
            continue
        by_seeds = found.above_best(sparsity)
        over = "; ".join(f"of {seeds} seeds: {_names(those)}" for seeds, those in by_seeds.items())
        above = [method for those in by_seeds.values() for method in those]
        tied = ""
        if len(level) > 1:
            tied = f", not told apart from: {_names(method for method in level if method != best)}"
        elif len(trained) > 1 + len(above):
            tied = ", surely above all others"
        these = [method for method in trained if method in level or method in above]
        cheapest = f" The cheapest of these: {_names(found.cheapest(these))}." if len(these) > 1 else ""
        beaten = f" (surely above it, {over})" if above else ""
        lines.append(f"- At sparsity {sparsity:g}: **{label(best)}**{beaten}{tied}.{cheapest}")
    return [*lines, "", _over_random(found)] if found.over_random else lines


def _over_random(found: Refereed) -> str:
    """Which methods are surely above random pruning at all of the sparsities where they were run."""
    if found.results.seeds < FEWEST_SEEDS:
        return f"Which are above random pruning: {TOO_FEW}."
    above, level, below = (
        {m for (m, _), gap in found.over_random.items() if gap.sign == sign} for sign in (1, 0, -1)
    )
    compared = [m for m in found.methods if m in above | level | below]
    always = [m for m in compared if m not in level | below]
    never = [m for m in compared if m not in above]
    everywhere = all(len(there) == len(found.methods) for there in found.run.values())
    where = "" if everywhere else " at which they were run"
    return (
        f"Surely above random pruning at every sparsity{where}: "
        f"{_names(always)}. At no sparsity surely above it: {_names(never)}. Surely below it somewhere: "
        f"{_names(m for m in compared if m in below)}."
    )


def intervals(found: Refereed) -> str:
    """What the intervals of the tables are, and for how many comparisons they are corrected."""
    if found.results.seeds < FEWEST_SEEDS:
        return f"without intervals: {TOO_FEW}"
    return (
        "with intervals corrected by Holm for "
        f"{number_tested(found.over_random)} comparisons with random pruning and "
        f"{number_tested(found.under_best)} with the best; bold where 0 lies outside (at most 5 % "
        "for any false one in either family)"
    )


def referee_table(found: Refereed, sparsity: float) -> list[str]:
    """The methods at one sparsity, the best first."""
    rows = []
    for method in found.ranked(sparsity):
        cost = found.costs[method]
        rows.append(
            [
                label(method),
                cell(at_sparsity(found.accuracies[method], sparsity), found.results),
                _gap(found.over_random.get((method, sparsity))),
                _gap(found.under_best.get((method, sparsity))),
                _number(cost.epochs),
                _number(cost.seconds),
            ]
        )
    head = ["method", "accuracy", "over random", "to the best", "own cost, epochs", "seconds"]
    return table(head, rows)


def control_table(results: Results) -> list[str]:
    """Each method over its control: a line a pair, a column a sparsity; none without such pairs."""
    pairs = [(ours, theirs) for ours, theirs in CONTROLS.items() if results.has(ours, theirs)]
    accuracies = {method: results.accuracy(method) for pair in pairs for method in pair}
    gaps = {
        (ours, sparsity): _gaps(accuracies, ours, theirs, sparsity)
        for ours, theirs in pairs
        for sparsity in results.sparsities
    }
    found = _compared(gaps)
    rows = [
        [f"{label(ours)} over {label(theirs)}", *(_gap(found.get((ours, s))) for s in results.sparsities)]
        for ours, theirs in pairs
        if any((ours, sparsity) in found for sparsity in results.sparsities)
    ]
    return table(["", *(f"{sparsity:g}" for sparsity in results.sparsities)], rows) if rows else []


def when_lines(methods: Sequence[str]) -> list[str]:
    """Which methods prune before, during and after training."""
    return [
        f"- {str(when).capitalize()}: {_names(m for m in methods if find_method(m).when is when)}."
        for when in When
        if any(find_method(m).when is when for m in methods)
    ]


def _gaps(accuracies: dict[str, Pairs], ours: str, theirs: str, sparsity: float) -> np.ndarray:
    """Ours minus theirs at a sparsity, of the seeds that both were run with."""
    return at_sparsity(differences(accuracies[ours], accuracies[theirs]), sparsity)


def _compared(gaps: dict[Name, np.ndarray]) -> dict[Name, Estimate]:
    """The comparisons that there are, with Holm's intervals."""
    return holm_estimates({name: found for name, found in gaps.items() if found.size})


def _names(methods) -> str:
    return "; ".join(label(method) for method in methods) or "none"


def _gap(estimate: Estimate | None) -> str:
    if estimate is None:
        return ""
    if not estimate.seeds:
        return "diverged"
    return f"**{estimate.points}**" if estimate.sign else estimate.points


def _number(value: float) -> str:
    return "not measured" if np.isnan(value) else f"{value:.2g}"
