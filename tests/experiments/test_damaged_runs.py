"""What a run has stored, damaged or out of place: the right rows, or one line that names the file."""

import errno
import itertools
import json
import os
import shutil
import subprocess
import sys

import pyarrow.parquet as pq
import pytest

from experiments.engine import options, run_folder
from experiments.engine.run_folder import RunFolder, is_finished, parquet
from experiments.report.stored_rows import read_rows
from tests.damage import cut, flipped, mutated

ROWS = [
    {
        "member": f"random/0.{seed}",
        "seed": seed,
        "epoch": epoch,
        "test_loss": 1.5 / (1 + seed),
        "failed": False,
    }
    for seed, epoch in itertools.product(range(2), (1, 2))
]


def folder(path, fresh=False):
    return RunFolder(path, {"seeds": 2}, fresh=fresh)


@pytest.fixture
def finished(tmp_path):
    """A finished run."""
    run = folder(tmp_path / "run")
    run.save_part(ROWS)
    run.write("results.parquet", parquet(ROWS))
    run.write("summary.md", "# all is done\n")
    return run.path


@pytest.fixture
def read_only(monkeypatch):
    """As in a folder that may be read alone, for root as well."""

    def refused(*args, **kwargs):
        raise PermissionError(13, "Permission denied")

    def forbid():
        for name in ("open", "unlink", "replace", "rename", "rmdir"):
            original = getattr(os, name)
            monkeypatch.setattr(os, name, _only_reading(original) if name == "open" else refused)
        monkeypatch.setattr(run_folder, "write_atomically", refused)

    return forbid


def _only_reading(original):
    def opened(path, flags, *args, **kwargs):
        if flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
            raise PermissionError(13, "Permission denied", path)
        return original(path, flags, *args, **kwargs)

    return opened


# --- parts ----------------------------------------------------------------------------------------


def test_every_flipped_bit_of_a_part_is_refused_or_harmless(tmp_path):
    run = folder(tmp_path)
    run.save_part(ROWS)
    (part,) = (tmp_path / "parts").iterdir()
    content, refused = part.read_bytes(), 0
    for damaged in flipped(content):
        part.write_bytes(damaged)
        try:
            assert run.rows() == ROWS
        except ValueError as error:
            assert f"{part} cannot be read" in str(error)
            assert "delete it" in str(error)
            assert "\n" not in str(error)
            refused += 1
    assert refused > len(content) / 3


def test_every_cut_part_is_refused(tmp_path):
    run = folder(tmp_path)
    run.save_part(ROWS)
    (part,) = (tmp_path / "parts").iterdir()
    for damaged in cut(part.read_bytes()):
        part.write_bytes(damaged)
        with pytest.raises(ValueError, match="cannot be read"):
            run.rows()


@pytest.mark.parametrize(
    "row", [{"member": 1, "epoch": 1}, {"member": "a", "epoch": "1"}, {"epoch": 1}, {"member": "a"}]
)
def test_a_foreign_part_is_named(tmp_path, row):
    run = folder(tmp_path)
    (tmp_path / "parts" / "other.parquet").write_bytes(parquet([row]))
    with pytest.raises(ValueError, match=r"other\.parquet cannot be read \(it has a row of member"):
        run.rows()


def test_parts_from_before_there_were_hashes_are_read(tmp_path):
    run = folder(tmp_path)
    run.save_part(ROWS)
    (part,) = (tmp_path / "parts").iterdir()
    pq.write_table(pq.read_table(part).replace_schema_metadata(None), part)
    assert run.rows() == ROWS


def test_rows_are_those_that_were_written_to_the_last_bit(tmp_path):
    rows = [{"a": 0.1 + 0.2, "b": None, "c": float("inf"), "d": True, "e": "ä", "f": 2**62}]
    (tmp_path / "rows").write_bytes(parquet(rows))
    assert read_rows(tmp_path / "rows") == rows
    (tmp_path / "rows").write_bytes(parquet([{"a": float("nan")}]))
    assert str(read_rows(tmp_path / "rows")) == "[{'a': nan}]"


def test_a_member_is_finished_with_all_its_epochs(tmp_path):
    run = folder(tmp_path)
    run.save_part([*ROWS[:3], {"member": "empty", "epoch": 0, "untrained_because": "nothing is left"}])
    assert run.done() == {"random/0.0", "random/0.1", "empty"}
    assert run.done(epochs=(1, 2)) == {"random/0.0", "empty"}


# --- what is finished -----------------------------------------------------------------------------


def test_a_finished_run_is_read_where_nothing_can_be_written(finished, read_only, capsys):
    config = (finished / "config.json").read_bytes()
    read_only()
    assert is_finished(finished)
    assert folder(finished).rows() == ROWS
    folder(finished).forget_unfinished()
    assert (finished / "config.json").read_bytes() == config
    assert capsys.readouterr().out == ""


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_finished_run_is_read_in_a_read_only_folder(finished):
    finished.chmod(0o555)
    (finished / "parts").chmod(0o555)
    assert folder(finished).rows() == ROWS


