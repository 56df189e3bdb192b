"""Runs from beginning to end: killed, damaged and swept ones give the rows that they should."""

import os
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import jax
import pytest

from experiments.engine.experiment import of_methods, run
from experiments.engine.mask_costs import mask_costs
from experiments.engine.networks import Networks
from experiments.methods.registry import find_method
from experiments.options.knobs import ScheduleKnobs, SearchKnobs
from experiments.options.options import RecipeFields
from experiments.options.training import TrainingPlumbing
from experiments.pruning_methods import EXPERIMENT, PruningMethods
from experiments.report.stored_rows import parquet, read_rows
from tests.compilations import compiled_programs
from tests.experiments import everything as whole
from tests.experiments.everything import EPOCH, FEW, Everything

ROOT = Path(__file__).parents[3]
KNOBS = replace(
    whole.KNOBS, search=SearchKnobs(k=2, search_epochs=1), schedule=ScheduleKnobs(prune_epochs=1)
)
# Two levels, and a search: magnitude-fine-tuned and k-starts go on from others.
SMALL = PruningMethods(
    methods=("random", "magnitude-fine-tuned", "k-starts"),
    sparsities=(0.5, 0.9),
    seeds=2,
    epochs=2,
    knobs=KNOBS,
    plumbing=TrainingPlumbing(chunk_size=4),
)


def rows_of(path):
    rows = read_rows(path / "results.parquet")
    return [{name: value for name, value in row.items() if name != "seconds"} for row in rows]


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    return run(EXPERIMENT, replace(SMALL, out_dir=tmp_path_factory.mktemp("small") / "run"))


KILLED = """
import os, signal, sys
from pathlib import Path
from experiments.engine import run_folder
from experiments.engine.experiment import of_methods, run
from experiments.engine.mask_costs import mask_costs
from experiments.engine.networks import Networks
from experiments.methods.registry import find_method
from tests.experiments.engine.test_training import EXPERIMENT, SMALL, replace
stored, save = [], run_folder.write_atomically
def die_at_third(path, content):
    if path.parent.name == "parts":
        stored.append(path)
        if len(stored) == 3:
            path.with_name(".torn").write_bytes(content[:50])
            os.kill(os.getpid(), signal.SIGKILL)
    save(path, content)
run_folder.write_atomically = die_at_third
run(EXPERIMENT, replace(SMALL, out_dir=Path(sys.argv[1])))
"""


@pytest.mark.slow
def test_killed_and_continued_it_gives_the_same_results(small, tmp_path, capsys):
    """SIGKILL in the middle of storing the third chunk; then the same command once more."""
    environment = os.environ | {"PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu"}
    # What the whole run has compiled is there.
    environment |= {"JAX_COMPILATION_CACHE_DIR": jax.config.jax_compilation_cache_dir or ""}
    environment |= {"JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0"}
    command = [sys.executable, "-c", KILLED, str(tmp_path)]
    killed = subprocess.run(command, cwd=ROOT, env=environment, check=False)
    assert killed.returncode == -signal.SIGKILL
    survived = {part: part.stat().st_mtime_ns for part in (tmp_path / "parts").glob("*.parquet")}
    assert len(survived) == 2
    capsys.readouterr()
    run(EXPERIMENT, replace(SMALL, out_dir=tmp_path))
    assert "training programs compiled: masks and sums of gradients 1\n" in capsys.readouterr().out
    assert {part: part.stat().st_mtime_ns for part in survived} == survived
    assert rows_of(tmp_path) == rows_of(small)


def test_a_finished_run_trains_nothing_and_prints_its_summary(small, capsys):
    with compiled_programs() as compiled:
        run(EXPERIMENT, replace(SMALL, out_dir=small))
    out = capsys.readouterr().out
    assert "# pruning_methods: lenet-300-100 on digits, 2 seeds, 2 epochs" in out
    assert f"results in {small}" in out
    assert "compiled" not in out
    assert not compiled


def test_seeds_that_are_a_run_of_their_own_are_those_of_the_whole_run(small, tmp_path):
    one = replace(SMALL, methods=("random",), seeds=1, first_seed=1, out_dir=tmp_path / "one")
    found = {(row["member"], row["epoch"]): row for row in rows_of(run(EXPERIMENT, one))}
    whole = [row for row in rows_of(small) if row["seed"] == 1 and row["method"] in ("dense", "random")]
    assert len(found) == len(whole)
    for row in whole:
        assert found[row["member"], row["epoch"]]["test_loss"] == pytest.approx(
            row["test_loss"], rel=1e-5
        )


def test_costs_of_masks_are_measured_whatever_the_first_seed():
    options = replace(SMALL, methods=("snip",), seeds=1, first_seed=3)
    networks = Networks(options, options.load(), lambda study: of_methods(options, study), find_method)
    costs = mask_costs(networks)
    assert costs["mask_seconds"].keys() == {"snip"}
    assert costs["scored_examples"] == 100


