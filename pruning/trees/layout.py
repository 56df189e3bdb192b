"""Which axes of a leaf are stacked layers, which are in and which are out.

A layout is a function ``layout(path, leaf) -> Axes``. Allocations, selection by layer, reports, shuffles
and "a layer is never emptied" all take it as ``layout=``. The default is ``flax_layout``;
``equinox_layout`` is that of Equinox and PyTorch; ``stacked_layout`` says of either that leaves hold
several layers, as ``nn.scan``, ``nnx.vmap`` and a vmapped Equinox module make them.

A leaf with stacked axes is as many layers as they have entries, each of which is treated as if the
network were unrolled. A tree of sparsities then holds an array of the stacked axes' shape in the place of
one number, so an allocation hands its layers on to selection; paths of layers end in their index, as in
``['blocks']['kernel'][3]``.
"""

import math
import re
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np

from pruning.trees.counts import check_counts, is_whole
from pruning.trees.leaves import Path, PyTree, is_none
from pruning.trees.naming import are_names, is_named, leaf_paths, words


class Axes(NamedTuple):
    """The axes of a leaf. Those that are named nowhere are spatial: a kernel's height and width.

    Attributes:
        stacked: How many leading axes are layers.
        inputs: The axes over units that lead into the layer; negative ones count from the end.
        outputs: The axes over the layer's own units.
    """

    stacked: int = 0
    inputs: tuple[int, ...] = (-2,)
    outputs: tuple[int, ...] = (-1,)


Layout = Callable[[Path, Any], Axes]

_EMBEDDING = re.compile(
    r"(token|tok|word|char|vocab|segment|position|pos)_?emb(s|eds?|eddings?|edder)?|embeddings?"
    r"|embed_(tokens|positions)|wte|wpe"
)


def flax_layout(path: Path, leaf: Any) -> Axes:
    """The layout of Flax, Haiku and Keras: a kernel is (..., in, out).

    Kernels of attention are (in, heads, head_dim) for query, key and value and (heads, head_dim, out) for
    what follows them; they are known by their names.

    Args:
        path: The leaf's key path.
        leaf: An array, or anything with a shape.

    Returns:
        Its axes.

    >>> import jax.numpy as jnp
    >>> flax_layout((), jnp.ones((3, 3, 8, 16)))
    Axes(stacked=0, inputs=(-2,), outputs=(-1,))
    """
    ndim = len(leaf.shape)
    if ndim < 2:
        return Axes(inputs=(), outputs=tuple(range(ndim)))
    module = (words(path)[:-1] or [""])[-1]
    if ndim == 3 and module in ("query", "key", "value", "qkv"):
        return Axes(inputs=(0,), outputs=(1, 2))
    if ndim == 3 and (module == "attention_output" or (module == "out" and _is_in_attention(path))):
        return Axes(inputs=(0, 1), outputs=(2,))
    return Axes()


def equinox_layout(path: Path, leaf: Any) -> Axes:
    """The layout of Equinox and PyTorch: a kernel is (out, in, ...).

    An embedding's weight is (tokens, features), which are in and out. It is known by its module's name:
    ``"embedding"``, ``"token_embed"``, ``"wte"`` and the like; one of another name, or a linear layer of
    such a name, needs a layout of its own. So do the transposed convolutions of PyTorch, which are
    (in, out, ...); those of Equinox are (out, in, ...).

    Args:
        path: The leaf's key path.
        leaf: An array, or anything with a shape.

    Returns:
        Its axes.

    >>> import jax.numpy as jnp
    >>> equinox_layout((), jnp.ones((16, 8, 3, 3)))
    Axes(stacked=0, inputs=(1,), outputs=(0,))
    """
    ndim = len(leaf.shape)
    if ndim < 2:
        return Axes(inputs=(), outputs=(0,))
    module = ([word for word in words(path)[:-1] if not word.isdigit()] or [""])[-1]
    if ndim == 2 and _EMBEDDING.fullmatch(module):
        return Axes(inputs=(0,), outputs=(1,))
    return Axes(inputs=(1,), outputs=(0,))


def stacked_layout(*names: str, axes: int = 1, layout: Layout = flax_layout) -> Layout:
    """A layout of leaves that hold several layers in their leading axes.

    Args:
        *names: The modules, or leaves, that are stacked, as they stand in the path (``"blocks"``,
            ``"decoder/blocks"``); none for all leaves.
        axes: How many leading axes are layers, >= 1.
        layout: Of the axes that follow, and of what is not stacked.

    Returns:
        A layout.

    Raises:
        ValueError: If axes < 1, or something else than names is given.

    >>> import jax.numpy as jnp
    >>> blocks = stacked_layout("blocks")
    >>> blocks((jax.tree_util.DictKey("blocks"),), jnp.ones((12, 8, 16)))
    Axes(stacked=1, inputs=(-2,), outputs=(-1,))
    """
    check_counts(axes=axes)
    if not are_names(names):
        raise ValueError(f'expected names of modules or leaves, such as "blocks", got {names}')

    def of_leaf(path: Path, leaf: Any) -> Axes:
        if (names and not is_named(path, names)) or len(leaf.shape) <= axes:
            return layout(path, leaf)
        one = layout(path, jax.ShapeDtypeStruct(leaf.shape[axes:], leaf.dtype))

        def moved(places: tuple[int, ...]) -> tuple[int, ...]:
            return tuple(place if place < 0 else place + axes for place in places)

        return Axes(one.stacked + axes, moved(one.inputs), moved(one.outputs))

    return of_leaf


