"""What of a masked network is connected: effective weights, dead units, collapsed layers.

A kept weight whose unit no input reaches, or whose unit reaches no output, computes nothing. At high
sparsities many are such, so the sparsity that masks have on paper is too low:
``pruning.sparsity(effective_masks(output_fn, params, masks))`` is the effective one.
"""

import jax
import jax.numpy as jnp
import numpy as np

from pruning.connectivity.interpreter import OutputFn, propagate, whole_signals
from pruning.masks.reading import fit_masks
from pruning.masks.tree import check_masks, map_masks
from pruning.trees.counts import is_whole
from pruning.trees.layout import Layout, axes_of, flax_layout, unstacked
from pruning.trees.leaves import PyTree, is_none, is_traced


def effective_masks(output_fn: OutputFn, params: PyTree, masks: PyTree) -> PyTree:
    r"""Keeps the kept weights that lie on a path of kept weights from the input to the output.

    Weight :math:`w_i` is effective if it is kept and :math:`\partial R / \partial w_i \ne 0`, where
    :math:`R` is the sum of the outputs of the network with its masks in place of its weights, an
    input of ones, and every operation such that no two paths cancel (``signals.py``). This
    counts paths, and no values of params enter, in any dtype and at any depth. It is exact for products,
    convolutions, sums, and functions of each entry. Where it is not known entry by entry what depends on
    what (``fft``, sorting, solving, decompositions, a choice that depends on a signal) all is taken to
    depend on all along the axes concerned. So a live weight is never called dead.

    - Leaves without a mask are whole: weights that multiply (kernels, scales of normalisation)
      connect, weights that are added (biases) neither start a path nor block one. A unit that only
      its bias feeds is cut off. A mask of weights that are added keeps those of connected units.
    - A path goes through positions: a corner of a kernel that meets nothing but padding is on none.
      Every entry under a max pool is on one, since for some inputs it is the largest.
    - What ``output_fn`` closes over is input: zeros in it (dark pixels) are absent, and other
      constants that are added to units feed them. Close over normalisation statistics as they are
      initially, mean 0 and variance 1, or make them leaves of ``params`` without a mask.
    - Of a table (an embedding) only the rows that the input looks up are on a path, and ones look up the
      row 1 alone: give all tokens.
    - A function whose value at 0 is not 0 (a sigmoid, softmax) feeds what follows. ReLU, leaky ReLU,
      tanh, GELU and SiLU do not. Normalising over features (LayerNorm) connects the features.
    - A function whose derivative is 0 (``sign``, a step) passes what arrives, whatever gradient
      is declared for it. A choice by a signal may go either way.

    Call it under ``jit`` for networks of many layers; under ``vmap`` for stacked masks.

    Args:
        output_fn: ``output_fn(params)`` is the network's output, of any structure, at an input of
            ones of the shape that it is to have.
        params: Any pytree of arrays; only shapes and dtypes matter.
        masks: Masks of that tree, concrete or traced.

    Returns:
        Masks that keep the effective weights, a subset of those that ``masks`` keeps.

    Raises:
        ValueError: If the masks do not fit the params, no floating-point output depends on params, or
            params enter a ``while_loop`` or another primitive of which it is not known what depends on
            what, which is named.

    >>> params = {"a": jnp.ones((1, 2)), "bias": jnp.ones(2), "b": jnp.ones((2, 1))}
    >>> def output_fn(p):
    ...     return jax.nn.relu(jnp.ones((1, 1)) @ p["a"] + p["bias"][None]) @ p["b"]
    >>> masks = {"a": jnp.array([[True, False]]), "bias": None, "b": jnp.array([[True], [True]])}
    >>> effective_masks(output_fn, params, masks)["b"].tolist()  # the second unit has only its bias
    [[True], [False]]

    Source: Vysogorets and Kempe 2021 (arXiv 2107.02306), effective sparsity. The gradient is that of
    SynFlow (Tanaka et al. 2020, arXiv 2006.05467) with the masks for weights; deviations: biases
    start no path, maxima are sums, and signals are reduced to there or not after every operation.
    """
    masks = fit_masks(masks, params)
    check_masks(masks, params)
    whole = whole_signals(params, masks)

    def total(kept: PyTree) -> jax.Array:
        signals = jax.tree.map(
            lambda part, rest: rest if part is None else part, kept, whole, is_leaf=is_none
        )
        arrived = propagate(output_fn, params, signals)
        return sum((jnp.sum(array) for array in arrived), jnp.zeros((), jnp.float32))

    kept = map_masks(lambda mask: jnp.asarray(mask, jnp.float32), masks)
    return map_masks(lambda mask, gradient: mask & (gradient != 0), masks, jax.grad(total)(kept))


