"""Allocations: from one sparsity to a sparsity for each layer.

All have the signature ``allocation(params, sparsity, *, prunable)`` and return a tree shaped like
masks with a float in [0, 1) where a leaf is prunable. They differ in who bears the sparsity:
``uniform`` treats all layers alike, ``erdos_renyi`` spares layers with few connections per unit,
``erdos_renyi_kernel`` counts a convolution's kernel among the connections.
"""

import math
from collections.abc import Callable

import jax

from pruning.counting import check_sparsity
from pruning.masks import Prunable, PyTree, Scalar, is_traced, prunable, prunable_params


def uniform(params: PyTree, sparsity: Scalar, *, prunable: Prunable = prunable) -> PyTree:
    r"""The same sparsity in every layer: :math:`s_l = s`.

    Args:
        params: Any pytree of arrays.
        sparsity: Fraction of prunable weights to remove, in [0, 1); may be traced.
        prunable: ``prunable(path, leaf)`` says which leaves may be pruned.

    Returns:
        A tree of sparsities.

    Raises:
        ValueError: If the sparsity is outside [0, 1) or no leaf is prunable.

    >>> import jax.numpy as jnp
    >>> uniform({"kernel": jnp.ones((4, 2)), "bias": jnp.ones(2)}, 0.5)
    {'bias': None, 'kernel': 0.5}
    """
    check_sparsity(sparsity)
    return jax.tree.map(lambda leaf: sparsity, prunable_params(params, prunable))


def erdos_renyi(params: PyTree, sparsity: Scalar, *, prunable: Prunable = prunable) -> PyTree:
    r"""Density proportional to :math:`(n_{in} + n_{out}) / (n_{in} \, n_{out})`.

    The kernel's spatial extent does not count; see ``erdos_renyi_kernel`` for the form that counts
    it. Layers that would exceed density 1 are made dense, those of the largest ratio first, and the
    rest is solved again, so that the total sparsity is kept.

    Args:
        params: Any pytree of arrays; the last two axes of a leaf are taken as in and out.
        sparsity: Fraction of prunable weights to remove, in [0, 1); concrete.
        prunable: ``prunable(path, leaf)`` says which leaves may be pruned.

    Returns:
        A tree of sparsities.

    Raises:
        ValueError: If the sparsity is outside [0, 1) or traced, or no leaf is prunable.

    Source: Mocanu et al. 2018 (arXiv 1707.04780); the capping as in Evci et al. 2020
    (arXiv 1911.11134).
    """
    return _proportional(params, sparsity, lambda shape: shape[-2:], prunable)


def erdos_renyi_kernel(params: PyTree, sparsity: Scalar, *, prunable: Prunable = prunable) -> PyTree:
    r"""Density proportional to :math:`\sum_i d_i / \prod_i d_i` over all axes of the kernel.

    For dense layers the same as ``erdos_renyi``; a convolution's height and width count as
    dimensions too. Layers that would exceed density 1 are made dense, those of the largest ratio
    first, and the rest is solved again, so that the total sparsity is kept.

    Args:
        params: Any pytree of arrays.
        sparsity: Fraction of prunable weights to remove, in [0, 1); concrete.
        prunable: ``prunable(path, leaf)`` says which leaves may be pruned.

    Returns:
        A tree of sparsities.

    Raises:
        ValueError: If the sparsity is outside [0, 1) or traced, or no leaf is prunable.

    Source: Evci et al. 2020 (arXiv 1911.11134), section 3.

    >>> import jax.numpy as jnp
    >>> sparsities = erdos_renyi_kernel({"a": jnp.ones((100, 10)), "b": jnp.ones((10, 2))}, 0.9)
    >>> round(sparsities["a"], 3), round(sparsities["b"], 3)
    (0.908, 0.498)
    """
    return _proportional(params, sparsity, lambda shape: shape, prunable)


def _proportional(
    params: PyTree,
    sparsity: Scalar,
    dimensions: Callable[[tuple[int, ...]], tuple[int, ...]],
    prunable: Prunable,
) -> PyTree:
    """Solves ``density_l = min(1, eps * ratio_l)`` for the eps that removes the sparsity's weights.

    The number of weights to remove is rounded down (``floor(s * n)``), as the reference does.
    """
    check_sparsity(sparsity)
    if is_traced(sparsity):
        raise ValueError("Erdos-Renyi allocations need a concrete sparsity: call them outside jit")
    leaves, structure = jax.tree.flatten(prunable_params(params, prunable))
    sizes = [math.prod(leaf.shape) for leaf in leaves]
    ratios = [sum(dimensions(leaf.shape)) / math.prod(dimensions(leaf.shape)) for leaf in leaves]
    kept = sum(sizes) - math.floor(float(sparsity) * sum(sizes))
    dense: set[int] = set()
    while True:
        sparse = [i for i in range(len(leaves)) if i not in dense]
        if not sparse:
            scale = 0.0
            break
        budget = kept - sum(sizes[i] for i in dense)
        scale = budget / sum(ratios[i] * sizes[i] for i in sparse)
        largest = max(ratios[i] for i in sparse)
        if scale * largest <= 1:
            break
        dense |= {i for i in sparse if ratios[i] == largest}
    return structure.unflatten(
        [0.0 if i in dense else 1 - scale * ratio for i, ratio in enumerate(ratios)]
    )