class LayerAxes(NamedTuple):
    """The axes of a leaf as they were said, checked, and counted from the start.

    Attributes:
        stacked: The sizes of the leading axes that are layers.
        inputs: Axes.
        outputs: Axes.
        spatial: Axes.
        shape: Of the leaf.
    """

    stacked: tuple[int, ...]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    spatial: tuple[int, ...]
    shape: tuple[int, ...]

    @property
    def layers(self) -> int:
        """How many layers the leaf is."""
        return math.prod(self.stacked)

    @property
    def layer_size(self) -> int:
        """How many weights each of them has."""
        return math.prod(self.shape[len(self.stacked) :])

    @property
    def fan_in(self) -> int:
        """How many units lead into a layer."""
        return math.prod(self.shape[axis] for axis in self.inputs)

    @property
    def fan_out(self) -> int:
        """How many units a layer has."""
        return math.prod(self.shape[axis] for axis in self.outputs)

    @property
    def kernel(self) -> tuple[int, ...]:
        """The spatial sizes."""
        return tuple(self.shape[axis] for axis in self.spatial)


def axes_of(layout: Layout, tree: PyTree) -> list[LayerAxes]:
    """Asks a layout about every leaf of a tree.

    Args:
        layout: ``layout(path, leaf)``.
        tree: Params, masks or scores; ``None`` is no leaf.

    Returns:
        The axes of each leaf, in tree order.

    Raises:
        ValueError: If what it says does not fit a leaf.
    """
    found = jax.tree_util.tree_leaves_with_path(tree)
    paths = leaf_paths([path for path, _ in found])
    return [
        _checked(path, leaf, layout(path, leaf)) for path, (_, leaf) in zip(paths, found, strict=True)
    ]


def layers_with_path(layout: Layout, tree: PyTree) -> list[tuple[str, tuple[int, ...]]]:
    """The layers of a tree: its leaves, and all layers of those that are stacks.

    Args:
        layout: ``layout(path, leaf)``.
        tree: Params, masks or scores.

    Returns:
        For each layer its path, which is that of its leaf and the indices in a stack; and these indices.
    """
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return [
        (jax.tree_util.keystr(path) + "".join(f"[{index}]" for index in place), place)
        for (path, _), axes in zip(leaves, axes_of(layout, tree), strict=True)
        for place in np.ndindex(axes.stacked)
    ]


def unstacked(layout: Layout, tree: PyTree) -> dict[str, Any]:
    """Every layer by itself.

    Args:
        layout: ``layout(path, leaf)``.
        tree: Params, masks or scores.

    Returns:
        Each layer's array by its path, in tree order.
    """
    axes, leaves = axes_of(layout, tree), jax.tree.leaves(tree)
    sources = [leaf for leaf, of_leaf in zip(leaves, axes, strict=True) for _ in range(of_leaf.layers)]
    layers = zip(layers_with_path(layout, tree), sources, strict=True)
    return {path: leaf[place] if place else leaf for (path, place), leaf in layers}


def over_layers(function: Callable[..., Any], stacked: tuple[int, ...]) -> Callable[..., Any]:
    """A function of one layer, for a leaf of several.

    Args:
        function: Of arrays.
        stacked: The sizes of the leaf's stacked axes, which lead in every argument and in the result.

    Returns:
        The function, mapped over them.
    """
    for _ in stacked:
        function = jax.vmap(function)
    return function


def map_layers(function: Callable[..., Any], layout: Layout, tree: PyTree, *others: PyTree) -> PyTree:
    """A function of every layer of a tree.

    Args:
        function: ``function(leaf, *leaves)`` of one layer's arrays.
        layout: ``layout(path, leaf)``.
        tree: Masks or scores; ``None`` stays ``None``.
        *others: Trees like it, or like the params.

    Returns:
        A tree like ``tree``; a leaf of several layers has what the function returns for each, stacked.
    """
    remaining = iter(axes_of(layout, tree))

    def of_leaf(leaf: Any, *more: Any) -> Any:
        return None if leaf is None else over_layers(function, next(remaining).stacked)(leaf, *more)

    return jax.tree.map(of_leaf, tree, *others, is_leaf=is_none)


def _checked(path: Path, leaf: Any, axes: Axes) -> LayerAxes:
    shape, where = tuple(leaf.shape), jax.tree_util.keystr(path)
    if not (isinstance(axes, Axes) and is_whole(axes.stacked) and 0 <= axes.stacked <= len(shape)):
        raise ValueError(
            f"expected layout(path, leaf) to return pruning.Axes that fit {shape} at {where}, got {axes}"
        )
    try:
        inputs, outputs = (
            tuple(range(len(shape))[place] for place in places) for places in (axes.inputs, axes.outputs)
        )
    except (IndexError, TypeError) as error:
        raise ValueError(f"expected axes of a leaf of shape {shape} at {where}, got {axes}") from error
    named = [*range(axes.stacked), *inputs, *outputs]
    if len(set(named)) != len(named):
        raise ValueError(f"expected each axis of {shape} at {where} to be one thing, got {axes}")
    spatial = tuple(axis for axis in range(len(shape)) if axis not in named)
    return LayerAxes(shape[: axes.stacked], inputs, outputs, spatial, shape)


def _is_in_attention(path: Path) -> bool:
    parents = words(path)[:-2]
    return "query" in getattr(path, "aunts", ()) or any("attention" in word for word in parents[-1:])
