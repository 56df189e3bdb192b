"""What the masks of one network buy: weights, operations, bytes on disk, and measured time.

Dense and compacted network are timed in turn in one run, so that a machine whose speed drifts slows both;
the speed-up is the median of the ratios of the pairs. Compressed rows (CSR) are timed against dense
products with a single example, layer by layer, on the layers that are dense; nothing else of the network
is in those numbers.
"""

import gzip
import math
import tempfile
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import scipy.sparse

import pruning
from experiments.engine.timing import Pair, Work, alternating, seconds, tree_bytes, waiting

PyTree = Any
ApplyFn = Callable[[PyTree, jax.Array], Any]
BATCHES = (1, 128)
PAIRS = 7
LEAST_SECONDS = 0.01
"""A measurement repeats its work until it lasts as long."""
_MATRIX = 2


def bought(apply_fn: ApplyFn, variables: PyTree, masks: PyTree, shape: tuple[int, ...]) -> dict[str, Any]:
    """Measures one network.

    Args:
        apply_fn: ``apply_fn(variables, images)`` in inference mode.
        variables: The network's, of which ``params`` are under masks.
        masks: Masks of the params.
        shape: Height, width and channels of an image.

    Returns:
        Columns of its row: numbers of weights, operations of an example (2 for a multiply-add), bytes,
        milliseconds, speed-ups. ``cut`` is 1 where nothing connects input and output: then nothing of
        the compacted network is measured.
    """
    whole = {name: masks if name == "params" else None for name in variables}
    # All on the device: what is sent there at every call would be timed too.
    masked = jax.tree.map(jnp.asarray, pruning.apply_masks(variables, whole))
    one = jnp.ones((1, *shape))
    report = pruning.network_report(
        lambda params: apply_fn({**masked, "params": params}, one), masked["params"], masks
    )
    columns = {
        "weights": sum(row.size for row in report),
        "weights_kept": sum(row.kept for row in report),
        "weights_effective": sum(row.effective_kept for row in report),
        "flops_dense": sum(row.dense_flops for row in report),
        "flops_ideal_sparse": sum(row.sparse_flops for row in report),
        "bytes_dense": tree_bytes(masked),
        "bytes_gzip": len(
            gzip.compress(b"".join(np.asarray(a).tobytes() for a in jax.tree.leaves(masked)))
        ),
        "bytes_packed": _packed_bytes(masked, whole),
        "cut": float(sum(row.effective_kept for row in report) == 0),
        **_rows_against_matrices(masked["params"], masks),
    }
    return columns if columns["cut"] else columns | _compacted(apply_fn, masked, whole, shape)


def _compacted(
    apply_fn: ApplyFn, masked: PyTree, masks: PyTree, shape: tuple[int, ...]
) -> dict[str, Any]:
    small = pruning.compact(apply_fn, masked, masks, jnp.ones((1, *shape)))
    report = pruning.network_report(
        lambda params: small.apply_fn({**small.variables, "params": params}, jnp.ones((1, *shape))),
        small.variables["params"],
        small.masks["params"],
    )
    columns: dict[str, Any] = {
        "weights_compacted": sum(row.size for row in report),
        "flops_compacted": sum(row.dense_flops for row in report),
        "bytes_compacted": _packed_bytes(small.variables, small.masks),
        "left_whole": len(small.report.left_whole),
    }
    dense, compacted = jax.jit(apply_fn), jax.jit(small.apply_fn)
    for size in BATCHES:
        images = jax.random.uniform(jax.random.key(0), (size, *shape))
        expected, found = dense(masked, images), compacted(small.variables, images)
        scale = float(jnp.abs(expected).max())
        columns[f"difference_{size}"] = float(jnp.abs(found - expected).max()) / (scale or 1)
        ways = waiting(compacted, small.variables, images), waiting(dense, masked, images)
        columns |= _times(*ways, "compacted", "dense", f"_{size}")
    return columns


def _times(ours: Work, theirs: Work, our_name: str, their_name: str, suffix: str) -> dict[str, float]:
    """Milliseconds of both, and how often faster ours is: median, lowest and highest of the pairs."""
    counts = _repetitions(ours), _repetitions(theirs)
    pairs = alternating(_repeated(ours, counts[0]), _repeated(theirs, counts[1]))(PAIRS)[1:]
    pairs = [Pair(pair.ours / counts[0], pair.theirs / counts[1]) for pair in pairs]
    ratios = [pair.theirs / pair.ours for pair in pairs]
    return {
        f"ms_{our_name}{suffix}": 1000 * median(pair.ours for pair in pairs),
        f"ms_{their_name}{suffix}": 1000 * median(pair.theirs for pair in pairs),
        f"speedup_{our_name}{suffix}": median(ratios),
        f"speedup_{our_name}{suffix}_low": min(ratios),
        f"speedup_{our_name}{suffix}_high": max(ratios),
    }


def _repetitions(work: Work) -> int:
    work()  # compiles
    lasts = seconds(work)
    if lasts < LEAST_SECONDS:
        lasts = min(lasts, seconds(work), seconds(work))
    return max(1, math.ceil(LEAST_SECONDS / lasts))


def _repeated(work: Work, count: int) -> Work:
    def several() -> None:
        for _ in range(count):
            work()

    return several


def _packed_bytes(variables: PyTree, masks: PyTree) -> int:
    """Of a file of the kept weights and a bit a weight."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "packed.safetensors"
        pruning.save_masked_params(path, variables, masks)
        return path.stat().st_size


def _rows_against_matrices(params: PyTree, masks: PyTree) -> dict[str, float]:
    """One example through every dense layer by itself, by SciPy's compressed rows and NumPy's product."""
    found = pruning.sparse_rows(params, masks)
    kernels = jax.tree_util.tree_leaves_with_path(params)
    by_path = {jax.tree_util.keystr(path): np.asarray(leaf) for path, leaf in kernels}
    rows, matrices, inputs = [], [], []
    is_rows = lambda node: isinstance(node, pruning.SparseRows)  # noqa: E731 - a predicate
    for path, csr in jax.tree_util.tree_leaves_with_path(found, is_leaf=is_rows):
        kernel = by_path[jax.tree_util.keystr(path)]
        if kernel.ndim == _MATRIX:
            rows.append(scipy.sparse.csr_array((csr.data, csr.indices, csr.indptr), csr.shape))
            matrices.append(np.ascontiguousarray(kernel.T))
            inputs.append(np.ones(len(kernel), np.float32))
    if not rows:
        return {}

    def products(matrices: list[Any]) -> Work:
        return lambda: [matrix @ x for matrix, x in zip(matrices, inputs, strict=True)]

    return _times(products(rows), products(matrices), "csr", "matrix", "_1")
