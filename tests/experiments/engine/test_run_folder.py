"""The output folder: what it adopts, what it refuses, what survives."""

import dataclasses
import json

import pytest

from experiments.engine import run_folder
from experiments.engine.run_folder import RunFolder, identity
from train.recipes import RECIPES


def test_rows_come_back(tmp_path):
    folder = RunFolder(tmp_path, {"seeds": 1}, fresh=False)
    folder.save_part([{"member": "a", "epoch": 1, "fitness": 0.5}, {"member": "a", "epoch": 2}])
    folder.save_part([{"member": "b", "epoch": 1}])
    rows = RunFolder(tmp_path, {"seeds": 1}, fresh=False).rows()
    assert sorted((row["member"], row["epoch"]) for row in rows) == [("a", 1), ("a", 2), ("b", 1)]
    assert {row.get("fitness") for row in rows} == {0.5, None}


def test_a_damaged_part_is_named_with_what_to_do(tmp_path):
    folder = RunFolder(tmp_path, {}, fresh=False)
    folder.save_part([{"member": "a", "epoch": 1}])
    folder.save_part([{"member": "b", "epoch": 1}])
    damaged = sorted((tmp_path / "parts").glob("*.parquet"))[0]
    damaged.write_bytes(damaged.read_bytes()[:20])
    with pytest.raises(ValueError, match=f"{damaged.name} cannot be read .* delete it"):
        folder.rows()
    damaged.unlink()
    assert len(folder.done()) == 1


def test_identity_depends_on_the_settings_alone():
    assert identity({"a": 1, "b": (2,)}) == identity({"b": (2,), "a": 1})
    assert identity({"a": 1}) != identity({"a": 2})


def test_a_folder_with_other_files_is_refused(tmp_path):
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(ValueError, match="holds files, but no run"):
        RunFolder(tmp_path, {}, fresh=True)
    assert (tmp_path / "thesis.tex").exists()


def test_other_settings_are_refused_and_nothing_is_cleared(tmp_path):
    RunFolder(tmp_path, {"k": 2}, fresh=False).save_part([{"member": "a", "epoch": 1}])
    with pytest.raises(ValueError, match="k: there 2, here 3"):
        RunFolder(tmp_path, {"k": 3}, fresh=True)
    assert RunFolder(tmp_path, {"k": 2}, fresh=False).done() == {"a"}


RECIPE = dataclasses.asdict(RECIPES["digits"])


def test_nested_settings_are_compared_one_by_one(tmp_path):
    RunFolder(tmp_path, {"recipe": RECIPE}, fresh=False)
    with pytest.raises(ValueError, match=r"\(recipe.epochs: there 20, here 3\)"):
        RunFolder(tmp_path, {"recipe": RECIPE | {"epochs": 3}}, fresh=False)


def test_recipes_from_before_a_field_have_its_default(tmp_path):
    before = {name: value for name, value in RECIPE.items() if name != "matmul_precision"}
    RunFolder(tmp_path, {"recipe": before}, fresh=False).save_part([{"member": "a", "epoch": 1}])
    assert RunFolder(tmp_path, {"recipe": RECIPE}, fresh=False).done() == {"a"}
    with pytest.raises(
        ValueError, match=r"recipe.matmul_precision: there 'tensorfloat32', here 'float32'"
    ):
        RunFolder(tmp_path, {"recipe": RECIPE | {"matmul_precision": "float32"}}, fresh=False)


@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"settings": 5}'])
def test_a_foreign_config_is_refused(tmp_path, text):
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(ValueError, match="not a run's config"):
        RunFolder(tmp_path, {}, fresh=False)


def test_a_place_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match="cannot write to the output folder"):
        RunFolder(tmp_path / "file" / "out", {}, fresh=False)


def test_killed_while_writing_the_config_it_starts_again(tmp_path):
    (tmp_path / ".config.json.x1y2").write_text('{"sett')
    assert RunFolder(tmp_path, {}, fresh=False).done() == set()


def config_of(path):
    return json.loads((path / "config.json").read_text())


def test_config_says_what_ran_and_on_what(tmp_path):
    RunFolder(tmp_path, {"k": 2}, fresh=False)
    config = config_of(tmp_path)
    assert config["settings"] == {"k": 2}
    assert config["identity"] == identity({"k": 2})
    (by,) = config["run_by"]
    assert {"git_commit", "versions", "devices", "cpu_cores"} == set(by)
    assert {"jax", "flax", "python"} <= set(by["versions"])


def test_who_continues_a_run_is_noted_and_who_reads_it_is_not(tmp_path, monkeypatch):
    for commit in ("a", "a", "b"):
        monkeypatch.setattr(run_folder, "_git_commit", lambda commit=commit: commit)
        folder = RunFolder(tmp_path, {}, fresh=False)
    folder.write("summary.md", "done")
    monkeypatch.setattr(run_folder, "_git_commit", lambda: "c")
    RunFolder(tmp_path, {}, fresh=False)
    assert [by["git_commit"] for by in config_of(tmp_path)["run_by"]] == ["a", "b"]


def test_a_member_stored_twice_counts_once(tmp_path):
    folder = RunFolder(tmp_path, {}, fresh=False)
    folder.save_part([{"member": "a", "epoch": 1}])
    folder.save_part([{"member": "a", "epoch": 1}, {"member": "b", "epoch": 1}])
    assert sorted(row["member"] for row in folder.rows()) == ["a", "b"]


def test_killed_while_starting_over_it_is_not_finished(tmp_path, monkeypatch):
    folder = RunFolder(tmp_path, {}, fresh=False)
    folder.write("summary.md", "old")

    def killed(path):
        raise KeyboardInterrupt

    monkeypatch.setattr(run_folder.shutil, "rmtree", killed)
    with pytest.raises(KeyboardInterrupt):
        RunFolder(tmp_path, {}, fresh=True)
    assert not run_folder.is_finished(tmp_path)


def test_a_folder_that_turns_read_only(tmp_path, monkeypatch):
    folder = RunFolder(tmp_path, {}, fresh=False)

    def refused(path, content):
        raise PermissionError("Permission denied")

    monkeypatch.setattr(run_folder, "write_atomically", refused)
    for attempt in (
        lambda: folder.save_part([{"member": "a", "epoch": 1}]),
        lambda: RunFolder(tmp_path, {}, fresh=False),
    ):
        with pytest.raises(ValueError, match="cannot write to the output folder"):
            attempt()
