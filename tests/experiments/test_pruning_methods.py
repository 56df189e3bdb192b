"""Ways of pruning at equal epochs: the differences at the sparsity that a method finds."""

import numpy as np
import pytest

from experiments.methods.point import Point
from experiments.pruning_methods import summary
from experiments.report.at_same_sparsity import over
from tests.experiments.made_up import results, row, several


def found():
    """Random pruning at three sparsities, and a supermask half way between two, in logarithms."""
    rows = [row(Point("dense", sparsity_target=0.0, seed=s), 0.9, sparsity=0.0) for s in (0, 1)]
    for sparsity, accuracy in ((0.75, 0.8), (0.9375, 0.6)):
        rows += several("random", [accuracy, accuracy + 0.02], sparsity=sparsity)
    rows += [row(Point("supermask", setting=0.1, seed=s), 0.75, sparsity=0.875) for s in (0, 1)]
    rows += [row(Point("supermask", setting=0.5, seed=0), 0.95, sparsity=0.5)]
    rows += [row(Point("supermask", setting=0.5, seed=1), 0.0, sparsity=0.5, failed=True)]
    return results(rows, sparsities=[0.75, 0.9375])


def test_accuracies_are_compared_at_the_sparsity_that_is_found():
    of_start = found().of("supermask")
    gaps = over(found(), of_start[of_start["setting"] == 0.1], ["random", "dense"])
    np.testing.assert_allclose([gaps.mean, gaps.seeds], [(0.05 + 0.03) / 2, 2])
    beyond = of_start[of_start["setting"] == 0.1].assign(sparsity=0.99)
    assert over(found(), beyond, ["random", "dense"]).seeds == 0


def test_a_weight_more_or_less_is_the_same_sparsity():
    """An end of the curve is met by a method whose count was rounded otherwise."""
    of_start = found().of("supermask")
    rounded = of_start[of_start["setting"] == 0.1].assign(sparsity=0.93751)
    assert over(found(), rounded, ["random", "dense"]).seeds == 2


def test_the_summary_has_a_table_for_each_method_that_finds_its_own_sparsity():
    lines = summary(found(), None)
    assert "## Supermask, and over the others at its sparsity" in lines
    assert lines[-4].startswith("| 0.5 | 50.00% | 95.00 (1 of 2 seeds) | +10.00 |")
    assert lines[-3].startswith("| 0.1 | 12.50% | 75.00 ± 0.00 | +4.00 ± 12.71 |")
    assert lines[-1] == "**Diverged** (left out of the means): supermask/setting-0.5/seed-1."
    assert "| 0.75 | 81.00 ± 1.41 |" in lines
    assert pytest.approx(0.75) == found().sparsities[0]


def test_a_search_is_said_and_set_beside_random_pruning_of_its_kind():
    rows = [
        *several("random-uniform", [0.6, 0.7], sparsity=0.9),
        *several("k-starts", [0.8, 0.9], sparsity=0.9),
    ]
    lines = summary(results(rows, sparsities=[0.9], k=4, search_epochs=2), None)
    assert any(
        line.endswith("A search comes on top (K-starts): 4 candidates for 2 epochs.") for line in lines
    )
    assert "| K-starts beats Random, uniform | +20.00 ± 0.00, **holds** |" in lines
    assert not any("search" in line for line in summary(found(), None))
