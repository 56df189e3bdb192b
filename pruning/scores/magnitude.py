"""Magnitudes of weights as scores."""

import jax
import jax.numpy as jnp

from pruning.trees.leaves import Prunable, PyTree, prunable, prunable_params


def magnitude_scores(params: PyTree, *, prunable: Prunable = prunable) -> PyTree:
    r"""How large a weight is: :math:`z_i = |w_i|`.

    Args:
        params: Any pytree of arrays, at initialization or after training.
        prunable: ``prunable(path, leaf)`` says which leaves may be pruned.

    Returns:
        A tree of scores in the dtype of the params.

    Raises:
        ValueError: If no leaf is prunable.

    Source: Han et al. 2015 (arXiv 1506.02626).
    """
    return jax.tree.map(jnp.abs, prunable_params(params, prunable))
