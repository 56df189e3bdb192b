"""The assessment: the paper's grid, its findings decided from made-up results, and a small run."""

from dataclasses import replace

import pytest

from experiments.engine.experiment import run
from experiments.methods.point import Point
from experiments.methods.scored import ABLATIONS, PUBLISHED_ABLATIONS
from experiments.missing_the_mark import (
    EXPERIMENT,
    MissingTheMark,
    of_the_first_system,
    of_the_paper,
    summary,
)
from experiments.options.knobs import ScheduleKnobs
from experiments.options.options import RecipeFields
from experiments.report.findings import findings_table, other_methods
from experiments.report.table import load
from tests.experiments.made_up import results, row, several

RANDOM = several("random", [0.80, 0.81, 0.79])
SNIP = several("snip", [0.90, 0.91, 0.89])


def test_the_grid_is_the_papers():
    grid = MissingTheMark().sparsities
    assert (grid[0], len(grid)) == (0.2, 18)
    assert grid[-1] == pytest.approx(0.982, abs=1e-4)


def cells(rows, statement):
    """The cells of a statement by band: below 0.8, below 0.95."""
    found = results(rows, ablations=list(ABLATIONS), sparsities=[0.5, 0.85, 0.9], rewind_step=3)
    lines = findings_table((*of_the_paper(found), *of_the_first_system(found)), found)
    (line,) = [line for line in lines if line.startswith(f"| {statement} |")]
    return [cell.strip() for cell in line.split("|")[2:-1]]


@pytest.mark.parametrize(
    ("snip", "verdict"),
    [
        ([0.90, 0.91, 0.89], "+10.00 ± 0.00, **holds**"),
        ([0.70, 0.71, 0.69], "-10.00 ± 0.00, **does not hold**"),
        ([0.82, 0.80, 0.80], "undecided"),
    ],
)
def test_a_difference_holds_or_does_not_or_is_undecided(snip, verdict):
    below, there = cells(RANDOM + several("snip", snip), "SNIP beats Random")
    assert (below, there.endswith(verdict)) == ("not run", True)


def test_methods_of_which_the_paper_says_nothing_are_set_beside_random_pruning_too():
    rows = RANDOM + several("force", [0.9, 0.91, 0.89]) + several("force", [0.7] * 3, variant="shuffle")
    found = results(rows, ablations=list(ABLATIONS), sparsities=[0.9])
    table = findings_table(other_methods(found, ["force"]), found)
    assert [line.split(" |")[0] for line in table[2:]] == [
        "| FORCE beats Random",
        "| shuffle hurts FORCE",
    ]
    assert "+10.00 ± 0.00, **holds**" in table[2]


def test_a_method_that_finds_its_own_sparsity_stands_beside_the_others_there():
    rows = RANDOM + SNIP + [row(Point("dense", sparsity_target=0.0, seed=s), 0.9) for s in range(3)]
    rows += [row(Point("k-starts-n-m", setting=1, seed=s), 0.95, sparsity=0.9) for s in range(3)]
    rows += several("snip", [0.5] * 3, step=10)  # pruned later: not what the others are compared with
    lines = summary(results(rows, sparsities=[0.9], ablations=[]), None)
    assert "| sparsity | Random | SNIP |" in lines
    head = lines.index("| setting | kept | accuracy | over Random | over SNIP |")
    assert lines[head + 2].startswith("| 1 | 10.00% | 95.00 ± 0.00 | +15.00 ± 2.48 | +5.00 ± 2.48 |")


def test_differences_are_paired_by_seed_and_averaged_over_a_bands_sparsities():
    rows = RANDOM + several("random", [0.5] * 3, sparsity=0.85)
    rows += several("snip", [0.81, 0.82, 0.80]) + several("snip", [0.53] * 3, sparsity=0.85)
    assert cells(rows, "SNIP beats Random")[1] == "+2.00 ± 0.00, **holds**"


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
    rows = SNIP + several("snip", shuffled, variant="shuffle")
    assert cells(rows, "shuffle hardly hurts SNIP")[1].endswith(verdict)


@pytest.mark.parametrize(
    ("method", "variant", "statement", "verdict"),
    [
        ("magnitude-after-training", "reinit", "reinit hurts Magnitude after training", "**holds**"),
        ("snip", "invert", "invert hurts SNIP", "**holds**"),
        ("grasp", "invert", "invert hardly hurts GraSP", "**does not hold**"),
    ],
)
def test_ablations_are_expected_to_hurt_where_the_paper_says_so(method, variant, statement, verdict):
    rows = several(method, [0.9] * 3) + several(method, [0.8, 0.81, 0.8], variant=variant)
    assert cells(rows, statement)[1].endswith(verdict)


def test_ablations_of_which_the_paper_says_nothing_are_told_too():
    rows = SNIP + several("snip", [0.8, 0.81, 0.79], variant="sparse-reinit")
    rows += several("snip", [0.7] * 3, variant="shuffle")
    rows += several("synflow", [0.9] * 3) + several("synflow", [0.5] * 3, variant="invert")
    rows += several("k-starts", [0.9] * 3) + several("k-starts", [0.9] * 3, variant="retrained")
    found = results(rows, ablations=[*ABLATIONS, "retrained"], sparsities=[0.9])
    lines = summary(found, None)
    start = lines.index("## Other ablations")
    assert lines[start + 4 : start + 8] == [
        "| sparse-reinit hurts SNIP | -10.00 ± 0.00, **holds** |",
        "| invert hurts SynFlow | -40.00 ± 0.00, **holds** |",
        "| retrained hurts K-starts | +0.00 ± 0.00, undecided |",
        "",
    ]
    assert "## Other ablations" not in summary(results(SNIP, sparsities=[0.9]), None)


