"""Benchmarks: the arithmetic of a row, and that the command line names its rows. No time is asserted."""

import json
import sys

import pytest

from experiments import benchmark_rows, benchmarks
from experiments.benchmark_rows import Comparison
from experiments.benchmarks import Benchmarks, measure


def test_ratio_is_paired_and_the_first_pair_does_not_count(monkeypatch):
    seconds = iter([100, 1, 2, 4, 2, 10, 4, 4])  # ours, theirs, ours, theirs, ...
    monkeypatch.setattr(benchmarks, "_seconds", lambda work: next(seconds))
    row = Comparison(ours=int, theirs=int, against="them", unit="steps", amount=8)
    found = measure("row", row, repetitions=3)
    assert (found.ratio, found.ratio_low, found.ratio_high) == (2.0, 1.0, 5.0)
    assert (found.ours, found.theirs) == (4.0, 2.0)


def test_unknown_row():
    with pytest.raises(ValueError, match=r"unknown benchmark 'speed'.*train-lenet-300-100"):
        Benchmarks(only=("speed",))


def test_both_ways_of_the_training_row_do_the_work(tmp_path, monkeypatch, capsys):
    row = benchmark_rows.training("lenet-300-100", (4, 4, 1), 2)
    monkeypatch.setitem(benchmark_rows.ROWS, "small", lambda: row)
    out = str(tmp_path / "out.json")
    monkeypatch.setattr(sys, "argv", ["b", "--only", "small", "--json", out, "--repetitions", "1"])
    benchmarks.main()
    assert "| small (training steps, against a plain Flax + optax loop) |" in capsys.readouterr().out
    assert json.loads((tmp_path / "out.json").read_text())[0]["name"] == "small"


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_both_ways_of_the_synflow_row_do_the_work(dtype):
    row = benchmark_rows.synflow("lenet-5", (16, 16, 1), 2, dtype)
    row.ours()
    row.theirs()
    assert row.amount == 2


def test_both_ways_of_the_parallel_search_row_do_the_work():
    row = benchmark_rows.parallel_search("lenet-300-100", (4, 4, 1), 3, 2)
    row.ours()
    row.theirs()
    assert row.amount == 6
