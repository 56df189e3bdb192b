"""Methods that find their own sparsity: every summary of trained networks shows them."""

from importlib import import_module

import pytest

from experiments.methods.point import Point
from tests.experiments.made_up import results, row, several


@pytest.mark.parametrize(
    "name",
    [
        "compare",
        "dynamic_sparse_training",
        "layer_fractions",
        "missing_the_mark",
        "pruning_methods",
        "sparse_starts",
    ],
)
def test_their_accuracy_is_shown_and_no_cell_is_left_open(name):
    rows = several("dense", [0.9, 0.9], sparsity=0.0) + several("random-uniform", [0.3, 0.5])
    point = Point("dissipating-band", setting=0.3)
    rows += [row(point._replace(seed=seed), 0.7, sparsity=0.8) for seed in (0, 1)]
    experiment = import_module(f"experiments.{name}").EXPERIMENT
    text = "\n".join(experiment.summary(results(rows), None))
    assert "Dissipating gradients, band" in text
    assert "70.00 ± 0.00" in text
    assert "| none |" not in text
