"""The comparison at equal epochs, end to end on a small scale, and its parts."""

import dataclasses

import numpy as np
import pyarrow.parquet as pq
import pytest

import pruning
from experiments import pruning_methods
from experiments.methods_plan import CONTINUOUS, GATED, METHODS, STOCHASTIC, SUPERMASK
from experiments.methods_report import points
from experiments.pruning_methods import PruningMethods
from experiments.report.paired import at_same_kept

SIZE = 64 * 300 + 300 * 100 + 100 * 10
CONFIG = PruningMethods(
    seeds=1,
    sparsities=(0.5, 0.9),
    epochs=4,
    prune_epochs=3,
    search_epochs=1,
    k=2,
    starts=(-0.01, 0.01),
    stochastic_starts=(-1.0, 1.0),
    chunk_size=8,
)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    path = tmp_path_factory.mktemp("methods") / "run"
    return pruning_methods.run(dataclasses.replace(CONFIG, out_dir=path))


@pytest.fixture(scope="module")
def rows(finished):
    return pq.read_table(finished / "results.parquet").to_pylist()


def of(rows, method, sparsity=None):
    found = [row for row in rows if (row["method"], row["sparsity_target"]) == (method, sparsity)]
    return {row["epoch"]: row for row in found}


@pytest.mark.parametrize("method", [method for method in METHODS if method not in GATED])
@pytest.mark.parametrize("sparsity", [0.5, 0.9])
def test_every_method_ends_at_the_exact_sparsity(rows, method, sparsity):
    last = of(rows, method, sparsity)[4]
    assert last["sparsity"] == pytest.approx(pruning.pruned_count(sparsity, SIZE) / SIZE, abs=1e-6)
    assert 0 <= last["test_accuracy"] <= 1


def test_all_train_for_as_many_epochs(rows):
    for method in METHODS:
        first = 4 if method == "magnitude-fine-tuned" else 1
        epochs = {row["epoch"] for row in rows if row["method"] == method}
        assert epochs == set(range(first, 5))


def test_gradual_pruning_follows_the_cubic_schedule(rows):
    found = [of(rows, "gradual-magnitude", 0.9)[epoch]["sparsity"] for epoch in (1, 2, 3, 4)]
    expected = [0.9 * (1 - left**3) for left in (2 / 3, 1 / 3, 0, 0)]
    np.testing.assert_allclose(found, expected, atol=2e-5)


def test_the_combination_begins_with_the_winner_and_ends_by_dissipation(rows):
    found = [of(rows, "k-starts+dissipating-gradients", 0.9)[epoch]["sparsity"] for epoch in (1, 3)]
    np.testing.assert_allclose(found, [1 - 0.1**0.5, 0.9], atol=5e-5)  # the mask, layer by layer
    assert of(rows, "dissipating-gradients", 0.9)[1]["sparsity"] < 0.6


@pytest.mark.parametrize("method", GATED)
def test_the_lower_gates_begin_the_sparser_the_network(rows, method):
    groups = points([row for row in rows if row["epoch"] == 4], method)
    starts = CONFIG.stochastic_starts if method == STOCHASTIC else CONFIG.starts
    assert [group[0]["start"] for group in groups] == sorted(starts, reverse=True)


@pytest.mark.parametrize("method", [SUPERMASK, STOCHASTIC])
def test_a_supermask_learns_without_its_weights(rows, method):
    for group in points([row for row in rows if row["epoch"] == 4], method):
        (last,) = group
        assert last["test_accuracy"] > 0.5  # of ten digits, with the weights of the initialization


def test_only_gates_of_supermasks_learn():
    for member in (*CONFIG.plan().gated(), *CONFIG.plan().stochastic()):
        learns = member.columns["method"] == CONTINUOUS
        assert float(member.member.method.weights_learn) == learns


def test_an_interrupted_comparison_goes_on(finished, rows, tmp_path, capsys):
    path = tmp_path / "run"
    path.mkdir()
    for name in ("parts", "snapshots"):
        (path / name).mkdir()
        for file in (finished / name).iterdir():
            (path / name / file.name).write_bytes(file.read_bytes())
    (path / "config.json").write_bytes((finished / "config.json").read_bytes())
    for part in sorted((path / "parts").iterdir())[::2]:
        part.unlink()
    pruning_methods.run(dataclasses.replace(CONFIG, out_dir=path))
    again = pq.read_table(path / "results.parquet").to_pylist()
    strip = lambda row: {k: v for k, v in row.items() if k != "seconds"}  # noqa: E731
    assert [strip(row) for row in again] == [strip(row) for row in rows]
    assert "training programs compiled" in capsys.readouterr().out


def test_the_results_are_complete(finished):
    summary = (finished / "summary.md").read_text()
    assert "| 0.9 | " in summary
    for method in GATED:
        assert f"## {method}, and over the others at its sparsity" in summary
    assert (finished / "accuracy.png").stat().st_size > 10_000


def test_accuracies_between_points_are_linear_in_the_logarithm():
    curve = [(1.0, 0.9), (0.25, 0.8), (0.01, 0.1)]
    assert at_same_kept(curve, 0.5) == pytest.approx(0.85)
    assert at_same_kept(curve, 0.25) == 0.8
    assert at_same_kept(curve, 0.05) == pytest.approx(0.45)
    assert at_same_kept(curve, 0.009) is None
    assert at_same_kept([], 0.5) is None


def test_epochs_bind_only_methods_that_have_them():
    dataclasses.replace(CONFIG, methods=("snip",), epochs=2, search_epochs=2)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"methods": ("snap",)}, "unknown method"),
        ({"sparsities": (1.0,)}, "every one of --sparsities"),
        ({"prune_epochs": 4}, "0 < --prune-epochs < --epochs, got 4, 4"),
        ({"search_epochs": 3}, "--search-epochs < --prune-epochs, got 3, 3"),
        ({"gate_learning_rate": -1.0}, "finite --gate-learning-rate > 0 .*, got -1.0"),
        ({"gate_learning_rate": float("nan")}, "finite --gate-learning-rate > 0 .*, got nan"),
        ({"final_temperature": -1.0}, "--final-temperature > 0"),
        ({"starts": (float("nan"),)}, "--starts of at least"),
        ({"penalty": -1.0}, "--penalty >= 0"),
        ({"stochastic_starts": (0.0, float("inf"))}, "finite --stochastic-starts"),
        ({"stochastic_starts": (0.0, 0.0)}, "--stochastic-starts"),
        ({"stochastic_learning_rate": 0.0}, "finite --stochastic-learning-rate > 0"),
    ],
)
def test_options_that_are_wrong_are_named(change, message):
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(CONFIG, **change)
