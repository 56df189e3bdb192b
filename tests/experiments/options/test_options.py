"""What command lines say: the names of options that are wrong, the recipe, and what is chosen."""

import re
import shlex
import warnings
from dataclasses import replace
from importlib import import_module

import pytest
import tyro

from experiments.compare import Compare
from experiments.options.checks import check_held_out
from experiments.options.knobs import Knobs, knobs_of
from experiments.options.options import default_of
from experiments.ticket_search import TicketSearch
from train.named_recipes import RECIPES

EXPERIMENTS = (
    "compare",
    "missing_the_mark",
    "pruning_methods",
    "referee",
    "dynamic_sparse_training",
    "ticket_search",
    "layer_collapse",
    "effective_sparsity",
    "what_sparsity_buys",
    "what_masks_buy",
    "sparse_starts",
    "layer_fractions",
)


def parsed(name, line):
    return tyro.cli(import_module(f"experiments.{name}").EXPERIMENT.options, args=shlex.split(line))


WRONG = {
    "compare": {
        "--sparsities 0.5 1.0": r"every one of --sparsities in \[0, 1\)",
        "--sparsities nan": r"--sparsities in \[0, 1\)",
        "--sparsities": "at least one value of --sparsities",
        "--sparsities 0.5 0.5": "different --sparsities",
        "--model lenet": "unknown model 'lenet'.*lenet-300-100",
        "--recipe best": "unknown recipe 'best'.*digits",
        "--seeds 0": "--seeds >= 1",
        "--seeds 10001": "--seeds <= 10000",
        "--first-seed -1": "--first-seed from 0 to 10000, got -1",
        "--epochs 0": "expected finite epochs > 0",
        "--epochs 5 --recipe.epochs 4": "--recipe.epochs, which leaves it as it is, got both: 5 and 4",
        "--recipe.optimizer adam --recipe.momentum 0.9": "momentum would do nothing: the optimizer is",
        "--recipe.epochs 300000000": "--recipe.epochs <= 100000, got 300000000",
        "--recipe assessed-lenet --recipe.nesterov True": "nesterov would do nothing",
        "--recipe.drop-factor 0.5": "drop-factor would do nothing: the recipe has no",
        "--chunk-size 0": "--chunk-size >= 1",
        "--devices-per-network 0": "--devices-per-network >= 1",
        "--lowering gpu": "unknown lowering 'gpu'.*accelerator",
        "--stream": "--stream reads images from disk, and those of digits are not there",
        "--k 0": "--k >= 1",
        "--generations 0": "--generations >= 1",
        "--mutation 1.5": r"--mutation in \[0, 1\], got 1.5",
        "--k 9 --epochs 3 --methods successive-elimination": "at most 8 candidates.*got --k 9",
        "--methods": "at least one value of --methods",
        "--methods snip snip": "different --methods",
        "--learning-rates 0.1 0.1": "different --learning-rates",
        "--learning-rates 0": "finite --learning-rates > 0",
        "--recipe assessed-cifar --recipe.schedule cosine": "expected no drop_epochs with the schedule",
        "--weight-decays 0.1": "--weight-decays would do nothing: the recipe has no weight decay",
        "--recipe.weight-decay 0.1 --weight-decays -1": "--weight-decays >= 0",
        "--recipe.weight-decay 0.1 --weight-decays nan": "finite --weight-decays",
        "--fractions -0.1": "fractions >= 0",
        "--fractions 0.1 0.1": "different --fractions",
        "--search-epochs 20": "--search-epochs < --prune-epochs, got 20, 20",
        "--prune-epochs 21": "--prune-epochs <= --epochs .20., got 21",
        "--prune-epochs 20 --methods gradual-magnitude": "--prune-epochs < --epochs, got 20, 20",
        "--search-epochs 21 --methods k-starts": "--search-epochs <= --epochs .20., got 21",
        "--gate-learning-rate -1": "finite --gate-learning-rate > 0 .*, got -1",
        "--final-temperature 0": "--final-temperature > 0",
        "--penalty -1": "--penalty >= 0",
        "--starts 0 0": "different --starts",
        "--methods supermask --starts -100": "--starts of at least -80",
        "--methods supermask --starts nan": "finite --starts",
        "--methods supermask --epochs 1": "--epochs >= 2: the temperature",
        "--stochastic-starts 0 inf": "finite --stochastic-starts",
        "--stochastic-starts 0 0": "different --stochastic-starts",
        "--stochastic-learning-rate 0": "finite --stochastic-learning-rate > 0",
    },
    "missing_the_mark": {
        "--ablations rotate": "unknown ablation 'rotate'; the valid names are: invert, reinit",
        "--methods random --ablations shuffle": "shuffle would do nothing: of --methods random",
        "--methods dissipating-gradients --ablations --steps 9": "--steps would do nothing: of",
        "--methods dissipating-gradients --ablations --step-sparsities 0.2": "--step-sparsities would do",
        "--steps --step-sparsities 0.2": "--step-sparsities would do nothing: --steps names no step",
        "--ablations shuffle shuffle": "different --ablations",
        "--step-sparsities 0.2 0.2": "different --step-sparsities",
        "--step-sparsities 0.6": "--step-sparsities among --sparsities",
        "--reference nowhere.csv": "--reference to be a file",
    },
    "pruning_methods": {
        "--methods imp": "the method 'imp' searches in rounds, so it is not for this experiment",
        "--methods dense": "unknown method 'dense'; the valid names are: random, ",
    },
    "referee": {
        "--methods k-starts-n-m": "'k-starts-n-m' has no sparsity to choose, so it is not for this exper",
        "--methods snap": "unknown method 'snap'",
    },
    "ticket_search": {
        "--methods snip": "the method 'snip' does not search in rounds, so .* names are: imp, ",
        "--criterion size": "unknown criterion 'size'",
        "--fraction 1": "--fraction in",
        "--output-fraction 0.1": "--output-fraction needs --by-layer",
        "--sequential-start -100": "--sequential-start of at least -80",
        "--rounds 0": "--rounds >= 1",
    },
    "layer_collapse": {
        "--step 0": "--step > 0",
        "--reference nowhere.csv": "--reference to be a file",
        "--classes 0": "--classes >= 1",
        "--methods k-starts": "the method 'k-starts' has no final mask before training, .* are: random, ",
    },
    "what_sparsity_buys": {
        "--methods imp": "the method 'imp' searches in rounds, so it is not for this experiment",
    },
    "sparse_starts": {
        "--methods imp": "the method 'imp' searches in rounds, so it is not for this experiment",
    },
    "layer_fractions": {
        "--methods imp": "the method 'imp' searches in rounds, so it is not for this experiment",
    },
    "what_masks_buy": {
        "--methods rigl": "the method 'rigl' has no final mask before training",
    },
    "effective_sparsity": {
        "--sparsities 1": "--sparsities",
        "--seeds 0": "--seeds >= 1",
        "--methods rigl": "the method 'rigl' has no final mask before training",
    },
}


