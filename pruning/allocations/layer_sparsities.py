"""The sparsities of masks that are there already."""

from typing import Any

import jax
import numpy as np

from pruning.allocations.layers import stacked
from pruning.masks.tree import map_masks
from pruning.masks.tree import sparsity as sparsity_of
from pruning.trees.layout import Layout, axes_of, flax_layout
from pruning.trees.leaves import PyTree


def layer_sparsities(masks: PyTree, *, layout: Layout = flax_layout) -> PyTree:
    """The sparsity of each layer of given masks.

    With ``layerwise_masks(random_scores(key, params), layer_sparsities(masks))`` as many weights are
    kept in each layer as by the masks, at random places.

    Args:
        masks: A tree of masks.
        layout: ``layout(path, leaf)`` says which axes are layers, in and out (``pruning.trees.layout``).

    Returns:
        A tree of sparsities: floats, or float32 scalars where the masks are traced. A layer without
        any kept weight has 1, which selection refuses (or, traced, takes for all but one weight).

    >>> import jax.numpy as jnp
    >>> layer_sparsities({"kernel": jnp.array([[True, False, False, False]]), "bias": None})
    {'bias': None, 'kernel': 0.75}
    """
    axes = iter(axes_of(layout, masks))

    def of_leaf(mask: jax.Array) -> Any:
        shape = next(axes).stacked
        if not shape:
            return sparsity_of(mask)
        return stacked([sparsity_of(mask[place]) for place in np.ndindex(shape)], shape)

    return map_masks(of_leaf, masks)
