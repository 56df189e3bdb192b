"""What is drawn at random for each layer of a tree of masks."""

from collections.abc import Callable, Sequence

import jax

from pruning.trees.layout import Layout, axes_of, over_layers
from pruning.trees.leaves import PyTree
from pruning.trees.placement import gathered, placed_as


def each_layer(
    function: Callable[..., jax.Array],
    keys: Sequence[jax.Array],
    layout: Layout,
    masks: PyTree,
    *others: PyTree,
) -> list[jax.Array]:
    """Applies a function of a key and masks to each layer.

    Args:
        function: ``function(key, mask, *others)`` of one layer; a mask of its shape.
        keys: One for each leaf. A leaf of stacked layers splits its own.
        layout: ``layout(path, leaf)`` says which axes are layers.
        masks: A tree of masks.
        *others: More trees of masks like it.

    Returns:
        The new masks, a list in tree order. They lie as the old ones do.
    """
    trees = [jax.tree.leaves(tree) for tree in (masks, *others)]
    found = []
    for key, axes, *leaves in zip(keys, axes_of(layout, masks), *trees, strict=True):
        of_layers = jax.random.split(key, axes.stacked) if axes.stacked else key
        drawn = over_layers(function, axes.stacked)(of_layers, *map(gathered, leaves))
        found.append(placed_as(drawn, leaves[0]))
    return found
