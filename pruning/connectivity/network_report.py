"""What masks leave of a network, layer by layer: weights, effective weights, FLOPs."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import jax

from pruning.connectivity.effective import effective_masks
from pruning.connectivity.interpreter import OutputFn, multiply_adds
from pruning.masks.reading import fit_masks
from pruning.masks.tree import count_kept, map_masks
from pruning.trees.layout import Layout, axes_of, flax_layout, unstacked
from pruning.trees.leaves import PyTree, is_traced


class NetworkRow(NamedTuple):
    """One layer of a report: counts are weights, sparsities fractions removed, FLOPs operations."""

    path: str
    shape: tuple[int, ...]
    size: int
    kept: int
    sparsity: float
    effective_kept: int
    effective_sparsity: float
    dense_flops: int
    sparse_flops: int


def network_report(
    output_fn: OutputFn, params: PyTree, masks: PyTree, *, layout: Layout = flax_layout
) -> Sequence[NetworkRow]:
    r"""What the masks keep in each layer, what of it is effective, and what it costs to compute.

    FLOPs are those of the products and convolutions that a leaf enters in one ``output_fn(params)``,
    for its whole batch, 2 for a multiply-add: :math:`2 \, u \, n` dense and :math:`2 \, u \, k`
    sparse, where each of the leaf's :math:`n` weights is used :math:`u` times and :math:`k` are
    kept. In a convolution :math:`u` is the number of output positions: padding, and zeros between
    the inputs of a transposed one, count like pixels. A leaf that is used twice counts twice; one
    that enters no product or convolution (an embedding that is looked up, weights that are added)
    counts 0, as biases, activations and pools do. Of a kernel that is itself a product of weights, or is
    divided by one (low rank, spectral normalisation), the product that makes it counts, and not the one
    that it enters.

    ``sparse_flops`` are what an ideal sparse kernel needs for the masks as they are; no such kernel
    is used here, and less FLOPs are not less time. ``dense_flops * effective_kept // size`` are
    those of the effective weights. Sum the rows for the network's totals.

    Args:
        output_fn: ``output_fn(params)`` is the network's output, of any structure, at an input of
            ones; with a batch of 1, FLOPs are those of an example. Of a table (an embedding) only the
            rows that it looks up are effective: give it all tokens.
        params: Any pytree of arrays; only shapes and dtypes matter.
        masks: Concrete masks of that tree.
        layout: ``layout(path, leaf)`` says which axes are layers (``pruning.trees.layout``).

    Returns:
        A row for each layer that has a mask, in tree order; a leaf of stacked layers has one for each.

    Raises:
        ValueError: If the masks do not fit the params or are traced, no output depends on params, or
            params enter a ``while_loop`` or another primitive that ``effective_masks`` refuses.

    >>> params = {"w": jax.numpy.ones((2, 2))}
    >>> masks = {"w": jax.numpy.array([[True, False], [False, False]])}
    >>> (row,) = network_report(lambda p: jax.numpy.ones((1, 2)) @ p["w"], params, masks)
    >>> row.kept, row.sparsity, row.effective_kept, row.dense_flops, row.sparse_flops
    (1, 0.75, 1, 8, 2)

    Source: Effective weights: Vysogorets and Kempe 2021 (arXiv 2107.02306). FLOPs of
    ideal sparse kernels: Blalock et al. 2020 (arXiv 2003.03033), theoretical speed-up.
    """
    if any(is_traced(mask) for mask in jax.tree.leaves(masks)):
        raise ValueError("network_report needs concrete masks: call it outside jit and vmap")
    masks = fit_masks(masks, params)
    effective = effective_masks(output_fn, params, masks)
    uses = jax.tree.leaves(
        map_masks(lambda mask, count: count, masks, multiply_adds(output_fn, params, masks))
    )
    # What a stack is used in, its layers are in equal parts.
    counts = [
        count // axes.layers
        for count, axes in zip(uses, axes_of(layout, masks), strict=True)
        for _ in range(axes.layers)
    ]
    layers, connected = unstacked(layout, masks), unstacked(layout, effective)
    rows = []
    for (path, mask), count in zip(layers.items(), counts, strict=True):
        kept, effective_kept, size = count_kept(mask), count_kept(connected[path]), math.prod(mask.shape)
        rows.append(
            NetworkRow(
                path=path,
                shape=mask.shape,
                size=size,
                kept=kept,
                sparsity=(size - kept) / max(size, 1),
                effective_kept=effective_kept,
                effective_sparsity=(size - effective_kept) / max(size, 1),
                dense_flops=2 * count,
                sparse_flops=2 * count * kept // max(size, 1),
            )
        )
    return rows