def collapsed_layers(masks: PyTree, *, layout: Layout = flax_layout) -> tuple[str, ...]:
    """The layers of which nothing is kept. Without a way around it, one cuts the network in two.

    Args:
        masks: A tree of concrete masks; effective ones also tell which layers do nothing.
        layout: ``layout(path, leaf)`` says which axes are layers (``pruning.trees.layout``).

    Returns:
        The paths (``jax.tree_util.keystr``, and an index in a stack of layers) of layers without a kept
        weight, in tree order.

    Raises:
        ValueError: If the masks are traced.

    >>> collapsed_layers({"a": jnp.array([[True, False]]), "b": jnp.array([[False]]), "bias": None})
    ("['b']",)

    Source: Tanaka et al. 2020 (arXiv 2006.05467), layer-collapse.
    """
    if any(is_traced(mask) for mask in jax.tree.leaves(masks)):
        raise ValueError("collapsed_layers needs concrete masks: call it outside jit and vmap")
    whole = jax.tree.map(np.asarray, masks)
    return tuple(path for path, mask in unstacked(layout, whole).items() if not np.any(mask))


def dead_units(masks: PyTree, *, unit_axis: int = -1, layout: Layout | None = None) -> PyTree:
    """The units of each layer that no kept weight leads into.

    Meant for effective masks: there a unit without an outgoing effective weight has no incoming one
    either, so units cut off from the output are found as those cut off from the input are. A unit
    is one of this layer: where a shortcut is added to it, its sum may be alive.

    Args:
        masks: A tree of masks, concrete or traced.
        unit_axis: The axis of a mask that runs over output units: -1 in Flax's kernels (HWIO), 0 in
            Equinox's and PyTorch's (OIHW).
        layout: Says instead which axes run over output units, and which are layers
            (``pruning.trees.layout``). Give one of the two.

    Returns:
        A tree like masks with a bool array (units,) for each mask: True where the unit is dead. With a
        layout it has the axes that are stacked and those of the units.

    Raises:
        ValueError: If a mask has no such axis, or both are given.

    >>> dead_units({"kernel": jnp.array([[True, False, False], [True, True, False]]), "bias": None})
    {'bias': None, 'kernel': Array([False, False,  True], dtype=bool)}
    """

    def dead(mask: jax.Array) -> jax.Array:
        if not is_whole(unit_axis) or not -mask.ndim <= unit_axis < mask.ndim:
            raise ValueError(
                f"expected unit_axis to be an axis of a mask {mask.shape}, got {unit_axis!r}"
            )
        return ~jnp.any(jnp.moveaxis(mask, unit_axis, -1), axis=tuple(range(mask.ndim - 1)))

    if layout is None:
        return map_masks(dead, masks)
    if unit_axis != -1:
        raise ValueError(
            f"expected unit_axis or layout, got both: unit_axis={unit_axis!r} beside a layout, which "
            "says itself which axes run over units; leave unit_axis out"
        )
    axes = iter(axes_of(layout, masks))

    def dead_in(mask: jax.Array) -> jax.Array:
        of_leaf = next(axes)
        return ~jnp.any(mask, axis=(*of_leaf.inputs, *of_leaf.spatial))

    return map_masks(dead_in, masks)
