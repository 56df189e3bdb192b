"""PHEW, paths with higher edge-weights: keeps what biased random walks through a network come to.

No data and no gradient: the walks prefer large weights and are paths from input to output, so no layer
collapses and few kept weights are cut off.
"""

import itertools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from pruning.connectivity.interpreter import OutputFn
from pruning.connectivity.kernel_positions import with_positions
from pruning.connectivity.layer_uses import Layer
from pruning.connectivity.unit_graph import UnitGraph, graph_of
from pruning.connectivity.unit_links import Link, Linked, find_links
from pruning.masks.counting import pruned_count
from pruning.masks.selection import keep_highest
from pruning.masks.tree import count_prunable
from pruning.search.path_probabilities import arranged, kernel_axes
from pruning.search.walk_order import order_scores, walk_order
from pruning.search.walks import make_tables
from pruning.trees.counts import check_counts
from pruning.trees.layout import Layout, axes_of, flax_layout
from pruning.trees.leaves import (
    Prunable,
    PyTree,
    Scalar,
    check_countable,
    is_none,
    is_traced,
    prunable,
    prunable_params,
)


def phew_masks(
    key: jax.Array,
    output_fn: OutputFn,
    params: PyTree,
    sparsity: Scalar,
    *,
    prunable: Prunable = prunable,
    layout: Layout = flax_layout,
    most_walks: int | None = None,
) -> PyTree:
    r"""Keeps the weights that biased random walks from input to output come to first.

    Walks take turns: one goes forward from an input unit, the next backward from an output unit, units
    being taken in order, over and over. Each step goes over one weight w between the units i and j of a
    layer, by ``path_probabilities``: forward with :math:`\sum_p |w_{jip}| / \sum_{j,p} |w_{jip}|` to j,
    and then with :math:`|w_{jip}| / \sum_p |w_{jip}|` over position p of the kernel. A step's weight is
    kept; walks are added until enough are kept, and **the last one is cut** where the count is reached.

    Which unit leads to which is read from the network itself (``pruning.connectivity``), whatever its
    params are called and however their axes lie: through pooling, normalisation, flattening in any
    order, groups of channels, and over shortcuts. Where a unit leads to several layers, or several lead
    to it, every way on is equally probable: into one of the layers that come first on it, or past them
    all to those behind. So a block and the shortcut around it have 1/2 each. Within a layer each unit
    that it leads to (a channel's pixels in a dense layer) is equally probable.

    Walks go from unit to unit, not from pixel to pixel, so a kernel's position may be kept that meets
    nothing but padding. They end after ``most_walks``. What none has come to by then, weights of tiny
    probability, follows by magnitude, so counts are exact at any sparsity; weights that are on no path
    come last. Biases are not pruned.

    Args:
        key: A typed PRNG key (``jax.random.key``).
        output_fn: ``output_fn(params)`` is the network's output, of any structure, at an input of
            ones, as for ``synflow_scores``. Traced arrays that it closes over count as ones.
        params: Any pytree of arrays.
        sparsity: Fraction of prunable weights to remove, in [0, 1); may be traced.
        prunable: ``prunable(path, leaf)`` says which leaves may be pruned. A layer that is not is passed
            through, from all of its input units to all of its output units.
        layout: ``layout(path, leaf)`` says which axes are in and out (``pruning.trees.layout``). It
            matters only where the network multiplies patches by a flattened kernel: what is neither is
            a position.
        most_walks: After how many walks, at least 1, to stop (in whole batches of at most 8192); by
            default 32 for each weight of the largest layer, after which about 2 % of its weights are
            left.

    Returns:
        Masks with exactly ``floor(sparsity * n + 1e-6)`` weights removed. The masks of one key are
        nested: those of a higher sparsity are a part of those of a lower one. Where weights are traced
        and too few of them are not zero, zeros are kept as well.

    Raises:
        ValueError: If the sparsity is outside [0, 1), no leaf is prunable, no path leads through prunable
            weights from input to output, or too few weights are on a path or (where they are concrete)
            are not zero, or one is not finite; or the interpreter refuses the network.

    >>> params = {"a": jnp.array([[1.0, 0.0]]), "b": jnp.array([[1.0], [1.0]])}
    >>> phew_masks(jax.random.key(0), lambda p: jnp.ones((1, 1)) @ p["a"] @ p["b"], params, 0.5)
    {'a': Array([[ True, False]], dtype=bool), 'b': Array([[ True],
           [False]], dtype=bool)}

    Source: Patil and Dovrolis 2021 (arXiv 2010.11354). Deviations: the released code may
    keep up to a walk's length more, and the biases of units that a walk has come through only; it knows
    no shortcut but that with a 1x1 convolution, and would walk on for ever where weights have no
    probability.
    """
    weights = prunable_params(params, prunable)
    pruned = pruned_count(sparsity, count_prunable(weights))
    return walked_masks(
        key, output_fn, params, pruned, prunable=prunable, layout=layout, most_walks=most_walks
    )


