"""The table of a run: what is asked of it, and several of them as one."""

import numpy as np
import pytest

from experiments.engine.experiment import find_experiment
from experiments.methods.point import Point
from experiments.report.markdown import accuracies, emptied_layers, kept_otherwise, own_sparsities
from experiments.report.sparsities import reached
from experiments.report.stored_rows import parquet
from experiments.report.table import Results, as_rows, load, merged
from tests.experiments.made_up import EPOCHS, results, row, several
from tests.experiments.report import stored_runs

TICKETS = several("lottery-ticket-rewinding", [0.7, 0.8], step=3)
ROWS = (
    several("snip", [0.1, 0.2], epoch=1)
    + several("snip", [0.6, 0.7])
    + several("snip", [0.5, 0.4], variant="shuffle")
    + several("snip", [0.3, 0.2], step=9)
    + TICKETS
    + [row(Point("dense", sparsity_target=0.0, seed=seed), 0.9) for seed in range(2)]
    + [row(Point("k-starts", sparsity_target=0.9, candidate=c), 0.1) for c in range(2)]
)


def test_accuracies_are_final_and_of_the_networks_that_methods_are_judged_by():
    found = results(ROWS)
    assert found.accuracy("snip") == {(0, 0.9): 0.6, (1, 0.9): 0.7}
    assert found.accuracy("snip", "shuffle") == {(0, 0.9): 0.5, (1, 0.9): 0.4}
    assert found.accuracy("snip", step=9) == {(0, 0.9): 0.3, (1, 0.9): 0.2}
    assert found.accuracy("lottery-ticket-rewinding") == {(0, 0.9): 0.7, (1, 0.9): 0.8}
    assert found.accuracy("k-starts") == {}  # Candidates alone.
    assert found.dense() == [0.9, 0.9]
    assert found.methods == ["snip", "k-starts", "lottery-ticket-rewinding"]
    assert found.has("snip")
    assert not found.has("snip", "random")
    assert found.title == f"lenet-300-100 on digits, 2 seeds, {EPOCHS} epochs"


def test_failed_networks_are_named_and_have_no_accuracy():
    rows = [one | {"failed": one["seed"] == 1} if one["method"] == "snip" else one for one in ROWS]
    found = results(rows)
    assert np.isnan(found.accuracy("snip")[1, 0.9])
    assert found.accuracy("snip")[0, 0.9] == 0.6
    assert "snip/sparsity-0.9/seed-1" in found.diverged()


def test_rows_come_back_from_the_table_as_they_were():
    rows = [row(Point("imp", round=2, seed=1), 0.5, sparsity=0.36), ROWS[0]]
    assert sorted(map(str, as_rows(results(rows).table))) == sorted(map(str, rows))


def test_runs_of_other_seeds_and_methods_are_one_table():
    snip, tickets = results(ROWS[:4]), results(TICKETS + ROWS[10:12])
    both = Results(merged([snip.table, tickets.table, snip.table]))
    assert len(both.table) == 4 + 4
    assert set(both.settings["methods"]) == {"snip", "lottery-ticket-rewinding"}
    assert both.settings["seeds"] == 2
    other = results(ROWS[:4], penalty=1.0)
    with pytest.raises(ValueError, match=r"methods, seeds or grid alone, got penalty 1e-08 and 1\.0"):
        merged([snip.table, other.table])


def test_runs_of_seeds_of_their_own_are_one_table_in_any_order():
    tables = []
    for seed in (1, 5, 0):
        rows = [one | {"seed": seed, "member": f"{one['member']}-{seed}"} for one in ROWS[:2]]
        table = results(rows, seeds=1, first_seed=seed).table
        table.attrs["facts"] = {"steps_per_epoch": 10, "mask_seconds": {f"of {seed}": 1.0}}
        tables.append(table)
    both = merged([merged(tables[:2]), tables[2]])
    assert (both.attrs["settings"]["seeds"], both.attrs["settings"]["first_seed"]) == (3, 0)
    assert both.attrs["facts"]["mask_seconds"] == {"of 1": 1.0, "of 5": 1.0, "of 0": 1.0}