@pytest.mark.parametrize("held", [1374, 1437, 100_000])
def test_a_validation_split_that_leaves_no_batch_is_refused_before_anything_is_stored(held, tmp_path):
    options = replace(
        SMALL, recipe_fields=RecipeFields(validation_examples=held), out_dir=tmp_path / "run"
    )
    said = f"--recipe.validation-examples <= 1373, so that of the 1437 .* one batch of 64 .* got {held}$"
    with pytest.raises(ValueError, match=said):
        run(EXPERIMENT, options)
    assert not (tmp_path / "run").exists()


# --- parts and snapshots that are gone ------------------------------------------------------------


@pytest.fixture
def damaged(few, tmp_path):
    """``damaged(gone)``: the run of a few methods without the rows of some networks, and unfinished."""
    path = tmp_path / "run"
    shutil.copytree(few, path)
    (path / "summary.md").unlink()

    def without(gone):
        for part in sorted((path / "parts").iterdir()):
            kept = [row for row in read_rows(part) if not gone(row)]
            part.write_bytes(parquet(kept)) if kept else part.unlink()
        return path

    return without


def trained_again(path, monkeypatch):
    """The networks that are trained where a run goes on."""
    from experiments.engine import training

    stages, run_stage = [], training.run_stage
    monkeypatch.setattr(training, "run_stage", lambda *a, **k: (stages.append(a[0]), run_stage(*a, **k)))
    run(whole.EXPERIMENT, Everything(methods=FEW, out_dir=path))
    return [[point.name for point in stage.points] for stage in stages]


@pytest.mark.slow
def test_what_is_gone_is_trained_again_with_all_that_it_needs(few, damaged, monkeypatch):
    """A ticket's rows, and the snapshots of the round before and of the dense network."""
    path = damaged(lambda row: (row["method"], row["round"]) == ("imp", 2) and row["epoch"] > 1)
    for name in (f"imp-round-1-seed-0-step-{3 * EPOCH}", f"dense-sparsity-0.0-seed-0-step-{3 * EPOCH}"):
        (path / "snapshots" / f"{name}.safetensors").unlink()
    dense, first, second = "dense/sparsity-0.0/seed-0", "imp/round-1/seed-0", "imp/round-2/seed-0"
    assert trained_again(path, monkeypatch) == [[dense], [first], [second]]
    assert rows_of(path) == rows_of(few)


def test_what_is_there_is_not_trained_again(few, damaged, monkeypatch):
    shutil.rmtree(damaged(lambda row: False) / "tickets")
    path = damaged(lambda row: row["method"] == "supermask" and row["setting"] > 0)
    assert trained_again(path, monkeypatch) == [["supermask/setting-0.02/seed-0"]]
    assert rows_of(path) == rows_of(few)


def test_a_damaged_snapshot_is_an_error_and_no_finding(damaged):
    path = damaged(lambda row: (row["method"], row["round"]) == ("imp", 2))
    (path / "snapshots" / f"imp-round-1-seed-0-step-{3 * EPOCH}.safetensors").write_bytes(b"half")
    with pytest.raises(
        ValueError, match=r"imp-round-1-seed-0-step-69.* is damaged.*: delete it, and run"
    ):
        run(whole.EXPERIMENT, Everything(methods=FEW, out_dir=path))


# --- sweeps ---------------------------------------------------------------------------------------


@pytest.mark.slow
def test_every_network_is_trained_with_each_learning_rate_without_another_compilation(tmp_path, capsys):
    """Its needs too: the same numbers as in a run of that rate alone."""
    asked = replace(SMALL, seeds=1, sparsities=(0.9,), learning_rates=(0.03, 0.1), out_dir=tmp_path / "a")
    rows = rows_of(run(EXPERIMENT, asked))
    assert "training programs compiled: masks and sums of gradients 1\n" in capsys.readouterr().out
    by_rate = {rate: [r for r in rows if r["learning_rate"] == rate] for rate in (0.03, 0.1)}
    assert len(by_rate[0.03]) == len(by_rate[0.1]) == len(rows) / 2
    alone = rows_of(run(EXPERIMENT, replace(asked, learning_rates=(0.1,), out_dir=tmp_path / "b")))
    assert [r["test_loss"] for r in by_rate[0.1]] == pytest.approx([r["test_loss"] for r in alone])
    finals = [{r["test_loss"] for r in found if r["epoch"] == 2} for found in by_rate.values()]
    assert not finals[0] & finals[1]
    summary = (tmp_path / "a" / "summary.md").read_text()
    assert "| method | sparsity | learning rate 0.03 | learning rate 0.1 |" in summary
    assert (tmp_path / "a" / "sweep.png").exists()
