"""RigL whose masks keep n of every m weights at every step."""

import jax
import jax.numpy as jnp
import optax

from pruning.masks.structures import check_group
from pruning.transforms.dynamic import DropFraction, Growth, dynamic_sparse
from pruning.transforms.regrowth import Regrown
from pruning.transforms.rigl import magnitudes
from pruning.transforms.structured_regrowth import Layer, Quota, check_rows, cut, regrow_rows
from pruning.trees.layout import Layout, flax_layout
from pruning.trees.leaves import PyTree, Scalar
from pruning.trees.rows import Rows, group_rows


def n_m_rigl(
    optimizer: optax.GradientTransformation,
    masks: PyTree,
    *,
    n: int,
    m: int,
    check_every: int,
    stop_after: int,
    drop_fraction: DropFraction = 0.3,
    layout: Layout | None = None,
) -> optax.GradientTransformationExtraArgs:
    r"""N:M RigL: as ``rigl``, but n of every m consecutive inputs of a unit are kept at every step.

    At a check the :math:`k = \lfloor f n_1 \rfloor` smallest :math:`|w|` of a layer go, wherever they
    are; then each group grows, by :math:`|\partial L / \partial w|`, up to n weights again. The ranking
    of what goes runs over the layer, so some groups change more than others. All else is as for ``rigl``:
    what comes starts at 0, and so do the optimizer's slots; gradients must be those of the dense network;
    at a check the gradient is not applied. Of weights without any gradient those that were just dropped
    come first, so a unit that is never active keeps what it has.

    Args:
        optimizer: As for ``rigl``.
        masks: Where to begin, n of every m: ``n_m_masks(random_scores(key, params), n, m)``.
        n: How many of a group are kept, from 1 to m.
        m: The size of a group.
        check_every: Steps between checks, >= 1.
        stop_after: Steps after which the masks stay, >= 0.
        drop_fraction: f in [0, 1], of the kept weights of a layer, or a schedule ``fraction(step)``.
        layout: ``layout(path, leaf)`` says along which axes groups lie, as for ``n_m_masks``; None for
            ``pruning.flax_layout``.

    Returns:
        An optimizer, whose state is a ``DynamicSparseState``; as ``rigl``'s.

    Raises:
        ValueError: As ``rigl``; if n is not in [1, m], m does not divide the inputs of a leaf, or a
            group of the masks does not keep n (when they are not traced).

    Source: Lasby et al. 2024 (arXiv 2305.02299), with groups in the place of units and without
    ablation, as in the authors' sparsimony.

    >>> weights, kept = jnp.array([[3.0], [1.0], [0.0], [0.0]]), jnp.array([[1], [1], [0], [0]]) > 0
    >>> knobs = {"check_every": 1, "stop_after": 1, "drop_fraction": 0.5}
    >>> tx = n_m_rigl(optax.sgd(0.1), {"w": kept}, n=2, m=4, **knobs)
    >>> gradients = {"w": jnp.array([[0.0], [0.0], [2.0], [5.0]])}
    >>> _, state = tx.update(gradients, tx.init({"w": weights}), {"w": weights})
    >>> state.masks["w"].ravel()
    Array([ True, False, False,  True], dtype=bool)
    """
    check_group(n, m)
    chosen = layout or flax_layout

    def groups(masks: PyTree) -> list[Rows]:
        return cut(lambda where, axes: group_rows(axes, m, where), chosen, masks)

    check_rows(
        groups(masks),
        masks,
        lambda counts: bool((counts != n).any()),
        f"masks that keep {n} of every {m} inputs, as n_m_masks(scores, {n}, {m}) makes them",
    )

    def quota(layer: Layer) -> Quota:
        return Quota(jnp.ones_like(layer.mask[:, 0]), jnp.int32(n))

    def regrow(masks: PyTree, weights: PyTree, scores: PyTree, fraction: Scalar) -> Regrown:
        quotas = [quota] * len(jax.tree.leaves(masks))
        return regrow_rows(groups(masks), quotas, masks, weights, scores, fraction)

    return dynamic_sparse(
        optimizer,
        masks,
        Growth("n_m_rigl", magnitudes, steps_at_checks=False, regrow=regrow),
        check_every=check_every,
        stop_after=stop_after,
        drop_fraction=drop_fraction,
    )
