"""Allocations: from one sparsity to a sparsity for each layer.

All have the signature ``allocation(params, sparsity, *, prunable, layout)`` and return a tree shaped like
masks with a float in [0, 1) where a leaf is prunable; where a leaf holds stacked layers, an array of
them. What takes an allocation passes ``prunable`` on; a layout is bound beforehand:
``allocation=functools.partial(erdos_renyi_kernel, layout=stacked_layout("blocks"))``.

They differ in who bears the sparsity:
``uniform`` treats all layers alike, ``erdos_renyi`` spares layers with few connections per unit,
``erdos_renyi_kernel`` counts a convolution's kernel among the connections,
``ideal_gas_quotas`` spares small layers, ``smart_ratios`` spares the layers near the input (and must be
told which those are). ``layer_sparsities`` reads the sparsities of masks that are there already.
"""

import math
import re
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from pruning.counting import check_sparsity
from pruning.layout import LayerAxes, Layout, axes_of, flax_layout, layers_with_path
from pruning.leaves import Prunable, PyTree, Scalar, is_traced, prunable, prunable_params
from pruning.masks import map_masks
from pruning.masks import sparsity as sparsity_of


def uniform(
    params: PyTree, sparsity: Scalar, *, prunable: Prunable = prunable, layout: Layout = flax_layout
) -> PyTree:
    r"""The same sparsity in every layer: :math:`s_l = s`.

    Args:
        params: Any pytree of arrays.
        sparsity: Fraction of prunable weights to remove, in [0, 1); may be traced.
        prunable: ``prunable(path, leaf)`` says which leaves may be pruned.
        layout: ``layout(path, leaf)`` says which axes are layers, in and out (``pruning.layout``).

    Returns:
        A tree of sparsities.

    Raises:
        ValueError: If the sparsity is outside [0, 1) or no leaf is prunable.

    >>> import jax.numpy as jnp
    >>> uniform({"kernel": jnp.ones((4, 2)), "bias": jnp.ones(2)}, 0.5)
    {'bias': None, 'kernel': 0.5}
    """
    check_sparsity(sparsity)
    leaves = _layers(params, prunable, layout)
    return leaves.tree([sparsity] * len(leaves.sizes))


def erdos_renyi(
    params: PyTree, sparsity: Scalar, *, prunable: Prunable = prunable, layout: Layout = flax_layout
) -> PyTree:
    r"""Density proportional to :math:`(n_{in} + n_{out}) / (n_{in} \, n_{out})`.

    The kernel's spatial extent does not count; see ``erdos_renyi_kernel`` for the form that counts
    it. Layers that would exceed density 1 are made dense, those of the largest ratio first, and the
    rest is solved again, so that the total sparsity is kept.

    Args:
        params: Any pytree of arrays.
        sparsity: Fraction of prunable weights to remove, in [0, 1); concrete.
        prunable: ``prunable(path, leaf)`` says which leaves may be pruned.
        layout: ``layout(path, leaf)`` says which axes are layers, in and out (``pruning.layout``).

    Returns:
        A tree of sparsities.

    Raises:
        ValueError: If the sparsity is outside [0, 1) or traced, or no leaf is prunable.

    Source: Mocanu et al. 2018 (arXiv 1707.04780); the capping as in Evci et al. 2020
    (arXiv 1911.11134).
    """
    return _proportional(params, sparsity, lambda axes: (), prunable, layout)


