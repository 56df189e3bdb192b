"""Ways of pruning at equal epochs: the differences at the sparsity that a method finds."""

import numpy as np
import pytest

from experiments import dynamic_sparse_training
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
        *several("k-starts", [0.8, 0.92], sparsity=0.9),
    ]
    lines = summary(results(rows, sparsities=[0.9], k=4, search_epochs=2), None)
    assert any(
        line.endswith("A search comes on top (K-starts): 4 candidates for 2 epochs.") for line in lines
    )
    assert "| K-starts beats Random, uniform | +21.00 ± 12.71, **holds** |" in lines
    assert not any("search" in line for line in summary(found(), None))


def sentences(methods, of=summary, more=()):
    """What a summary says of trainings, of a run of some methods at one sparsity."""
    rows = [one for method in methods for one in several(method, [0.5, 0.6])] + [*more]
    settings = {"k": 4, "search_epochs": 2, "prune_epochs": 3}
    text = of(results(rows, **settings), None)[2]
    return text[text.index("Every network") :]


TRAINED = "Every network is trained for 4 epochs"
IN_FIRST = f"{TRAINED}; what prunes while training does so in the first 3 epochs."


@pytest.mark.parametrize(
    ("methods", "said"),
    [
        (["snip", "gradual-magnitude", "magnitude-fine-tuned", "rare-gems"], IN_FIRST),
        (["random+dissipating-gradients"], IN_FIRST),
        (["snip", "rigl"], f"{TRAINED}."),
        (
            ["set", "gradual-magnitude", "gradual-magnitude-ste", "edge-popup", "dissipating-gradients"],
            f"{TRAINED}; these prune in the first 3 epochs: Dissipating gradients; Gradual magnitude.",
        ),
        (
            ["k-starts-erk", "k-starts+dissipating-gradients"],
            f"{IN_FIRST} A search comes on top (K-starts, ERK; K-starts + dissipating gradients): 4 "
            "candidates for 2 epochs.",
        ),
        (
            ["magnitude-after-training", "lottery-ticket-rewinding"],
            f"{IN_FIRST} The training of the dense network comes on top (Magnitude after training; "
            "Lottery-ticket rewinding).",
        ),
    ],
)
def test_what_is_trained_is_true_of_every_method(methods, said):
    assert sentences(methods) == said


def test_a_search_among_n_m_masks_and_gates_to_the_end_are_said():
    gates = [row(Point("supermask", setting=0.1), sparsity=0.5)]
    gates += [row(Point("k-starts-n-m", setting=1.0), sparsity=0.75)]
    assert sentences(["snip"], more=gates) == (
        f"{TRAINED}. A search comes on top (K-starts, N:M): 4 candidates for 2 epochs."
    )


def test_a_search_that_is_no_k_starts_is_said_by_its_own_length():
    """Two generations of four candidates, two epochs each."""
    search = [
        row(Point("evolved-masks", sparsity_target=0.9, round=g, candidate=c, seed=s), epoch=epoch)
        for g in (1, 2)
        for c in range(4)
        for s in (0, 1)
        for epoch in (1, 2)
    ]
    networks = [
        row(Point("evolved-masks", sparsity_target=0.9, seed=s), epoch=epoch)
        for s in (0, 1)
        for epoch in range(1, 4)
    ]
    said = " A search comes on top (Evolved masks): its candidates are trained for 16 epochs in all."
    for of in (summary, dynamic_sparse_training.summary):
        found = sentences(["evolved-masks"], of, search + networks)
        assert found.startswith(TRAINED)
        assert found.endswith(said)


def test_so_it_is_beside_dynamic_sparse_training():
    methods = ["rigl", "k-starts", "magnitude-after-training"]
    assert sentences(methods, dynamic_sparse_training.summary) == (
        f"{TRAINED}. A search comes on top (K-starts): 4 candidates for 2 epochs. The training of the "
        "dense network comes on top (Magnitude after training)."
    )
