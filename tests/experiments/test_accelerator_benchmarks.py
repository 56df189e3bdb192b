"""What is measured on an accelerator, in the smallest sizes; no time is asserted."""

import json
import math
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments import accelerator_benchmarks, accelerator_checks
from experiments.accelerator_benchmarks import AcceleratorBenchmarks
from experiments.accelerator_checks import judge, relative_difference
from experiments.accelerator_populations import in_chunks
from experiments.accelerator_rows import make_rows
from experiments.accelerator_sizes import FULL, SMALLEST
from experiments.accelerator_torch import eager, find_device
from experiments.benchmark_comparison import Unavailable
from train.populations.members import side_by_side


def test_rows_are_printed_and_written_one_by_one(tmp_path, monkeypatch, capsys):
    out = tmp_path / "out.json"
    written = []

    def last():
        written.append(json.loads(out.read_text())["rows"])
        return {"rate": 2.5}

    def fail():
        raise MemoryError("out of memory " + "x" * 1000)

    def unavailable():
        raise Unavailable("no such library")

    rows = {"wrong": lambda: judge(math.nan), "fails": fail, "missing": unavailable, "last": last}
    monkeypatch.setattr(accelerator_benchmarks, "make_rows", lambda sizes: rows)
    monkeypatch.setattr(sys, "argv", ["a", "--json", str(out)])
    accelerator_benchmarks.main()
    assert list(written[0]) == ["wrong", "fails", "missing"]
    found = json.loads(out.read_text())["rows"]
    assert found["last"]["rate"] == 2.5
    assert found["fails"]["skipped"].startswith("MemoryError: out of memory")
    assert len(found["fails"]["skipped"]) < 400
    printed = capsys.readouterr().out
    assert "missing: skipped no such library" in printed
    assert "last: rate 2.5" in printed
    assert "THE NUMBERS ARE WRONG HERE, trust no result: wrong" in printed


def test_no_row_begins_when_the_time_is_up(monkeypatch, capsys):
    clock = iter([0.0, 1.0, 6.0, 7.0])  # the start; the first row's begin and end; the second's begin
    monkeypatch.setattr(accelerator_benchmarks.time, "perf_counter", lambda: next(clock))
    rows = {"first": lambda: {"rate": 1.0}, "second": lambda: {"rate": 1.0}}
    monkeypatch.setattr(accelerator_benchmarks, "make_rows", lambda sizes: rows)
    accelerator_benchmarks.run(AcceleratorBenchmarks(seconds=5))
    printed = capsys.readouterr().out
    assert "first: rate 1, seconds for the row 5" in printed
    assert "second: skipped the time is up" in printed
    assert "WRONG" not in printed


def test_an_unknown_row_and_no_time():
    with pytest.raises(ValueError, match=r"unknown row 'speed'.*check-platform"):
        AcceleratorBenchmarks(only=("speed",))
    with pytest.raises(ValueError, match="--seconds > 0"):
        AcceleratorBenchmarks(seconds=0)


def test_the_checks_come_first_and_then_the_grid():
    names = list(make_rows(FULL))
    checks = [name for name in names if name.startswith("check-")]
    assert names[: len(checks)] == checks
    assert names[len(checks) : len(checks) + 2] == ["ceilings", "grid-1800-together"]
    assert {"resnet-20-64-in-chunks-of-16", "lenet-300-100-1024-vmapped", "k-starts-256"} <= set(names)
    assert "lenet-5-4-in-chunks-of-4" not in names  # That is vmapped.


QUICK = ("check-platform", "check-selection", "ceilings", "selection", "lenet-300-100-2-vmapped")


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=() if name in QUICK else pytest.mark.slow)
        for name in make_rows(SMALLEST)
        if "torch" not in name
    ],
)
def test_every_row_measures_something(name):
    found = make_rows(SMALLEST)[name]()
    assert found.get("verdict", "right") == "right"
    assert all(math.isfinite(value) for value in found.values() if not isinstance(value, str))


def test_pytorch_is_measured_where_it_is():
    torch = pytest.importorskip("torch", reason="PyTorch is an extra of the benchmarks alone")
    assert eager("lenet-300-100", (4, 4, 1), 2, device="cpu")["steps/s"] > 0
    if not torch.cuda.is_available():
        with pytest.raises(Unavailable, match="no CUDA"):
            find_device("cuda")


@pytest.mark.parametrize("size", [1, 2, 5, 7])
def test_chunks_give_what_vmapped_members_give(size):
    def member(key, tree):
        return jax.random.normal(key, (2,)) + tree["x"]

    stacked = jax.random.split(jax.random.key(0), 5), {"x": jnp.arange(10.0).reshape(5, 2)}
    expected = side_by_side(member, jnp.int32(5), *stacked)
    found = jax.jit(in_chunks(size), static_argnums=0)(member, jnp.int32(5), *stacked)
    np.testing.assert_allclose(found, expected, rtol=1e-6)


@pytest.mark.parametrize(
    ("difference", "limit", "verdict"),
    [(0.0, 0.0, "right"), (1e-4, 1e-3, "right"), (2e-3, 1e-3, "WRONG"), (math.nan, 1e-3, "WRONG")],
)
def test_verdicts(difference, limit, verdict):
    assert judge(difference, limit=limit)["verdict"] == verdict


def test_relative_difference_is_that_of_norms():
    found = {"a": np.array([3.0, 0.0]), "b": np.array([[4.0]])}
    expected = {"a": np.array([3.0, 0.0]), "b": np.array([[0.0]])}
    assert relative_difference(found, expected) == pytest.approx(4 / 3)


def test_a_wrong_selection_is_seen(monkeypatch):
    def strict(scores, sparsity):
        return {"w": scores["w"] > jnp.quantile(scores["w"], sparsity)}  # All ties go.

    monkeypatch.setattr(accelerator_checks.pruning, "global_masks", strict)
    assert accelerator_checks.selection(1000)["verdict"] == "WRONG"
