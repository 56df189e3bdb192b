"""SRigL: RigL in which every unit of a layer has as many incoming weights, and idle units may go."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from pruning.masks.selection import keep_highest
from pruning.transforms.conditions import compute_where
from pruning.transforms.dynamic import DropFraction, DynamicSparseState, Growth, dynamic_sparse
from pruning.transforms.regrowth import Regrown
from pruning.transforms.rigl import magnitudes
from pruning.transforms.structured_regrowth import Layer, Quota, check_rows, cut, regrow_rows
from pruning.trees.counts import check_fractions
from pruning.trees.layout import Layout, axes_of, flax_layout
from pruning.trees.leaves import Prunable, PyTree, Scalar, map_with_leaf_path
from pruning.trees.precision import check_precise
from pruning.trees.rows import Rows, unit_rows


class ConstantFanInState(NamedTuple):
    """State of ``constant_fan_in_rigl``: that of ``rigl``, and what ablations have left over.

    Attributes:
        count: Steps seen, an int32 scalar.
        masks: What is kept.
        explored: Which weights have ever been kept, as in ``DynamicSparseState``.
        blind: At how many checks a layer stayed as it was, as in ``DynamicSparseState``.
        spare: How many weights fewer each layer keeps than at first, since they cannot be shared out
            equally among its units: int32, shape (layers,) in tree order.
        inner: State of the optimizer.
    """

    count: jax.Array
    masks: PyTree
    explored: PyTree
    blind: jax.Array
    spare: jax.Array
    inner: Any


def constant_fan_in_rigl(
    optimizer: optax.GradientTransformation,
    masks: PyTree,
    *,
    check_every: int,
    stop_after: int,
    drop_fraction: DropFraction = 0.3,
    ablatable: Prunable | None = None,
    salient_fraction: float = 0.3,
    layout: Layout | None = None,
) -> optax.GradientTransformationExtraArgs:
    r"""SRigL: as ``rigl``, but all units of a layer that have weights have the same number k of them.

    At a check, in each layer of :math:`n_1` kept weights, with :math:`K = \lfloor f n_1 \rfloor`:

    1. Salient are the :math:`n_1 - K` kept weights of the largest :math:`|w|`, and the K pruned ones of
       the largest :math:`|\partial L / \partial w|` (as far as it is not 0).
    2. Where ``ablatable`` allows it, units with fewer than :math:`\gamma k` salient weights lose all of
       theirs, for good. Those of the most salient weights stay, as many as the layer's weights need.
    3. With A units left, each is to have :math:`k' = \lfloor n / A \rfloor` weights, n being how many the
       layer kept at first: what ablation frees goes to the others, and what cannot be shared out equally
       waits in the state's ``spare`` for the next ablation. Without one, k' = k.
    4. The K smallest :math:`|w|` of the layer go, the weights of ablated units among them; then each unit
       grows by :math:`|\partial L / \partial w|` up to k'.

    An ablated unit keeps its bias and what leads out of it. All else is as for ``rigl``: what comes
    starts at 0, and so do the optimizer's slots; gradients must be those of the dense network; at a check
    the gradient is not applied. Of weights without any gradient those that were just dropped come first,
    so a unit that is never active keeps what it has until it is ablated.

    Args:
        optimizer: As for ``rigl``.
        masks: Where to begin, of one fan-in for all units of a layer that have weights, such as
            ``constant_fan_in_masks(random_scores(key, params), 0.9)``.
        check_every: Steps between checks, >= 1. The authors' code: 100.
        stop_after: Steps after which the masks stay, >= 0. The authors' code: three quarters of all.
        drop_fraction: f in [0, 1], of the kept weights of a layer, or a schedule ``fraction(step)``.
        ablatable: ``ablatable(path, leaf)`` says which leaves may lose units; None for no ablation. The
            last layer's units are the classes: ``prunable_except("head")``.
        salient_fraction: :math:`\gamma` in [0, 1], of a unit's weights; 0 ablates nothing. The
            authors' code: 0.3.
        layout: ``layout(path, leaf)`` says which axes are units, as for ``constant_fan_in_masks``; None
            for ``pruning.flax_layout``.

    Returns:
        An optimizer, whose state is a ``ConstantFanInState``. It needs ``params`` in ``update``; read the
        masks with ``pruning.get_masks``.

    Raises:
        ValueError: As ``rigl``; if salient_fraction is out of range, or units of a layer of the masks
            have different numbers of weights (when they are not traced).

    Source: Lasby et al. 2024 (arXiv 2305.02299). In their code the gradients of kept weights
    count as salient too, :math:`\gamma` is of the dense fan-in unless asked otherwise, and an ablated
    unit may return.

    >>> params = {"w": jnp.array([[3.0, 0.0], [1.0, 0.0], [0.0, 2.0]])}
    >>> tx = constant_fan_in_rigl(optax.sgd(0.1), {"w": jnp.array([[1, 0], [0, 0], [0, 1]]) > 0},
    ...     check_every=1, stop_after=1, drop_fraction=0.5)
    >>> gradients = {"w": jnp.array([[0.0, 1.0], [0.0, 4.0], [9.0, 0.0]])}
    >>> _, state = tx.update(gradients, tx.init(params), params)
    >>> state.masks["w"].T.tolist()
    [[True, False, False], [False, True, False]]
    """
    check_fractions(salient_fraction=salient_fraction)
    check_precise(salient_fraction=salient_fraction)
    chosen = layout or flax_layout

    def units(masks: PyTree) -> list[Rows]:
        return cut(lambda _, axes: unit_rows(axes), chosen, masks)

    check_rows(
        units(masks),
        masks,
        lambda counts: len(set(counts.ravel().tolist()) - {0}) > 1,
        "masks with one number of weights for all units of a layer that have any, as "
        "constant_fan_in_masks(scores, sparsity) makes them",
    )

    def under(spare: Any) -> Any:
        def regrow(masks: PyTree, weights: PyTree, scores: PyTree, fraction: Scalar) -> Regrown:
            rows = units(masks)
            ends = np.cumsum([of_leaf.axes.layers for of_leaf in rows])[:-1]
            parts = [
                part.reshape(of_leaf.axes.stacked)
                for part, of_leaf in zip(jnp.split(spare, ends), rows, strict=True)
            ]
            idle_go = _without_idle(salient_fraction)
            quotas = [idle_go if may else _shares for may in _answers(ablatable, weights)]
            return regrow_rows(rows, quotas, masks, weights, scores, fraction, parts)

        return dynamic_sparse(
            optimizer,
            masks,
            Growth("constant_fan_in_rigl", magnitudes, steps_at_checks=False, regrow=regrow),
            check_every=check_every,
            stop_after=stop_after,
            drop_fraction=drop_fraction,
        )

    first = under(None)

    def init_fn(params: PyTree) -> ConstantFanInState:
        state = first.init(params)
        layers = sum(axes.layers for axes in axes_of(chosen, state.masks))
        return _with_spare(state, jnp.zeros_like(state.count, shape=(layers,)))

    def update_fn(updates, state, params=None, **extra_args):
        own = DynamicSparseState(state.count, state.masks, state.explored, state.blind, state.inner)
        updates, after = under(state.spare).update(updates, own, params, **extra_args)
        is_check = (after.count % check_every == 0) & (after.count <= stop_after)

        def changed() -> jax.Array:
            before, now = (_layer_counts(chosen, masks) for masks in (state.masks, after.masks))
            return state.spare + before - now

        return updates, _with_spare(after, compute_where(is_check, changed, state.spare))

    return optax.GradientTransformationExtraArgs(init_fn, update_fn)


def _with_spare(state: DynamicSparseState, spare: jax.Array) -> ConstantFanInState:
    return ConstantFanInState(*state[:-1], spare, state.inner)


def _shares(layer: Layer, spare: jax.Array) -> Quota:
    """All units that have weights go on with as many each."""
    return _shared_out(layer, spare, jnp.any(layer.mask, axis=1))


def _without_idle(salient_fraction: Scalar) -> Callable[[Layer, jax.Array], Quota]:
    """Units with few salient weights are ablated, and the others have theirs."""

    def quota(layer: Layer, spare: jax.Array) -> Quota:
        active, count = jnp.any(layer.mask, axis=1), jnp.sum(layer.mask, dtype=jnp.int32)
        fan_in = count // jnp.maximum(jnp.sum(active, dtype=jnp.int32), 1)
        # Rounding must not raise a whole number to the next.
        needed = jnp.ceil(
            fan_in.astype(jnp.float32) * jnp.asarray(salient_fraction, jnp.float32) * np.float32(1 - 1e-6)
        )
        salient = _salient(layer).astype(jnp.float32)
        fewest = -(-(count + spare) // layer.mask.shape[1])
        ranked = keep_highest(salient, active.size - fewest, masks=active)
        return _shared_out(layer, spare, active & ((salient >= needed) | ranked))

    return quota


def _shared_out(layer: Layer, spare: jax.Array, units: jax.Array) -> Quota:
    number = jnp.maximum(jnp.sum(units, dtype=jnp.int32), 1)
    return Quota(units, (jnp.sum(layer.mask, dtype=jnp.int32) + spare) // number)


def _salient(layer: Layer) -> jax.Array:
    """How many salient weights each unit has."""
    mask, drop = layer.mask, layer.drop
    left = jnp.sum(mask, dtype=jnp.int32) - drop
    large = keep_highest(jnp.abs(layer.weight), mask.size - left, masks=mask)
    wanted = keep_highest(layer.growth, mask.size - drop, masks=~mask) & (layer.growth > 0)
    return jnp.sum(large | wanted, axis=1, dtype=jnp.int32)


def _answers(predicate: Prunable | None, tree: PyTree) -> list[bool]:
    if predicate is None:
        return [False] * len(jax.tree.leaves(tree))
    return jax.tree.leaves(map_with_leaf_path(lambda path, leaf: bool(predicate(path, leaf)), tree))


def _layer_counts(layout: Layout, masks: PyTree) -> jax.Array:
    """How many weights each layer keeps, shape (layers,)."""
    leaves = zip(jax.tree.leaves(masks), axes_of(layout, masks), strict=True)
    counts = [jnp.sum(mask.reshape(axes.layers, -1), axis=1, dtype=jnp.int32) for mask, axes in leaves]
    return jnp.concatenate(counts)
