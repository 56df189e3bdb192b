"""The results of ``experiments.compare``: the tidy table, the figures, the summary."""

import numpy as np

from experiments.compare_claims import Findings, claims
from experiments.compare_figures import accuracy_figure, fitness_figure, sparsity_figure
from experiments.compare_plan import Plan
from experiments.compare_search import FITNESSES, fitted, winner
from experiments.engine.options import counted
from experiments.engine.processes import by_first
from experiments.engine.run_folder import Row, RunFolder, parquet
from experiments.report.figures import save_figures
from experiments.report.paired import at_sparsity, finite_max, finite_mean, percent_cell


@by_first
def write_results(dataset: str, model: str, plan: Plan, folder: RunFolder) -> None:
    """Writes table, figures, and last of all the summary, which says that the run is complete.

    Args:
        dataset: The data set's name.
        model: The model's name.
        plan: What was trained.
        folder: With all members finished.
    """
    rows = tidy(dataset, model, folder.rows(), plan.search_epochs)
    folder.write("results.parquet", parquet(rows))
    findings = Findings(rows, epochs=plan.recipe.epochs)
    title = f"{model} on {dataset}, {counted(plan.seeds, 'seed')}, {counted(plan.recipe.epochs, 'epoch')}"
    figures = {
        "accuracy": accuracy_figure(findings, f"{title}\n(mean, standard deviation over seeds)"),
        "sparsity": sparsity_figure(findings, title),
        "fitness": fitness_figure(findings, f"{title}: does fitness foretell accuracy?"),
    }
    save_figures(folder, figures)
    folder.write("summary.md", _summary(title, plan, findings))


def tidy(dataset: str, model: str, rows: list[Row], search_epochs: int) -> list[Row]:
    """The result table: the stored rows, fitness on every candidate's row, and K-starts' winners.

    Args:
        dataset: The data set's name.
        model: The model's name.
        rows: All rows of the run.
        search_epochs: The epoch whose fitness counts.

    Returns:
        A row per network and epoch; a winner's rows stand again under ``k-starts`` and its fitness.
    """
    fitness, winners = {}, {}
    for method in ("candidate", "search"):
        for _, found in fitted(rows, method, search_epochs):
            for row in found:
                fitness[row["member"]] = {f"fitness_{f}": row[f"fitness_{f}"] for f in FITNESSES}
            for name in FITNESSES if method == "candidate" else ():
                member = found[winner(found, name)]["member"]
                winners.setdefault(member, []).append(name)
    head = {"experiment": "compare", "dataset": dataset, "model": model}
    table = []
    for row in rows:
        row = {**head, **row, **fitness.get(row["member"], {})}
        table.append(row)
        table += [
            {**row, "method": "k-starts", "variant": name} for name in winners.get(row["member"], ())
        ]
    key = lambda row: (  # noqa: E731
        row["method"],
        row["variant"] or "",
        row["sparsity_target"] or 0,
        row["seed"],
        row["candidate"] or 0,
        row["epoch"],
    )
    return sorted(table, key=key)


def _summary(title: str, plan: Plan, findings: Findings) -> str:
    lines = [
        f"# compare: {title}",
        "",
        f"Final test accuracy in percent, mean ± standard deviation over {counted(plan.seeds, 'seed')}; "
        f"K-starts with k = {plan.k}, chosen after {plan.search_epochs} epochs; weights dissipate in "
        f"the first {plan.dissipate_epochs} epochs.",
        "",
        "| method | " + " | ".join(f"sparsity {s:g}" for s in plan.sparsities) + " |",
        "|---" * (len(plan.sparsities) + 1) + "|",
    ]
    table = {
        "random": findings.accuracy("random"),
        **{f"K-starts, {name} fitness": findings.accuracy("k-starts", name) for name in FITNESSES},
        "mean of the k candidates": findings.over_candidates(finite_mean),
        "best of the k candidates (needs the test set)": findings.over_candidates(finite_max),
        "winner (combined) retrained": findings.accuracy("retrained"),
        "dissipating gradients, to the sparsity": findings.accuracy("dissipate-to"),
        "random mask + dissipating gradients (control)": findings.accuracy("random+dissipate-to"),
        "K-starts + dissipating gradients": findings.accuracy("k-starts+dissipate-to"),
    }
    for name, pairs in table.items():
        cells = [percent_cell(at_sparsity(pairs, sparsity)) for sparsity in plan.sparsities]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    lines += ["", "Networks whose sparsity is not chosen:", "", "| method | sparsity | accuracy |"]
    lines += ["|---|---|---|", f"| dense | 0 | {percent_cell(findings.accuracy('dense').values())} |"]
    for fraction in plan.fractions:
        rows = [
            row
            for row in findings.final
            if row["method"] == "dissipate" and row["variant"] == f"{fraction:g}"
        ]
        sparsity = np.mean([row["sparsity"] for row in rows])
        accuracy = percent_cell([row["test_accuracy"] for row in rows if not row["failed"]])
        lines.append(f"| dissipating gradients, fraction {fraction:g} | {sparsity:.3f} | {accuracy} |")
    lines += ["", "## The paper's claims, in this run", ""]
    lines += [
        "Each line pools the sparsities within a seed; the differences at each follow it. The intervals "
        "are not corrected for their number. The best of the k candidates is picked by test accuracy, "
        "so it is an upper bound that no method could claim.",
        "",
    ]
    lines += claims(findings, plan)
    failed = sorted({row["member"] for row in findings.rows if row["failed"]})
    if failed:
        lines += ["", f"**Diverged** (left out of the means): {', '.join(failed)}."]
    return "\n".join(lines) + "\n"
