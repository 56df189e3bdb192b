"""The results of ``experiments.missing_the_mark``: the tidy table, the figures, the summary."""

from collections.abc import Iterable

from experiments.engine.options import counted
from experiments.engine.processes import by_first
from experiments.engine.run_folder import Row, RunFolder, parquet, tidy_rows
from experiments.mark_claims import (
    MARGIN,
    Findings,
    findings_table,
    of_the_first_system,
    of_the_paper,
)
from experiments.mark_figures import ablations_figure, methods_figure, seeds_figure, steps_figure
from experiments.mark_plan import METHODS, Plan
from experiments.mark_published import Reference, beside_table
from experiments.report.figures import save_figures
from experiments.report.paired import at_sparsity, percent_cell

ORDER = ("method", "variant", "pruned_at_step", "sparsity_target", "seed", "candidate", "epoch")


@by_first
def write_results(
    dataset: str,
    model: str,
    plan: Plan,
    steps_per_epoch: int,
    published: Reference | None,
    folder: RunFolder,
) -> None:
    """Writes table, figures, and last of all the summary, which says that the run is complete.

    Args:
        dataset: The data set's name.
        model: The model's name.
        plan: What was trained.
        steps_per_epoch: Of the recipe on the data set.
        published: Accuracies to set beside ours.
        folder: With all members finished.
    """
    head = {"experiment": "missing_the_mark", "dataset": dataset, "model": model}
    rows = tidy_rows(folder.rows(), head, ORDER)
    folder.write("results.parquet", parquet(rows))
    found = Findings([row for row in rows if row["method"] != "search"], epochs=plan.recipe.epochs)
    title = f"{model} on {dataset}, {counted(plan.seeds, 'seed')}, {counted(plan.recipe.epochs, 'epoch')}"
    spread = "\n(mean, standard deviation over seeds)"
    if len(plan.sparsities) == 1:
        figures = {"accuracy": seeds_figure(found, plan, title + "\n(every seed, and their mean)")}
    else:
        figures = {"accuracy": methods_figure(found, plan, title + spread)}
        if plan.ablations:
            figures["ablations"] = ablations_figure(found, plan, title + spread)
    if plan.steps:
        figures["steps"] = steps_figure(found, plan, title + spread)
    save_figures(folder, figures)
    folder.write("summary.md", _summary(title, plan, steps_per_epoch, published, found))


def emptied_layers(rows: Iterable[Row]) -> list[str]:
    """Where whole layers have been removed, by name.

    Args:
        rows: Final rows, with the weights that each layer keeps.

    Returns:
        A line for each method, variant, step and layer: the sparsities at which it is empty in some seed.
    """
    empty: dict[tuple[str, str, int, str], set[float]] = {}
    for row in rows:
        for column, kept in row.items():
            if column.startswith("kept[") and kept == 0:
                layer = column.removeprefix("kept")
                key = (row["method"], row["variant"], row["pruned_at_step"], layer)
                empty.setdefault(key, set()).add(row["sparsity_target"])
    return [
        f"- {method} ({variant}, step {step}): {layer} is empty at sparsity "
        f"{', '.join(f'{sparsity:g}' for sparsity in sorted(sparsities))}"
        for (method, variant, step, layer), sparsities in sorted(empty.items())
    ]


def _summary(
    title: str, plan: Plan, steps_per_epoch: int, published: Reference | None, found: Findings
) -> str:
    methods = [method for method in METHODS if method in plan.methods]
    dense = percent_cell(found.accuracy("dense").values())
    lines = [
        f"# missing_the_mark: {title}",
        "",
        f"Final test accuracy in percent, mean ± standard deviation over seeds; dense: {dense}. "
        f"An epoch is {steps_per_epoch} steps{''.join(_of_methods(plan))}.",
        "",
        "| sparsity | " + " | ".join(methods) + " |",
        "|---" * (len(methods) + 1) + "|",
    ]
    for sparsity in plan.sparsities:
        cells = [percent_cell(at_sparsity(found.accuracy(method), sparsity)) for method in methods]
        lines.append(f"| {sparsity:g} | " + " | ".join(cells) + " |")
    first_system = list(of_the_first_system(found))
    the_papers = list(of_the_paper(found, plan))
    lines += [
        "",
        "## The paper's findings, in this run",
        "",
        "Differences in accuracy points (ours minus theirs, ablated minus not), paired by seed and "
        "averaged over the sparsities of a band, with 95 % intervals over seeds, not corrected for their "
        f'number. "Hardly hurts" means by less than {100 * MARGIN:g} points, for the whole interval.',
        "",
        *(findings_table(the_papers, plan) if the_papers else ["No method here takes part in any."]),
    ]
    if first_system:
        lines += ["", "## K-starts and dissipating gradients on the same grid", ""]
        lines += findings_table(first_system, plan)
    lines += [
        *(_published(published, found, plan) if published else ()),
        "",
        "## Emptied layers",
        "",
        *(emptied_layers(found.final) or ["None."]),
    ]
    failed = sorted({row["member"] for row in found.final if row["failed"]})
    if failed:
        lines += ["", f"**Diverged** (left out of the means): {', '.join(failed)}."]
    return "\n".join(lines) + "\n"


def _of_methods(plan: Plan) -> list[str]:
    """What is to be known of some methods' runs, where they are assessed."""
    says = {
        "lottery-ticket-rewinding": f"lottery tickets are rewound to step {plan.rewind_step}",
        "k-starts": f"K-starts has k = {plan.k} and chooses after {counted(plan.search_epochs, 'epoch')}",
        "dissipating-gradients": "gradients dissipate in the first "
        f"{counted(plan.dissipate_epochs, 'epoch')}",
    }
    return [f"; {text}" for method, text in says.items() if method in plan.methods]


def _published(published: Reference, found: Findings, plan: Plan) -> list[str]:
    return [
        "",
        f"## Beside {published.name}",
        "",
        "Published accuracies at the same sparsity (within half a tenth of a percent). Recipes differ: "
        "the last two columns compare what each method gains over random pruning. Where the source "
        "says so, theirs are of the best test epoch; ours are of the final one. GraSP in the code of "
        "Tanaka et al. 2020 has its sign inverted.",
        "",
        *beside_table(published, found, plan),
    ]
