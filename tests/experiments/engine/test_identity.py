"""Which run a folder holds: new options move none, changed defaults are noticed, old hashes found."""

import dataclasses
import json
from dataclasses import dataclass, replace

import pytest

from experiments.compare import Compare
from experiments.engine.folders import find_folder
from experiments.engine.identity import different_settings, identity
from experiments.engine.run_folder import RunFolder
from experiments.layer_collapse import LayerCollapse
from experiments.missing_the_mark import MissingTheMark
from experiments.options.options import RecipeFields
from experiments.ticket_search import TicketSearch
from train.named_recipes import RECIPES

KEYS = {"seed_keys": 2}


@dataclass(frozen=True, kw_only=True)
class WithAnOption(Compare):
    """As a later version, which has one more."""

    smoothing: float = 0.0


@dataclass(frozen=True, kw_only=True)
class WithAnotherDefault(Compare):
    """As a later version, which has changed one."""

    seeds: int = 7


def opened(path, options):
    """The folder of a run; its settings differ from those of the stored run where this raises."""
    return RunFolder(path, options.settings() | KEYS, options.where_unnamed(), fresh=False)


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def folder_of(options):
    return find_folder(options, options.settings() | KEYS)


def test_a_new_option_moves_no_run_and_goes_on_in_it(here):
    old, new = Compare(epochs=3), WithAnOption(epochs=3)
    assert folder_of(old) == folder_of(new)
    opened(here, old)
    with pytest.raises(ValueError, match=r"\(smoothing: there 0.0, here 0.1\)"):
        opened(here, replace(new, smoothing=0.1))
    opened(here, new)
    assert folder_of(replace(new, smoothing=0.1)) != folder_of(new)


@pytest.mark.parametrize(
    ("chosen", "known"),
    [
        (Compare(epochs=3), "c58b5b7f"),
        (
            Compare(
                recipe_fields=RecipeFields(batch_size=32, drop_epochs=(1, 2), warmup_epochs=1), epochs=3
            ),
            "d57da931",
        ),
        (
            MissingTheMark(dataset="cifar10:3.0.2", model="resnet-20", recipe="rewinding-cifar"),
            "59a8a583",
        ),
    ],
)
def test_runs_from_before_schedules_and_smoothed_labels_keep_their_folders(chosen, known):
    assert folder_of(chosen).name.endswith(f"-{known}")


def test_a_changed_default_refuses_a_stored_run(here):
    assert folder_of(Compare()) == folder_of(WithAnotherDefault())  # The hash is of what was chosen.
    opened(here, Compare())
    with pytest.raises(ValueError, match=r"\(seeds: there 5, here 7\)"):
        opened(here, WithAnotherDefault())


@pytest.mark.parametrize(
    "chosen",
    [
        Compare(seeds=2),
        Compare(epochs=3),
        Compare(recipe_fields=RecipeFields(batch_size=32)),
        Compare(learning_rates=(0.1,)),
        Compare(knobs=dataclasses.replace(Compare().knobs, search=replace(Compare().knobs.search, k=3))),
        Compare(model="lenet-5"),
    ],
)
def test_what_decides_the_results_decides_the_folder(chosen, here):
    assert folder_of(chosen) != folder_of(Compare())
    opened(here, Compare())
    with pytest.raises(ValueError, match=f"{here} belongs to a run with other settings"):
        opened(here, chosen)


def test_what_decides_nothing_does_not(here):
    mark = MissingTheMark()
    (here / "theirs.csv").write_text("")
    other = replace(mark, data_dir=here, reference=here / "theirs.csv", recipe="digits", fresh=True)
    other = replace(other, plumbing=replace(other.plumbing, chunk_size=3))
    assert folder_of(mark) == folder_of(other)
    opened(here / "run", mark)
    opened(here / "run", other)


def test_the_folder_is_called_after_experiment_set_and_model():
    name = folder_of(MissingTheMark(dataset="cifar10:3.0.2", model="resnet-20")).name
    assert name.startswith("missing-the-mark-cifar10-3.0.2-resnet-20-")
    assert identity({"a": 1, "b": (2,)}) == identity({"b": [2], "a": 1})
    assert folder_of(TicketSearch(out_dir=here)) == here


@pytest.mark.parametrize("chosen", [TicketSearch(seeds=1), MissingTheMark(seeds=1)])
def test_a_run_under_an_older_hash_is_found_and_goes_on(chosen, here, capsys):
    today = folder_of(chosen)
    older = today.with_name(today.name[:-8] + "0123abcd")
    opened(older.with_name(older.name[:-8] + "00000000"), replace(chosen, seeds=2))
    (older.with_name(older.name[:-8] + "00000001")).mkdir()
    opened(older, chosen)
    assert folder_of(chosen) == older
    assert f"goes on in {older}" in capsys.readouterr().out
    today.mkdir()
    assert folder_of(chosen) == today


def test_an_older_run_says_nothing_of_options_and_recipe_fields_that_came_later(here):
    options = TicketSearch(seeds=1)
    opened(here, options)
    config = json.loads((here / "config.json").read_text())
    for name in ("learning_rates", "gate_learning_rate", "stochastic_starts"):
        del config["settings"][name]
    for name in ("matmul_precision", "schedule", "peak_fraction", "label_smoothing"):
        del config["settings"]["recipe"][name]
    (here / "config.json").write_text(json.dumps(config))
    opened(here, options)
    other = replace(options, recipe_fields=RecipeFields(matmul_precision="float32"))
    with pytest.raises(ValueError, match=r"recipe.matmul_precision: there 'tensorfloat32', here 'fl"):
        opened(here, other)


@pytest.mark.parametrize("options", [Compare(seeds=1), LayerCollapse(seeds=1)])
def test_a_run_of_other_seed_keys_is_refused_in_plain_words_and_may_be_started_over(options, here):
    opened(here, options)
    config = json.loads((here / "config.json").read_text())
    del config["settings"]["seed_keys"]  # As it was in the first version.
    (here / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match=r"begun with other keys of its seeds.*never mixed") as error:
        opened(here, options)
    assert "start over with --fresh or another --out-dir" in str(error.value)
    RunFolder(here, options.settings() | KEYS, options.where_unnamed(), fresh=True)
    opened(here, options)


def test_nested_settings_are_compared_one_by_one():
    here = {"recipe": dataclasses.asdict(RECIPES["digits"])}
    there = {"recipe": here["recipe"] | {"epochs": 3}}
    assert different_settings(here, here, {}) is None
    assert "(recipe.epochs: there 3, here 20)" in different_settings(there, here, {})
