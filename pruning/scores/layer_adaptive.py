"""LAMP: magnitudes that can be ranked over all layers."""

import jax
import jax.numpy as jnp

from pruning.scores.binary_scaling import widened
from pruning.trees.layout import Layout, flax_layout, map_layers
from pruning.trees.leaves import Prunable, PyTree, prunable, prunable_params


def layer_adaptive_magnitude_scores(
    params: PyTree, *, prunable: Prunable = prunable, layout: Layout = flax_layout
) -> PyTree:
    r"""Layer-adaptive magnitude (LAMP): :math:`z_i = w_i^2 / \sum_{j \ge i} w_j^2`.

    The sum is over the weights of the same layer that are at least as large, so that the largest of each
    layer scores 1 and no layer is emptied before its turn. Within a layer the order is that of
    magnitudes; between layers it is what remains of the layer that counts. Of equal weights the one with
    the lower index never scores lower.

    Args:
        params: Any pytree of arrays, at initialization or after training.
        prunable: ``prunable(path, leaf)`` says which leaves may be pruned.
        layout: ``layout(path, leaf)`` says which axes are layers (``pruning.trees.layout``).

    Returns:
        A tree of scores from 0 to 1, in float32, or in the params' dtype where that is longer;
        NaN throughout a layer whose weights are not finite, which selection refuses.

    Raises:
        ValueError: If no leaf is prunable.

    Source: Lee et al. 2021 (arXiv 2010.07611), equation 3.

    >>> layer_adaptive_magnitude_scores({"w": jnp.array([[1.0, -2.0, 2.0]])})
    {'w': Array([[0.11111111, 1.        , 0.5       ]], dtype=float32)}
    """
    return map_layers(_of_layer, layout, prunable_params(params, prunable))


@jax.jit
def _of_layer(weights: jax.Array) -> jax.Array:
    magnitudes = jnp.abs(widened(weights)).ravel()
    # Divided by the largest, so that no square leaves the dtype's range.
    largest = jnp.max(magnitudes, initial=0)
    squares = jnp.square(magnitudes / jnp.where(largest == 0, 1, largest))
    order = jnp.argsort(squares, descending=True, stable=True)
    falling = squares[order]
    sums = jax.lax.cummax(jnp.cumsum(falling))  # Rounding in a sum by parts may let it fall.
    shares = jnp.where(falling == 0, 0, falling / jnp.where(sums == 0, 1, sums))
    scores = jnp.zeros_like(squares).at[order].set(shares)
    whole = jnp.where(jnp.isfinite(largest), scores, jnp.nan)
    return whole.reshape(weights.shape)
