"""The arithmetic of a row; no time is asserted."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.experimental.compilation_cache import compilation_cache

from experiments.benchmarks import measuring
from experiments.benchmarks.measuring import Ceilings, Row, WrongNumbers, agreement, measure
from experiments.engine import timing
from experiments.engine.timing import Pair, alternating

CEILINGS = Ceilings(bytes=10, flops=48, precise_flops=1, bfloat16_flops=1)


def test_ratio_is_paired_in_turn_and_the_first_pair_does_not_count(monkeypatch):
    clock, calls = {"ours": iter([100, 2, 2, 4]), "theirs": iter([1, 4, 10, 4])}, []
    monkeypatch.setattr(timing, "seconds", lambda work: calls.append(work) or next(clock[work]))
    row = Row(alternating("ours", "theirs"), "them", "steps", amount=8, flops=6, bytes=2)
    found = measure(row, 3, CEILINGS)
    assert calls == ["ours", "theirs"] * 4
    assert (found["ratio"], found["ratio_low"], found["ratio_high"]) == (2.0, 1.0, 5.0)
    assert (found["ours"], found["theirs"]) == (4.0, 2.0)
    assert found["of_ceiling"] == 0.8  # of bytes, the nearer of the two
    assert (found["repetitions"], found["first_seconds"]) == (3, 100)


def test_what_is_measured_once_and_ways_that_do_different_amounts():
    row = Row(lambda _: [Pair(2, 6)] * 2, "them", "runs", amount=4, their_amount=3, facts={"MB": 3})
    found = measure(row, 7, CEILINGS)
    assert (found["ours"], found["theirs"], found["ratio"]) == (2.0, 0.5, 4.0)
    assert (found["repetitions"], found["of_ceiling"], found["facts"]) == (1, 0, {"MB": 3})


def test_agreement_is_that_of_norms_and_anything_else_is_refused():
    expected = {"a": np.array([3.0, 0.0]), "b": np.array([[4.0]])}
    found, broken = (expected | {"b": np.array([[b]])} for b in (3.0, np.nan))
    assert agreement(found, expected, at_most=0.2) == {"relative difference": pytest.approx(0.2)}
    for wrong, limit in ((found, 0.1), (broken, 0.2)):
        with pytest.raises(WrongNumbers, match=f"expected at most {limit}"):
            agreement(wrong, expected, at_most=limit)


def test_what_jax_keeps_on_disk_is_not_taken_for_compiling(tmp_path):
    def anew(x):
        return x * 3.5

    def as_usual(x):
        return x * 4.5

    numbers = jnp.ones(7)
    here = {"jax_compilation_cache_dir": str(tmp_path), "jax_persistent_cache_min_compile_time_secs": 0}
    before = {name: getattr(jax.config, name) for name in here}
    compilation_cache.reset_cache()
    for name, value in here.items():
        jax.config.update(name, value)
    try:
        compiled, seconds = measuring.compile_anew(jax.jit(anew), numbers)
        jax.jit(as_usual)(numbers)
    finally:
        for name, value in before.items():
            jax.config.update(name, value)
        compilation_cache.reset_cache()
    kept = {path.name.split("-")[0] for path in tmp_path.glob("*-cache")}
    assert kept == {"jit_as_usual"}  # For everyone else there is a cache as before.
    assert seconds > 0
    assert compiled(numbers).tolist() == [3.5] * 7
