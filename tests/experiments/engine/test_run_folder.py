"""The output folder: what it adopts, what it refuses, what survives damage, kills and fresh starts."""

import errno
import json
import os
import shutil
import subprocess
import sys

import pyarrow.parquet as pq
import pytest

from experiments.engine import identity, run_folder
from experiments.engine.experiment import Experiment, run
from experiments.engine.run_folder import is_finished
from experiments.methods.point import Point
from experiments.options.options import Options
from experiments.report.stored_rows import parquet, read_rows
from tests.damage import mutated
from tests.experiments.made_up import SETTINGS, folder, row

ROWS = [row(Point("random", sparsity_target=0.5, seed=s), epoch=e) for s in range(2) for e in (1, 2)]


@pytest.fixture
def finished(tmp_path):
    """A finished run."""
    run = folder(tmp_path / "run")
    run.save_part(ROWS)
    run.write("results.parquet", parquet(ROWS))
    run.write("summary.md", "# all is done\n")
    return run.path


def only_part(path):
    (part,) = (path / "parts").iterdir()
    return part


# --- what it adopts -------------------------------------------------------------------------------


def test_rows_come_back_and_a_network_that_is_stored_twice_counts_once(tmp_path):
    folder(tmp_path).save_part(ROWS[:2])
    folder(tmp_path).save_part(ROWS)
    assert sorted(map(str, folder(tmp_path).rows())) == sorted(map(str, ROWS))


def test_a_folder_with_other_files_is_refused(tmp_path):
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(ValueError, match="holds files, but no run"):
        folder(tmp_path, fresh=True)
    assert (tmp_path / "thesis.tex").exists()


def test_other_settings_are_refused_and_nothing_is_cleared(tmp_path):
    folder(tmp_path).save_part(ROWS)
    with pytest.raises(ValueError, match="seeds: there 2, here 3"):
        folder(tmp_path, fresh=True, seeds=3)
    assert folder(tmp_path).rows() == ROWS


@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"settings": 5}', "[" * 100_000])
def test_a_foreign_config_is_refused(tmp_path, text):
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(ValueError, match="not a run's config"):
        folder(tmp_path)


def test_no_config_of_whatever_kind_is_a_crash(tmp_path):
    recipe = {"epochs": 2, "batch_size": 4, "learning_rate": 0.1}
    config = {"settings": SETTINGS | {"recipe": recipe}, "version": 2, "run_by": [{"git_commit": "a"}]}
    for other in mutated(config):
        (tmp_path / "config.json").write_text(json.dumps(other))
        try:
            folder(tmp_path, recipe=recipe)
        except ValueError as error:
            assert str(tmp_path) in str(error)
            assert "\n" not in str(error)


