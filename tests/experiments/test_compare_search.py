"""Winners from stored fitnesses, the combined one by hand."""

import numpy as np

from experiments.compare_search import fitted, winner


def rows(method="candidate", sparsity=0.5):
    """Three candidates, out of order, and a row of another epoch that plays no part."""
    values = {2: (3.0, 1.0), 0: (1.0, 0.0), 1: (2.0, 5.0)}
    found = [
        {
            "method": method,
            "seed": 0,
            "sparsity_target": sparsity,
            "candidate": candidate,
            "epoch": 2,
            "fitness_weight": weight,
            "fitness_gradient": gradient,
        }
        for candidate, (weight, gradient) in values.items()
    ]
    return [*found, found[0] | {"epoch": 3, "fitness_weight": 99.0}]


def test_each_fitness_has_its_winner():
    ((key, found),) = fitted(rows(), "candidate", 2)
    assert key == (0, 0.5)
    assert [row["candidate"] for row in found] == [0, 1, 2]
    assert [winner(found, name) for name in ("weight", "gradient", "combined")] == [2, 1, 1]


def test_the_combined_fitness_adds_standard_scores():
    ((_, found),) = fitted(rows(), "candidate", 2)
    weight, gradient = np.array([1.0, 2, 3]), np.array([0.0, 5, 1])
    expected = sum((values - values.mean()) / values.std() for values in (weight, gradient))
    np.testing.assert_allclose([row["fitness_combined"] for row in found], expected, rtol=1e-5)


def test_nan_never_wins():
    ((_, found),) = fitted(rows(), "candidate", 2)
    found[1]["fitness_combined"] = float("nan")
    assert winner(found, "combined") == 2


def test_searches_are_told_apart():
    both = rows() + rows("search") + rows(sparsity=0.9)
    assert [key for key, _ in fitted(both, "candidate", 2)] == [(0, 0.5), (0, 0.9)]
    assert [key for key, _ in fitted(both, "search", 2)] == [(0, 0.5)]
