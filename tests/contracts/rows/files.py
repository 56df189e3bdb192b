"""Rows of files and of sparse matrices."""

import tempfile
from pathlib import Path

import jax.numpy as jnp

import pruning
from tests.contracts import checks
from tests.contracts.calls import (
    through_a_file,
)
from tests.contracts.containers import every_other
from tests.contracts.rows.row import Row


def through_a_packed_file(read):
    def run(key, params):
        del key
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "params.safetensors"
            pruning.save_masked_params(path, params, every_other(params), {"seed": 3})
            return read(path, params)

    return run


def pruned(params):
    return pruning.apply_masks(params, every_other(params)), every_other(params)


ROWS = {
    "save_masked_params": Row(
        through_a_packed_file(lambda path, p: path.stat().st_size),
        lambda size, p: None if size < 2500 else checks.fail(size),
        traced=False,
    ),
    "load_masked_params": Row(
        through_a_packed_file(lambda path, p: pruning.load_masked_params(path, like=p)),
        lambda result, p: checks.unchanged(result, pruned(p)),
        traced=False,
    ),
    "save_masks": Row(
        through_a_file(lambda path, p: path.stat().st_size),
        lambda size, p: None if size < 2000 else checks.fail(size),
        traced=False,
    ),
    "load_masks": Row(
        through_a_file(lambda path, p: pruning.load_masks(path, like=p)),
        lambda result, p: checks.unchanged(result, every_other(p)),
        traced=False,
    ),
    "load_metadata": Row(
        through_a_file(lambda path, p: pruning.load_metadata(path)),
        checks.equal({"method": "every other", "seed": 3}),
        traced=False,
    ),
    "sparse_rows": Row(
        lambda _, p: pruning.sparse_rows(p, every_other(p)), checks.half_stored, traced=False
    ),
    "sparse_blocks": Row(
        lambda _, p: pruning.sparse_blocks(p, every_other(p), block=(1, 1)),
        checks.half_stored,
        traced=False,
    ),
    "sparse_coordinates": Row(
        lambda _, p: pruning.sparse_coordinates(p, every_other(p)), checks.half_stored, traced=False
    ),
    "SparseRows": Row(
        lambda _, p: pruning.SparseRows(jnp.ones(2), jnp.ones(3), jnp.ones(4), (2, 2)),
        checks.record("data indices indptr shape"),
    ),
    "SparseBlocks": Row(
        lambda _, p: pruning.SparseBlocks(jnp.ones(2), jnp.ones(3), jnp.ones(4), (2, 2)),
        checks.record("data indices indptr shape"),
    ),
}