@pytest.mark.parametrize("name", WRONG)
def test_options_that_are_wrong_are_named(name, capsys):
    for line, message in WRONG[name].items():
        with pytest.raises(SystemExit, match="2"):
            parsed(name, line)
        said = " ".join(capsys.readouterr().err.replace("│", " ").split())  # As in a box.
        assert re.search(message, said), (line, said)


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_the_defaults_are_right_and_warn_of_nothing(name):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        options = parsed(name, "")
    assert options == import_module(f"experiments.{name}").EXPERIMENT.options()
    assert options.chosen() == {}


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_help_shows_the_options_of_the_experiment_first(name, capsys):
    with pytest.raises(SystemExit):
        parsed(name, "--help")
    said = capsys.readouterr().out
    places = [said.index(option) for option in ("--methods", "--dataset", "--stream")]
    assert places == sorted(places)
    assert "A training run" not in said
    assert re.search(r"--recipe.optimizer .*\n.* sgd, adam, adamw\.", said)
    # What no method here reads is not offered.
    offered = {name: [] for name in ("layer_collapse", "effective_sparsity", "what_masks_buy")}
    offered["ticket_search"] = ["--rounds"]
    assert [o for o in ("--k ", "--rounds") if o in said] == offered.get(name, ["--k "])
    trains = name not in ("layer_collapse", "effective_sparsity", "what_masks_buy")
    assert all((option in said) == trains for option in ("--chunk-size", "--devices-per-network"))


