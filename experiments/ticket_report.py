"""The results of ``experiments.ticket_search``: the tidy table, the figures, the summary."""

import math
from collections.abc import Iterator

from experiments.figures import save_figures
from experiments.options import counted
from experiments.paired import Estimate, percent_cell
from experiments.run_folder import Row, RunFolder, parquet
from experiments.ticket_figures import cost_figure, tickets_figure
from experiments.ticket_findings import Found, TicketFindings
from experiments.ticket_plan import IMP, ITERATIVE, METHODS, PARALLEL, REINIT, SEQUENTIAL, TicketPlan


def write_results(dataset: str, model: str, plan: TicketPlan, folder: RunFolder) -> None:
    """Writes table, figures, and last of all the summary, which says that the run is complete.

    Args:
        dataset: The data set's name.
        model: The model's name.
        plan: What was searched.
        folder: With all networks finished.
    """
    rows = tidy(dataset, model, folder.rows())
    folder.write("results.parquet", parquet(rows))
    found = TicketFindings(rows, plan)
    title = f"{model} on {dataset}, {counted(plan.seeds, 'seed')}, {plan.recipe.epochs} epochs"
    save_figures(folder, {"tickets": tickets_figure(found, title), "cost": cost_figure(found, title)})
    folder.write("summary.md", "\n".join(_summary(title, found)) + "\n")


def tidy(dataset: str, model: str, rows: list[Row]) -> list[Row]:
    """The result table: a row per network and epoch, in a fixed order.

    Args:
        dataset: The data set's name.
        model: The model's name.
        rows: All rows of the run.

    Returns:
        The rows.
    """
    head = {"experiment": "ticket_search", "dataset": dataset, "model": model, "sparsity_target": None}
    return sorted(
        ({**head, **row} for row in rows),
        key=lambda row: (row["method"], row["round"], row["start"] or 0.0, row["seed"], row["epoch"]),
    )


def _summary(title: str, found: TicketFindings) -> Iterator[str]:
    plan = found.plan
    yield from (
        f"# ticket_search: {title}",
        "",
        f"Final test accuracy in percent, mean ± standard deviation over seeds; dense: "
        f"{percent_cell(found.dense.values())}. Tickets are rewound to step {plan.rewind_step} "
        f"(an epoch is {plan.steps_per_epoch} steps). Search epochs are those trained before a ticket is "
        "known; its own training is not counted. A ticket matches if its accuracy, in the mean over "
        "seeds, is at least the dense network's.",
        "",
    )
    iterative = [method for method in ITERATIVE if method in plan.methods]
    if iterative:
        yield from _rounds_table(found, iterative)
    if PARALLEL in plan.methods or SEQUENTIAL in plan.methods:
        yield from _continuous_table(found)
    yield from _matching_table(found)
    if IMP in plan.methods:
        yield from _turning_points(found)
    for heading, rows in (("Not trained", found.untrained), ("Diverged", found.diverged)):
        if rows:
            yield from ("", f"## {heading}", "")
            for row in rows:
                reason = row.get("untrained_because") or "its loss is not finite"
                yield f"- {row['member']}: {reason}"


def _rounds_table(found: TicketFindings, methods: list[str]) -> Iterator[str]:
    what = "each layer" if found.plan.by_layer else "the network as a whole"
    yield from (
        "## Iterative pruning",
        "",
        f"{found.plan.fraction:.0%} of what is left a round, by {found.plan.criterion}, in {what}.",
        "",
        "| round | kept | " + " | ".join(methods) + " | search epochs of " + " / ".join(methods) + " |",
        "|---" * (len(methods) + 3) + "|",
    )
    by_round = {method: {t.round: t for t in found.tickets(method)} for method in methods}
    for round in range(1, found.plan.rounds + 1):
        of_round = [by_round[method].get(round) for method in methods]
        known = [ticket for ticket in of_round if ticket is not None]
        if not known:
            continue
        cells = ["" if t is None else percent_cell(t.accuracies.values()) for t in of_round]
        epochs = " / ".join("" if t is None else _number(t.epochs) for t in of_round)
        yield f"| {round} | {1 - known[0].sparsity:.2%} | " + " | ".join(cells) + f" | {epochs} |"


