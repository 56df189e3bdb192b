"""Smart ratios: layers near the input are spared; the caller says which those are."""

from collections.abc import Sequence

from pruning.allocations.layers import capped, check_concrete, check_known, layers_of, without_box
from pruning.trees.counts import may_be
from pruning.trees.layout import Layout, flax_layout
from pruning.trees.leaves import Prunable, PyTree, Scalar, prunable


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
        layout: ``layout(path, leaf)`` says which axes are layers, in and out (``pruning.trees.layout``).

    Returns:
        A tree of sparsities. As an ``allocation``: ``functools.partial(smart_ratios, layers=...)``.

    Raises:
        ValueError: If the sparsity is outside [0, 1) or traced, ``last_density`` is outside (0, 1],
            traced or shorter than float32, ``layers`` are not the prunable leaves, or the last layer
            alone keeps more than there is to keep.

    Source: Su et al. 2020 (arXiv 2009.11094), section 4. Their released code differs in two ways: it
    divides by :math:`l^2` too for networks that are not residual, and what is above a density of 1 goes
    to the layers that follow.
    """
    check_concrete(sparsity)
    leaves = layers_of(params, prunable, layout)
    sizes = dict(zip(leaves.paths, leaves.sizes, strict=True))
    if isinstance(layers, str) or not isinstance(layers, Sequence):
        raise ValueError(f"expected layers as a list of paths from input to output, got {layers!r}")
    layers = [without_box(str(path)) for path in layers]
    if sorted(layers) != sorted(sizes):
        raise ValueError(
            f"expected layers to name each prunable leaf once ({', '.join(sizes)}), "
            f"got {', '.join(layers)}"
        )
    *early, last = layers
    check_known(last_density=last_density)
    if not may_be(last_density, lambda number: 0 < number <= 1):
        raise ValueError(f"expected last_density in (0, 1], got {last_density!r}")
    if not early:
        raise ValueError(f"expected at least two layers, the last being the classifier, got {last} alone")
    total = (1 - float(sparsity)) * sum(sizes.values())
    last_density = max(float(last_density), (total - sum(sizes[path] for path in early)) / sizes[last])
    kept = total - last_density * sizes[last]
    if kept <= 0:
        raise ValueError(
            f"sparsity {sparsity} leaves nothing to the other layers where {last} keeps {last_density} "
            f"of its {sizes[last]} weights: ask for a lower sparsity or a lower last_density"
        )
    places = range(len(layers), 1, -1)
    densities = capped(kept, [sizes[path] for path in early], [n * n + n for n in places])
    of_path = dict(zip(layers, [*densities, last_density], strict=True))
    return leaves.tree([1 - of_path[path] for path in leaves.paths])
