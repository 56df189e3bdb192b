"""What more candidates buy: groups of a search's candidates, made by hand."""

import pytest

from experiments.methods.point import Point
from experiments.report.candidates import candidates_lines, of_some
from tests.experiments.made_up import EPOCHS, results, row

ACCURACIES = (0.5, 0.9, 0.6, 0.4, 0.7)
"""The fifth is in no group of two or four."""


def search(fitness, seed=0):
    return [
        row(
            Point("k-starts", sparsity_target=0.9, candidate=index, seed=seed),
            accuracy + 0.01 * seed,
            fitness_weight=fitness(accuracy),
            fitness_gradient=fitness(accuracy),
        )
        for index, accuracy in enumerate(ACCURACIES)
    ]


def found(rows):
    return results(rows, k=len(ACCURACIES), search_epochs=EPOCHS)


def test_groups_are_averaged_within_a_seed():
    one, two, four = of_some(found(search(lambda accuracy: accuracy)), "k-starts")
    assert (one.count, two.count, four.count) == (1, 2, 4)
    assert one.fittest == one.best == {(0, 0.9): pytest.approx(0.62)}
    assert two.fittest == two.best == {(0, 0.9): pytest.approx((0.9 + 0.6) / 2)}
    assert four.fittest == four.best == {(0, 0.9): pytest.approx(0.9)}


def test_the_fittest_of_a_group_is_chosen_by_fitness():
    _, two, four = of_some(found(search(lambda accuracy: -accuracy)), "k-starts")
    assert two.fittest == {(0, 0.9): pytest.approx((0.5 + 0.4) / 2)}
    assert four.fittest == {(0, 0.9): pytest.approx(0.4)}
    assert four.best == {(0, 0.9): pytest.approx(0.9)}


def test_the_table_has_a_line_a_number_and_says_what_the_last_doubling_adds():
    run = found([*search(lambda accuracy: accuracy), *search(lambda accuracy: accuracy, seed=1)])
    lines = candidates_lines(of_some(run, "k-starts"), run)
    assert lines[0] == "| candidates | sparsity 0.9: fittest | best |"
    assert lines[4] == "| 4 | 90.50 ± 0.71 | 90.50 ± 0.71 |"
    assert lines[-1].startswith("- From 2 to 4 candidates the best gains +15.00 ± 0.00 points")


def test_where_there_is_no_search_there_is_nothing():
    assert of_some(found([row(Point("snip", sparsity_target=0.9))]), "k-starts") == []