def walked_masks(
    key: jax.Array,
    output_fn: OutputFn,
    params: PyTree,
    pruned: Any,
    *,
    prunable: Prunable = prunable,
    layout: Layout = flax_layout,
    most_walks: int | None = None,
) -> PyTree:
    """The step under ``phew_masks``, for callers that count weights themselves.

    Args:
        key: As there.
        output_fn: As there.
        params: As there.
        pruned: How many weights to remove, an int (traced or not).
        prunable: As there.
        layout: As there.
        most_walks: As there.

    Returns:
        Masks.

    Raises:
        ValueError: As there.
    """
    weights = prunable_params(params, prunable)
    places = jax.tree.structure(params).unflatten(range(len(jax.tree.leaves(params))))
    of_weights = jax.tree.map(lambda w, at: None if w is None else at, weights, places, is_leaf=is_none)
    indices = jax.tree.leaves(of_weights)
    axes = dict(zip(indices, axes_of(layout, weights), strict=True))
    linked = find_links(output_fn, params, frozenset(indices))
    with jax.ensure_compile_time_eval():
        linked = with_positions(linked, axes, _counted(indices, jax.tree.leaves(weights)))
    return _walked(key, graph_of(linked), indices, weights, pruned, most_walks)


def path_weighted_masks(
    key: jax.Array,
    kernels: PyTree,
    sparsity: Scalar,
    *,
    layout: Layout = flax_layout,
    most_walks: int | None = None,
) -> PyTree:
    """As ``phew_masks``, of a chain of kernels: nothing else is needed where layers follow each other.

    Each layer's output units are the next one's input units. Where the next has m times as many, a
    convolution's output is flattened into a dense layer of m pixels: an input unit's number is then
    pixel * channels + channel, as Flax flattens (H, W, C). For another order, groups of channels or
    shortcuts, ``phew_masks`` reads the units from the network.

    Args:
        key: A typed PRNG key (``jax.random.key``).
        kernels: Arrays of at least two dimensions, in the order from input to output: a list, or any
            pytree whose leaves are in that order. All are prunable.
        sparsity: Fraction of weights to remove, in [0, 1); may be traced.
        layout: ``layout(path, leaf)`` says which axes are in and out (``pruning.trees.layout``). Layers
            that are stacked in a leaf follow each other.
        most_walks: After how many walks, at least 1, to stop, as for ``phew_masks``.

    Returns:
        A tree of masks like kernels, with exactly ``floor(sparsity * n + 1e-6)`` weights removed.

    Raises:
        ValueError: If the sparsity is outside [0, 1), there is no kernel, one does not follow the one
            before it, or (where they are concrete) too few weights are not zero.

    >>> kernels = [jnp.array([[1.0, 0.0]]), jnp.array([[1.0], [1.0]])]
    >>> path_weighted_masks(jax.random.key(0), kernels, 0.5)
    [Array([[ True, False]], dtype=bool), Array([[ True],
           [False]], dtype=bool)]

    Source: Patil and Dovrolis 2021 (arXiv 2010.11354); deviations as in ``phew_masks``.
    """
    graph = _chain(kernels, layout)
    pruned = pruned_count(sparsity, count_prunable(kernels))
    return _walked(key, graph, range(len(jax.tree.leaves(kernels))), kernels, pruned, most_walks)


def _chain(kernels: PyTree, layout: Layout) -> UnitGraph:
    uses: list[Layer] = []
    names = [jax.tree_util.keystr(path) for path, _ in jax.tree_util.tree_leaves_with_path(kernels)]
    for index, axes in enumerate(kernel_axes(kernels, layout)):
        for place in np.ndindex(axes.stacked):
            shape = (1, axes.fan_in, axes.fan_out, int(np.prod(axes.kernel)))

            def of_layer(leaves: Any, index: int = index, place: Any = place, axes: Any = axes) -> Any:
                return arranged(leaves[index][place], axes)

            before = uses[-1].shape[2] if uses else axes.fan_in
            if axes.fan_in % before:
                raise ValueError(
                    f"expected {before} input units at {names[index]}, as many as the kernel before has "
                    f"output units, or a multiple, got {axes.fan_in}: put the kernels in order from "
                    "input to output, or use pruning.phew_masks, which reads it from the network"
                )
            uses.append(Layer(of_layer, shape))
    links = []
    for number, (use, following) in enumerate(itertools.pairwise(uses)):
        channels, inputs = use.shape[2], following.shape[1]
        pairs = np.arange(inputs).reshape(-1, channels).T.ravel()  # a channel's pixels side by side
        links.append(Link(number, number + 1, pairs % channels, pairs))
    last = np.arange(uses[-1].shape[2])
    links.append(Link(len(uses) - 1, len(uses), last, np.zeros_like(last)))
    fed = [np.full(use.shape[1], not number) for number, use in enumerate(uses)]
    return graph_of(Linked(uses, links, fed))