def erdos_renyi_kernel(
    params: PyTree, sparsity: Scalar, *, prunable: Prunable = prunable, layout: Layout = flax_layout
) -> PyTree:
    r"""Density proportional to :math:`\sum_i d_i / \prod_i d_i` over all axes of the kernel.

    For dense layers the same as ``erdos_renyi``; a convolution's height and width count as
    dimensions too. Layers that would exceed density 1 are made dense, those of the largest ratio
    first, and the rest is solved again, so that the total sparsity is kept.

    Args:
        params: Any pytree of arrays.
        sparsity: Fraction of prunable weights to remove, in [0, 1); concrete.
        prunable: ``prunable(path, leaf)`` says which leaves may be pruned.
        layout: ``layout(path, leaf)`` says which axes are layers, in and out (``pruning.layout``).

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
    return _proportional(params, sparsity, lambda axes: axes.kernel, prunable, layout)


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
        layout: ``layout(path, leaf)`` says which axes are layers, in and out (``pruning.layout``).

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
    _check_concrete(sparsity)
    leaves = _layers(params, prunable, layout)
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


def smart_ratios(
    params: PyTree,
    sparsity: Scalar,
    *,
    layers: Sequence[str],
    last_density: float = 0.3,
    prunable: Prunable = prunable,
    layout: Layout = flax_layout,
) -> PyTree:
    r"""Density proportional to :math:`(L - l + 1)^2 + (L - l + 1)` for the l-th of L layers.

    The last layer, the classifier, counts among the L but has a density of its own; it is raised where
    the others dense would not be enough. Densities above 1 are set to 1 and the rest is solved again, so
    that the total sparsity is kept.

    Args:
        params: Any pytree of arrays.
        sparsity: Fraction of prunable weights to remove, in [0, 1); concrete.
        layers: The layers' paths (as ``layer_report`` writes them) from input to output: a pytree does
            not know its order. Those of ``nnx`` may end in ``.value`` or not.
        last_density: Density of the last layer, in (0, 1].
        prunable: ``prunable(path, leaf)`` says which leaves may be pruned.
        layout: ``layout(path, leaf)`` says which axes are layers, in and out (``pruning.layout``).

    Returns:
        A tree of sparsities. As an ``allocation``: ``functools.partial(smart_ratios, layers=...)``.

    Raises:
        ValueError: If the sparsity is outside [0, 1) or traced, ``layers`` are not the prunable
            leaves, or the last layer alone keeps more than there is to keep.

    Source: Su et al. 2020 (arXiv 2009.11094), section 4. Their released code differs in two ways: it
    divides by :math:`l^2` too for networks that are not residual, and what is above a density of 1 goes
    to the layers that follow.
    """
    _check_concrete(sparsity)
    leaves = _layers(params, prunable, layout)
    sizes = dict(zip(leaves.paths, leaves.sizes, strict=True))
    layers = [_without_box(path) for path in layers]
    if sorted(layers) != sorted(sizes):
        raise ValueError(
            f"expected layers to name each prunable leaf once ({', '.join(sizes)}), "
            f"got {', '.join(layers)}"
        )
    *early, last = layers
    if not 0 < last_density <= 1:
        raise ValueError(f"expected last_density in (0, 1], got {last_density}")
    if not early:
        raise ValueError(f"expected at least two layers, the last being the classifier, got {last} alone")
    total = (1 - float(sparsity)) * sum(sizes.values())
    last_density = max(last_density, (total - sum(sizes[path] for path in early)) / sizes[last])
    kept = total - last_density * sizes[last]
    if kept <= 0:
        raise ValueError(
            f"sparsity {sparsity} leaves nothing to the other layers where {last} keeps {last_density} "
            f"of its {sizes[last]} weights: ask for a lower sparsity or a lower last_density"
        )
    places = range(len(layers), 1, -1)
    densities = _capped(kept, [sizes[path] for path in early], [n * n + n for n in places])
    of_path = dict(zip(layers, [*densities, last_density], strict=True))
    return leaves.tree([1 - of_path[path] for path in leaves.paths])


def layer_sparsities(masks: PyTree, *, layout: Layout = flax_layout) -> PyTree:
    """The sparsity of each layer of given masks.

    With ``layerwise_masks(random_scores(key, params), layer_sparsities(masks))`` as many weights are
    kept in each layer as by the masks, at random places.

    Args:
        masks: A tree of masks.
        layout: ``layout(path, leaf)`` says which axes are layers, in and out (``pruning.layout``).

    Returns:
        A tree of sparsities: floats, or float32 scalars where the masks are traced. A layer without
        any kept weight has 1, which selection refuses (or, traced, takes for all but one weight).

    >>> import jax.numpy as jnp
    >>> layer_sparsities({"kernel": jnp.array([[True, False, False, False]]), "bias": None})
    {'bias': None, 'kernel': 0.75}
    """
    axes = iter(axes_of(layout, masks))

    def of_leaf(mask: jax.Array) -> Any:
        stacked = next(axes).stacked
        if not stacked:
            return sparsity_of(mask)
        return _stacked([sparsity_of(mask[place]) for place in np.ndindex(stacked)], stacked)

    return map_masks(of_leaf, masks)


class _Layers(NamedTuple):
    """The layers of all prunable leaves, one after the other.

    Attributes:
        axes: Of each leaf.
        sizes: Weights of each layer.
        paths: Of each layer, without the boxes of ``nnx``.
        structure: The tree of the leaves.
    """

    axes: list[LayerAxes]
    sizes: list[int]
    paths: list[str]
    structure: Any

    def tree(self, values: Sequence[Any]) -> PyTree:
        """A tree of a number for each layer."""
        remaining, leaves = iter(values), []
        for axes in self.axes:
            of_leaf = [next(remaining) for _ in range(axes.layers)]
            leaves.append(_stacked(of_leaf, axes.stacked) if axes.stacked else of_leaf[0])
        return self.structure.unflatten(leaves)


def _layers(params: PyTree, prunable: Prunable, layout: Layout) -> _Layers:
    tree = prunable_params(params, prunable)
    found = axes_of(layout, tree)
    return _Layers(
        found,
        [axes.layer_size for axes in found for _ in range(axes.layers)],
        [_without_box(path) for path, _ in layers_with_path(layout, tree)],
        jax.tree.structure(tree),
    )


def _without_box(path: str) -> str:
    """A layer's path without the ``.value`` of a box round its leaf, which is there or not in ``nnx``."""
    return re.sub(r"\.value(?=(\[\d+\])*$)", "", path)


