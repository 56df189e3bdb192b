"""The output folder: what it adopts, what it refuses, what survives."""

import json

import pytest

from experiments.run_folder import RunFolder, identity


def test_rows_come_back(tmp_path):
    folder = RunFolder(tmp_path, "test", {"seeds": 1}, fresh=False)
    folder.save_part([{"member": "a", "epoch": 1, "fitness": 0.5}, {"member": "a", "epoch": 2}])
    folder.save_part([{"member": "b", "epoch": 1}])
    rows = RunFolder(tmp_path, "test", {"seeds": 1}, fresh=False).rows()
    assert sorted((row["member"], row["epoch"]) for row in rows) == [("a", 1), ("a", 2), ("b", 1)]
    assert {row.get("fitness") for row in rows} == {0.5, None}


def test_identity_depends_on_the_settings_alone():
    assert identity({"a": 1, "b": (2,)}) == identity({"b": (2,), "a": 1})
    assert identity({"a": 1}) != identity({"a": 2})


def test_a_folder_with_other_files_is_refused(tmp_path):
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(ValueError, match="holds files, but no run"):
        RunFolder(tmp_path, "test", {}, fresh=True)
    assert (tmp_path / "thesis.tex").exists()


def test_other_settings_are_refused_and_nothing_is_cleared(tmp_path):
    RunFolder(tmp_path, "test", {"k": 2}, fresh=False).save_part([{"member": "a"}])
    with pytest.raises(ValueError, match="k: there 2, here 3"):
        RunFolder(tmp_path, "test", {"k": 3}, fresh=True)
    assert RunFolder(tmp_path, "test", {"k": 2}, fresh=False).done() == {"a"}


def test_nested_settings_are_compared_one_by_one(tmp_path):
    RunFolder(tmp_path, "test", {"recipe": {"epochs": 2, "rate": 1}}, fresh=False)
    with pytest.raises(ValueError, match=r"\(recipe.epochs: there 2, here 3\)"):
        RunFolder(tmp_path, "test", {"recipe": {"epochs": 3, "rate": 1}}, fresh=False)


def test_a_foreign_config_is_refused(tmp_path):
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(ValueError, match="not a run's config"):
        RunFolder(tmp_path, "test", {}, fresh=False)


def test_a_place_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match="cannot write to the output folder"):
        RunFolder(tmp_path / "file" / "out", "test", {}, fresh=False)


def test_killed_while_writing_the_config_it_starts_again(tmp_path):
    (tmp_path / ".config.json.x1y2").write_text('{"sett')
    assert RunFolder(tmp_path, "test", {}, fresh=False).done() == set()


def test_the_config_is_of_the_run_that_began(tmp_path):
    RunFolder(tmp_path, "test", {}, fresh=False)
    before = (tmp_path / "config.json").stat().st_mtime_ns
    RunFolder(tmp_path, "test", {}, fresh=False)
    assert (tmp_path / "config.json").stat().st_mtime_ns == before


def test_config_says_what_ran(tmp_path):
    RunFolder(tmp_path, "test", {"k": 2}, fresh=False)
    config = json.loads((tmp_path / "config.json").read_text())
    assert config["settings"] == {"experiment": "test", "k": 2}
    assert {"jax", "flax", "python"} <= set(config["versions"])