def test_results_that_are_none_are_refused(tmp_path):
    with pytest.raises(ValueError, match="expected the folder of a finished run"):
        load(tmp_path)
    (tmp_path / "results.parquet").write_bytes(parquet(ROWS))
    with pytest.raises((ValueError, OSError), match="has not the results of a run"):
        load(tmp_path)


def test_a_folder_may_be_a_path_or_its_name(tmp_path):
    path = stored_runs.pruning_methods(tmp_path / "run")
    named = load(str(path))
    assert as_rows(named) == as_rows(load(path))
    assert named.attrs == load(path).attrs


def test_emptied_layers_are_named():
    rows = [
        {**one, "kept['a']['kernel']": 0.0, "kept['b']['kernel']": 5.0}
        for sparsity in (0.9, 0.5)
        for one in several("snip", [0.1], variant="invert", sparsity=sparsity)
    ]
    assert emptied_layers(results(rows)) == ["- SNIP, invert: a is empty at sparsity 0.5, 0.9"]
    late = several("snip", [0.1], step=9, **{"kept['a']['kernel']": 0.0})
    assert emptied_layers(results(late)) == ["- SNIP, pruned at step 9: a is empty at sparsity 0.9"]


def test_emptied_layers_of_methods_that_find_their_own_sparsity_are_named_by_setting():
    rows = [
        row(Point("supermask", setting=start), sparsity=0.5, **{"kept['a']['kernel']": 0.0})
        for start in (0.1, -0.5)
    ]
    assert emptied_layers(results(rows)) == ["- Supermask: a is empty at setting -0.5, 0.1"]


def keeping(method, sparsities, asked=0.98):
    """The final rows of a method that reaches other sparsities than the one asked for, a seed each."""
    rows = several(method, [0.5 + 0.01 * seed for seed in range(len(sparsities))], sparsity=asked)
    return [one | {"sparsity": reached} for one, reached in zip(rows, sparsities, strict=True)]


@pytest.mark.parametrize(
    "name", ["compare", "missing_the_mark", "pruning_methods", "dynamic_sparse_training", "referee"]
)
def test_a_summary_says_which_methods_keep_other_than_was_asked(name):
    rows = keeping("snip-channels", [0.96, 0.961]) + keeping("snip", [0.98, 0.9798])
    rows += keeping("srigl", [0.97, 0.9774], asked=0.98)
    rows[-2]["failed"] = True  # What has diverged counts as little here as in the means.
    found = results(rows, sparsities=[0.98])
    said = (
        "Keeps more or fewer weights than asked: SNIP, channels 3.95 % in place of 2 %; SRigL 2.26 % in "
        "place of 2 %."
    )
    assert said in find_experiment(name).summary(found, None)
    as_asked = results(keeping("snip", [0.98, 0.9798]), sparsities=[0.98])
    assert kept_otherwise(as_asked) == []


def test_an_accuracy_says_how_many_seeds_it_is_of_where_some_are_missing():
    rows = several("snip", [0.6, 0.7]) + several("random", [0.5])
    assert accuracies(results(rows), ["random", "snip"])[-1] == (
        "| 0.9 | 50.00 (1 of 2 seeds) | 65.00 ± 7.07 |"
    )


def test_own_sparsities_are_of_networks_that_did_not_diverge():
    found = [(0.1, 0.6, 0.8, False), (0.1, 0.1, 0.2, True), (0.2, 0.1, 0.3, True)]
    rows = [
        row(Point("dissipating-band", setting=setting, seed=seed), accuracy, sparsity=at, failed=failed)
        for seed, (setting, accuracy, at, failed) in enumerate(found)
    ]
    name = "Dissipating gradients, band"
    assert own_sparsities(results(rows, seeds=2)) == [
        [f"{name} 0.1", "0.800", "60.00 (1 of 2 seeds)"],
        [f"{name} 0.2", "diverged", "diverged"],
    ]
    lines = reached(results(rows, seeds=2, sparsities=[0.1]), "dissipating-band")
    assert len(lines) == 1
    assert "reaches sparsity 0.1 4.0 epochs (1 of 2 seeds); it ends at 0.800 ± 0.000" in lines[0]
