"""Paired estimates against hand-computed numbers and scipy's paired t test."""

import numpy as np
import pytest
from scipy import stats

from experiments.report.paired import (
    at_same_kept,
    differences,
    estimate,
    percent_cell,
    rank_correlation,
)


def test_the_seed_is_the_unit():
    values = {(0, 0.5): 1.0, (0, 0.9): 3.0, (1, 0.5): 4.0, (1, 0.9): 4.0}
    found = estimate(values)
    assert (found.mean, found.seeds) == (3.0, 2)  # seed means 2 and 4
    assert found.half_width == pytest.approx(stats.t.ppf(0.975, 1) * np.sqrt(2) / np.sqrt(2))


def test_sign_agrees_with_a_paired_t_test():
    rng = np.random.default_rng(0)
    for shift in (0.0, 0.3, -0.5, 2.0):
        ours, theirs = rng.normal(shift, 1, 20), rng.normal(0, 1, 20)
        gaps = differences(
            {(seed, 0.5): value for seed, value in enumerate(ours)},
            {(seed, 0.5): value for seed, value in enumerate(theirs)},
        )
        significant = stats.ttest_rel(ours, theirs).pvalue < 0.05
        assert (estimate(gaps).sign != 0) == significant


def test_nan_is_left_out_and_one_seed_decides_nothing():
    assert estimate({(0, 0.5): 1.0, (1, 0.5): float("nan")}).sign == 0
    assert estimate({(0, 0.5): 1.0, (1, 0.5): float("nan")}).seeds == 1
    assert np.isnan(estimate({}).mean)
    assert str(estimate({(0, 0.5): 1.0})) == "+1.0000 (1 seed)"
    assert str(estimate({})) == "unknown"


def test_two_seeds_that_agree_to_the_digit_have_no_interval():
    agreeing = estimate({(0, 0.5): 0.9 - 0.6, (1, 0.5): 0.3})
    assert agreeing.sign == 0
    assert agreeing.points == "+30.00"
    assert str(agreeing) == "+0.3000 (2 seeds)"
    assert estimate({(0, 0.5): 0.3, (1, 0.5): 0.31}).sign == 1


def test_rank_correlation():
    assert rank_correlation(np.array([1, 2, 3.0]), np.array([10, 20, 90.0])) == pytest.approx(1)
    assert rank_correlation(np.array([1, 2, np.nan, 3.0]), np.array([3, 2, 9, 1.0])) == pytest.approx(-1)
    assert np.isnan(rank_correlation(np.array([1, 1, 1.0]), np.array([1, 2, 3.0])))


def test_a_spread_is_of_two_networks_that_trained():
    assert percent_cell([0.98, np.nan, np.nan]) == "98.00"
    assert percent_cell([0.98, 0.96, np.nan]) == "97.00 ± 1.41"


def test_what_keeps_nothing_is_no_point_of_a_curve():
    assert at_same_kept([(0.0, 0.1), (0.1, 0.5), (0.2, 0.7)], 0.2) == pytest.approx(0.7)
    assert at_same_kept([(0.0, 0.1)], 0.1) is None
