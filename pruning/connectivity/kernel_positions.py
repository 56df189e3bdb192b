"""A product of patches with a kernel is a convolution: its input units are channels.

A network may multiply patches of pixels by a kernel that is flattened, as is faster where images are
small. There would be an input unit for each pixel of a patch and each channel. Here there is one for each
channel again, and the pixels are the kernel's positions. Which axes of a leaf are positions, its
layout says; a dense layer after a flattened image has none.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np

from pruning.connectivity.layer_uses import Layer
from pruning.connectivity.unit_links import Linked
from pruning.trees.layout import LayerAxes


def with_positions(linked: Linked, axes: Mapping[int, LayerAxes], numbers: Mapping[int, Any]) -> Linked:
    """Puts input units together that are positions of one kernel and that the same units lead to.

    Args:
        linked: A network's uses and links.
        axes: Of the leaves, by index.
        numbers: Arrays like the leaves, concrete, that count all their entries from 0.

    Returns:
        The same, with fewer input units and more positions where a use is such a product.
    """
    ends = np.cumsum([numbers[index].size for index in numbers])
    for place, use in enumerate(linked.uses):
        if use.shape[0] != 1 or use.shape[3] != 1:
            continue
        at = np.asarray(use.weights(numbers))[0, :, 0, 0]
        leaf = int(np.searchsorted(ends, at[0], side="right"))
        of_leaf = axes[list(numbers)[leaf]]
        first = ends[leaf] - np.prod(of_leaf.shape, dtype=int)
        if not of_leaf.spatial or at.min() < first or at.max() >= ends[leaf]:
            continue
        local = np.unravel_index(at - first, of_leaf.shape)
        units = np.stack([local[axis] for axis in of_leaf.inputs])
        _, unit = np.unique(units, axis=1, return_inverse=True)
        linked = _together(linked, place, unit.ravel())
    return linked


def _together(linked: Linked, place: int, unit: np.ndarray) -> Linked:
    use, fed = linked.uses[place], linked.fed[place]
    count = int(unit.max()) + 1
    positions = len(unit) // count
    if positions < 2 or (np.bincount(unit) != positions).any():
        return linked
    order = np.argsort(unit, kind="stable")
    leading = [link for link in linked.links if link.target == place]
    is_live = fed.copy()
    for link in leading:
        is_live[link.inputs] = True
    live = np.bincount(unit, weights=is_live, minlength=count)
    merged = []
    for link in leading:
        pairs, times = np.unique(np.stack([link.outputs, unit[link.inputs]]), axis=1, return_counts=True)
        if (times != live[pairs[1]]).any():
            return linked  # positions that different units lead to are pixels
        merged.append(link._replace(outputs=pairs[0], inputs=pairs[1]))
    _, inputs, outputs, _ = use.shape

    def weights(leaves: Any) -> Any:
        arranged = use.weights(leaves)[0, order, :, 0].reshape(inputs // positions, positions, outputs)
        return jnp.swapaxes(arranged, 1, 2)[None]

    whole = Layer(weights, (1, count, outputs, positions))
    return Linked(
        _put(linked.uses, place, whole),
        [*(link for link in linked.links if link.target != place), *merged],
        _put(linked.fed, place, np.bincount(unit, weights=fed, minlength=count) > 0),
    )


def _put(items: Sequence[Any], place: int, item: Any) -> list[Any]:
    return [item if number == place else each for number, each in enumerate(items)]
