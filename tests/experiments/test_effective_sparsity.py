"""Effective sparsity: of hand-made masks, and of a small run."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pyarrow.parquet as pq
import pytest

import pruning
from experiments import effective_sparsity
from experiments.effective_sparsity import EffectiveColumns, EffectiveSparsity
from experiments.untrained import Network

SMALL = EffectiveSparsity(seeds=2, sparsities=(0.5, 0.98, 0.999), methods=("random", "synflow"))


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    path = tmp_path_factory.mktemp("effective") / "run"
    return effective_sparsity.run(dataclasses.replace(SMALL, out_dir=path))


def test_effective_sparsity_is_never_below_the_direct_one(finished):
    rows = pq.read_table(finished / "results.parquet").to_pylist()
    assert len(rows) == 12
    for row in rows:
        assert row["sparsity"] - 1e-9 <= row["effective_sparsity"] <= 1
    random, synflow = (
        [row["effective_sparsity"] for row in rows if row["method"] == method and row["sparsity"] > 0.99]
        for method in ("random", "synflow")
    )
    assert random == [1, 1]  # nothing connects input and output
    assert max(synflow) < 0.9995


def test_the_run_is_complete_and_prints_again(finished, capsys):
    effective_sparsity.run(dataclasses.replace(SMALL, out_dir=finished))
    out = capsys.readouterr().out
    assert "| 0.999 | cut |" in out
    assert (finished / "compression.png").stat().st_size > 10_000


def test_columns_of_a_mask_made_by_hand():
    """Every unit of the second layer is cut off but one: its weights alone are effective."""
    network = Network(SMALL)
    state = network.initial(0)
    masks = pruning.full_masks(state.params)
    masks["dense2"]["kernel"] = jnp.zeros((300, 100), bool).at[:, 7].set(True)
    row = EffectiveColumns(network)(network, state, masks)
    total = 64 * 300 + 300 * 100 + 100 * 10
    np.testing.assert_allclose(row["effective_sparsity"], 1 - (64 * 300 + 300 + 10) / total, rtol=1e-6)
    assert (row["dead_units"], row["units"], row["cut_off_layers"]) == (99, 410, 0)


def test_batch_normalisation_neither_starts_nor_blocks_a_signal():
    network = Network(dataclasses.replace(SMALL, model="resnet-20"))
    state = network.initial(0)
    masks = jax.tree.map(lambda mask: mask, pruning.full_masks(state.params))
    row = EffectiveColumns(network)(network, state, masks)
    assert row["effective_sparsity"] < 1
    assert row["dead_units"] == 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"sparsities": (1.0,)}, "--sparsities"),
        ({"sparsities": ()}, "at least one value of --sparsities"),
    ],
)
def test_options_that_are_wrong_are_named(change, message):
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(SMALL, **change)
