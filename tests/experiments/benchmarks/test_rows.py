"""Every row in the smallest sizes, and what rows refuse; no time is asserted."""

import functools
import math
import os
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import pruning
from experiments.benchmarks import checks, overhead, populations, training, whole_runs
from experiments.benchmarks.measuring import Unavailable, WrongNumbers, measure, measure_ceilings
from experiments.benchmarks.rows import ROWS
from experiments.benchmarks.sizes import SMALLEST
from train.populations.members import side_by_side

QUICK = ("check-platform",)
HERE = {
    name: ROWS[name] for name in ROWS if not name.startswith(("input", "torch", "grid-256-", "startup"))
}
# Rows that differ in a number do the same here, where few members train together.
KINDS = {(e.function, *(a if isinstance(a, str) else 0 for a in e.arguments)): n for n, e in HERE.items()}


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=() if name in QUICK else pytest.mark.slow) for name in KINDS.values()],
)
def test_every_row_is_measured(name):
    found = measure(ROWS[name].make(SMALLEST), 1, measure_ceilings(SMALLEST))
    assert 0 < found["ratio"] < math.inf
    assert 0 <= found["of_ceiling"] < math.inf
    assert all(math.isfinite(value) for value in found["facts"].values())


def test_what_decides_most_on_an_accelerator_comes_first():
    names = [name for name, entry in ROWS.items() if "accelerator" in entry.platforms]
    kinds = list(dict.fromkeys(name.split("-")[0] for name in names))
    assert kinds[:5] == ["check", "selection", "grid", "population", "members"]


@pytest.mark.parametrize("name", ["check-platform", "check-gradients-lenet-5", "check-vmapped-gradients"])
def test_checks_refuse_what_is_wrong(name, monkeypatch):
    results = iter([1.01])  # Ours is computed first; all that it is compared with is 1.
    monkeypatch.setattr(checks, "_precise", lambda *_: functools.partial(float, next(results, 1.0)))
    with pytest.raises(WrongNumbers):
        ROWS[name].make(SMALLEST)


def test_selection_is_refused_if_all_ties_go(monkeypatch):
    def strict(scores, sparsity):
        ranked = jnp.sort(scores["w"].ravel())
        return {"w": scores["w"] > ranked[pruning.pruned_count(sparsity, ranked.size) - 1]}

    monkeypatch.setattr(pruning, "global_masks", strict)
    with pytest.raises(WrongNumbers):
        ROWS["selection"].make(replace(SMALLEST, selected=10_000))


def test_selection_holds_one_copy_of_the_scores_and_no_places():
    assert 0.99 < ROWS["selection"].make(SMALLEST).facts["temporaries / scores"] < 1.1


@pytest.mark.slow
def test_the_memory_of_a_method_is_a_ratio_to_the_params(monkeypatch):
    def hold_and_copy(optimizer, masks):
        keep = optax.GradientTransformation(lambda params: params, lambda g, state, params: (g, state))
        return optax.chain(optimizer, keep, pruning.hold_masks(masks))

    monkeypatch.setitem(overhead.METHODS, "copy", hold_and_copy)
    extra = [overhead.optimizer_step(SMALLEST, name).facts for name in ("hold-masks", "copy")]
    assert [facts["extra state / params"] for facts in extra] == [0.25, 1.25]  # a byte a weight of four


def test_chunks_give_what_vmapped_members_give():
    def member(key, tree):
        return jax.random.normal(key, (2,)) + tree["x"]

    stacked = jax.random.split(jax.random.key(0), 5), {"x": jnp.arange(10.0).reshape(5, 2)}
    expected = side_by_side(member, jnp.int32(5), *stacked)
    for size in (2, 7):
        execute = jax.jit(training.in_chunks_of(size), static_argnums=0)
        np.testing.assert_allclose(execute(member, jnp.int32(5), *stacked), expected, rtol=1e-6)


def test_training_flops_of_an_mlp():
    weights = 16 * 300 + 300 * 100 + 100 * 10
    expected = 5 * 2 * (3 * weights - 16 * 300)  # the images need no gradient
    assert populations.training_flops("lenet-300-100", (4, 4, 1), 5) == expected


@pytest.mark.slow
def test_a_run_is_measured_cold_and_then_warm():
    row = ROWS["startup-compare"].make(SMALLEST)
    assert row.facts["training programs, cold"] == 3
    assert 0 < row.facts["seconds to the first result, cold"] < row.pairs(1)[0].theirs
    assert 0 < row.facts["seconds to the first result, warm"] < row.pairs(1)[0].ours


def test_a_run_that_fails_says_why():
    with pytest.raises(RuntimeError, match=r"(?s)has failed: .*No module named experiments\.none"):
        whole_runs.startup(SMALLEST, "none")


def test_input_that_is_not_prepared_is_skipped(monkeypatch, tmp_path):
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "nowhere"))
    with pytest.raises(Unavailable, match="nowhere does not exist"):
        ROWS["input-mnist"].make(SMALLEST)


def test_input_is_read_from_the_cache_folder_and_from_an_empty_one(monkeypatch):
    def load(name):
        caches.append(os.environ["XDG_CACHE_HOME"])
        return populations.synthetic_dataset((4, 4, 1), 6, 2)

    caches, own = [], os.environ["XDG_CACHE_HOME"]
    monkeypatch.setattr(whole_runs, "load_dataset", load)
    row = ROWS["input-mnist"].make(SMALLEST)
    assert row.bytes == 2 * 8 * (16 + 4)
    row.pairs(0)
    assert [cache == own for cache in caches] == [True, True, False]
