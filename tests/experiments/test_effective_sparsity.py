"""Effective sparsity: of hand-made masks, and of a small run."""

import jax.numpy as jnp
import numpy as np
import pytest

import pruning
from experiments.effective_sparsity import EXPERIMENT, EffectiveSparsity, look
from experiments.engine.experiment import run
from experiments.engine.untrained import Network
from experiments.methods.point import Point
from experiments.report.effective import effective_table
from experiments.report.table import load
from tests.experiments.made_up import results, row

SMALL = {"seeds": 2, "sparsities": (0.5, 0.98, 0.999), "methods": ("random", "synflow")}


@pytest.mark.slow
def test_effective_sparsity_is_never_below_the_direct_one(tmp_path, capsys):
    table = load(run(EXPERIMENT, EffectiveSparsity(out_dir=tmp_path, **SMALL)))
    assert len(table) == 12
    assert table["effective_sparsity"].between(table["sparsity"] - 1e-9, 1).all()
    sparse = table[table["sparsity"] > 0.99].groupby("method")["effective_sparsity"]
    assert sparse.min()["random"] == 1  # Nothing connects input and output.
    assert sparse.max()["synflow"] < 0.9995
    assert "| 0.999 | cut |" in capsys.readouterr().out
    assert (tmp_path / "compression.png").stat().st_size > 10_000
    # Killed after some masks it makes the others alone.
    (tmp_path / "summary.md").unlink()
    parts = {part: part.stat().st_mtime_ns for part in (tmp_path / "parts").iterdir()}
    gone = min(parts)
    gone.unlink()
    again = load(run(EXPERIMENT, EffectiveSparsity(out_dir=tmp_path, **SMALL)))
    assert again.drop(columns="seconds").equals(table.drop(columns="seconds"))
    assert all(part.stat().st_mtime_ns == then for part, then in parts.items() if part != gone)


@pytest.mark.slow
def test_seeds_may_begin_elsewhere(tmp_path):
    small = SMALL | {"seeds": 1, "sparsities": (0.5,), "methods": ("random",)}
    table = load(run(EXPERIMENT, EffectiveSparsity(out_dir=tmp_path, first_seed=3, **small)))
    assert list(table["seed"]) == [3]


def test_columns_of_a_mask_made_by_hand():
    """Every unit of the second layer is cut off but one: its weights alone are effective."""
    network = Network(EffectiveSparsity(**SMALL))
    params, _ = network.initial(0)
    masks = pruning.full_masks(params)
    masks["dense2"]["kernel"] = jnp.zeros((300, 100), bool).at[:, 7].set(True)
    row = look(network)(params, masks)
    total = 64 * 300 + 300 * 100 + 100 * 10
    np.testing.assert_allclose(row["effective_sparsity"], 1 - (64 * 300 + 300 + 10) / total, rtol=1e-6)
    assert (row["dead_units"], row["units"], row["cut_off_layers"]) == (99, 410, 0)


@pytest.mark.slow
def test_batch_normalisation_neither_starts_nor_blocks_a_signal():
    network = Network(EffectiveSparsity(model="resnet-20"))
    params, _ = network.initial(0)
    row = look(network)(params, pruning.full_masks(params))
    assert row["effective_sparsity"] < 1
    assert row["dead_units"] == 0


def test_fewer_classes_than_the_data_have_is_an_error():
    with pytest.raises(ValueError, match="--classes of at least the data set's 10, got 9"):
        Network(EffectiveSparsity(classes=9))


def test_what_no_run_has_is_not_cut():
    """Runs that are merged may have other sparsities each."""
    rows = [
        row(Point(method, sparsity_target=sparsity, seed=0), effective_sparsity=effective)
        for method, sparsity, effective in (("random", 0.9, 1.0), ("snip", 0.5, 0.5))
    ]
    found = results(rows, sparsities=[0.5, 0.9])
    assert effective_table(found)[2:] == [
        "| 0.5 | not run | 50.00 (50.00 to 50.00) |",
        "| 0.9 | cut | not run |",
    ]
