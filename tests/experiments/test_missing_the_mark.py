"""The assessment end to end on a small grid, and what its parts must do."""

import dataclasses
import shutil

import jax
import numpy as np
import pyarrow.parquet as pq
import pytest

import pruning
from experiments import missing_the_mark
from experiments.engine.run_folder import RunFolder
from experiments.engine.snapshots import Snapshots
from experiments.mark_claims import Findings
from experiments.mark_figures import seeds_figure, steps_figure
from experiments.mark_options import GRID, MissingTheMark
from experiments.mark_plan import ABLATIONS, METHODS, RANDOM_BY_LAYER, mark_keys
from experiments.score_methods import SCORE_METHODS
from train.data.datasets import load_dataset

LONG = ("snip-iterative", "force")  # 100 rounds with data; tests/experiments/test_mark_masks.py
SHORT = tuple(method for method in METHODS if method not in LONG)
CONFIG = MissingTheMark(
    methods=SHORT,
    sparsities=(0.5, 0.9),
    seeds=1,
    steps=(5, 23),
    rewind_step=3,
    k=2,
    search_epochs=1,
    epochs=2,
    chunk_size=16,
)
EPOCH = 23


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    path = tmp_path_factory.mktemp("mark") / "run"
    return missing_the_mark.run(dataclasses.replace(CONFIG, out_dir=path))


@pytest.fixture(scope="module")
def rows(finished):
    return pq.read_table(finished / "results.parquet").to_pylist()


def final(rows, method, variant="none", step=None):
    rewound = method == "lottery-ticket-rewinding" and variant != "reinit"
    return {
        row["sparsity_target"]: row
        for row in rows
        if (row["method"], row["variant"], row["epoch"]) == (method, variant, 2)
        and row["pruned_at_step"] == (3 if rewound and step is None else step or 0)
    }


def layers(row):
    return {name: value for name, value in row.items() if name.startswith("kept[")}


def test_the_grid_is_the_papers():
    assert GRID[0] == 0.2
    assert GRID[-1] == pytest.approx(0.982, abs=1e-4)
    assert len(GRID) == 18


def test_every_point_is_there_with_its_exact_sparsity(rows):
    for method in SHORT:
        for sparsity in CONFIG.sparsities:
            row = final(rows, method)[sparsity]
            size = 64 * 300 + 300 * 100 + 100 * 10
            if method in ("k-starts", "random-uniform"):
                expected = sum(pruning.pruned_count(sparsity, n) for n in (64 * 300, 30_000, 1000))
            else:
                expected = pruning.pruned_count(sparsity, size)
            removed = size - sum(layers(row).values())
            # Other allocations round down in each of the three layers.
            slack = 3 if method in RANDOM_BY_LAYER and method != "random-uniform" else 0
            assert expected - slack <= removed <= expected, (method, sparsity)
            assert row["sparsity"] == pytest.approx(removed / size, rel=1e-6)


def test_ablations_are_those_of_the_plan(rows):
    ablated = {
        (row["method"], row["variant"]) for row in rows if row["variant"] != "none" and row["epoch"] == 2
    }
    scored = [m for m in SCORE_METHODS if not m.startswith("random") and m not in LONG]
    after = ("magnitude-after-training", "lottery-ticket-rewinding")
    assert ablated == {(method, ablation) for method in scored for ablation in ABLATIONS} | {
        (method, ablation) for method in after for ablation in ("shuffle", "reinit")
    }


@pytest.mark.parametrize("method", ["magnitude", "snip", "synflow", "magnitude-after-training"])
def test_shuffling_and_reinitialising_keep_the_counts_of_layers(rows, method):
    for sparsity in CONFIG.sparsities:
        counts = layers(final(rows, method)[sparsity])
        for variant in ("shuffle", "reinit"):
            row = final(rows, method, variant)[sparsity]
            assert layers(row) == counts
            assert row["test_loss"] != final(rows, method)[sparsity]["test_loss"]


@pytest.mark.parametrize("method", ["magnitude", "snip", "grasp", "synflow"])
def test_inverting_keeps_other_weights(rows, method):
    for sparsity in CONFIG.sparsities:
        assert layers(final(rows, method, "invert")[sparsity]) != layers(final(rows, method)[sparsity])


def test_methods_prune_at_later_steps_too(rows):
    for step in (5, EPOCH):
        for method in ("random", "magnitude", "snip", "grasp", "synflow"):
            row = final(rows, method, step=step)[0.9]
            assert row["test_loss"] != final(rows, method, step=0)[0.9]["test_loss"]
    epochs = {row["epoch"] for row in rows if row["pruned_at_step"] == EPOCH}
    assert epochs == {2}
    assert not final(rows, "snip-second-draw", step=EPOCH)


