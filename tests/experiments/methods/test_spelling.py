"""What earlier versions have stored becomes today's words."""

import json
from pathlib import Path

import pytest

from experiments.methods.point import Point, point_of
from experiments.methods.registry import find_method
from experiments.methods.spelling import row_of_today, settings_of_today
from experiments.report.stored_rows import parquet
from experiments.report.table import Results, as_rows, load
from train.named_recipes import RECIPES

RESULTS = Path(__file__).parents[3] / "docs" / "results"
COMBINED = "k-starts+dissipating-gradients"
K_STARTS = Point("k-starts", sparsity_target=0.9, seed=1)


def old(method, sparsity=0.9, **more):
    """A row as the first version stored it."""
    known = {"member": "old", "method": method, "variant": None, "sparsity_target": sparsity, "seed": 1}
    return known | {"epoch": 2, "test_accuracy": 0.5} | more


OLD = {
    "compare": [
        (old("dense", None), Point("dense", sparsity_target=0.0, seed=1)),
        (old("random"), Point("random-uniform", sparsity_target=0.9, seed=1)),
        (old("candidate", candidate=3), K_STARTS._replace(candidate=3)),
        (old("k-starts", variant="weight", candidate=3), K_STARTS._replace(variant="weight")),
        (old("k-starts", variant="combined", candidate=3), K_STARTS),
        (old("retrained", candidate=3), K_STARTS._replace(variant="retrained", candidate=3)),
        (old("search", candidate=0), K_STARTS._replace(method=COMBINED, candidate=0)),
        (old("k-starts+dissipate-to"), K_STARTS._replace(method=COMBINED)),
        (old("dissipate", None, variant="0.3"), Point("dissipating-band", setting=0.3, seed=1)),
        (old("dissipate-to"), Point("dissipating-gradients", sparsity_target=0.9, seed=1)),
        (
            old("random+dissipate-to"),
            Point("random+dissipating-gradients", sparsity_target=0.9, seed=1),
        ),
    ],
    "missing_the_mark": [
        (
            old("snip", variant="shuffle", pruned_at_step=0),
            Point("snip", "shuffle", sparsity_target=0.9, seed=1),
        ),
        (
            old("snip", variant="none", pruned_at_step=23),
            Point("snip", pruned_at_step=23, sparsity_target=0.9, seed=1),
        ),
        (old("search", variant="none", candidate=1, pruned_at_step=0), K_STARTS._replace(candidate=1)),
        (
            old("dense", None, variant="none", pruned_at_step=0),
            Point("dense", sparsity_target=0.0, seed=1),
        ),
    ],
    "pruning_methods": [
        (old("search", candidate=1), K_STARTS._replace(method=COMBINED, candidate=1)),
        (old("supermask", None, start=-0.01), Point("supermask", setting=-0.01, seed=1)),
    ],
    "ticket_search": [
        (old("dense", None, round=0, start=None), Point("dense", sparsity_target=0.0, seed=1)),
        (old("imp", None, round=2, start=None), Point("imp", round=2, seed=1)),
        (
            old("cs-search", None, round=1, start=0.02),
            Point("cs-search", setting=0.02, round=1, seed=1),
        ),
    ],
    "layer_collapse": [(old("synflow"), Point("synflow", sparsity_target=0.9, seed=1))],
    "effective_sparsity": [(old("random-erk"), Point("random-erk", sparsity_target=0.9, seed=1))],
}
CASES = [(experiment, row, point) for experiment, rows in OLD.items() for row, point in rows]


@pytest.mark.parametrize(("experiment", "row", "point"), CASES, ids=lambda value: str(value)[:30])
def test_an_old_row_is_of_todays_network(experiment, row, point):
    found = row_of_today(row, experiment)
    assert point_of(found) == point
    assert found["member"] == point.name
    assert found["test_accuracy"] == 0.5
    assert "start" not in found
    assert find_method(point.method)
    assert row_of_today(found, experiment) is found  # Today's rows stay what they are.


def test_old_settings_are_todays():
    found = settings_of_today({"experiment": "missing_the_mark", "dissipate_epochs": 5})
    assert found == {"experiment": "missing_the_mark", "prune_epochs": 5, "seed_keys": 2}


@pytest.mark.parametrize(
    ("settings", "keys"),
    [
        ({"experiment": "missing_the_mark"}, 2),
        ({"experiment": "ticket_search", "criterion": "magnitude"}, 2),
        ({"experiment": "ticket_search", "criterion": "random"}, 1),
        ({"experiment": "compare"}, 1),
        ({"experiment": "pruning_methods"}, 1),
        ({"experiment": "layer_collapse"}, 1),
        ({"experiment": "effective_sparsity"}, 1),
        ({"experiment": "compare", "seed_keys": 2}, 2),
    ],
)
def test_which_keys_seeds_had_then(settings, keys):
    assert settings_of_today(settings)["seed_keys"] == keys


@pytest.mark.parametrize("experiment", OLD)
def test_results_without_settings_are_read_with_the_config_beside_them(experiment, tmp_path):
    recipe = {
        name: value for name, value in vars(RECIPES["digits"]).items() if name != "matmul_precision"
    }
    settings = {"experiment": experiment, "dataset": "digits", "model": "lenet-300-100", "seeds": 2}
    config = {"settings": settings | {"recipe": recipe, "sparsities": [0.9], "dissipate_epochs": 5}}
    (tmp_path / "config.json").write_text(json.dumps(config))
    rows = [row | {"sparsity": 0.9, "failed": False} for row, _ in OLD[experiment]]
    (tmp_path / "results.parquet").write_bytes(parquet(rows))
    results = Results(load(tmp_path))
    assert {point_of(row) for row in as_rows(results.table)} == {point for _, point in OLD[experiment]}
    assert results.settings["prune_epochs"] == 5
    assert results.settings["recipe"]["matmul_precision"] == RECIPES["digits"].matmul_precision
    assert results.facts == {"steps_per_epoch": 23}
    assert results.study.last_step == 23 * 20


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(path.parent.name for path in RESULTS.glob("*/results.parquet")))
def test_committed_runs_are_read(name):
    results = Results(load(RESULTS / name))
    assert len(results.final)
    assert not results.table.duplicated(["member", "epoch"]).any()
    assert set(results.methods) <= set(results.table["method"])
    assert all(len(results.of(method)) for method in results.methods)
