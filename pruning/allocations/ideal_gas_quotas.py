"""Ideal gas quotas: small layers are spared."""

import numpy as np

from pruning.allocations.layers import check_concrete, layers_of
from pruning.trees.layout import Layout, flax_layout
from pruning.trees.leaves import Prunable, PyTree, Scalar, prunable


def ideal_gas_quotas(
    params: PyTree, sparsity: Scalar, *, prunable: Prunable = prunable, layout: Layout = flax_layout
) -> PyTree:
    r"""IGQ: density :math:`1 / (F n_l + 1)`, with F such that the total sparsity is kept.

    Small layers stay dense, large ones are left with nearly equal *numbers* of weights as the sparsity
    grows. F is found by bisection.

    Args:
        params: Any pytree of arrays.
        sparsity: Fraction of prunable weights to remove, in [0, 1); concrete.
        prunable: ``prunable(path, leaf)`` says which leaves may be pruned.
        layout: ``layout(path, leaf)`` says which axes are layers, in and out (``pruning.trees.layout``).

    Returns:
        A tree of sparsities.

    Raises:
        ValueError: If the sparsity is outside [0, 1) or traced, or no leaf is prunable.

    Source: Vysogorets and Kempe 2021 (arXiv 2107.02306), section 4.

    >>> import jax.numpy as jnp
    >>> sparsities = ideal_gas_quotas({"a": jnp.ones((10, 10)), "b": jnp.ones((1, 10))}, 0.5)
    >>> round(sparsities["a"], 3), round(sparsities["b"], 3)
    (0.54, 0.105)
    """
    check_concrete(sparsity)
    leaves = layers_of(params, prunable, layout)
    sizes = np.array(leaves.sizes, np.float64)
    kept = (1 - float(sparsity)) * sizes.sum()

    def quotas(force: float) -> np.ndarray:
        return 1 / (force * sizes + 1)

    # The sum of n_l / (F n_l + 1) falls from n to below L / F.
    low, high = 0.0, len(sizes) / kept
    for _ in range(200):
        middle = (low + high) / 2
        low, high = (middle, high) if quotas(middle) @ sizes > kept else (low, middle)
    return leaves.tree((1 - quotas((low + high) / 2)).tolist())