def test_the_rewound_network_has_the_mask_of_the_trained_one(rows):
    after, ticket = (
        final(rows, method)[0.9] for method in ("magnitude-after-training", "lottery-ticket-rewinding")
    )
    assert layers(after) == layers(ticket)
    assert (after["pruned_at_step"], ticket["pruned_at_step"]) == (0, 3)
    assert after["test_loss"] != ticket["test_loss"]


def test_static_masks_compile_once_and_an_interrupted_run_goes_on(tmp_path, capsys):
    """Half of the stored members are gone, and the summary: they alone are trained again."""
    config = dataclasses.replace(
        CONFIG,
        methods=("random", "magnitude-after-training", "lottery-ticket-rewinding"),
        ablations=("shuffle",),
        chunk_size=3,
        out_dir=tmp_path / "run",
    )
    path = missing_the_mark.run(config)
    assert "static masks 1, searches 0, dissipation 0" in capsys.readouterr().out
    rows = pq.read_table(path / "results.parquet").to_pylist()
    (path / "summary.md").unlink()
    parts = sorted((path / "parts").iterdir())
    for part in parts[::2]:
        part.unlink()
    kept = {part: part.stat().st_mtime_ns for part in parts[1::2]}
    missing_the_mark.run(config)
    assert {part: part.stat().st_mtime_ns for part in kept} == kept
    again = pq.read_table(path / "results.parquet").to_pylist()
    assert [{**row, "seconds": 0} for row in again] == [{**row, "seconds": 0} for row in rows]


def test_a_finished_run_prints_its_summary(finished, capsys):
    missing_the_mark.run(dataclasses.replace(CONFIG, out_dir=finished))
    out = capsys.readouterr().out
    assert "The paper's findings" in out
    assert "compiled" not in out


def test_missing_snapshots_are_an_error_with_a_way_out(finished, tmp_path):
    path = tmp_path / "run"
    shutil.copytree(finished, path)
    (path / "summary.md").unlink()
    shutil.rmtree(path / "snapshots")
    with pytest.raises(ValueError, match=r"snapshots of seed-0 are gone.*--fresh"):
        missing_the_mark.run(dataclasses.replace(CONFIG, out_dir=path))


def test_the_results_are_complete(finished, rows):
    for name in ("accuracy", "ablations", "steps"):
        assert (finished / f"{name}.png").stat().st_size > 10_000
        assert (finished / f"{name}.svg").exists()
    columns = "experiment dataset model method variant sparsity_target sparsity seed epoch test_accuracy"
    assert set(columns.split()) <= set(rows[0])
    summary = (finished / "summary.md").read_text()
    assert "| snip beats random |" in summary
    assert "is empty at sparsity" in summary  # inverted SynFlow empties the last layer


def test_a_baseline_rewound_to_a_pruning_step_is_drawn_once(rows):
    """Its networks are pruned at that step too, but it is no method that prunes there."""
    plan = dataclasses.replace(CONFIG, rewind_step=5).plan(EPOCH)
    moved = [row | {"pruned_at_step": 5} if row["pruned_at_step"] == 3 else row for row in rows]
    axes, *_ = steps_figure(Findings(moved, epochs=2), plan, "").axes
    _, names = axes.get_legend_handles_labels()
    assert names.count("lottery-ticket-rewinding") == 1
    assert "snip" in names


def test_the_figure_of_one_sparsity_shows_every_seed(rows):
    plan = dataclasses.replace(CONFIG.plan(EPOCH), sparsities=(0.9,))
    found = Findings([row for row in rows if row["method"] != "search"], epochs=2)
    (axes,) = seeds_figure(found, plan, "").axes
    drawn = np.concatenate([line.get_ydata() for line in axes.lines if line.get_marker() == "."])
    variants = [(method, variant) for method in SHORT for variant in ("none", *ABLATIONS)]
    seen = [final(rows, *pair)[0.9]["test_accuracy"] for pair in variants if final(rows, *pair)]
    np.testing.assert_allclose(np.sort(drawn), np.sort(np.clip(seen, 0.01, 0.999)))
    assert [label.get_text() for label in axes.get_xticklabels()] == list(SHORT)


