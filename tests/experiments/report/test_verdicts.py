"""Statements of an experiment, as several runs decide them, side by side."""

import sys

import pytest

from experiments.compare import Compare
from experiments.methods.point import Point
from experiments.report.findings import Finding, above, by_run
from experiments.report.verdicts.__main__ import Verdicts, main, side_by_side
from tests.experiments.report import stored_runs
from tests.experiments.report.stored_runs import DENSE, EPOCHS

MODELS = {
    "lenet-300-100": {("random-uniform", 0.5): (0.8, 0.9), ("random-uniform", 0.9): (0.5, 0.6)},
    "lenet-5": {("random-uniform", 0.5): (0.5, 0.5)},
}
GAINS = {"lenet-300-100": {0.5: 0.01, 0.9: 0.05}, "lenet-5": {0.5: -0.02}}
OF_SEED = (-0.0001, 0.0001)  # added to a gain: 0.13 points to either side with 95 %


def run(folder, model):
    """A run of ``experiments.compare`` in which SNIP gains what is written above."""
    random = MODELS[model]
    snip = {
        ("snip", s): [a + GAINS[model][s] + own for a, own in zip(of_seeds, OF_SEED, strict=True)]
        for (_, s), of_seeds in random.items()
    }
    options = Compare(
        model=model,
        methods=("random-uniform", "snip"),
        sparsities=tuple(GAINS[model]),
        seeds=2,
        epochs=EPOCHS,
    )
    return stored_runs.store(
        folder, options, stored_runs.trained({(DENSE, 0.0): (0.9, 0.9)} | random | snip)
    )


@pytest.fixture
def runs(tmp_path):
    return tuple(run(tmp_path / model, model) for model in MODELS)


def test_every_run_has_a_column_with_its_own_verdict(runs):
    header, _, line = side_by_side(Verdicts(runs=runs))[2:]
    assert header == (
        "| statement | lenet-300-100 on digits, 2 seeds, 2 epochs; 50, 90 % removed "
        "| lenet-5 on digits, 2 seeds, 2 epochs; 50 % removed |"
    )
    assert line == (
        "| SNIP beats random pruning | +3.00 ± 0.13, **holds** | -2.00 ± 0.13, **does not hold** |"
    )


def test_only_the_sparsities_that_are_asked_for_decide(runs):
    header, _, line = side_by_side(Verdicts(runs=runs, sparsities=(0.5,)))[2:]
    assert "epochs; 50 % removed | lenet-5" in header
    assert "+1.00 ± 0.13, **holds**" in line


def test_every_learning_rate_of_a_sweep_has_a_column(tmp_path):
    point = {"random-uniform": 0.5, "snip": 0.6}
    rows = [
        stored_runs.row_of(
            Point(method, sparsity_target=0.5, seed=seed, learning_rate=rate),
            sparsity=0.5,
            epoch=EPOCHS,
            test_accuracy=accuracy + (rate + OF_SEED[seed] if method == "snip" else 0),
        )
        for method, accuracy in point.items()
        for rate in (0.1, 0.2)
        for seed in range(2)
    ]
    options = Compare(
        methods=tuple(point), sparsities=(0.5,), seeds=2, epochs=EPOCHS, learning_rates=(0.1, 0.2)
    )
    header, _, line = side_by_side(Verdicts(runs=(stored_runs.store(tmp_path, options, rows),)))[2:]
    title = "lenet-300-100 on digits, 2 seeds, 2 epochs"
    at = [f"{title}; learning rate {rate}; 50 % removed" for rate in (0.1, 0.2)]
    assert header == f"| statement | {' | '.join(at)} |"
    assert "| +20.00 ± 0.13, **holds** | +30.00 ± 0.13, **holds** |" in line


def test_a_statement_that_a_run_does_not_decide_has_an_empty_place_and_other_measures_are_named():
    gains = Finding("A beats B", {(0, 0.5): 0.01, (1, 0.5): 0.02}, above)
    ranks = Finding("A foretells B", {(0, 0.5): 0.3}, above, measure="rank correlation")
    assert by_run([("one", [gains]), ("other", [ranks])])[2:] == [
        "| A beats B | +1.50 ± 6.35, undecided | not run |",
        "| A foretells B (rank correlation, in hundredths) | not run | +30.00, one seed |",
    ]


def test_networks_that_ran_and_diverged_are_called_so():
    nan = float("nan")
    broken = Finding("A beats B", {(0, 0.5): nan, (1, 0.5): nan}, above)
    # Accuracies that are all the same have no ranks either.
    ranks = Finding("A foretells B", {(0, 0.5): nan}, above, measure="rank correlation")
    (first, second) = by_run([("one", [broken, ranks])])[2:]
    assert first == "| A beats B | diverged |"
    assert second == "| A foretells B (rank correlation, in hundredths) | unknown |"


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda folder: {"runs": ()}, "expected the folder of a finished run, or several, got none"),
        (
            lambda folder: {"runs": (run(folder / "5", "lenet-5"),), "sparsities": (0.9,)},
            r"expected --sparsities that some run has, none has 0.9",
        ),
        (
            lambda folder: {
                "runs": tuple(run(folder / model, model) for model in MODELS),
                "sparsities": (0.9,),
            },
            r"expected --sparsities that .*5 has, of 0.5; got \(0.9,\)",
        ),
        (
            lambda folder: {"runs": (stored_runs.layer_collapse(folder / "collapse"),)},
            "expected an experiment that decides statements, layer_collapse has only tables",
        ),
        (
            lambda folder: {
                "runs": (run(folder / "5", "lenet-5"), stored_runs.missing_the_mark(folder / "mark"))
            },
            "expected runs of one experiment, got those of compare and missing_the_mark",
        ),
    ],
)
def test_what_cannot_be_set_side_by_side_is_refused(tmp_path, make, says):
    with pytest.raises(ValueError, match=says):
        side_by_side(Verdicts(**make(tmp_path)))


def test_the_command_prints_the_table(runs, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["verdicts", *map(str, runs)])
    main()
    assert "| SNIP beats random pruning | +3.00" in capsys.readouterr().out
