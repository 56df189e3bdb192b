"""The uniform allocation: all layers alike."""

from pruning.allocations.layers import layers_of
from pruning.masks.counting import check_sparsity
from pruning.trees.layout import Layout, flax_layout
from pruning.trees.leaves import Prunable, PyTree, Scalar, prunable


def uniform(
    params: PyTree, sparsity: Scalar, *, prunable: Prunable = prunable, layout: Layout = flax_layout
) -> PyTree:
    r"""The same sparsity in every layer: :math:`s_l = s`.

    Args:
        params: Any pytree of arrays.
        sparsity: Fraction of prunable weights to remove, in [0, 1); may be traced.
        prunable: ``prunable(path, leaf)`` says which leaves may be pruned.
        layout: ``layout(path, leaf)`` says which axes are layers, in and out (``pruning.trees.layout``).

    Returns:
        A tree of sparsities.

    Raises:
        ValueError: If the sparsity is outside [0, 1) or no leaf is prunable.

    >>> import jax.numpy as jnp
    >>> uniform({"kernel": jnp.ones((4, 2)), "bias": jnp.ones(2)}, 0.5)
    {'bias': None, 'kernel': 0.5}
    """
    check_sparsity(sparsity)
    leaves = layers_of(params, prunable, layout)
    return leaves.tree([sparsity] * len(leaves.sizes))
