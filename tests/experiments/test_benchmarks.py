"""Benchmarks: the arithmetic of a row, and that the command line names its rows. No time is asserted."""

import json
import sys

import jax
import jax.numpy as jnp
import pytest

import pruning
from experiments import benchmark_comparison, benchmark_rows, benchmark_torch, benchmarks
from experiments.benchmark_comparison import Ceilings, Comparison, Unavailable, measure
from experiments.benchmark_populations import training_flops
from experiments.benchmark_rows import ROWS
from experiments.benchmark_scores import candidates, selection, sensitivity, synflow
from experiments.benchmark_training import (
    against_flax,
    dissipation,
    execution,
    optimizer_step,
    parallel_search,
    population_against_one,
)
from experiments.benchmarks import Benchmarks
from train.models import make_model


def test_ratio_is_paired_and_the_first_pair_does_not_count(monkeypatch):
    seconds = iter([100, 1, 2, 4, 2, 10, 4, 4])  # ours, theirs, ours, theirs, ...
    monkeypatch.setattr(benchmark_comparison, "seconds", lambda work: next(seconds))
    row = Comparison(ours=int, theirs=int, against="them", unit="steps", amount=8, flops=6, bytes=2)
    found = measure("row", row, repetitions=3, ceilings=Ceilings(flops=48, bytes=10))
    assert (found.ratio, found.ratio_low, found.ratio_high) == (2.0, 1.0, 5.0)
    assert (found.ours, found.theirs) == (4.0, 2.0)
    assert (found.flops_per_second, found.bytes_per_second) == (24.0, 8.0)
    assert found.of_ceiling == 0.8  # the nearer of the two


def test_unknown_row():
    with pytest.raises(ValueError, match=r"unknown benchmark 'speed'.*train-lenet-300-100"):
        Benchmarks(only=("speed",))


def test_the_table_says_what_was_measured_and_what_was_skipped(tmp_path, monkeypatch, capsys):
    def missing():
        raise Unavailable("no such machine")

    monkeypatch.setattr(benchmarks, "measure_ceilings", lambda: Ceilings(flops=1e9, bytes=1e9))
    monkeypatch.setitem(ROWS, "small", lambda: against_flax("lenet-300-100", (4, 4, 1), 2))
    monkeypatch.setitem(ROWS, "missing", missing)
    out = str(tmp_path / "out.json")
    command = ["b", "--only", "missing", "small", "--json", out, "--repetitions", "1"]
    monkeypatch.setattr(sys, "argv", command)
    benchmarks.main()
    printed = capsys.readouterr().out
    assert "| missing | skipped: no such machine |" in printed
    assert "| small (training steps, against a plain Flax + optax loop) |" in printed
    assert "of the ceiling |" in printed
    found = json.loads((tmp_path / "out.json").read_text())
    assert [row["name"] for row in found["rows"]] == ["small"]
    assert found["ceilings"] == {"flops": 1e9, "bytes": 1e9}


def slow(*parameters):
    """Of rows that compile much, one of a kind is quick enough for every run."""
    return pytest.param(*parameters, marks=pytest.mark.slow)


@pytest.mark.parametrize(
    ("row", "amount"),
    [
        slow(lambda: execution("lenet-300-100", (4, 4, 1), 3, 2), 6),
        slow(lambda: population_against_one("lenet-300-100", (4, 4, 1), 3, 2), 6),
        slow(lambda: parallel_search("lenet-300-100", (4, 4, 1), 3, 2), 6),
        slow(lambda: dissipation("lenet-300-100", (4, 4, 1), 2), 2),
        (lambda: optimizer_step(5000, pruning.hold_masks), 10),
        (lambda: selection(1_000_000), 1),
        (lambda: sensitivity("snip", "lenet-5", (16, 16, 1), 4), 1),
        slow(lambda: sensitivity("grasp", "lenet-5", (16, 16, 1), 4), 1),
        (lambda: synflow("lenet-5", (16, 16, 1), 2, "float32"), 2),
        slow(lambda: synflow("lenet-5", (16, 16, 1), 2, "float64"), 2),
        slow(lambda: candidates(2, 2), 2),
    ],
)
def test_both_ways_of_a_row_do_the_work(row, amount):
    comparison = row()
    comparison.ours()
    comparison.theirs()
    assert comparison.amount == amount


@pytest.mark.parametrize("model", ["lenet-300-100", "lenet-5", "conv-2", "resnet-20"])
def test_pytorch_s_networks_have_as_many_parameters(model):
    torch = pytest.importorskip("torch", reason="PyTorch is an extra of the benchmarks alone")
    height, width, channels = benchmark_rows.SHAPES[model]
    theirs = benchmark_torch.networks(torch.nn, (height, width, channels))[model]()
    ours = make_model(model, num_classes=10)
    images = jnp.zeros((1, height, width, channels))
    params = jax.eval_shape(ours.init, jax.random.key(0), images)["params"]
    assert sum(p.numel() for p in theirs.parameters()) == sum(p.size for p in jax.tree.leaves(params))
    benchmark_torch.training_loop(model, (height, width, channels), 1, channels_last=True)()


def test_a_row_without_pytorch_says_how_to_get_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(Unavailable, match=r"pip install -e '\.\[benchmarks\]'"):
        ROWS["torch-lenet-5"]()


def test_training_flops_of_an_mlp():
    weights = 16 * 300 + 300 * 100 + 100 * 10
    expected = 5 * 2 * (3 * weights - 16 * 300)  # the images need no gradient
    assert training_flops("lenet-300-100", (4, 4, 1), 5) == expected
