"""Layers whose number of units may be another than the model's own: those of a compacted network.

A model's `units` has such numbers by the layer's path, `{"stage1/block2/conv1": 11}`. Those of
attention's query, key and value are two, of heads and of the dimensions of each:
`{"block1/attention/query": (2, 64)}`. Layers that are not in it have the model's own.
"""

from collections.abc import Callable, Mapping
from typing import Any

import flax.linen as nn
import jax
from flax.core import FrozenDict

from pruning.trees.layout import axes_of, flax_layout

Count = int | tuple[int, ...]
"""A number of units; of units along several axes a number for each."""

Units = Mapping[str, Count]
"""Numbers of units by the path of the layer, names joined by slashes."""

OWN: Units = FrozenDict()
"""All layers have the model's own."""

MakeLayer = Callable[..., nn.Module]
"""`layer(units, *, name)`."""


class Sized(nn.Module):
    """A layer with as many units as are asked for at its path; its variables are the layer's own.

    Attributes:
        own: How many units the model has here.
        layer: From a number of units to the layer.
        units: What is asked for.
    """

    own: Count
    layer: Callable[[Any], nn.Module]
    units: Units

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Apply the layer."""
        layer = self.layer(self.units.get("/".join(self.path), self.own))
        nn.share_scope(self, layer)
        return layer(x)


def sized(layer: Callable[[Any], nn.Module], units: Units) -> MakeLayer:
    """Let the number of units of a kind of layers be asked for.

    Args:
        layer: From a number of units to a layer without a name.

    Returns:
        `layer(own, *, name)`.
    """
    return lambda own, *, name: Sized(own, layer, units, name=name)


def resized(model: Any, params: Any) -> Any:
    """Give a model as many units in each layer as params have, those of a compacted network, say.

    Which axes of a kernel are its units, the library's default layout says (`pruning.flax_layout`).

    Args:
        model: A model of this project.
        params: Its params in any size.

    Returns:
        The model of that size: its own params are like those, with the same paths.
    """
    leaves = jax.tree_util.tree_leaves_with_path(params)
    units = {
        "/".join(entry.key for entry in path[:-1]): _count(leaf.shape, axes.outputs)
        for (path, leaf), axes in zip(leaves, axes_of(flax_layout, params), strict=True)
        if path[-1].key == "kernel"
    }
    return model.clone(units=FrozenDict(units))


def _count(shape: tuple[int, ...], outputs: tuple[int, ...]) -> Count:
    sizes = tuple(shape[axis] for axis in outputs)
    return sizes[0] if len(sizes) == 1 else sizes
