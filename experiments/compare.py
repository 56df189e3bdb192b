r"""K-starts, dissipating gradients and their combination against random pruning and the dense network.

    python -m experiments.compare
    python -m experiments.compare --dataset mnist --model lenet-300-100 --data-dir DIR \
        --sparsities 0.8 0.9 0.95 0.98 0.99 --seeds 10 --k 16 --epochs 10

Expected: the first in about a minute on 2 CPU cores, digits with LeNet-300-100; the second and its
result: docs/results/compare-mnist. Interrupted, the same command goes on where it was; finished, it
prints the stored summary.

Every network of one seed shares initial weights and data order. K-starts trains all k candidates to
the end, so that the winner of each fitness, their mean and the best of them after full training come
from the same networks; only what the fitness saw after the search's epochs chooses the winner. The
combination searches at sparsity 1 - sqrt(1 - s), so that K-starts and dissipation remove the same
fraction of what they find.

Source: Haroon 2022 (arXiv 2209.02201).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from experiments.engine.experiment import Experiment, main, training
from experiments.methods.asked import Methods, MethodsOptions
from experiments.methods.point import Point, point_of
from experiments.methods.registry import find_method
from experiments.methods.searched import FITNESSES, candidates_of, searches_of
from experiments.methods.study import Study
from experiments.options.options import own_first

if TYPE_CHECKING:
    from experiments.report.findings import Finding
    from experiments.report.paired import Pairs
    from experiments.report.table import Results

K_STARTS = "k-starts"
RANDOM = "random-uniform"
"""What every method is set beside: one mask as K-starts draws its candidates."""
VARIANTS = {"weight": "weight", "gradient": "gradient", "combined": "none"}
"""Of K-starts' rows, by the fitness that has chosen: the combined one is the method's own."""


@own_first
@dataclass(frozen=True, kw_only=True)
class Compare(MethodsOptions):
    """Compare K-starts, dissipating gradients and their combination with random pruning."""

    experiment = "compare"
    whole_searches = (K_STARTS,)

    methods: Methods = (
        RANDOM,
        K_STARTS,
        "dissipating-gradients",
        "random+dissipating-gradients",
        "k-starts+dissipating-gradients",
        "dissipating-band",
    )
    seeds: int = 5
    """independent repetitions: initial weights, data order, masks"""

    def prune_epochs(self) -> int:
        """The first epochs, at whose end methods prune; by default some are left after a search."""
        asked, epochs = self.knobs.schedule.prune_epochs, self.resolved_recipe().epochs
        usual = min(epochs, max(epochs // 2, self.knobs.search.search_epochs + 1))
        return usual if asked is None else asked


def points(options: Compare, study: Study) -> list[Point]:
    """The dense networks, and those of every method; of K-starts the candidates, trained to the end."""
    found = []
    for seed in options.all_seeds():
        for method in ("dense", *options.methods):
            asked = list(find_method(method).points(study, seed))
            if method == K_STARTS:
                found += [one for point in asked for one in candidates_of(point, study)]
                asked = [point._replace(variant="retrained") for point in asked]
            found += asked
    return found


def winners(rows: Sequence[dict[str, Any]], settings: dict[str, Any]) -> list[dict[str, Any]]:
    """K-starts' networks: the rows of the candidates that each fitness has chosen, under its name."""
    found = []
    for search in searches_of(rows, K_STARTS, settings["search_epochs"]):
        for fitness in FITNESSES:
            variant = VARIANTS[fitness]
            for row in search.rows[search.fittest(fitness)]:
                point = point_of(row)._replace(candidate=None, variant=variant)
                found.append(row | point._asdict() | {"member": point.name})
    return found


def figures(results: "Results") -> dict[str, Any]:
    """Accuracies, sparsity over epochs, and whether fitness foretells accuracy."""
    from experiments.report import accuracy, candidates, searches, sparsities

    found = {"accuracy": accuracy.accuracy_figure(results, baseline=RANDOM)}
    if sparsities.changing(results):
        found["sparsity"] = sparsities.sparsity_figure(results)
    if results.has(K_STARTS):
        found["fitness"] = searches.fitness_figure(results)
        if several := candidates.smaller_searches(results, K_STARTS):
            found["candidates"] = candidates.candidates_figure(several, results)
    return found