def test_gates_that_cannot_open_are_warned_of():
    with pytest.warns(UserWarning, match="gates that begin at -5 and do not move shrink"):
        parsed("ticket_search", "--starts -5")


def test_methods_bind_only_by_the_options_that_they_have():
    parsed("pruning_methods", "--methods snip --epochs 1 --search-epochs 2 --prune-epochs 9")


def test_the_recipe_is_resolved_from_name_length_and_fields():
    line = "--recipe.batch-size 64 --recipe.learning-rate 0.5 --epochs 3 --recipe assessed-cifar"
    shorter = RECIPES["assessed-cifar"].of_length(3)
    assert parsed("compare", line).resolved_recipe() == replace(shorter, batch_size=64, learning_rate=0.5)
    options = parsed("compare", "--recipe.batch-size 32 --learning-rates 0.03 0.1")
    assert options.chosen() == {"recipe.batch_size": 32, "learning_rates": (0.03, 0.1)}
    assert options.settings()["recipe"]["batch_size"] == 32


def test_a_recipe_takes_another_schedule():
    line = "--recipe assessed-cifar --recipe.drop-epochs --recipe.schedule cosine"
    recipe = replace(RECIPES["assessed-cifar"], drop_epochs=(), schedule="cosine")
    assert parsed("compare", line).resolved_recipe() == recipe
    line = "--recipe fast-cifar --recipe.schedule cosine --recipe.peak-fraction 0"
    recipe = replace(RECIPES["fast-cifar"], peak_fraction=0.0, schedule="cosine")
    assert parsed("compare", line).resolved_recipe() == recipe


def test_a_field_of_the_recipe_may_become_none():
    line = "--recipe assessed-cifar --recipe.mean None --recipe.std None"
    assert parsed("compare", line).resolved_recipe() == replace(
        RECIPES["assessed-cifar"], mean=None, std=None
    )


def test_a_short_run_needs_no_other_option():
    assert [Compare(epochs=epochs).prune_epochs() for epochs in (3, 4, 10)] == [3, 3, 5]
    assert [TicketSearch(epochs=epochs).prune_epochs() for epochs in (2, 5, 10)] == [1, 2, 5]


def test_a_validation_split_may_leave_one_batch_and_a_batch_may_be_larger_than_the_data():
    recipe = replace(RECIPES["digits"], batch_size=100)
    check_held_out(replace(recipe, validation_examples=900), 1000)
    check_held_out(recipe, 50)
    for held, examples in ((901, 1000), (1, 50)):
        with pytest.raises(ValueError, match="expected --recipe"):
            check_held_out(replace(recipe, validation_examples=held), examples)


def test_settings_say_all_that_knobs_do():
    options = parsed("ticket_search", "--rounds 3 --starts -0.01 0.02 --by-layer --penalty 1e-6")
    settings = options.settings()
    stored = settings | {"starts": [-0.01, 0.02], "prune_epochs": None, "gate_learning_rate": None}
    assert knobs_of(stored).settings() == options.knobs.settings()
    assert (settings["rounds"], settings["prune_epochs"]) == (3, 10)
    assert settings["gate_learning_rate"] == options.resolved_recipe().learning_rate
    assert knobs_of({}) == Knobs()
    assert default_of(Compare.__dataclass_fields__["knobs"]).settings() == Knobs().settings()
