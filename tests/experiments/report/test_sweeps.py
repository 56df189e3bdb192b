"""A sweep is reported whole, and each of its learning rates by itself."""

from types import SimpleNamespace

import pytest

from experiments import missing_the_mark, ticket_search
from experiments.methods.point import DENSE, Point, point_of
from experiments.missing_the_mark import MissingTheMark
from experiments.report.sweeps import by_sweep, chosen_table, suffix, sweep_lines, sweep_table
from experiments.report.table import Results, load, merged
from experiments.report.writing import write_report
from experiments.ticket_search import TicketSearch
from tests.experiments.made_up import results, row, several
from tests.experiments.report.stored_runs import EPOCHS, row_of, store

ACCURACIES = {
    (DENSE, 0.0, 0.01): 0.9,
    (DENSE, 0.0, 0.3): 0.8,
    ("snip", 0.5, 0.01): 0.7,
    ("snip", 0.5, 0.3): 0.6,
}


VALIDATED = {0.01: 0.5, 0.3: 0.7}


def swept(folder, validated=False):
    rows = [
        row_of(
            Point(method, sparsity_target=sparsity, seed=0, learning_rate=rate),
            sparsity=sparsity,
            epoch=EPOCHS,
            test_accuracy=accuracy,
            **({"validation_accuracy": VALIDATED[rate]} if validated else {}),
        )
        for (method, sparsity, rate), accuracy in ACCURACIES.items()
    ]
    options = MissingTheMark(
        methods=("snip",), ablations=(), steps=(), sparsities=(0.5,), seeds=1, learning_rates=(0.01, 0.3)
    )
    store(folder, options, rows)
    return Results(load(folder))


def test_each_learning_rate_has_its_own_accuracies(tmp_path):
    parts = dict(by_sweep(swept(tmp_path)))
    found = {name: part.accuracy("snip")[0, 0.5] for name, part in parts.items()}
    assert found == {"learning rate 0.01": 0.7, "learning rate 0.3": 0.6}
    assert [suffix(name) for name in parts] == ["-learning-rate-0.01", "-learning-rate-0.3"]


def at_rate(method, accuracies, rate, **more):
    """Final rows of a method, a seed each, at a learning rate; None for the recipe's."""
    rows = [row | {"learning_rate": rate} for row in several(method, accuracies, **more)]
    return [row | {"member": point_of(row).name} for row in rows]


def test_a_run_at_the_recipe_s_rate_is_a_part_of_the_sweep_that_it_is_merged_with():
    """Digits' rate is 0.01; the plain run has a seed and a method that the other has not."""
    plain = results(at_rate("snip", [0.7, 0.8], None) + at_rate("random", [0.5, 0.5], None))
    sweep = results(
        at_rate("snip", [0.9], 0.01) + at_rate("snip", [0.6], 0.3) + at_rate("grasp", [0.4], 0.3),
        learning_rates=[0.01, 0.3],
    )
    for order, first in (((plain, sweep), 0.7), ((sweep, plain), 0.9)):
        both = Results(merged([one.table for one in order]))
        assert sorted(both.settings["learning_rates"]) == [0.01, 0.3]
        parts = list(by_sweep(both))
        assert [name for name, _ in parts] == ["learning rate 0.01", "learning rate 0.3"]
        # What both have trained counts once, as the first of them has it.
        assert parts[0][1].accuracy("snip") == {(0, 0.9): first, (1, 0.9): 0.8}
        lines = sweep_table(parts)
        assert "| Random | 0.9 | 50.00 ± 0.00 | none |" in lines
        assert "| GraSP | 0.9 | none | 40.00 (1 of 2 seeds) |" in lines


def validated(accuracies, rate, failed=()):
    rows = at_rate("snip", accuracies, rate)
    return [
        row | {"validation_accuracy": row["test_accuracy"], "failed": seed in failed}
        for seed, row in enumerate(rows)
    ]


def test_a_rate_of_fewer_seeds_may_be_chosen():
    parts = list(by_sweep(results(validated([0.5] * 3, 0.01) + validated([0.9] * 2, 0.3))))
    assert any(
        "| SNIP | 0.9 | learning rate 0.3 | 90.00 ± 0.00 (2 of 3" in s for s in chosen_table(parts)
    )


def test_a_rate_at_which_a_network_diverged_is_not_chosen_for_the_others():
    rows = validated([0.6, 0.6], 0.01) + validated([0.9, 0.9], 0.3, failed={1})
    parts = list(by_sweep(results(rows, learning_rates=[0.01, 0.3])))
    assert "| SNIP | 0.9 | learning rate 0.01 | 60.00 ± 0.00 | the same |" in chosen_table(parts)
    assert "| SNIP | 0.9 | 60.00 ± 0.00 | 90.00 (1 of 2 seeds) |" in sweep_table(parts)


def test_a_sweep_without_given_sparsities_has_its_parts_alone():
    rows = [
        row(Point(method, round=round, sparsity_target=target, learning_rate=rate), 0.9, sparsity=0.2)
        for method, round, target in ((DENSE, None, 0.0), ("imp", 1, None))
        for rate in (0.1, 0.2)
    ]
    found = results(rows, options=TicketSearch, learning_rates=[0.1, 0.2])
    found.settings.pop("sparsities")  # A search for tickets has no such option.
    reported = SimpleNamespace(summary=ticket_search.summary, figures=lambda part: {})
    written = {}
    lines = write_report(reported, found, None, written.__setitem__)
    assert lines[2] == "Methods that find their own sparsity stand in the parts below: IMP."
    assert [line for line in lines if line.startswith("## ")] == [
        "## With learning rate 0.1",
        "## With learning rate 0.2",
    ]
    assert [*written] == ["summary.md"]


def test_methods_that_find_their_own_sparsity_are_said_to_stand_in_the_parts():
    rates = (0.01, 0.3)
    gated = [row(Point("supermask", setting=0.1, learning_rate=rate), sparsity=0.5) for rate in rates]
    snip = [one for rate in rates for one in at_rate("snip", [0.7], rate)]
    said = "Methods that find their own sparsity stand in the parts below: Supermask."
    assert said in sweep_lines([*by_sweep(results(snip + gated, learning_rates=[*rates]))])
    assert sweep_lines([*by_sweep(results(snip, learning_rates=[*rates]))])[-2].startswith("| SNIP")


@pytest.mark.slow
def test_what_validation_chooses_stands_beside_the_recipe_s_own(tmp_path):
    """Digits' rate is 0.01; 0.3 is better on validation, and worse on the test set."""
    written = {}
    write_report(missing_the_mark.EXPERIMENT, swept(tmp_path, validated=True), None, written.__setitem__)
    assert "| SNIP | 0.5 | learning rate 0.3 | 60.00 | -10.00 |" in written["summary.md"]


@pytest.mark.slow
def test_the_summary_begins_with_all_of_them(tmp_path):
    written = {}
    write_report(missing_the_mark.EXPERIMENT, swept(tmp_path), None, written.__setitem__)
    assert "| SNIP | 0.5 | 70.00 | 60.00 |" in written["summary.md"]
    assert "| Dense | 0 | 90.00 | 80.00 |" in written["summary.md"]
    assert "validation" not in written["summary.md"]
    headings = [line for line in written["summary.md"].splitlines() if line.startswith("#")]
    assert headings[:3] == [
        "# A sweep: lenet-300-100 on digits, 1 seed, 20 epochs",
        "## With learning rate 0.01",
        "### The paper's findings, in this run",
    ]
    assert {"sweep.png", "accuracy-learning-rate-0.01.png", "accuracy-learning-rate-0.3.svg"} <= set(
        written
    )