def test_an_unfinished_run_says_at_once_that_nothing_can_be_written(finished, read_only):
    (finished / "summary.md").unlink()
    read_only()
    with pytest.raises(ValueError, match="cannot write to the output folder"):
        folder(finished)


DAMAGES = {
    "no results": lambda path: (path / "results.parquet").unlink(),
    "results cut": lambda path: (path / "results.parquet").write_bytes(
        (path / "results.parquet").read_bytes()[:-50]
    ),
    "results of nothing": lambda path: (path / "results.parquet").write_bytes(b""),
    "results of other bytes": lambda path: (path / "results.parquet").write_bytes(
        (path / "results.parquet").read_bytes()[::-1]
    ),
    "an empty summary": lambda path: (path / "summary.md").write_text("\n"),
    "no summary": lambda path: (path / "summary.md").unlink(),
    "another summary": lambda path: (path / "summary.md").write_bytes(b"\xff\xfe"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_run_without_its_results_is_not_finished_and_is_filled_from_its_parts(finished, capsys, damage):
    class Experiment(options.Options):
        experiment = "compare"

        def settings(self):
            return {"seeds": 2}

    def prepare():
        def fill(run):
            run.write("results.parquet", parquet(run.rows()))
            run.write("summary.md", "# written again\n")

        return fill

    DAMAGES[damage](finished)
    assert not is_finished(finished)
    options.run_in_folder(Experiment(out_dir=finished), prepare)
    said = capsys.readouterr().out
    assert "# written again" in said
    assert ("they are written again" in said) == (damage != "no summary")
    assert is_finished(finished)
    assert read_rows(finished / "results.parquet") == ROWS


@pytest.mark.parametrize("name", run_folder.FOLDERS)
def test_a_file_in_the_place_of_a_folder_is_named(tmp_path, name):
    folder(tmp_path)
    (tmp_path / "parts").rmdir()
    (tmp_path / name).write_text("in the way")
    with pytest.raises(ValueError, match=f"{name} is a file and should be a folder: delete it"):
        folder(tmp_path)


@pytest.mark.parametrize("name", run_folder.FILES)
def test_a_folder_in_the_place_of_a_file_is_named(finished, name):
    (finished / name).unlink()
    (finished / name).mkdir()
    assert name == "config.json" or not is_finished(finished)
    with pytest.raises(ValueError, match=f"{name} is a folder and should be a file: delete it"):
        folder(finished)


@pytest.mark.parametrize("name", run_folder.FILES)
def test_a_device_in_the_place_of_a_file_is_not_read(finished, name):
    (finished / name).unlink()
    (finished / name).symlink_to("/dev/null")
    assert name == "config.json" or not is_finished(finished)
    with pytest.raises(ValueError, match=f"{name} is a device or a pipe and should be a file: delete it"):
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


def test_no_config_of_whatever_kind_is_a_crash(tmp_path):
    folder(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    config["settings"]["recipe"] = {"epochs": 2, "batch_size": 4, "learning_rate": 0.1}
    for other in mutated({name: config[name] for name in ("settings", "identity", "run_by")}):
        (tmp_path / "config.json").write_text(json.dumps(other))
        try:
            RunFolder(tmp_path, config["settings"], fresh=False)
        except ValueError as error:
            assert str(tmp_path) in str(error)
            assert "\n" not in str(error)
    (tmp_path / "config.json").write_text("[" * 100_000)
    with pytest.raises(ValueError, match="is not a run's config"):
        folder(tmp_path)


# --- a fresh start beside it ----------------------------------------------------------------------


def test_a_fresh_start_beside_a_running_copy_is_said_by_that_one(tmp_path):
    copy = folder(tmp_path)
    copy.save_part(ROWS)
    fresh = folder(tmp_path, fresh=True)
    for attempt in (copy.rows, copy.done, lambda: copy.save_part(ROWS), lambda: copy.write("a", "b")):
        with pytest.raises(
            ValueError, match=r"another command has started the run in .* over with --fresh"
        ):
            attempt()
    assert fresh.done() == set()
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
    with subprocess.Popen(
        [sys.executable, "-c", WRITER, str(tmp_path / name)], stdout=subprocess.PIPE
    ) as writer:
        assert writer.stdout.readline() == b"writing\n"
        folder(tmp_path)
        assert len(hidden(tmp_path)) == 1
        writer.kill()
        writer.wait()
    assert len(hidden(tmp_path)) == 1
    (tmp_path / ".somebody's").write_text("notes")
    folder(tmp_path)
    assert [file.name for file in hidden(tmp_path)] == [".somebody's"]


def test_what_is_left_in_a_finished_run_is_removed_too(finished):
    (finished / ".summary.md.elsewhere.1.abcd0123").write_text("of another machine, just now")
    (finished / ".summary.md.elsewhere.1.abcd0124").write_text("of another machine, long ago")
    os.utime(finished / ".summary.md.elsewhere.1.abcd0124", (0, 0))
    folder(finished)
    assert [file.name[-1] for file in hidden(finished)] == ["3"]
