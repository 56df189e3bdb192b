"""Erdos-Renyi allocations: layers with few connections per unit are spared.

``erdos_renyi_kernel`` counts a convolution's kernel among the connections, ``erdos_renyi`` does not.
"""

import math
from collections.abc import Callable

from pruning.allocations.layers import capped, check_concrete, check_known, layers_of
from pruning.masks.counting import TOLERANCE, pruned_count
from pruning.trees.counts import may_be
from pruning.trees.layout import LayerAxes, Layout, flax_layout
from pruning.trees.leaves import Prunable, PyTree, Scalar, prunable


def erdos_renyi(
    params: PyTree,
    sparsity: Scalar,
    *,
    power_scale: float = 1.0,
    prunable: Prunable = prunable,
    layout: Layout = flax_layout,
) -> PyTree:
    r"""Density proportional to :math:`\left( (n_{in} + n_{out}) / (n_{in} \, n_{out}) \right)^p`.

    The kernel's spatial extent does not count; see ``erdos_renyi_kernel`` for the form that counts
    it. Layers that would exceed density 1 are made dense, those of the largest ratio first, and the
    rest is solved again, so that the total sparsity is kept.

    Args:
        params: Any pytree of arrays.
        sparsity: Fraction of prunable weights to remove, in [0, 1); concrete.
        power_scale: p >= 0: below 1 layers differ less, and at 0 all have one sparsity. A high power
            leaves nothing to layers of small ratios: a sparsity of 1, which selection refuses.
        prunable: ``prunable(path, leaf)`` says which leaves may be pruned.
        layout: ``layout(path, leaf)`` says which axes are layers, in and out (``pruning.trees.layout``).

    Returns:
        A tree of sparsities.

    Raises:
        ValueError: If the sparsity is outside [0, 1) or traced, power_scale is negative, infinite, traced
            or shorter than float32, a layer has no axes that count, or no leaf is prunable.

    Source: Mocanu et al. 2018 (arXiv 1707.04780); the capping as in Evci et al. 2020
    (arXiv 1911.11134); p as in their code.
    """
    return _proportional(params, sparsity, lambda axes: (), power_scale, prunable, layout)


def erdos_renyi_kernel(
    params: PyTree,
    sparsity: Scalar,
    *,
    power_scale: float = 1.0,
    prunable: Prunable = prunable,
    layout: Layout = flax_layout,
) -> PyTree:
    r"""Density proportional to :math:`\left( \sum_i d_i / \prod_i d_i \right)^p` over the kernel's axes.

    For dense layers the same as ``erdos_renyi``; a convolution's height and width count as
    dimensions too. Layers that would exceed density 1 are made dense, those of the largest ratio
    first, and the rest is solved again, so that the total sparsity is kept.

    Args:
        params: Any pytree of arrays.
        sparsity: Fraction of prunable weights to remove, in [0, 1); concrete.
        power_scale: p >= 0: below 1 layers differ less, and at 0 all have one sparsity. A high power
            leaves nothing to layers of small ratios: a sparsity of 1, which selection refuses.
        prunable: ``prunable(path, leaf)`` says which leaves may be pruned.
        layout: ``layout(path, leaf)`` says which axes are layers, in and out (``pruning.trees.layout``).

    Returns:
        A tree of sparsities.

    Raises:
        ValueError: If the sparsity is outside [0, 1) or traced, power_scale is negative, infinite, traced
            or shorter than float32, a layer has no axes that count, or no leaf is prunable.

    Source: Evci et al. 2020 (arXiv 1911.11134), section 3; p is ``erk_power_scale`` in their code.

    >>> import jax.numpy as jnp
    >>> sparsities = erdos_renyi_kernel({"a": jnp.ones((100, 10)), "b": jnp.ones((10, 2))}, 0.9)
    >>> round(sparsities["a"], 3), round(sparsities["b"], 3)
    (0.908, 0.498)
    """
    return _proportional(params, sparsity, lambda axes: axes.kernel, power_scale, prunable, layout)


def _proportional(
    params: PyTree,
    sparsity: Scalar,
    kernel: Callable[[LayerAxes], tuple[int, ...]],
    power_scale: float,
    prunable: Prunable,
    layout: Layout,
) -> PyTree:
    """Solves ``density_l = min(1, eps * ratio_l)`` for the eps that removes the sparsity's weights.

    The number of weights to remove is ``pruned_count``'s, rounded down as the reference does.
    ``kernel(axes)`` are the spatial sizes that count beside those of in and out.
    """
    check_concrete(sparsity)
    check_known(power_scale=power_scale)
    if not may_be(power_scale, lambda number: 0 <= number < math.inf):
        raise ValueError(f"expected a finite power_scale >= 0, got {power_scale!r}")
    leaves = layers_of(params, prunable, layout)

    def ratio(axes: LayerAxes) -> float:
        units = ([axes.fan_in] if axes.inputs else []) + ([axes.fan_out] if axes.outputs else [])
        dimensions = [*kernel(axes), *units]
        return sum(dimensions) / math.prod(dimensions)

    ratios = [ratio(axes) for axes in leaves.axes for _ in range(axes.layers)]
    if not all(ratios):
        where = leaves.paths[ratios.index(0)]
        raise ValueError(
            f"expected a layout that names input or output axes of {where}, got none: name some, or "
            "leave the leaf out by prunable="
        )
    size = sum(leaves.sizes)
    # Nothing is ranked here, so more weights may be counted than fit into int32.
    count = pruned_count if size < 2**31 else lambda s, n: math.floor(float(s) * n + TOLERANCE)
    kept = size - count(sparsity, size)
    return leaves.tree(
        [1 - density for density in capped(kept, leaves.sizes, ratios, float(power_scale))]
    )
