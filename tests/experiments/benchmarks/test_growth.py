"""Growth: slopes and bends by hand, and what the command leaves behind."""

import math

import pytest

from experiments.benchmarks import growth
from experiments.benchmarks.growth import SERIES, Growth, Series, bend, growth_table, run, slopes


def test_slopes_are_powers():
    found = {size: 3.0 * size**2 for size in (1, 10, 40)}
    assert slopes(found) == pytest.approx([2, 2])
    assert slopes({1: 5.0, 7: 5.0}) == [0]


@pytest.mark.parametrize(
    ("seconds", "size"),
    [((1, 1, 2, 4), 2), ((1, 2, 4, 8), 1), ((1, 1, 1, 1), None), ((1, 2, 2, 4), 4), ((1, 2, 4, 4), None)],
)
def test_it_bends_where_cost_grows_from_then_on(seconds, size):
    assert bend(dict(zip((1, 2, 4, 8), seconds, strict=True))) == size


def test_the_table_has_a_slope_but_for_the_smallest():
    lines = growth_table({"k": {1: 0.5, 1000: 50.0}})
    assert lines[-2:] == [
        "| K-starts, 20 steps a candidate | k: 1 | 500 |  |",
        "| K-starts, 20 steps a candidate | k: 1,000 | 5e+04 | 0.67 |",
    ]


@pytest.mark.slow
def test_the_command_measures_and_leaves_table_and_figure(monkeypatch, tmp_path):
    prepared = []
    series = Series("work", "things", (1, 10, 100), lambda size: lambda: prepared.append(size))
    monkeypatch.setattr(growth, "SERIES", {"first": series, "second": series})
    run(Growth(out_dir=tmp_path / "growth", most=10))
    assert prepared == [1] * 4 + [10] * 4 + [1] * 4 + [10] * 4
    assert (tmp_path / "growth" / "growth.md").read_text().count("things: 10 ") == 2
    assert (tmp_path / "growth" / "growth.png").stat().st_size > 1000
    with pytest.raises(ValueError, match="--most of at least 1, the smallest size of first, got 0"):
        run(Growth(out_dir=tmp_path, most=0))


def test_an_unknown_series_is_refused(tmp_path):
    with pytest.raises(ValueError, match="unknown series 'x'"):
        Growth(out_dir=tmp_path, only=("x",))


@pytest.mark.slow
@pytest.mark.parametrize("name", SERIES)
def test_every_series_is_measured(name):
    series = SERIES[name]
    assert math.isfinite(growth.measured(series.prepare(series.sizes[0])))
