"""What more candidates buy: all choices among a search's candidates, made by hand."""

import itertools

import numpy as np
import pytest

from experiments.methods.point import Point
from experiments.report.candidates import candidates_figure, candidates_lines, smaller_searches
from tests.experiments.made_up import EPOCHS, results, row

ACCURACIES = (0.5, 0.9, 0.6, 0.4, 0.7)
FITNESS = (3.0, 1.0, 5.0, 2.0, 4.0)


def search(seed=0, failed=None):
    return [
        row(
            Point("k-starts", sparsity_target=0.9, candidate=index, seed=seed),
            accuracy + 0.01 * seed,
            failed=index == failed,
            fitness_weight=FITNESS[index],
            fitness_gradient=FITNESS[index],
        )
        for index, accuracy in enumerate(ACCURACIES)
    ]


def found(rows):
    return results(rows, k=len(ACCURACIES), search_epochs=EPOCHS)


def expected(count, ranks):
    choices = itertools.combinations(range(len(ACCURACIES)), count)
    return np.mean([ACCURACIES[max(choice, key=lambda index: ranks[index])] for choice in choices])


def test_every_choice_of_candidates_is_as_likely():
    smaller = smaller_searches(found(search()), "k-starts")
    assert [one.count for one in smaller] == [1, 2, 4, 5]
    for one in smaller:
        assert one.fittest == {(0, 0.9): pytest.approx(expected(one.count, FITNESS))}
        assert one.best == {(0, 0.9): pytest.approx(expected(one.count, ACCURACIES))}
    assert smaller[-1].fittest == {(0, 0.9): pytest.approx(0.6)}


def test_a_search_with_a_diverged_candidate_is_left_out():
    run = found([*search(), *search(seed=1, failed=2)])
    assert smaller_searches(run, "k-starts")[0].best.keys() == {(0, 0.9)}
    assert smaller_searches(found(search(failed=0)), "k-starts") == []


def test_the_table_has_a_line_a_number_and_says_what_the_last_ones_add():
    run = found([*search(), *search(seed=1)])
    smaller = smaller_searches(run, "k-starts")
    lines = candidates_lines(smaller, run)
    assert lines[0] == "| candidates | sparsity 0.9: fittest | best |"
    assert lines[5] == "| 5 | 60.50 ± 6.35 | 90.50 ± 6.35 |"
    assert lines[-1].startswith("- From 4 to 5 candidates the best gains +4.00 points")
    assert candidates_figure(smaller, run)


def test_where_there_is_no_choice_there_is_nothing():
    assert smaller_searches(found([row(Point("snip", sparsity_target=0.9))]), "k-starts") == []
    assert smaller_searches(found(search()[:1]), "k-starts") == []
