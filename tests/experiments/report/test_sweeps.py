"""A sweep is reported whole, and each of its learning rates by itself."""

import pytest

from experiments import missing_the_mark
from experiments.methods.point import DENSE, Point
from experiments.missing_the_mark import MissingTheMark
from experiments.report.sweeps import by_sweep, suffix
from experiments.report.table import Results, load
from experiments.report.writing import write_report

from .stored_runs import EPOCHS, row_of, store

ACCURACIES = {
    (DENSE, 0.0, 0.01): 0.9,
    (DENSE, 0.0, 0.3): 0.8,
    ("snip", 0.5, 0.01): 0.7,
    ("snip", 0.5, 0.3): 0.6,
}


VALIDATED = {0.01: 0.5, 0.3: 0.7}


def swept(folder, validated=False):
    rows = [
        row_of(
            Point(method, sparsity_target=sparsity, seed=0, learning_rate=rate),
            sparsity=sparsity,
            epoch=EPOCHS,
            test_accuracy=accuracy,
            **({"validation_accuracy": VALIDATED[rate]} if validated else {}),
        )
        for (method, sparsity, rate), accuracy in ACCURACIES.items()
    ]
    options = MissingTheMark(
        methods=("snip",), ablations=(), steps=(), sparsities=(0.5,), seeds=1, learning_rates=(0.01, 0.3)
    )
    store(folder, options, rows)
    return Results(load(folder))


def test_each_learning_rate_has_its_own_accuracies(tmp_path):
    parts = dict(by_sweep(swept(tmp_path)))
    found = {name: part.accuracy("snip")[0, 0.5] for name, part in parts.items()}
    assert found == {"learning rate 0.01": 0.7, "learning rate 0.3": 0.6}
    assert [suffix(name) for name in parts] == ["-learning-rate-0.01", "-learning-rate-0.3"]


@pytest.mark.slow
def test_what_validation_chooses_stands_beside_the_recipe_s_own(tmp_path):
    """Digits' rate is 0.01; 0.3 is better on validation, and worse on the test set."""
    written = {}
    write_report(missing_the_mark.EXPERIMENT, swept(tmp_path, validated=True), None, written.__setitem__)
    assert "| SNIP | 0.5 | learning rate 0.3 | 60.00 | -10.00 |" in written["summary.md"]


@pytest.mark.slow
def test_the_summary_begins_with_all_of_them(tmp_path):
    written = {}
    write_report(missing_the_mark.EXPERIMENT, swept(tmp_path), None, written.__setitem__)
    assert "| SNIP | 0.5 | 70.00 | 60.00 |" in written["summary.md"]
    assert "| Dense | 0 | 90.00 | 80.00 |" in written["summary.md"]
    assert "validation" not in written["summary.md"]
    headings = [line for line in written["summary.md"].splitlines() if line.startswith("#")]
    assert headings[:3] == [
        "# A sweep: lenet-300-100 on digits, 1 seed, 20 epochs",
        "## With learning rate 0.01",
        "### The paper's findings, in this run",
    ]
    assert {"sweep.png", "accuracy-learning-rate-0.01.png", "accuracy-learning-rate-0.3.svg"} <= set(
        written
    )
