"""Redrawing runs from what they have stored: the same numbers, runs made one, and what is refused."""

import dataclasses
import shutil
import subprocess
import sys

import pytest
from matplotlib.figure import Figure

from experiments.report.__main__ import Report, main, run
from experiments.report.stored_rows import parquet, read_results
from experiments.report.table import load, merged
from pruning.files import writing
from tests.experiments.report import stored_runs

RANDOM = {key: found for key, found in stored_runs.BY_SEED.items() if key[0] != "snip"}
SNIP = {key: found for key, found in stored_runs.BY_SEED.items() if key[0] != "random"}
TABLE = """\
| sparsity | Random | SNIP |
|---|---|---|
| 0.5 | 85.00 ± 7.07 | 93.00 ± 4.24 |
| 0.9 | 60.00 ± 14.14 | 75.00 ± 0.00 |
"""
"""Of ``stored_runs.BY_SEED``, computed by hand."""
DRAWN = {"accuracy.png", "accuracy.svg", "page.html", "summary.md"}


@pytest.fixture
def undrawn(monkeypatch):
    """Figures are files with a word in them: to draw them takes a second each."""
    monkeypatch.setattr(Figure, "savefig", lambda figure, file, **options: file.write(b"drawn"))


def files(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.slow
def test_a_run_is_redrawn_from_its_table_alone(tmp_path):
    folder = stored_runs.pruning_methods(tmp_path / "run")
    before = files(folder)
    assert run(Report(runs=(folder,))) == folder
    after = files(folder)
    assert after.keys() == before.keys() | DRAWN
    assert before.items() <= after.items()  # The table and the config are as they were.
    summary = (folder / "summary.md").read_text()
    assert summary.startswith("# pruning_methods: lenet-300-100 on digits, 2 seeds, 2 epochs\n")
    assert "dense: 97.00 ± 1.41." in summary
    assert TABLE in summary


def test_another_folder_leaves_the_run_as_it_is(tmp_path, undrawn):
    folder = stored_runs.pruning_methods(tmp_path / "run")
    before = files(folder)
    run(Report(runs=(folder,), out_dir=tmp_path / "drawn" / "here"))
    assert files(folder) == before
    assert files(tmp_path / "drawn" / "here").keys() == DRAWN


@pytest.mark.slow
def test_runs_of_other_methods_become_one(tmp_path, undrawn):
    first = stored_runs.pruning_methods(tmp_path / "random", RANDOM, methods=("random",))
    second = stored_runs.pruning_methods(tmp_path / "snip", SNIP, methods=("snip",))
    run(Report(runs=(first, second), out_dir=tmp_path / "both"))
    assert TABLE in (tmp_path / "both" / "summary.md").read_text()
    # The merged table says all by itself: it is that of a run with both methods.
    rows, about = read_results(tmp_path / "both" / "results.parquet")
    whole, about_whole = read_results(stored_runs.pruning_methods(tmp_path / "whole") / "results.parquet")
    assert about == about_whole
    assert rows == whole
    # So it can be redrawn, and merged again.
    run(Report(runs=(tmp_path / "both",), out_dir=tmp_path / "again"))
    assert TABLE in (tmp_path / "again" / "summary.md").read_text()
    run(Report(runs=(tmp_path / "both", second), out_dir=tmp_path / "both"))
    assert read_results(tmp_path / "both" / "results.parquet") == (rows, about)


def test_runs_of_more_seeds_and_sparsities_become_one(tmp_path, undrawn):
    first = stored_runs.pruning_methods(
        tmp_path / "first",
        {key: found[:1] for key, found in RANDOM.items()},
        methods=("random",),
        seeds=1,
    )
    second = stored_runs.pruning_methods(
        tmp_path / "second", {("random", 0.5): (0.8, 0.9)}, methods=("random",), sparsities=(0.5,)
    )
    run(Report(runs=(first, second), out_dir=tmp_path / "both"))
    table = load(tmp_path / "both")
    assert table.attrs["settings"]["seeds"] == 2
    assert table.attrs["settings"]["sparsities"] == [0.5, 0.9]
    summary = (tmp_path / "both" / "summary.md").read_text()
    assert "| 0.5 | 85.00 ± 7.07 |" in summary
    assert "| 0.9 | 50.00 (1 of 2 seeds) |" in summary


def test_a_setting_that_one_run_leaves_to_its_default_is_that_of_the_other(tmp_path):
    tables = [load(stored_runs.missing_the_mark(tmp_path / name)) for name in ("first", "second")]
    tables[1].attrs["settings"]["steps"] = [23]
    assert merged(tables).attrs["settings"]["steps"] == [23]
    assert merged(tables[::-1]).attrs["settings"]["steps"] == [23]


def test_published_numbers_are_set_beside_and_kept(tmp_path, undrawn):
    folder = stored_runs.layer_collapse(tmp_path / "run")
    published = tmp_path / "published.csv"
    published.write_text("pruner,log10_compression,L0_keep,L1_keep\nrand,1,0.21,0.1\n")
    run(Report(runs=(folder,), reference=published))
    # Random pruning keeps 0.11 of the first layer in the mean over seeds.
    line = "| Random | 1 | 0.1000 (layer 0) |"
    assert line in (folder / "summary.md").read_text()
    published.unlink()
    run(Report(runs=(folder,), out_dir=tmp_path / "drawn"))
    assert line in (tmp_path / "drawn" / "summary.md").read_text()
    # Others take their place, whatever they are called.
    others = tmp_path / "their_own.csv"
    others.write_text("pruner,log10_compression,L0_keep,L1_keep\nrand,1,0.31,0.1\n")
    run(Report(runs=(folder,), reference=others))
    summary = (folder / "summary.md").read_text()
    assert "| Random | 1 | 0.2000 (layer 0) |" in summary
    run(Report(runs=(folder,)))
    assert (folder / "summary.md").read_text() == summary


# --- what is refused ------------------------------------------------------------------------------


def no_run(path):
    path.mkdir()
    return Report(
        runs=(path,)
    ), "results.parquet cannot be read .*: expected the folder of a finished run"


def unfinished(path):
    (path / "parts").mkdir(parents=True)
    return Report(runs=(path,)), "the run in .* is not finished: the command that began it goes on"


def damaged(path):
    stored_runs.pruning_methods(path)
    table = path / "results.parquet"
    table.write_bytes(table.read_bytes()[:-40])
    return Report(runs=(path,)), "results.parquet cannot be read"


def somebody_elses_table(path):
    stored_runs.pruning_methods(path)
    (path / "results.parquet").write_bytes(parquet([{"price": 3}]))
    return Report(runs=(path,)), "has not the results of a run"


def of_no_experiment(path):
    @dataclasses.dataclass(frozen=True, kw_only=True)
    class Other(stored_runs.PruningMethods):
        experiment = "train_ticket"

    stored_runs.store(path, Other(), stored_runs.trained(stored_runs.BY_SEED))
    return Report(runs=(path,)), "expected the results of an experiment, got those of 'train_ticket'"


def two_and_no_folder(path):
    runs = stored_runs.pruning_methods(path / "a"), stored_runs.pruning_methods(path / "b")
    return Report(runs=runs), "expected --out-dir, where the results of 2 runs go as one"


def of_two_experiments(path):
    runs = stored_runs.pruning_methods(path / "a"), stored_runs.missing_the_mark(path / "b")
    return Report(runs=runs, out_dir=path / "c"), "expected runs of one experiment .* got experiment"


def of_two_models(path):
    runs = (
        stored_runs.pruning_methods(path / "a"),
        stored_runs.pruning_methods(path / "b", model="lenet-5"),
    )
    return Report(runs=runs, out_dir=path / "c"), "got model 'lenet-300-100' and 'lenet-5'"


def of_two_recipes(path):
    runs = stored_runs.pruning_methods(path / "a"), stored_runs.pruning_methods(path / "b", epochs=3)
    return Report(runs=runs, out_dir=path / "c"), "got recipe.drop_epochs|got recipe.epochs 2 and 3$"


def into_another_run(path):
    runs = stored_runs.pruning_methods(path / "a"), stored_runs.pruning_methods(path / "b")
    return Report(runs=runs, out_dir=path / "b"), "expected a folder without other results as --out-dir"


def onto_merged_results(path):
    folder = stored_runs.pruning_methods(path / "a")
    shutil.copytree(folder, path / "b")
    (path / "b" / "config.json").unlink()
    return Report(runs=(folder,), out_dir=path / "b"), "expected a folder without other results"


def onto_those_of_other_runs(path):
    """What was merged into the folder has a method that these two have not."""
    snip = stored_runs.pruning_methods(path / "snip", SNIP, methods=("snip",))
    random = [stored_runs.pruning_methods(path / n, RANDOM, methods=("random",)) for n in "ab"]
    shutil.copytree(snip, path / "merged")
    (path / "merged" / "config.json").unlink()
    return Report(runs=tuple(random), out_dir=path / "merged"), "has some that are not of these runs"


def onto_those_of_another_experiment(path):
    runs = [stored_runs.pruning_methods(path / name, RANDOM, methods=("random",)) for name in "ab"]
    (stored_runs.missing_the_mark(path / "merged") / "config.json").unlink()
    return Report(runs=tuple(runs), out_dir=path / "merged"), "has some that are not of these runs"


def into_a_file(path):
    folder = stored_runs.pruning_methods(path / "a")
    (path / "file").touch()
    return Report(runs=(folder,), out_dir=path / "file"), "cannot write to the output folder .*--out-dir"


def numbers_of_no_use(path):
    folder = stored_runs.pruning_methods(path)
    (path / "numbers.csv").touch()
    return Report(runs=(folder,), reference=path / "numbers.csv"), "--reference would do nothing"


def no_published_numbers(path):
    return Report(
        runs=(stored_runs.layer_collapse(path),), reference=path / "none.csv"
    ), "cannot read .*none"


def numbers_of_another_kind_beside_two_runs(path):
    runs = tuple(stored_runs.missing_the_mark(path / name) for name in ("one", "two"))
    (path / "numbers.csv").write_text("a,b\n1,2\n")
    return Report(runs=runs, out_dir=path / "joined", reference=path / "numbers.csv"), "numbers.csv"


@pytest.mark.parametrize(
    "case",
    [
        no_run,
        unfinished,
        damaged,
        somebody_elses_table,
        of_no_experiment,
        two_and_no_folder,
        of_two_experiments,
        of_two_models,
        of_two_recipes,
        into_another_run,
        onto_merged_results,
        onto_those_of_other_runs,
        onto_those_of_another_experiment,
        into_a_file,
        numbers_of_no_use,
        no_published_numbers,
        numbers_of_another_kind_beside_two_runs,
    ],
    ids=lambda case: case.__name__,
)
def test_what_cannot_be_redrawn_is_refused_and_nothing_is_written(tmp_path, case, undrawn):
    config, says = case(tmp_path / "runs")
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    with pytest.raises(ValueError, match=says) as caught:
        run(config)
    assert "\n" not in str(caught.value)
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before


def test_a_file_is_written_whole_or_not_at_all(tmp_path, monkeypatch, undrawn):
    folder = stored_runs.pruning_methods(tmp_path / "run")
    (folder / "summary.md").write_text("as before\n")

    def full(source, target):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(writing.os, "replace", full)
    with pytest.raises(ValueError, match=r"cannot write to the output folder .*No space left"):
        run(Report(runs=(folder,)))
    assert (folder / "summary.md").read_text() == "as before\n"
    assert files(folder).keys() == {"config.json", "results.parquet", "summary.md"}


# --- the command ----------------------------------------------------------------------------------


def test_a_mistake_ends_the_command_in_one_line(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["report", str(tmp_path / "nowhere")])
    with pytest.raises(SystemExit, match=r"^error: .*nowhere/results.parquet .*finished run$"):
        main()


def test_help_is_there_before_anything_heavy_is_imported():
    program = (
        "import sys\n"
        "from experiments.report.__main__ import main\n"
        "sys.argv = ['report', '--help']\n"
        "try:\n"
        "    main()\n"
        "finally:\n"
        "    print([name for name in ('jax', 'pandas', 'matplotlib', 'bokeh') if name in sys.modules])\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert "folders of finished runs" in done.stdout
    assert done.stdout.splitlines()[-1] == "[]"
