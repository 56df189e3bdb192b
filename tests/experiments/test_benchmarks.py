"""Benchmarks: the arithmetic of a row, and that the command line names its rows. No time is asserted."""

import json
import os
import sys
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import optax
import pytest
from jax.experimental.compilation_cache import compilation_cache

import pruning
from experiments import (
    benchmark_comparison,
    benchmark_input,
    benchmark_rows,
    benchmark_torch,
    benchmarks,
)
from experiments.benchmark_comparison import (
    Ceilings,
    Comparison,
    OnePair,
    Unavailable,
    measure,
    measure_ceilings,
)
from experiments.benchmark_compiling import PROGRAMS, compiling
from experiments.benchmark_input import reading
from experiments.benchmark_overhead import dissipation, optimizer_step
from experiments.benchmark_populations import synthetic_dataset, training_flops
from experiments.benchmark_programs import compile_anew
from experiments.benchmark_rows import ROWS
from experiments.benchmark_scores import selection, sensitivity, synflow
from experiments.benchmark_search import candidates
from experiments.benchmark_startup import startup
from experiments.benchmark_training import (
    against_flax,
    execution,
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
    assert found.repetitions == 3


def test_what_is_measured_once_is_one_pair():
    row = OnePair(
        ours_seconds=2, theirs_seconds=6, against="them", unit="runs", amount=1, facts={"MB": 3}
    )
    found = measure("row", row, repetitions=7, ceilings=Ceilings(flops=1, bytes=1))
    assert (found.ratio, found.ratio_low, found.ratio_high, found.repetitions) == (3, 3, 3, 1)
    assert (found.ours, found.of_ceiling, found.facts) == (0.5, None, {"MB": 3})


def test_ceilings_are_rates():
    found = measure_ceilings(side=8, length=16)
    assert found.flops > 0
    assert found.bytes > 0


def test_what_jax_keeps_on_disk_is_not_taken_for_compiling(tmp_path):
    def kept(name):
        return list(tmp_path.glob(f"jit_{name}-*-cache"))

    def anew(x):
        return x * 3.5

    def as_usual(x):
        return x * 4.5

    numbers = jnp.ones(7)
    config, before = jax.config, jax.config.jax_compilation_cache_dir
    compilation_cache.reset_cache()
    config.update("jax_compilation_cache_dir", str(tmp_path))
    try:
        compiled, seconds = compile_anew(jax.jit(anew), numbers)
        jax.jit(as_usual)(numbers)
    finally:
        config.update("jax_compilation_cache_dir", before)
        compilation_cache.reset_cache()
    assert not kept("anew")
    assert kept("as_usual")  # For everyone else there is a cache as before.
    assert seconds > 0
    assert compiled(numbers).tolist() == [3.5] * 7


def test_unknown_row():
    with pytest.raises(ValueError, match=r"unknown benchmark 'speed'.*train-lenet-300-100"):
        Benchmarks(only=("speed",))


def test_the_table_says_what_was_measured_and_what_was_skipped(tmp_path, monkeypatch, capsys):
    def missing():
        raise Unavailable("no such machine")

    monkeypatch.setattr(benchmarks, "measure_ceilings", lambda: Ceilings(flops=1e9, bytes=1e9))
    monkeypatch.setitem(ROWS, "small", lambda: against_flax("lenet-300-100", (4, 4, 1), 2))
    monkeypatch.setitem(ROWS, "missing", missing)
    once = {"ours_seconds": 2, "theirs_seconds": 6, "against": "the first", "unit": "runs", "amount": 1}
    monkeypatch.setitem(ROWS, "once", lambda: OnePair(**once, facts={"programs": 3, "MB held": 0.52}))
    out = str(tmp_path / "out.json")
    command = ["b", "--only", "missing", "small", "once", "--json", out, "--repetitions", "1"]
    monkeypatch.setattr(sys, "argv", command)
    benchmarks.main()
    printed = capsys.readouterr().out
    assert "| missing | skipped: no such machine |" in printed
    assert "| small (training steps, against a plain Flax + optax loop) |" in printed
    assert "0.0263 GFLOP each" in printed
    assert "of the ceiling |" in printed
    assert "| once (runs, against the first) | 0.5 | 0.1667 | 3.00 (3.00 to 3.00) |" in printed
    assert "| programs: 3; MB held: 0.52 |" in printed
    found = json.loads((tmp_path / "out.json").read_text())
    assert [row["name"] for row in found["rows"]] == ["small", "once"]
    assert found["rows"][1]["facts"] == {"programs": 3, "MB held": 0.52}
    assert found["ceilings"] == {"flops": 1e9, "bytes": 1e9}


def test_where_the_measurements_cannot_go_nothing_is_measured(tmp_path, monkeypatch):
    monkeypatch.setattr(benchmarks, "measure_ceilings", lambda: pytest.fail("measured"))
    (tmp_path / "file").touch()
    for place in (tmp_path, tmp_path / "file" / "out.json", Path("/dev/null")):
        with pytest.raises(ValueError, match=r"cannot write .*choose another file with --json"):
            benchmarks.run(Benchmarks(json=place))


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
        *(slow(partial(compiling, program, 2), 1) for program in PROGRAMS),
        (lambda: sensitivity("snip", "lenet-5", (16, 16, 1), 4), 1),
        slow(lambda: sensitivity("grasp", "lenet-5", (16, 16, 1), 4), 1),
        (lambda: synflow("lenet-5", (16, 16, 1), 2, "float32"), 2),
        slow(lambda: synflow("lenet-5", (16, 16, 1), 2, "float64"), 2),
        slow(lambda: candidates(3, 2), 3),
        slow(lambda: candidates(3, 2, chunk_size=2), 3),
    ],
)
def test_both_ways_of_a_row_do_the_work(row, amount):
    comparison = row()
    comparison.ours()
    comparison.theirs()
    assert comparison.amount == amount