def _stacked(values: Sequence[Any], shape: tuple[int, ...]) -> Any:
    """Numbers as an array: numpy, or traced where they are."""
    together = jnp.stack if any(is_traced(value) for value in values) else np.array
    return together(values).reshape(shape)


def _proportional(
    params: PyTree,
    sparsity: Scalar,
    kernel: Callable[[LayerAxes], tuple[int, ...]],
    prunable: Prunable,
    layout: Layout,
) -> PyTree:
    """Solves ``density_l = min(1, eps * ratio_l)`` for the eps that removes the sparsity's weights.

    The number of weights to remove is rounded down (``floor(s * n)``), as the reference does.
    ``kernel(axes)`` are the spatial sizes that count beside those of in and out.
    """
    _check_concrete(sparsity)
    leaves = _layers(params, prunable, layout)

    def ratio(axes: LayerAxes) -> float:
        units = ([axes.fan_in] if axes.inputs else []) + ([axes.fan_out] if axes.outputs else [])
        dimensions = [*kernel(axes), *units]
        return sum(dimensions) / math.prod(dimensions)

    ratios = [ratio(axes) for axes in leaves.axes for _ in range(axes.layers)]
    kept = sum(leaves.sizes) - math.floor(float(sparsity) * sum(leaves.sizes))
    return leaves.tree([1 - density for density in _capped(kept, leaves.sizes, ratios)])


def _capped(kept: float, sizes: Sequence[int], ratios: Sequence[float]) -> list[float]:
    """Densities ``min(1, eps * ratio_l)`` that keep ``kept`` weights: the largest ratios first dense."""
    dense: set[int] = set()
    while True:
        sparse = [i for i in range(len(sizes)) if i not in dense]
        if not sparse:
            scale = 0.0
            break
        budget = kept - sum(sizes[i] for i in dense)
        scale = budget / sum(ratios[i] * sizes[i] for i in sparse)
        largest = max(ratios[i] for i in sparse)
        if scale * largest <= 1:
            break
        dense |= {i for i in sparse if ratios[i] == largest}
    return [1.0 if i in dense else scale * ratio for i, ratio in enumerate(ratios)]


def _check_concrete(sparsity: Scalar) -> None:
    check_sparsity(sparsity)
    if is_traced(sparsity):
        raise ValueError("this allocation needs a concrete sparsity: call it outside jit")