def _walked(
    key: jax.Array,
    graph: UnitGraph,
    indices: Sequence[int],
    weights: PyTree,
    pruned: Any,
    most_walks: int | None,
) -> PyTree:
    """Walks over the weights, leaves that the graph knows by index, and keeps what is come to first."""
    check_counts(most_walks=1 if most_walks is None else most_walks)
    _check_finite(weights)
    leaves, structure = jax.tree.flatten(weights)
    sizes = [leaf.size for leaf in leaves]
    size, first = sum(sizes), np.cumsum([0, *sizes])
    check_countable(size)
    numbers = _counted(indices, leaves)
    with jax.ensure_compile_time_eval():
        on_path = _on_path(graph, _counted(indices, leaves), size)
    _check_on_paths(weights, pruned, on_path)
    tables = make_tables(graph, dict(zip(indices, leaves, strict=True)), numbers)
    _check_possible(size, pruned, tables.possible)
    order = walk_order(key, graph, tables, size, size - pruned, most_walks)
    parts = [slice(*ends) for ends in itertools.pairwise(first)]
    scores = [
        order_scores(order[part], leaf, True if on_path is None else on_path[part].reshape(leaf.shape))
        for part, leaf in zip(parts, leaves, strict=True)
    ]
    return keep_highest(structure.unflatten(scores), pruned)


def _counted(indices: Sequence[int], leaves: Sequence[Any]) -> dict[int, jax.Array]:
    """int32 arrays like the leaves that count all weights from 0."""
    counted, first = {}, 0
    for index, leaf in zip(indices, leaves, strict=True):
        counted[index] = first + jnp.arange(leaf.size, dtype=jnp.int32).reshape(leaf.shape)
        first += leaf.size
    return counted


def _on_path(graph: UnitGraph, numbers: dict[int, Any], size: int) -> np.ndarray | None:
    """Which weights are on a path; None if all are."""
    found = np.zeros(size, bool)
    for use, open_in, open_out in zip(graph.uses, graph.is_open_in, graph.is_open_out, strict=True):
        is_open = open_in[:, :, None] & open_out[:, None, :]
        found[np.asarray(use.weights(numbers))[is_open]] = True
    return None if found.all() else found


def _check_finite(weights: PyTree) -> None:
    """Refuses weights that give no probabilities; traced ones cannot be read."""
    for path, leaf in jax.tree_util.tree_leaves_with_path(weights):
        if is_traced(leaf):
            continue
        with jax.ensure_compile_time_eval():
            finite = bool(jnp.all(jnp.isfinite(leaf)))
        if not finite:
            raise ValueError(
                f"expected finite weights, got NaN or infinity at {jax.tree_util.keystr(path)}: look for "
                "what has diverged"
            )


def _check_on_paths(weights: PyTree, pruned: Any, on_path: np.ndarray | None) -> None:
    """Refuses more weights than are on paths."""
    leaves = jax.tree_util.tree_leaves_with_path(weights)
    size = sum(leaf.size for _, leaf in leaves)
    if is_traced(pruned):
        return
    kept = size - pruned
    there = size if on_path is None else int(on_path.sum())
    if there < kept:
        first = np.cumsum([0, *(leaf.size for _, leaf in leaves)])
        off = [
            jax.tree_util.keystr(path)
            for (path, _), ends in zip(leaves, itertools.pairwise(first), strict=True)
            if on_path is not None and not on_path[slice(*ends)].any()
        ]
        where = f" (none of {', '.join(off[:8])})" if off else ""
        raise ValueError(
            f"expected {kept} weights on paths from input to output, got {there}{where}: ask for a "
            "higher sparsity, or leave out with prunable= what no path leads through"
        )


def _check_possible(size: int, pruned: Any, possible: jax.Array) -> None:
    """Refuses more weights than walks can go over."""
    if is_traced(pruned) or is_traced(possible):
        return
    kept = size - pruned
    if int(possible) < kept:
        raise ValueError(
            f"expected {kept} weights that a walk can go over, got {int(possible)}, since the others are "
            "zero: ask for a higher sparsity, or pass weights that are not pruned"
        )