def test_networks_that_diverged_are_not_called_not_run():
    rows = RANDOM + several("snip", [float("nan")] * 3, failed=True)
    assert cells(rows, "SNIP beats Random") == ["not run", "diverged"]


def test_steps_are_compared_with_initialization_and_tickets_are_found_where_they_are_rewound_to():
    late = several("snip", [0.92, 0.93, 0.91], step=7)
    ticket = several("lottery-ticket-rewinding", [0.93, 0.94, 0.92], step=3)
    assert cells(SNIP + late, "SNIP at step 7 beats SNIP at initialization")[1].startswith("+2.00")
    assert cells(SNIP + ticket, "Lottery-ticket rewinding beats SNIP")[1].startswith("+3.00")


def test_failed_networks_and_earlier_epochs_do_not_count():
    rows = RANDOM + several("snip", [0.1] * 3, epoch=1) + several("snip", [0.9, 0.91])
    rows += [one for one in several("snip", [0.9, 0.91, 0.1], failed=True) if one["seed"] == 2]
    assert cells(rows, "SNIP beats Random")[1].startswith("+10.00")


def test_one_seed_decides_nothing():
    assert cells(RANDOM[:1] + SNIP[:1], "SNIP beats Random") == ["not run", "+10.00, one seed"]


def test_the_first_system_meets_the_baselines():
    rows = RANDOM + several("k-starts", [0.81, 0.82, 0.80])
    assert cells(rows, "K-starts beats Random")[1] == "+1.00 ± 0.00, **holds**"


# --- a small run ----------------------------------------------------------------------------------

AFTER = ("magnitude-after-training", "lottery-ticket-rewinding")
SMALL = MissingTheMark(methods=("snip", *AFTER), sparsities=(0.5, 0.9), seeds=1, epochs=2)


@pytest.mark.slow
def test_published_numbers_are_set_beside_a_run_that_is_finished(tmp_path):
    options = replace(SMALL, out_dir=tmp_path / "run", methods=("random", "snip"), steps=(5,))
    path = run(EXPERIMENT, options)
    assert {"accuracy.png", "ablations.svg", "steps.png"} <= {file.name for file in path.iterdir()}
    summary, parts = (path / "summary.md").read_text(), sorted((path / "parts").iterdir())
    assert "| SNIP beats Random |" in summary
    assert "Beside" not in summary
    columns = "network,dataset,method,variant,sparsity_percent,accuracy,std"
    (tmp_path / "theirs.csv").write_text(f"{columns}\nlenet_300_100,digits,random,init,50,77.0,\n")
    before = [part.stat().st_mtime_ns for part in parts]
    run(EXPERIMENT, replace(options, reference=tmp_path / "theirs.csv"))
    assert "| Random | init | 77.00 |" in (path / "summary.md").read_text()
    assert [part.stat().st_mtime_ns for part in parts] == before
    # They are kept: what is redrawn from the folder has them too.
    run(EXPERIMENT, options)
    assert "| Random | init | 77.00 |" in (path / "summary.md").read_text()


def test_published_numbers_of_another_network_are_an_error_before_anything_is_trained(tmp_path):
    columns = "network,dataset,method,variant,sparsity_percent,accuracy,std"
    (tmp_path / "theirs.csv").write_text(f"{columns}\nvgg,cifar10,random,init,50,77.0,\n")
    options = replace(SMALL, out_dir=tmp_path / "run", reference=tmp_path / "theirs.csv")
    with pytest.raises(ValueError, match="has vgg on cifar10"):
        run(EXPERIMENT, options)
    assert not options.out_dir.exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"steps": (46,)}, r"--steps from 0 to below the end of the training, step 46 \(2 epochs of 23"),
        ({"steps": (-1,)}, "--steps from 0"),
        ({"rewind_step": 46}, "--rewind-step from 0 to below"),
    ],
)
def test_a_step_that_is_not_reached_is_an_error_and_leaves_no_folder(change, message, tmp_path):
    if "rewind_step" in change:
        change = {"knobs": replace(SMALL.knobs, schedule=ScheduleKnobs(**change))}
    with pytest.raises(ValueError, match=message):
        run(EXPERIMENT, replace(SMALL, out_dir=tmp_path / "run", **change))
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_what_follows_from_a_diverged_network_is_recorded_as_failed(tmp_path):
    """At a learning rate of 1e6 everything diverges; the run ends and says so."""
    wild = RecipeFields(learning_rate=1e6)
    options = replace(SMALL, sparsities=(0.9,), recipe_fields=wild, steps=(23,), out_dir=tmp_path / "run")
    path = run(EXPERIMENT, options)
    table = load(path)
    last = table[table["epoch"] == 2]
    assert last["failed"].all()
    assert set(last["variant"]) == {"none", *PUBLISHED_ABLATIONS}
    assert last[last["method"] != "dense"]["sparsity"].sub(0.9).abs().max() < 1e-4
    assert "**Diverged**" in (path / "summary.md").read_text()
