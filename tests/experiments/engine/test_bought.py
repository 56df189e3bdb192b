"""What masks buy, of a network small enough to count by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.engine import bought as measured_module
from experiments.engine import timing
from experiments.engine.bought import bought
from experiments.engine.experiment import run
from experiments.report.table import load
from experiments.what_masks_buy import EXPERIMENT as UNTRAINED
from experiments.what_masks_buy import WhatMasksBuy
from experiments.what_sparsity_buys import EXPERIMENT, WhatSparsityBuys

PARAMS = {"a": {"kernel": jnp.ones((6, 5)), "bias": jnp.zeros(5)}, "b": {"kernel": jnp.ones((5, 2))}}


def apply_fn(variables, images):
    params = variables["params"]
    hidden = images.reshape(len(images), 6) @ params["a"]["kernel"] + params["a"]["bias"][None]
    return jnp.maximum(hidden, 0) @ params["b"]["kernel"]


def masks_of(kept_units):
    along = jnp.isin(jnp.arange(5), jnp.array(kept_units, int))
    return {
        "a": {"kernel": jnp.broadcast_to(along[None], (6, 5)), "bias": None},
        "b": {"kernel": jnp.ones((5, 2), bool)},
    }


@pytest.mark.slow
def test_units_without_inputs_are_counted_and_cut_out():
    row = bought(apply_fn, {"params": PARAMS}, masks_of([0, 3]), (2, 3, 1))
    assert (row["weights"], row["weights_kept"], row["weights_effective"]) == (40, 22, 16)
    assert (row["weights_compacted"], row["left_whole"], row["cut"]) == (16, 0, 0)
    assert (row["flops_dense"], row["flops_ideal_sparse"], row["flops_compacted"]) == (80, 44, 32)
    assert row["bytes_dense"] == 4 * 45
    assert row["difference_1"] == row["difference_128"] == 0
    speeds = [name for name in row if name.startswith("speedup") and not name.endswith(("low", "high"))]
    assert speeds == ["speedup_csr_1", "speedup_compacted_1", "speedup_compacted_128"]
    assert all(row[f"{name}_low"] <= row[name] <= row[f"{name}_high"] for name in speeds)


@pytest.mark.slow
def test_of_a_network_that_is_cut_nothing_compacted_is_measured():
    row = bought(apply_fn, {"params": PARAMS}, masks_of([]), (2, 3, 1))
    assert row["cut"] == 1
    assert "speedup_compacted_1" not in row
    assert row["weights_kept"] == 10


@pytest.mark.slow
def test_what_is_timed_lies_on_the_device(monkeypatch):
    """NumPy leaves would be sent there at every call of the dense network, and of it alone."""
    given, waiting = [], timing.waiting

    def noting(function, *arguments):
        given.extend(jax.tree.leaves(arguments))
        return waiting(function, *arguments)

    monkeypatch.setattr(measured_module, "waiting", noting)
    bought(apply_fn, {"params": jax.device_get(PARAMS)}, masks_of([0, 3]), (2, 3, 1))
    assert len(given) == 4 * (3 + 1)  # both networks, both numbers of examples
    assert all(isinstance(leaf, jax.Array) for leaf in given)


@pytest.mark.slow
def test_trained_networks_are_measured_and_shown(tmp_path, capsys):
    methods = ("snip", "snip-channels", "dissipating-band", "k-starts", "edge-popup")
    options = WhatSparsityBuys(seeds=1, epochs=2, sparsities=(0.5,), methods=methods, out_dir=tmp_path)
    table = load(run(EXPERIMENT, options))
    measured = table[table["weights"].notna()]
    assert set(measured["method"]) == {"dense", *methods} - {"edge-popup"}
    assert (measured["epoch"] == 2).all()
    assert measured["candidate"].isna().all()
    assert (measured["weights_compacted"] <= measured["weights"]).all()
    # Half of the channels of both hidden layers: 32 x 150 + 150 x 50 + 50 x 10 of what LeNet has.
    (channels,) = measured.query("method == 'snip-channels' and sparsity_target == 0.5")[
        "weights_compacted"
    ]
    assert channels <= 64 * 150 + 150 * 50 + 50 * 10
    np.testing.assert_allclose(measured["difference_128"].astype(float), 0, atol=1e-5)
    said = capsys.readouterr().out
    assert "| SNIP, channels | 0.5 |" in said
    assert "| Dissipating gradients, band | 0." in said
    assert "| Edge-popup |" not in said
    assert (tmp_path / "bought.png").stat().st_size > 10_000


@pytest.mark.slow
def test_untrained_networks_are_measured_and_shown(tmp_path, capsys):
    options = WhatMasksBuy(
        seeds=1, sparsities=(0.9, 0.999), methods=("random", "synflow"), out_dir=tmp_path
    )
    table = load(run(UNTRAINED, options))
    assert table.query("method == 'random' and sparsity_target == 0.999")["cut"].tolist() == [1]
    assert table.query("method == 'synflow'")["weights_compacted"].notna().all()
    assert "| cut |" in capsys.readouterr().out