def _continuous_table(found: TicketFindings) -> Iterator[str]:
    yield from (
        "",
        "## Continuous Sparsification, and IMP at the same sparsity and at equal cost",
        "",
        "Differences are paired by seed, with 95 % intervals; IMP's accuracy between its rounds is "
        "interpolated. At equal epochs IMP has the ticket named last. The epochs are of one network: "
        "cs-parallel trains all its starts side by side.",
        "",
        "| ticket | kept | accuracy | over IMP at its sparsity | search epochs | IMP's to it | "
        "IMP's ticket at equal epochs |",
        "|---" * 7 + "|",
    )
    for method in (PARALLEL, SEQUENTIAL):
        for ticket in found.tickets(method):
            equal = found.imp_within(ticket.epochs)
            cells = (
                ticket.label,
                f"{1 - ticket.sparsity:.2%}",
                percent_cell(ticket.accuracies.values()),
                _points(found.against_imp(ticket)),
                _number(ticket.epochs),
                _number(found.imp_epochs_to(ticket.sparsity)),
                "none" if equal is None else f"{1 - equal.sparsity:.2%}, {100 * equal.accuracy:.2f}",
            )
            yield f"| {' | '.join(cells)} |"


def _matching_table(found: TicketFindings) -> Iterator[str]:
    yield from (
        "",
        "## The sparsest matching ticket of each method, and the cheapest",
        "",
        "| method | sparsest | kept | over dense | search epochs | search seconds | cheapest | epochs |",
        "|---" * 8 + "|",
    )
    for method in (method for method in METHODS if method in found.plan.methods):
        sparsest, cheapest = found.sparsest_matching(method), found.cheapest_matching(method)
        if sparsest is None or cheapest is None:
            yield f"| {method} | none |  |  |  |  |  |  |"
            continue
        cells = (
            method,
            sparsest.label,
            f"{1 - sparsest.sparsity:.2%}",
            _points(found.against_dense(sparsest)),
            _number(sparsest.epochs),
            _number(sparsest.seconds),
            f"{cheapest.label}, {1 - cheapest.sparsity:.2%} kept",
            _number(cheapest.epochs),
        )
        yield f"| {' | '.join(cells)} |"


def _turning_points(found: TicketFindings) -> Iterator[str]:
    """Frankle and Carbin: best at 17 % kept, dense again at 3.5 %, re-initialised behind from 26 %."""
    yield from ("", "## Where iterative magnitude pruning turns", "")
    tickets = found.tickets(IMP)
    best = max(tickets, key=lambda ticket: ticket.accuracy, default=None)
    if best is not None:
        yield f"- The best ticket: {_with(best, found)}."
    if found.plan.seeds < 2:
        yield "- With one seed there is no telling where tickets are surely below the dense network."
        return
    below = [ticket for ticket in tickets if found.against_dense(ticket).sign < 0]
    yield _first("Tickets", below, found)
    reinit = [ticket for ticket in found.tickets(REINIT) if found.against_dense(ticket).sign < 0]
    if REINIT in found.plan.methods:
        yield _first("Re-initialised tickets", reinit, found)
    yield (
        "- Published (Frankle and Carbin 2019, LeNet-300-100 on MNIST, another recipe): best at about 17 "
        "to 21 % kept, back at dense accuracy at 3.5 %, re-initialised tickets behind from 26 %."
    )


def _first(what: str, tickets: list[Found], found: TicketFindings) -> str:
    if not tickets:
        return f"- {what} are not surely below the dense network in any round."
    densest = min(tickets, key=lambda ticket: ticket.sparsity)
    return f"- {what} are surely below the dense network first at {_with(densest, found)}."


def _with(ticket: Found, found: TicketFindings) -> str:
    gap = _points(found.against_dense(ticket))
    return f"{1 - ticket.sparsity:.2%} kept (round {ticket.round}, {gap} over dense)"


def _points(result: Estimate) -> str:
    if result.seeds == 0:
        return "none"
    spread = "" if result.seeds == 1 else f" ± {100 * result.half_width:.2f}"
    return f"{100 * result.mean:+.2f}{spread}"


def _number(value: float) -> str:
    return "never" if math.isnan(value) else f"{value:.3g}"
