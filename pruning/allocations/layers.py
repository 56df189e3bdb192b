"""The layers among which an allocation divides a sparsity, and what allocations share.

All have the signature ``allocation(params, sparsity, *, prunable, layout)`` and return a tree shaped like
masks with a float in [0, 1) where a leaf is prunable; where a leaf holds stacked layers, an array of
them. What takes an allocation passes ``prunable`` on; a layout is bound beforehand:
``allocation=functools.partial(erdos_renyi_kernel, layout=stacked_layout("blocks"))``.
"""

import re
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from pruning.masks.counting import check_sparsity
from pruning.trees.layout import LayerAxes, Layout, axes_of, layers_with_path
from pruning.trees.leaves import Prunable, PyTree, Scalar, is_traced, prunable_params
from pruning.trees.precision import check_precise


class Layers(NamedTuple):
    """The layers of all prunable leaves, one after the other.

    Attributes:
        axes: Of each leaf.
        sizes: Weights of each layer.
        paths: Of each layer, without the boxes of ``nnx``.
        structure: The tree of the leaves.
    """

    axes: list[LayerAxes]
    sizes: list[int]
    paths: list[str]
    structure: Any

    def tree(self, values: Sequence[Any]) -> PyTree:
        """A tree of a number for each layer."""
        remaining, leaves = iter(values), []
        for axes in self.axes:
            of_leaf = [next(remaining) for _ in range(axes.layers)]
            leaves.append(stacked(of_leaf, axes.stacked) if axes.stacked else of_leaf[0])
        return self.structure.unflatten(leaves)


def layers_of(params: PyTree, prunable: Prunable, layout: Layout) -> Layers:
    """The layers of the prunable leaves.

    Args:
        params: Any pytree of arrays.
        prunable: ``prunable(path, leaf)`` says which leaves may be pruned.
        layout: ``layout(path, leaf)`` says which axes are layers, in and out (``pruning.trees.layout``).

    Returns:
        The layers in tree order.

    Raises:
        ValueError: If no leaf is prunable.
    """
    tree = prunable_params(params, prunable)
    found = axes_of(layout, tree)
    return Layers(
        found,
        [axes.layer_size for axes in found for _ in range(axes.layers)],
        [without_box(path) for path, _ in layers_with_path(layout, tree)],
        jax.tree.structure(tree),
    )


def without_box(path: str) -> str:
    """A layer's path without the ``.value`` of a box round its leaf, which is there or not in ``nnx``.

    Args:
        path: As ``layer_report`` writes it.

    Returns:
        The path, a layer's place in its leaf included.
    """
    return re.sub(r"\.value(?=(\[\d+\])*$)", "", path)


def stacked(values: Sequence[Any], shape: tuple[int, ...]) -> Any:
    """Numbers as an array: numpy, or traced where they are.

    Args:
        values: A number for each layer of one leaf.
        shape: Of the axes that are layers.

    Returns:
        An array of the shape.
    """
    together = jnp.stack if any(is_traced(value) for value in values) else np.array
    return together(values).reshape(shape)


def capped(kept: float, sizes: Sequence[int], ratios: Sequence[float], power: float = 1.0) -> list[float]:
    """Densities proportional to powers of ratios, but not above 1: ``min(1, eps * ratio_l ** power)``.

    Layers that would exceed 1 are made dense, those of the largest ratio first, and the rest is solved
    again, so that the total is kept.

    Args:
        kept: How many weights the densities keep in all.
        sizes: Weights of each layer.
        ratios: A number > 0 for each layer.
        power: What the ratios are raised to, >= 0.

    Returns:
        A density for each layer, in [0, 1].
    """
    densities = [1.0] * len(sizes)
    sparse = list(range(len(sizes)))
    while sparse:
        largest = max(ratios[i] for i in sparse)
        # Of ratios to the largest, whose power is 1: those of the ratios alone may all be too small.
        powers = [(ratios[i] / largest) ** power for i in sparse]
        dense = sum(sizes) - sum(sizes[i] for i in sparse)
        scale = (kept - dense) / sum(p * sizes[i] for p, i in zip(powers, sparse, strict=True))
        if scale <= 1:
            for i, p in zip(sparse, powers, strict=True):
                densities[i] = scale * p
            break
        sparse = [i for i in sparse if ratios[i] < largest]
    return densities


def check_known(**numbers: Any) -> None:
    """Checks the numbers that an allocation takes beside the sparsity.

    Args:
        **numbers: By name.

    Raises:
        ValueError: If one is traced, or shorter than float32.
    """
    check_precise(**numbers)
    for name, value in numbers.items():
        if is_traced(value):
            raise ValueError(f"this allocation needs a concrete {name}: call it outside jit")


def check_concrete(sparsity: Scalar) -> None:
    """Checks the sparsity of an allocation that computes with numbers, not with arrays.

    Args:
        sparsity: What the caller asks for.

    Raises:
        ValueError: If it is outside [0, 1) or traced.
    """
    check_sparsity(sparsity)
    check_known(sparsity=sparsity)
