"""The verdicts on made-up results: what holds, what does not, what is undecided."""

import dataclasses

import pytest

from experiments.mark_claims import (
    Findings,
    findings_table,
    of_the_first_system,
    of_the_paper,
)
from experiments.mark_plan import ABLATIONS, Plan
from experiments.mark_report import emptied_layers
from train.recipes import RECIPES

PLAN = Plan(
    methods=("random", "snip", "grasp", "magnitude-after-training", "lottery-ticket-rewinding"),
    ablations=ABLATIONS,
    sparsities=(0.5, 0.9),
    seeds=3,
    steps=(7,),
    step_sparsities=(0.9,),
    rewind_step=3,
    k=2,
    search_epochs=1,
    dissipate_epochs=1,
    recipe=RECIPES["digits"],
)


def row(method, seed, accuracy, *, variant="none", step=0, sparsity=0.9, failed=False, epoch=20):
    return {
        "method": method,
        "variant": variant,
        "pruned_at_step": step,
        "sparsity_target": sparsity,
        "seed": seed,
        "epoch": epoch,
        "test_accuracy": accuracy,
        "failed": failed,
    }


def several(method, accuracies, **place):
    return [row(method, seed, accuracy, **place) for seed, accuracy in enumerate(accuracies)]


def cells(rows, statement, plan=PLAN):
    """The cells of a statement by band: below 0.8, below 0.95."""
    found = Findings(rows, epochs=20)
    lines = findings_table((*of_the_paper(found, plan), *of_the_first_system(found)), plan)
    (line,) = [line for line in lines if line.startswith(f"| {statement} |")]
    return [cell.strip() for cell in line.split("|")[2:-1]]


RANDOM = several("random", [0.80, 0.81, 0.79])


def test_a_sure_difference_holds_and_its_opposite_does_not():
    better = RANDOM + several("snip", [0.90, 0.91, 0.89])
    worse = RANDOM + several("snip", [0.70, 0.71, 0.69])
    assert cells(better, "snip beats random") == ["not run", "+10.00 ± 0.00, **holds**"]
    assert cells(worse, "snip beats random")[1] == "-10.00 ± 0.00, **does not hold**"


def test_an_interval_that_holds_zero_is_undecided():
    rows = RANDOM + several("snip", [0.82, 0.80, 0.80])
    assert cells(rows, "snip beats random")[1].endswith("undecided")


def test_differences_are_paired_by_seed_and_averaged_over_a_bands_sparsities():
    rows = RANDOM + several("random", [0.5] * 3, sparsity=0.85)
    rows += several("snip", [0.81, 0.82, 0.80]) + several("snip", [0.53] * 3, sparsity=0.85)
    assert cells(rows, "snip beats random")[1] == "+2.00 ± 0.00, **holds**"


@pytest.mark.parametrize(
    ("shuffled", "verdict"),
    [
        ([0.899, 0.909, 0.889], "**holds**"),  # a tenth of a point
        ([0.88, 0.89, 0.87], "**does not hold**"),  # two points
        ([0.88, 0.92, 0.89], "undecided"),
        ([0.95, 0.96, 0.94], "**holds**"),  # better does not hurt
    ],
)
def test_hardly_hurts_means_less_than_half_a_point(shuffled, verdict):
    rows = several("snip", [0.90, 0.91, 0.89]) + several("snip", shuffled, variant="shuffle")
    assert cells(rows, "shuffle hardly hurts snip")[1].endswith(verdict)


def test_ablations_are_expected_to_hurt_where_the_paper_says_so():
    after = "magnitude-after-training"
    rows = several(after, [0.9] * 3) + several(after, [0.8, 0.81, 0.8], variant="reinit")
    assert cells(rows, f"reinit hurts {after}")[1].endswith("**holds**")
    rows = several("snip", [0.9] * 3) + several("snip", [0.8, 0.81, 0.8], variant="invert")
    assert cells(rows, "invert hurts snip")[1].endswith("**holds**")
    rows = several("grasp", [0.9] * 3) + several("grasp", [0.8, 0.81, 0.8], variant="invert")
    assert cells(rows, "invert hardly hurts grasp")[1].endswith("**does not hold**")


def test_pruning_later_is_compared_with_pruning_at_initialization():
    rows = several("snip", [0.9] * 3) + several("snip", [0.92] * 3, step=7)
    assert cells(rows, "snip at step 7 beats snip at initialization")[1].startswith("+2.00")


def test_lottery_tickets_are_found_at_the_step_they_are_rewound_to():
    rows = several("snip", [0.9] * 3) + several("lottery-ticket-rewinding", [0.93] * 3, step=3)
    assert cells(rows, "lottery-ticket-rewinding beats snip")[1].startswith("+3.00")


def test_failed_networks_and_earlier_epochs_do_not_count():
    rows = RANDOM + several("snip", [0.9, 0.91, 0.89]) + several("snip", [0.1] * 3, epoch=19)
    rows[-4] = row("snip", 2, 0.1, failed=True)
    assert cells(rows, "snip beats random")[1].startswith("+10.00")


def test_one_seed_decides_nothing():
    rows = [row("random", 0, 0.8), row("snip", 0, 0.9)]
    assert cells(rows, "snip beats random") == ["not run", "+10.00, one seed"]


def test_the_first_system_meets_the_baselines():
    plan = dataclasses.replace(PLAN, methods=(*PLAN.methods, "k-starts"))
    rows = RANDOM + several("k-starts", [0.81, 0.82, 0.80])
    assert cells(rows, "k-starts beats random", plan)[1] == "+1.00 ± 0.00, **holds**"


def test_emptied_layers_are_named():
    rows = [
        row("snip", 0, 0.1, variant="invert", sparsity=s) | {"kept['a']": 0.0, "kept['b']": 5.0}
        for s in (0.9, 0.5)
    ]
    assert emptied_layers(rows) == ["- snip (invert, step 0): ['a'] is empty at sparsity 0.5, 0.9"]
