"""Masked kernels as sparse matrices: compressed rows (CSR), compressed rows of blocks (BSR), BCOO.

A kernel is the matrix (outputs, inputs) that multiplies a column of inputs, as sparse kernels, SciPy and
PyTorch have it; the inputs of a convolution are (H, W, I) in the order of its axes, as patches are. The
layout (``pruning.trees.layout``) says which axes are outputs.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import sparse

from pruning.masks.reading import fit_masks
from pruning.masks.tree import check_masks, map_masks
from pruning.trees.counts import is_whole
from pruning.trees.layout import LayerAxes, Layout, axes_of, flax_layout
from pruning.trees.leaves import PyTree, is_none, is_traced


class SparseRows(NamedTuple):
    """A matrix by compressed rows, as ``scipy.sparse.csr_array((data, indices, indptr), shape)`` has it.

    Attributes:
        data: The kept weights, row by row, (kept,).
        indices: Their columns, int32, (kept,).
        indptr: Where each row begins in them, int32, (rows + 1,).
        shape: (rows, columns).
    """

    data: np.ndarray
    indices: np.ndarray
    indptr: np.ndarray
    shape: tuple[int, int]


class SparseBlocks(NamedTuple):
    """A matrix by compressed rows of blocks, as ``scipy.sparse.bsr_array`` takes it.

    Attributes:
        data: The blocks with a kept weight, (blocks, rows of a block, columns of a block).
        indices: Their columns, counted in blocks, int32.
        indptr: Where each row of blocks begins in them, int32.
        shape: (rows, columns).
    """

    data: np.ndarray
    indices: np.ndarray
    indptr: np.ndarray
    shape: tuple[int, int]


def sparse_rows(params: PyTree, masks: PyTree, *, layout: Layout = flax_layout) -> PyTree:
    """The kept weights of every kernel by compressed rows (CSR).

    Args:
        params: Any pytree of concrete arrays.
        masks: Concrete masks of that tree.
        layout: ``layout(path, leaf)`` says which axes are outputs.

    Returns:
        A tree like masks with a ``SparseRows`` for each mask. A kept weight of 0 is stored.

    Raises:
        ValueError: If the masks do not fit, are traced, or a leaf holds several layers.

    >>> params = {"w": jnp.array([[1.0, 2.0], [3.0, 4.0]])}
    >>> rows = sparse_rows(params, {"w": jnp.array([[True, False], [True, True]])})["w"]
    >>> rows.data.tolist(), rows.indices.tolist(), rows.indptr.tolist()
    ([1.0, 3.0, 4.0], [0, 1, 1], [0, 2, 3])
    """

    def of_kernel(weights: np.ndarray, mask: np.ndarray, where: str) -> SparseRows:
        del where
        rows, columns = np.nonzero(mask)
        return SparseRows(weights[mask], columns.astype(np.int32), _begins(rows, len(mask)), mask.shape)

    return _map_matrices(of_kernel, params, masks, layout)


def sparse_blocks(
    params: PyTree, masks: PyTree, *, block: tuple[int, int], layout: Layout = flax_layout
) -> PyTree:
    """The blocks of every kernel in which a weight is kept, by compressed rows (BSR).

    Args:
        params: Any pytree of concrete arrays.
        masks: Concrete masks of that tree, those of ``block_masks``, say.
        block: Outputs and inputs of a block. (``block_masks`` counts inputs first.)
        layout: ``layout(path, leaf)`` says which axes are outputs.

    Returns:
        A tree like masks with a ``SparseBlocks`` for each mask; pruned weights in a block are 0.

    Raises:
        ValueError: If the masks do not fit, are traced, a leaf holds several layers, or a block's sides
            are below 1 or do not divide a matrix.

    >>> masks = {"w": jnp.array([[True, True, False, False]])}
    >>> blocks = sparse_blocks({"w": jnp.ones((1, 4))}, masks, block=(2, 1))["w"]
    >>> blocks.data.shape, blocks.indptr.tolist()
    ((1, 2, 1), [0, 1, 1])
    """
    if not isinstance(block, tuple | list) or len(block) != 2 or not all(map(_is_side, block)):
        raise ValueError(
            f"expected a block as two whole numbers, outputs and inputs, of 1 or more, got {block}"
        )
    high, wide = block

    def of_kernel(weights: np.ndarray, mask: np.ndarray, where: str) -> SparseBlocks:
        rows, columns = mask.shape
        if rows % high or columns % wide:
            raise ValueError(
                f"expected blocks of {block} to divide the {rows} outputs and {columns} inputs of {where}"
            )
        grid = (rows // high, high, columns // wide, wide)
        dense = np.where(mask, weights, np.zeros_like(weights)).reshape(grid).transpose(0, 2, 1, 3)
        place = np.nonzero(mask.reshape(grid).any(axis=(1, 3)))
        begins = _begins(place[0], rows // high)
        return SparseBlocks(dense[place], place[1].astype(np.int32), begins, mask.shape)

    return _map_matrices(of_kernel, params, masks, layout)


def sparse_coordinates(params: PyTree, masks: PyTree) -> PyTree:
    """The kept weights of every leaf by coordinates, as ``jax.experimental.sparse.BCOO``.

    Args:
        params: Any pytree of concrete arrays.
        masks: Concrete masks of that tree.

    Returns:
        The params with a BCOO of the leaf's own shape for each mask; ``x @ kernel`` works as before.

    Raises:
        ValueError: If the masks do not fit, or are traced.

    >>> sparse_coordinates({"w": jnp.eye(2)}, {"w": jnp.eye(2, dtype=bool)})["w"].nse
    2
    """
    masks = _concrete(params, masks)

    def of_leaf(mask: Any, leaf: Any) -> Any:
        if mask is None:
            return leaf
        kept = np.asarray(mask)
        indices = jnp.asarray(np.argwhere(kept), jnp.int32)
        data = jnp.asarray(np.asarray(leaf)[kept])
        return sparse.BCOO((data, indices), shape=kept.shape, indices_sorted=True, unique_indices=True)

    return jax.tree.map(of_leaf, masks, params, is_leaf=is_none)


def _map_matrices(
    function: Callable[[np.ndarray, np.ndarray, str], Any], params: PyTree, masks: PyTree, layout: Layout
) -> PyTree:
    masks = _concrete(params, masks)
    paths, structure = jax.tree_util.tree_flatten_with_path(masks)
    leaves = jax.tree.leaves(map_masks(lambda mask, leaf: leaf, masks, params))
    rows = zip(paths, leaves, axes_of(layout, masks), strict=True)
    return structure.unflatten(
        [
            function(
                _matrix(np.asarray(leaf), axes, jax.tree_util.keystr(path)),
                _matrix(np.asarray(mask), axes, jax.tree_util.keystr(path)),
                jax.tree_util.keystr(path),
            )
            for (path, mask), leaf, axes in rows
        ]
    )


def _concrete(params: PyTree, masks: PyTree) -> PyTree:
    masks = fit_masks(masks, params)
    check_masks(masks, params)
    if any(is_traced(leaf) for leaf in jax.tree.leaves((params, masks))):
        raise ValueError("sparse matrices need concrete params and masks: call it outside jit and vmap")
    return masks


def _matrix(kernel: np.ndarray, axes: LayerAxes, where: str) -> np.ndarray:
    """(outputs, all others in their order)."""
    if axes.stacked:
        raise ValueError(f"expected one layer at {where}, got a stack of {axes.stacked}: take them apart")
    others = [axis for axis in range(kernel.ndim) if axis not in axes.outputs]
    columns = math.prod(kernel.shape[axis] for axis in others)
    return np.transpose(kernel, (*axes.outputs, *others)).reshape(axes.fan_out, columns)


def _is_side(number: Any) -> bool:
    return is_whole(number) and bool(number >= 1)


def _begins(rows: np.ndarray, count: int) -> np.ndarray:
    """Where each row begins among entries that are sorted by row."""
    return np.searchsorted(rows, np.arange(count + 1)).astype(np.int32)