@pytest.mark.parametrize("values", [(0.982, 0.986), (1.0, 1.0), (0.0, 0.5), (float("nan"), 0.9)])
def test_the_figure_of_one_sparsity_has_an_axis_whatever_the_accuracies(rows, values):
    plan = dataclasses.replace(CONFIG.plan(EPOCH), sparsities=(0.9,), methods=("random",))
    kept = [row for row in rows if row["method"] in ("dense", "random")]
    kept = [row | {"test_accuracy": values[row["method"] == "random"]} for row in kept]
    (axes,) = seeds_figure(Findings(kept, epochs=2), plan, "").axes
    low, high = axes.get_ylim()
    assert sum(low <= tick <= high for tick in axes.get_yticks()) >= 2
    drawn = np.concatenate([np.atleast_1d(line.get_ydata()) for line in axes.lines])
    assert np.all((low <= drawn) & (drawn <= high) | np.isnan(drawn))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"methods": ("snap",)}, "unknown method 'snap'; the valid names are: random, magnitude, snip"),
        ({"ablations": ("rotate",)}, "unknown ablation 'rotate'"),
        ({"methods": ("snip", "snip")}, "different --methods"),
        ({"methods": ()}, "at least one value of --methods"),
        ({"sparsities": (1.0,)}, "--sparsities"),
        ({"step_sparsities": (0.5, 0.5)}, "different --step-sparsities"),
        ({"model": "lenet"}, "unknown model"),
        ({"recipe": "none"}, "unknown recipe"),
        ({"seeds": 0}, "--seeds >= 1"),
        ({"dissipate_epochs": 3}, "--dissipate-epochs <= --epochs"),
        ({"search_epochs": 3}, "--search-epochs <= --epochs"),
        ({"step_sparsities": (0.6,)}, "--step-sparsities among --sparsities"),
    ],
)
def test_options_that_are_wrong_are_named(change, message):
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(CONFIG, **change)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"steps": (46,)}, r"--steps from 0 to below the end of the training, step 46 \(2 epochs of 23"),
        ({"steps": (-1,)}, "--steps from 0"),
        ({"rewind_step": 46}, "--rewind-step from 0 to below"),
    ],
)
def test_a_step_that_is_not_reached_is_an_error_and_leaves_no_folder(change, message, tmp_path):
    path = tmp_path / "run"
    with pytest.raises(ValueError, match=message):
        missing_the_mark.run(dataclasses.replace(CONFIG, out_dir=path, **change))
    assert not path.exists()


def test_snapshots_come_back_as_they_were(tmp_path):
    run = missing_the_mark.Run(CONFIG, load_dataset("digits"))
    member = run.plan.dense()[0].member
    state = run.static.start(jax.tree.map(lambda leaf: leaf[None], member))
    state = jax.tree.map(lambda leaf: leaf[0], state)
    snapshots = Snapshots(RunFolder(tmp_path / "run", {}, fresh=False), state)
    assert not snapshots.has("seed-0", 3)
    snapshots.save("seed-0", 3, jax.device_get(state))
    assert snapshots.has("seed-0", 3)
    again = snapshots.load("seed-0", 3)
    assert jax.tree.structure(again) == jax.tree.structure(state)
    for found, expected in zip(jax.tree.leaves(again), jax.tree.leaves(state), strict=True):
        assert found.dtype == expected.dtype
        np.testing.assert_array_equal(found, expected)


def test_members_of_a_diverged_network_are_recorded_as_failed(tmp_path):
    """At a learning rate of 1e6 everything diverges; the run ends and says so."""
    config = dataclasses.replace(
        CONFIG,
        methods=("snip", "magnitude-after-training", "lottery-ticket-rewinding"),
        ablations=("shuffle", "reinit"),
        sparsities=(0.9,),
        out_dir=tmp_path / "run",
    )
    wild = dataclasses.replace(config.resolved_recipe(), learning_rate=1e6)
    object.__setattr__(config, "resolved_recipe", lambda: wild)
    path = missing_the_mark.run(config)
    rows = [r for r in pq.read_table(path / "results.parquet").to_pylist() if r["epoch"] == 2]
    assert {(r["method"], r["variant"], r["pruned_at_step"]) for r in rows if r["failed"]} == {
        (r["method"], r["variant"], r["pruned_at_step"]) for r in rows
    }
    assert all(r["sparsity"] == pytest.approx(0.9, abs=1e-4) for r in rows if r["method"] != "dense")
    assert "**Diverged**" in (path / "summary.md").read_text()


def test_the_second_draw_is_neither_the_trained_nor_the_other_weights():
    run = missing_the_mark.Run(CONFIG, load_dataset("digits"))
    keys = mark_keys(0)
    draws = [run.static.initial_params(key) for key in (keys.init, keys.other_init, keys.second_draw)]
    first = [float(draw["dense1"]["kernel"][0, 0]) for draw in draws]
    assert len(set(first)) == 3