def test_the_memory_of_a_method_is_a_ratio_to_the_params():
    def hold_and_copy(masks):
        keep = optax.GradientTransformation(lambda params: params, lambda g, state, params: (g, state))
        return optax.chain(keep, pruning.hold_masks(masks))

    held = optimizer_step(5000, pruning.hold_masks).facts
    assert held["extra state / params"] == 0.25  # a byte a weight of four
    assert optimizer_step(5000, hold_and_copy).facts["extra state / params"] == 1.25


def test_selection_refuses_to_measure_what_is_wrong(monkeypatch):
    monkeypatch.setattr(pruning, "global_masks", lambda scores, _: {"kernel": scores["kernel"] > 0})
    with pytest.raises(RuntimeError, match="keep different weights"):
        selection(10_000)


def test_selection_holds_one_copy_of_the_scores_and_no_places():
    assert 0.99 < selection(100_000).facts["temporaries / scores"] < 1.1


@pytest.mark.slow
def test_a_run_is_measured_cold_and_then_warm():
    small = ("--seeds", "1", "--k", "2", "--sparsities", "0.9", "--fractions", "0.1")
    row = startup("compare", *small, "--epochs", "3", "--search-epochs", "1")
    facts = row.facts
    assert facts["training programs"] == 3
    assert 0 < facts["seconds to the first result, cold"] < row.theirs_seconds
    assert 0 < facts["seconds to the first result, warm"] < row.ours_seconds


def test_a_run_that_fails_says_why():
    with pytest.raises(RuntimeError, match=r"(?s)--epochs 0 has failed: .*expected epochs > 0"):
        startup("compare", "--epochs", "0")


def test_input_that_is_not_prepared_is_skipped(monkeypatch, tmp_path):
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "nowhere"))
    with pytest.raises(Unavailable, match="nowhere does not exist"):
        reading("mnist")


def test_input_is_read_from_the_cache_folder_and_from_an_empty_one(monkeypatch, tmp_path):
    caches = []

    def load(name):
        caches.append(os.environ["XDG_CACHE_HOME"])
        return synthetic_dataset((4, 4, 1), 6, 2)

    monkeypatch.setattr(benchmark_input, "load_dataset", load)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    row = reading("mnist")
    assert row.bytes == 2 * 8 * (16 + 4)
    row.theirs()
    row.ours()
    own = str(tmp_path)
    assert [cache == own for cache in caches] == [True, False, True]


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
