"""The order of a model's layers, which a pytree does not know: that in which the model calls them."""

from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

import pruning


def layers_in_order(model: nn.Module, image_shape: Sequence[int]) -> list[str]:
    """The prunable layers from input to output, whatever they are called.

    Args:
        model: ``model(images, train=...)``, a Linen module.
        image_shape: (H, W, C) of an image.

    Returns:
        The paths of their kernels, as ``pruning.layer_report`` writes them. Of branches that run side by
        side, the one that the model calls first comes first.
    """
    called: dict[tuple[str, ...], int] = {}

    def note(call: Any, args: Any, kwargs: Any, context: nn.module.InterceptorContext) -> Any:
        called.setdefault(context.module.path, len(called))
        return call(*args, **kwargs)

    with nn.intercept_methods(note):
        images = jnp.zeros((1, *image_shape))
        params = jax.eval_shape(lambda: model.init(jax.random.key(0), images))["params"]
    masks = jax.tree_util.tree_leaves_with_path(pruning.full_masks(params))

    def place(path: Any) -> int:
        return called[tuple(key.key for key in path[:-1])]

    return [jax.tree_util.keystr(path) for path, _ in sorted(masks, key=lambda leaf: place(leaf[0]))]