def test_the_config_says_who_has_run_it_but_not_who_has_read_it(tmp_path, monkeypatch):
    for commit in "aab":
        monkeypatch.setattr(identity, "_git_commit", lambda commit=commit: commit)
        run = folder(tmp_path)
    run.write("summary.md", "done")
    monkeypatch.setattr(identity, "_git_commit", lambda: "c")
    folder(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    assert config["settings"] == SETTINGS
    assert [by["git_commit"] for by in config["run_by"]] == ["a", "b"]
    assert set(config["run_by"][0]) == {"git_commit", "versions", "devices", "cpu_cores"}


# --- damage ---------------------------------------------------------------------------------------


def test_a_damaged_part_is_refused_with_a_line(tmp_path):
    run = folder(tmp_path)
    run.save_part(ROWS)
    part = only_part(tmp_path)
    part.write_bytes(part.read_bytes()[:-20])
    with pytest.raises(ValueError, match="delete it, and the same command trains its networks") as error:
        run.rows()
    assert f"{part} cannot be read" in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("change", [{"member": 1}, {"epoch": "1"}, {"member": None}, {"epoch": None}])
def test_a_foreign_part_is_named(tmp_path, change):
    run = folder(tmp_path)
    (tmp_path / "parts" / "other.parquet").write_bytes(parquet([ROWS[0] | change]))
    with pytest.raises(ValueError, match=r"other\.parquet cannot be read \(it has a row of member"):
        run.rows()


def test_parts_from_before_there_were_hashes_are_read(tmp_path):
    folder(tmp_path).save_part(ROWS)
    part = only_part(tmp_path)
    pq.write_table(pq.read_table(part).replace_schema_metadata(None), part)
    assert folder(tmp_path).rows() == ROWS


def edited(name, change):
    return lambda path: (path / name).write_bytes(change((path / name).read_bytes()))


DAMAGES = {
    "no results": lambda path: (path / "results.parquet").unlink(),
    "results cut": edited("results.parquet", lambda content: content[:-50]),
    "results of nothing": edited("results.parquet", lambda content: b""),
    "results of other bytes": edited("results.parquet", lambda content: content[::-1]),
    "an empty summary": edited("summary.md", lambda content: b"\n"),
    "another summary": edited("summary.md", lambda content: b"\xff\xfe"),
    "no summary": lambda path: (path / "summary.md").unlink(),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_run_without_its_results_is_filled_from_its_parts(finished, capsys, damage):
    class Few(Options):
        experiment = "made_up"

        def settings(self):
            return SETTINGS | {"dataset": "digits", "model": "none"}

    def prepare(options):
        return lambda run: {}

    experiment = Experiment(
        options=Few, help=None, prepare=prepare, figures=lambda _: {}, summary=lambda *_: ["# again"]
    )
    config = json.loads((finished / "config.json").read_text())
    config["settings"] = Few().settings()
    (finished / "config.json").write_text(json.dumps(config))
    DAMAGES[damage](finished)
    assert not is_finished(finished)
    run(experiment, Few(out_dir=finished))
    said = capsys.readouterr().out
    assert "# again" in said
    assert ("they are written again" in said) == (damage != "no summary")
    assert is_finished(finished)
    stored = [{name: one[name] for name in ROWS[0]} for one in read_rows(finished / "results.parquet")]
    assert stored == ROWS


@pytest.mark.parametrize("name", run_folder.FOLDERS)
def test_a_file_in_the_place_of_a_folder_is_named(tmp_path, name):
    folder(tmp_path)
    (tmp_path / "parts").rmdir()
    (tmp_path / name).write_text("in the way")
    with pytest.raises(ValueError, match=f"{name} is a file and should be a folder: delete it"):
        folder(tmp_path)


@pytest.mark.parametrize("what", ["a folder", "a device or a pipe"])
@pytest.mark.parametrize("name", run_folder.FILES)
def test_what_is_in_the_place_of_a_file_is_named(finished, name, what):
    (finished / name).unlink()
    if what == "a folder":
        (finished / name).mkdir()
    else:
        (finished / name).symlink_to("/dev/null")
    assert name == "config.json" or not is_finished(finished)
    with pytest.raises(ValueError, match=f"{name} is {what} and should be a file: delete it"):
        folder(finished)


def test_a_device_in_the_place_of_a_part_is_not_read(finished):
    (finished / "parts/other.parquet").symlink_to("/dev/null")
    with pytest.raises(ValueError, match=r"other\.parquet cannot be read .*no file.*delete it"):
        folder(finished).rows()


@pytest.mark.parametrize("name", ["accuracy.png", "tickets/imp.safetensors"])
def test_a_folder_in_the_place_of_what_is_written_is_named(tmp_path, name):
    run = folder(tmp_path)
    (tmp_path / name).mkdir(parents=True)
    with pytest.raises(ValueError, match=f"{name} is a folder and should be a file: delete it"):
        run.write(name, b"")


# --- where nothing can be written -----------------------------------------------------------------


@pytest.fixture
def read_only(monkeypatch):
    """As in a folder that may be read alone, for root as well."""
    opened = os.open

    def refused(*args, **kwargs):
        raise PermissionError(13, "Permission denied")

    def only_reading(path, flags, *args, **kwargs):
        writes = flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
        return refused() if writes else opened(path, flags, *args, **kwargs)

    def forbid():
        for name in ("unlink", "replace", "rename", "rmdir"):
            monkeypatch.setattr(os, name, refused)
        monkeypatch.setattr(os, "open", only_reading)
        monkeypatch.setattr(run_folder, "write_atomically", refused)

    return forbid


def test_a_finished_run_is_read_where_nothing_can_be_written(finished, read_only, capsys):
    config = (finished / "config.json").read_bytes()
    read_only()
    assert is_finished(finished)
    assert folder(finished).rows() == ROWS
    folder(finished).forget_unfinished()
    assert (finished / "config.json").read_bytes() == config
    assert capsys.readouterr().out == ""


def test_an_unfinished_run_says_at_once_that_nothing_can_be_written(finished, read_only, tmp_path):
    (finished / "summary.md").unlink()
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match="cannot write to the output folder"):
        folder(tmp_path / "file" / "out")
    run = folder(finished)
    read_only()
    for attempt in (lambda: folder(finished), lambda: run.save_part(ROWS)):
        with pytest.raises(ValueError, match="cannot write to the output folder"):
            attempt()


# --- fresh starts ---------------------------------------------------------------------------------


def test_a_fresh_start_leaves_nothing_of_the_old(finished):
    for name in run_folder.FOLDERS:
        (finished / name).mkdir(exist_ok=True)
        (finished / name / "old").write_text("of the old run")
    fresh = folder(finished, fresh=True)
    assert fresh.rows() == []
    assert not is_finished(finished)
    # Else a report would say that the run is finished.
    assert not (finished / "results.parquet").exists()
    assert not [name for name in run_folder.FOLDERS if (finished / name / "old").exists()]


def test_a_fresh_start_beside_a_running_copy_is_said_by_that_one(tmp_path):
    copy = folder(tmp_path)
    copy.save_part(ROWS)
    fresh = folder(tmp_path, fresh=True)
    for attempt in (copy.rows, lambda: copy.save_part(ROWS), lambda: copy.write("a", "b")):
        with pytest.raises(ValueError, match=r"another command has started the run in .* with --fresh"):
            attempt()
    fresh.save_part(ROWS)
    assert folder(tmp_path).rows() == fresh.rows() == ROWS
    again = folder(tmp_path, fresh=True)
    with pytest.raises(ValueError, match="--fresh"):
        fresh.rows()
    assert again.rows() == []


def test_a_fresh_start_in_the_middle_of_a_write_is_said_by_that_one(tmp_path, monkeypatch):
    copy = folder(tmp_path)

    def started_over(path, content):
        monkeypatch.undo()
        folder(tmp_path, fresh=True)
        raise FileNotFoundError(errno.ENOENT, "No such file or directory", str(path))

    monkeypatch.setattr(run_folder, "write_atomically", started_over)
    with pytest.raises(ValueError, match=r"another command has started the run in .* over with --fresh"):
        copy.save_part(ROWS)


def test_killed_while_starting_over_it_is_not_finished(finished, monkeypatch):
    def killed(path):
        raise KeyboardInterrupt

    monkeypatch.setattr(run_folder.shutil, "rmtree", killed)
    with pytest.raises(KeyboardInterrupt):
        folder(finished, fresh=True)
    assert not is_finished(finished)


def test_a_folder_that_is_removed_while_it_runs(tmp_path):
    run = folder(tmp_path / "run")
    shutil.rmtree(tmp_path / "run")
    for attempt in (run.rows, lambda: run.save_part(ROWS)):
        with pytest.raises(ValueError, match="was removed while this command was running"):
            attempt()


# --- what killed writers leave --------------------------------------------------------------------

WRITER = """
import os, sys, time
from pathlib import Path
from pruning.files.writing import write_atomically
def wait(*_):
    print("writing", flush=True)
    time.sleep(600)
os.fsync = wait
write_atomically(Path(sys.argv[1]), b"half")
"""


def hidden(path):
    return [file for file in path.rglob(".*") if file.is_file()]


@pytest.mark.parametrize("name", ["results.parquet", "parts/0123.parquet"])
def test_what_a_killed_writer_left_is_removed_and_what_a_live_one_writes_is_not(tmp_path, name):
    folder(tmp_path)
    command = [sys.executable, "-c", WRITER, str(tmp_path / name)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as writer:
        assert writer.stdout.readline() == b"writing\n"
        folder(tmp_path)
        assert len(hidden(tmp_path)) == 1
        writer.kill()
        writer.wait()
    assert len(hidden(tmp_path)) == 1
    (tmp_path / ".somebody's").write_text("notes")
    folder(tmp_path)
    assert [file.name for file in hidden(tmp_path)] == [".somebody's"]


def test_what_is_left_in_a_finished_run_is_removed_where_it_is_old(finished):
    now, long_ago = (finished / f".summary.md.elsewhere.1.abcd012{digit}" for digit in "34")
    for file in (now, long_ago):
        file.write_text("of another machine")
    os.utime(long_ago, (0, 0))
    folder(finished)
    assert hidden(finished) == [now]


def test_killed_while_writing_the_config_it_starts_again(tmp_path):
    (tmp_path / ".config.json.x1y2").write_text('{"sett')
    assert folder(tmp_path).rows() == []
