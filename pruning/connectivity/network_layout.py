"""A layout that is read from a network: what a product sums over leads in, what is left leads out."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from pruning.connectivity.cuts import pass_through
from pruning.connectivity.interpreter import OutputFn
from pruning.connectivity.layer_uses import Use
from pruning.masks.reading import plain_path
from pruning.trees.layout import Axes, LayerAxes, Layout, axes_of, flax_layout
from pruning.trees.leaves import (
    Path,
    Prunable,
    PyTree,
    is_none,
    prunable,
    prunable_params,
)

GROUP, INPUT, OUTPUT, POSITION = range(4)
"""The axes of a use's weights."""


def network_layout(
    output_fn: OutputFn, params: PyTree, *, prunable: Prunable = prunable, layout: Layout = flax_layout
) -> Layout:
    """The layout of a network's own products and convolutions, whatever its kernels look like.

    Each prunable leaf is followed into the product, convolution or look-up that it enters, through
    transposing, reshaping, scaling (an inner mask of constants) and functions that are 0 at 0; the
    primitive's dimension numbers say what it sums over. So a kernel that is stored (out, in), or
    transposed in the forward pass, is grouped along the axes that hardware contracts::

        layout = network_layout(output_fn, params)
        masks = n_m_masks(magnitude_scores(params), 2, 4, layout=layout)

    Args:
        output_fn: ``output_fn(params)`` is the network's output at any input, of any structure.
        params: Its params; only their shapes and dtypes matter.
        prunable: ``prunable(path, leaf)`` says which leaves are read.
        layout: Of leaves that are not read, of those that scale a kernel entry by entry after a function
            that is not 0 at 0 (``w * sigmoid(g)``), and of those that enter no product, or none but a
            ragged one or one with other weights (low rank), or are first added to an array of constants,
            as a position embedding is, or gathered along another axis than the first. What it calls
            spatial stays so where the network multiplies patches by a kernel that is reshaped to a
            matrix.

    Returns:
        A layout, for trees like params, masks and scores of them.

    Raises:
        ValueError: If a leaf is used in several ways that disagree, as a tied embedding is, or its
            batched axes do not lead, or it enters products only in a form that is not followed (combined
            with other weights entry by entry, or a function of it that is not 0 at 0), or the interpreter
            refuses the network.

    >>> import jax.numpy as jnp
    >>> params = {"w": jnp.ones((16, 8))}
    >>> read = network_layout(lambda params: jnp.ones((1, 8)) @ params["w"].T, params)
    >>> read((jax.tree_util.DictKey("w"),), params["w"])
    Axes(stacked=0, inputs=(1,), outputs=(0,))
    """
    weights = prunable_params(params, prunable)
    places = jax.tree.structure(params).unflatten(range(len(jax.tree.leaves(params))))
    of_weights = jax.tree.map(lambda w, at: None if w is None else at, weights, places, is_leaf=is_none)
    paths = [plain_path(path) for path, _ in jax.tree_util.tree_leaves_with_path(weights)]
    known = {plain_path(path) for path, _ in jax.tree_util.tree_leaves_with_path(params)}
    said, first, leaves, numbers = axes_of(layout, weights), 0, [], {}
    rows = zip(jax.tree.leaves(of_weights), jax.tree.leaves(weights), paths, said, strict=True)
    for index, weight, name, axes in rows:
        last = first + weight.size
        numbers[index] = np.arange(first, last).reshape(weight.shape)
        leaves.append(_Leaf(name, weight.shape, first, last, axes))
        first = last
    roles: dict[str, list[_Roles]] = {}
    uses, unread = _uses(output_fn, params, frozenset(numbers))
    for use in uses:
        leaf, at = _entered(use, numbers, leaves)
        roles.setdefault(leaf.name, []).append(_roles(use, leaf, at))
    _check_read([leaf.name for at, leaf in zip(numbers, leaves, strict=True) if at in unread], roles)
    found = {leaf.name: _agreed(leaf, roles[leaf.name]) for leaf in leaves if leaf.name in roles}

    def of_leaf(path: Path, leaf: Any) -> Axes:
        if (name := plain_path(path)) not in known:
            raise ValueError(
                f"expected a leaf of the network whose layout was read, got {name}: pass a tree like its "
                f"params, whose leaves are {', '.join(sorted(known)[:4])}, ..."
            )
        return found.get(name) or layout(path, leaf)

    return of_leaf


class _Leaf(NamedTuple):
    """A leaf, which of all weights are its, and its axes as the layout says them."""

    name: str
    shape: tuple[int, ...]
    first: int
    last: int
    axes: LayerAxes