def summary(results: "Results", reference: Path | None) -> list[str]:
    """The accuracies, the paper's claims in this run, and what more candidates buy."""
    from experiments.report import candidates, findings, markdown, sparsities
    from experiments.report.paired import at_sparsity
    from experiments.report.table import counted

    settings, epochs = results.settings, counted(results.settings["prune_epochs"], "epoch")
    search_epochs = counted(settings["search_epochs"], "epoch")
    searching = any(method.startswith(K_STARTS) for method in results.methods)
    searches = f"; K-starts with k = {settings['k']}, chosen after {search_epochs}" if searching else ""
    dissipating = any("dissipating" in method for method in results.methods)
    dissipation = f"; weights dissipate in the first {epochs}" if dissipating else ""
    rows = _rows(results)
    verdicts = [
        *(findings.sentence(claim) for claim in claims(results)),
        *sparsities.reached(results, "dissipating-band"),
    ]
    lines = [
        f"# compare: {results.title}",
        "",
        "Final test accuracy in percent, mean ± standard deviation over "
        f"{counted(results.seeds, 'seed')}{searches}{dissipation}.",
        "",
        *markdown.table(
            ["method", *(f"sparsity {sparsity:g}" for sparsity in results.sparsities)],
            [
                [name, *(markdown.cell(at_sparsity(pairs, s), results) for s in results.sparsities)]
                for name, pairs in rows.items()
            ],
        ),
        "",
        "Networks whose sparsity is not chosen:",
        "",
        *markdown.table(
            ["method", "sparsity", "accuracy"],
            [
                ["Dense", "0", markdown.cell(results.dense(), results)],
                *markdown.own_sparsities(results),
            ],
        ),
        "",
        "## The paper's claims, in this run",
        "",
        "Each line pools the sparsities within a seed; the differences at each follow it. The intervals "
        "are not corrected for their number. The best of the k candidates is picked by test accuracy, "
        "so it is an upper bound that no method could claim.",
        "",
        *(verdicts or ["No method here takes part in any."]),
    ]
    if several := candidates.smaller_searches(results, K_STARTS):
        lines += [
            "",
            "## What more candidates buy",
            "",
            "Expected final test accuracy, in percent, of the fittest of so many candidates (combined "
            "fitness), and of the one that turns out to be the best; with 95 % intervals over seeds.",
            "",
            *candidates.candidates_lines(several, results),
        ]
    return lines + markdown.kept_otherwise(results) + markdown.diverged(results)


def _rows(results: "Results") -> "dict[str, Pairs]":
    """The table's lines: methods with given sparsities, and what K-starts' candidates tell."""
    from experiments.report.paired import finite_max, finite_mean
    from experiments.report.searches import over_candidates
    from experiments.report.table import label

    rows: dict[str, Pairs] = {}
    for method in results.at_sparsities:
        if method != K_STARTS:
            rows[label(method)] = results.accuracy(method)
            continue
        for fitness, variant in VARIANTS.items():
            rows[f"K-starts, {fitness} fitness"] = results.accuracy(method, variant)
        rows["mean of the k candidates"] = over_candidates(results, method, finite_mean)
        best = over_candidates(results, method, finite_max)
        rows["best of the k candidates (needs the test set)"] = best
        rows["winner (combined) retrained"] = results.accuracy(method, "retrained")
    return rows


def claims(results: "Results") -> "list[Finding]":
    """The paper's claims about methods of the run; of other methods, that they beat random pruning."""
    from experiments.report.findings import Finding, above, compared
    from experiments.report.paired import finite_max, finite_mean
    from experiments.report.searches import over_candidates, rank_correlations
    from experiments.report.table import label

    found = []
    random = results.accuracy(RANDOM)
    if results.has(K_STARTS):
        mean_of_k = over_candidates(results, K_STARTS, finite_mean)
        best_of_k = over_candidates(results, K_STARTS, finite_max)
        for fitness, variant in VARIANTS.items():
            ours, name = results.accuracy(K_STARTS, variant), f"K-starts ({fitness} fitness)"
            if results.has(RANDOM):
                found.append(compared(f"{name} beats one random mask", ours, random))
            found += [
                compared(f"{name} beats the mean of its k candidates", ours, mean_of_k),
                compared(
                    f"The best of the k candidates after full training beats {name}", best_of_k, ours
                ),
                Finding(
                    f"{fitness.capitalize()} fitness at search time predicts final accuracy",
                    rank_correlations(results, K_STARTS, fitness),
                    above,
                    measure="rank correlation over the k candidates",
                ),
            ]
        again, ours = results.accuracy(K_STARTS, "retrained"), results.accuracy(K_STARTS)
        found.append(
            compared(
                "Retraining the winner from its initial weights, in a new order of the data, helps",
                again,
                ours,
            )
        )
    both = "k-starts+dissipating-gradients"
    parts = {
        K_STARTS: "K-starts (combined fitness)",
        "dissipating-gradients": "dissipating gradients to the same sparsity",
        "random+dissipating-gradients": "the same dissipation from one random mask",
        RANDOM: "random pruning",
    }
    for part, name in parts.items():
        if results.has(both, part):
            ours, theirs = results.accuracy(both), results.accuracy(part)
            found.append(compared(f"The combination beats {name}", ours, theirs))
    if results.has("dissipating-gradients", RANDOM):
        ours = results.accuracy("dissipating-gradients")
        found.append(compared("Dissipating gradients beat random pruning", ours, random))
    told = {K_STARTS, both, *parts}
    for method in (m for m in results.at_sparsities if m not in told):
        if results.has(RANDOM):
            ours = results.accuracy(method)
            found.append(compared(f"{label(method)} beats random pruning", ours, random))
    return found


EXPERIMENT = Experiment(
    options=Compare,
    help=__doc__,
    prepare=training(points),
    figures=figures,
    summary=summary,
    findings=claims,
    derived=winners,
)

if __name__ == "__main__":
    main(EXPERIMENT)
