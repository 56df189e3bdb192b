"""Where dissipating gradients begin: the starts, and the variants that tell what of them helps."""

import dataclasses

import jax
import numpy as np
import pytest

import pruning
from experiments.engine.experiment import run
from experiments.engine.networks import Networks
from experiments.methods.dissipating import search_sparsity
from experiments.methods.dissipating_programs import on_the_way
from experiments.methods.point import Point
from experiments.methods.registry import find_method
from experiments.report.table import load
from experiments.sparse_starts import (
    DENSE_START,
    EXPERIMENT,
    RANDOM_START,
    STARTS,
    VARIANTS,
    SparseStarts,
    summary,
)
from tests.experiments import everything
from tests.experiments.everything import rows_of
from tests.experiments.made_up import results, row, several

S = 0.9
SMALL = SparseStarts(
    methods=(DENSE_START, RANDOM_START),
    sparsities=(S,),
    seeds=1,
    epochs=3,
    knobs=everything.KNOBS,
    plumbing=everything.CHUNKS,
)


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    path = run(EXPERIMENT, dataclasses.replace(SMALL, out_dir=tmp_path_factory.mktemp("starts") / "run"))
    assert "The random start's layer sparsities help" in (path / "summary.md").read_text()
    assert (path / "networks.png").exists()
    return path


@pytest.fixture(scope="module")
def networks():
    return Networks(SMALL, SMALL.load(), lambda study: [], find_method)


def kept(row):
    return {name: row[name] for name in row if name.startswith("kept")}


@pytest.mark.slow
def test_variants_in_layers_end_with_the_layers_that_they_are_given(found):
    rows = rows_of(found)
    ends = {name: kept(rows[Point(name, sparsity_target=S)]) for name in VARIANTS}
    other = dict(zip(ends, reversed(ends.values()), strict=True))
    assert ends[DENSE_START] != ends[RANDOM_START]
    for name in VARIANTS:
        for variant in (one for one in VARIANTS[name] if "layers" in one):
            expected = ends[name] if variant == "own-layers" else other[name]
            assert kept(rows[Point(name, variant, sparsity_target=S)]) == expected


@pytest.mark.slow
def test_late_and_early_networks_have_the_sparsities_of_a_random_start(found):
    table = load(found)
    first = table[table["epoch"] == 1].set_index(["method", "variant"])["sparsity"]
    for sparse in ((RANDOM_START, "none"), (DENSE_START, "early")):
        assert first[sparse] == pytest.approx(search_sparsity(S), abs=1e-3)
    assert first[DENSE_START, "late"] == first[DENSE_START, "late-layers"] == 0
    assert 0 < first[DENSE_START, "layers"] < S
    assert first[DENSE_START, "early-layers"] > 0.5


def test_a_network_that_follows_a_diverged_one_is_not_trained():
    class Given:
        def rows(self, point):
            return [{"failed": point.method == RANDOM_START}]

    dense = find_method(DENSE_START)
    assert "has diverged" in dense.why_useless(Point(DENSE_START, "layers", sparsity_target=S), Given())
    for variant in ("none", "early", "own-layers"):
        assert dense.why_useless(Point(DENSE_START, variant, sparsity_target=S), Given()) is None


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=[pytest.mark.slow] * n.startswith("synflow")) for n in STARTS]
)
def test_a_masked_start_begins_under_the_mask_of_its_method(networks, name):
    began = networks.start(Point(name, sparsity_target=S))
    static = Point(STARTS[name], sparsity_target=search_sparsity(S))
    expected = find_method(STARTS[name]).masks(static, networks)
    jax.tree.map(np.testing.assert_array_equal, pruning.get_masks(began.opt_state), expected)
    assert pruning.sparsity(expected) == pytest.approx(search_sparsity(S), abs=1e-3)


def test_what_a_layer_keeps_falls_exponentially():
    half, end = (on_the_way({"a": 0.96, "b": 0.0}, part) for part in (0.5, 1.0))
    assert half == {"a": pytest.approx(0.8), "b": 0.0}
    assert end == {"a": pytest.approx(0.96), "b": 0.0}


def test_every_change_has_its_line():
    rows = several("dense", [0.9, 0.98])
    rows += [one for name in (*STARTS, *STARTS.values()) for one in several(name, [0.6, 0.7])]
    rows += several(DENSE_START, [0.8, 0.81]) + several(DENSE_START, [0.85, 0.87], variant="own-layers")
    text = "\n".join(summary(results(rows), None))
    assert "| SNIP + dissipating gradients beats SNIP | +0.00, undecided |" in text
    assert "| ERK + dissipating gradients beats Random + dissipating gradients |" in text
    assert "| Ranking within its own layers helps a dense start | +5.50 ± 6.35, undecided |" in text
    assert "| Pruning as late helps a dense start | not run |" in text
    assert "| Dissipating gradients, own-layers | 86.00 ± 1.41 |" in text
    assert "| Dissipating gradients, late | none |" in text
    without = "\n".join(summary(results(several("dense", [0.9]) + several(DENSE_START, [0.9])), None))
    assert "What of a sparse start helps" not in without


DISSIPATE = " Weights dissipate at the end of the first 2 epochs"


@pytest.mark.parametrize(
    ("methods", "said"),
    [
        (["random-uniform", "snip"], ""),
        ([DENSE_START], f"{DISSIPATE}."),
        ([DENSE_START, RANDOM_START], f"{DISSIPATE}; under a mask from epoch 3 on."),
    ],
)
def test_dissipation_is_spoken_of_where_there_is_some(methods, said):
    rows = [one for method in methods for one in several(method, [0.5])]
    text = summary(results(rows, prune_epochs=2), None)[2]
    assert text.endswith(f"dense: none.{said}")


def test_variants_that_were_not_trained_are_named():
    """The network whose layers it takes has diverged."""
    why = "the network whose layer sparsities it takes has diverged"
    lacking = Point(DENSE_START, "layers", sparsity_target=S)
    rows = several(DENSE_START, [0.8]) + several(RANDOM_START, [float("nan")], failed=True)
    rows += [row(lacking, epoch=0, untrained_because=why)]
    rows += [row(Point("k-starts", sparsity_target=S, candidate=1), epoch=0, untrained_because="-")]
    lines = summary(results(rows), None)
    start = lines.index("## Not trained")
    assert lines[start : start + 4] == ["## Not trained", "", f"- {lacking.name}: {why}", ""]
    assert lines[-1] == f"**Diverged** (left out of the means): {RANDOM_START}/sparsity-0.9/seed-0."
    assert "## Not trained" not in summary(results(several(DENSE_START, [0.8])), None)