def _uses(output_fn: OutputFn, params: PyTree, leaves: frozenset[int]) -> tuple[list[Use], set[int]]:
    """The uses of leaves, in the order in which they are computed, and the leaves that cannot be read."""
    uses: list[Use] = []
    unread: set[int] = set()

    def nothing(number: int, use: Use) -> jax.Array:
        return jnp.zeros(use.shape[GROUP] * use.shape[OUTPUT], jnp.float32)

    def passed() -> jax.Array:
        cut = pass_through(output_fn, params, leaves, nothing, jnp.zeros(1))
        uses.extend(cut.uses)
        unread.update(cut.unread)
        return cut.output

    jax.eval_shape(passed)
    return uses, unread


def _check_read(unread: list[str], roles: Mapping[str, Any]) -> None:
    lost = [name for name in unread if name not in roles]
    if lost:
        raise ValueError(
            f"expected every leaf to enter products by itself, got {', '.join(lost[:8])} combined with "
            "others, or a function of it that is not 0 at 0; say with layout= which axes are meant, and "
            "leave it out with prunable= here"
        )


def _entered(use: Use, numbers: dict[int, Any], leaves: list[_Leaf]) -> tuple[_Leaf, np.ndarray]:
    """The leaf whose weights enter a use, and which of them stands where."""
    with jax.ensure_compile_time_eval():
        at = np.asarray(use.weights(numbers))
    for leaf in leaves:
        if leaf.first <= at.min() and at.max() < leaf.last:
            return leaf, at - leaf.first
    among = [leaf.name for leaf in leaves if ((at >= leaf.first) & (at < leaf.last)).any()]
    raise ValueError(
        f"expected every leaf to enter products by itself, got {', '.join(among[:8])} put together; say "
        "with layout= which axes are meant, and leave them out with prunable= here"
    )


class _Roles(NamedTuple):
    """What the axes of a leaf are in one use.

    Attributes:
        groups: Batched axes.
        inputs: Axes.
        outputs: Axes.
        fixed: Axes of which the use has one entry of several -> which.
    """

    groups: set[int]
    inputs: set[int]
    outputs: set[int]
    fixed: dict[int, int]


def _roles(use: Use, leaf: _Leaf, at: np.ndarray) -> _Roles:
    """By what a leaf's coordinates vary with in a use."""
    lines = [np.moveaxis(at, along, 0)[:, 0, 0, 0] for along in range(4)]
    varies = [
        {axis for axis, places in enumerate(np.unravel_index(line, leaf.shape)) if np.ptp(places)}
        for line in lines
    ]
    inputs, outputs, groups = varies[INPUT], varies[OUTPUT], varies[GROUP]
    if use.summed < len(inputs) and inputs - set(leaf.axes.spatial):  # made one by reshaping
        inputs = inputs - set(leaf.axes.spatial)
    if groups & outputs or use.shape[INPUT] == 1:
        outputs, groups = outputs | groups, set()
    # Axes of one entry vary with nothing.
    inputs |= {axis for axis in leaf.axes.inputs if leaf.shape[axis] == 1}
    outputs |= {axis for axis in leaf.axes.outputs if leaf.shape[axis] == 1}
    coordinates = enumerate(np.unravel_index(at.ravel(), leaf.shape))
    fixed = {axis: int(c[0]) for axis, c in coordinates if leaf.shape[axis] > 1 and not np.ptp(c)}
    return _Roles(groups, inputs, outputs, fixed)


def _agreed(leaf: _Leaf, uses: list[_Roles]) -> Axes:
    """The axes of a leaf in all its uses; one of which they have different entries is of layers."""
    layers = {
        axis
        for axis in set.intersection(*(set(roles.fixed) for roles in uses))
        if axis < len(leaf.axes.stacked) or len({roles.fixed[axis] for roles in uses}) > 1
    }
    found = [_axes(leaf, layers | roles.groups, roles) for roles in uses]
    for axes in found:
        if axes != found[0]:
            raise ValueError(
                f"expected one use of {leaf.name}, or several alike, got {found[0]} and {axes}; say with "
                "layout= which axes are meant, and leave it out with prunable= here"
            )
    return found[0]


def _axes(leaf: _Leaf, stacked: set[int], roles: _Roles) -> Axes:
    if stacked != set(range(len(stacked))):
        raise ValueError(
            f"expected the batched axes of {leaf.name} to lead, got {sorted(stacked)} of shape "
            f"{leaf.shape}; say with layout= which axes are meant, and leave it out with prunable= here"
        )
    return Axes(len(stacked), tuple(sorted(roles.inputs)), tuple(sorted(roles.outputs)))
