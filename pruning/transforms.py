"""Optax transformations beside the methods, hold masks and accumulate gradients, and what all share.

Where each goes in a chain, and around or inside which wrapper, is in docs/optimizers.md.
"""

import contextlib
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from pruning.conditions import compute_where
from pruning.counting import check_steps
from pruning.leaves import Prunable, PyTree, is_none, is_traced, prunable_params
from pruning.leaves import prunable as default_prunable
from pruning.masks import check_masks, map_masks
from pruning.placement import placed_as, zero_count
from pruning.precision import at_least_float32, wider
from pruning.reading_masks import as_bool, fit_masks


class HoldMasksState(NamedTuple):
    """Holds the masks, so that they travel, stack and are saved with the optimizer's state."""

    masks: PyTree


def hold_masks(masks: PyTree) -> optax.GradientTransformationExtraArgs:
    r"""Keeps pruned weights at exactly zero, whatever comes before it in the chain.

    The update of a pruned weight becomes :math:`-w`, so that :math:`w + u = 0` exactly: momentum,
    Adam's moments and weight decay cannot revive it, and it need not be zero beforehand.

    A wrapper that computes with the updates afterwards (``optax.lookahead``, ``optax.contrib.sam``,
    ...) undoes it: it goes outside, see docs/optimizers.md. An optimizer that keeps gradients from
    one step to the next (L-BFGS, a line search) must see those of
    ``loss(apply_masks(params, masks))``.

    Args:
        masks: A tree of masks; they may be traced, so one program serves all masks. (Under
            ``optax.inject_hyperparams`` a tree that can be called, as an Equinox module can, would be
            taken for a schedule: pass ``static_args="masks"``.)

    Returns:
        A transformation for the end of a chain. It needs ``params`` in ``update``.

    Raises:
        ValueError: From ``init`` if the masks do not fit the params, from ``update`` without params.

    >>> params, masks = {"w": jnp.ones((1, 2))}, {"w": jnp.array([[True, False]])}
    >>> tx = optax.chain(optax.adamw(0.1), hold_masks(masks))
    >>> updates, _ = tx.update({"w": jnp.ones((1, 2))}, tx.init(params), params)
    >>> optax.apply_updates(params, updates)["w"].round(2)
    Array([[0.9, 0. ]], dtype=float32)
    """

    def init_fn(params: PyTree) -> HoldMasksState:
        if is_placeholder(params):
            return HoldMasksState(params)
        return HoldMasksState(own_masks(masks, without_hidden(params)))

    def update_fn(updates, state, params=None, **extra_args):
        del extra_args
        require_params(params, "hold_masks")
        state = HoldMasksState(as_bool(state.masks))
        return zero_pruned(updates, params, state.masks), state

    return optax.GradientTransformationExtraArgs(init_fn, update_fn)


class AccumulateGradientsState(NamedTuple):
    """The sums so far (a tree like masks) and the number of steps seen."""

    count: jax.Array
    gradient_sums: PyTree


def accumulate_gradients(
    *, first: int = 1, last: int | None = None, prunable: Prunable | None = None
) -> optax.GradientTransformationExtraArgs:
    r"""Sums the magnitude of the gradients it sees: :math:`G_i = \sum_t |g_{t,i}|`.

    Updates pass through unchanged. Place it first in a chain to see the raw gradients; read the sums
    with ``optax.tree.get(opt_state, "gradient_sums")``. ``accumulate_signed_gradients`` sums the
    signed gradients, so that what points to and fro cancels.

    Args:
        first: The first step of the sum, counting from 1.
        last: The last step of the sum; None for no end.
        prunable: ``prunable(path, leaf)``; None for ``pruning.prunable``.

    Returns:
        A transformation whose state holds the sums of the prunable leaves, in float32 at least.

    Raises:
        ValueError: If ``first`` < 1 or ``last`` < ``first``.

    Source: Haroon 2022 (arXiv 2209.02201), "gradient accumulated over an epoch".
    """
    return _accumulate(jnp.abs, first, last, prunable)


def accumulate_signed_gradients(
    *, first: int = 1, last: int | None = None, prunable: Prunable | None = None
) -> optax.GradientTransformationExtraArgs:
    r"""Sums the gradients it sees: :math:`G_i = \sum_t g_{t,i}`.

    The other reading of the accumulated gradient, see ``accumulate_gradients``; the fitness takes
    the magnitude of the sum.

    Args:
        first: The first step of the sum, counting from 1.
        last: The last step of the sum; None for no end.
        prunable: ``prunable(path, leaf)``; None for ``pruning.prunable``.

    Returns:
        A transformation whose state holds the sums of the prunable leaves, in float32 at least.

    Raises:
        ValueError: If ``first`` < 1 or ``last`` < ``first``.

    Source: Haroon 2022 (arXiv 2209.02201).
    """
    return _accumulate(lambda gradient: gradient, first, last, prunable)


def zero_pruned(updates: PyTree, params: PyTree, masks: PyTree) -> PyTree:
    """Replaces the updates of pruned weights by what takes them to zero.

    Args:
        updates: The updates of all params.
        params: The params.
        masks: A tree of masks.

    Returns:
        The updates, ``-w`` where pruned; in the longer of the dtypes of update and weight. (Updates
        in a shorter dtype than the weights cannot both keep it and be exact; a wrapper that
        branches on dtypes, such as ``optax.apply_if_finite``, refuses that combination.)
    """

    def zeroed(mask: Any, update: Any, weight: Any) -> Any:
        if mask is None:
            return update
        # Promoted, not cast: -w rounded to a shorter dtype would not take w to zero.
        dtype = wider(update.dtype, weight.dtype)
        return jnp.where(mask, update.astype(dtype), -weight.astype(dtype))

    return jax.tree.map(zeroed, masks, updates, params, is_leaf=is_none)


def after_update(params: PyTree, updates: PyTree, masks: PyTree) -> PyTree:
    """The weights as the optimizer's update alone would leave them.

    Args:
        params: The params.
        updates: The updates of all params.
        masks: A tree of masks; only leaves that have one are computed.

    Returns:
        A tree like masks, in the params' dtypes.
    """

    def added(_: Any, weight: Any, update: Any) -> Any:
        dtype = wider(update.dtype, weight.dtype)
        return (weight.astype(dtype) + update.astype(dtype)).astype(weight.dtype)

    return map_masks(added, masks, params, updates)


def require_params(params: PyTree, name: str) -> None:
    """Checks that ``update`` was given the params.

    Args:
        params: What it was given.
        name: The transformation.

    Raises:
        ValueError: If they are None.
    """
    if params is None:
        raise ValueError(
            f"{name} needs the params: call update(updates, state, params), also on the chain around it"
        )


def is_placeholder(params: PyTree) -> bool:
    """Whether optax is only asking for the structure of a state (``optax.tree.map_params``).

    It does so with one node without children in the place of the params, and the state must hold it
    wherever it holds something shaped like the params.
    """
    containers = (dict, list, tuple, type(None))
    return not isinstance(params, containers) and not jax.tree.leaves(params)


def without_hidden(params: PyTree) -> PyTree:
    """Puts ``None`` where ``optax.masked`` or ``optax.partition`` hides a leaf from a transformation.

    Args:
        params: What ``init`` was given.

    Returns:
        The params that are this transformation's to prune.
    """

    def is_hidden(node: Any) -> bool:
        return isinstance(node, optax.MaskedNode)

    return jax.tree.map(lambda leaf: None if is_hidden(leaf) else leaf, params, is_leaf=is_hidden)


def first_masks(masks: PyTree, params: PyTree, prunable: Prunable | None) -> PyTree:
    """The masks with which a transformation's state begins.

    Args:
        masks: The caller's, or None for those of the dense network.
        params: What ``init`` was given.
        prunable: The caller's predicate, or None for ``pruning.prunable``.

    Returns:
        Masks that lie on devices as the params do and share no buffer with the caller's.

    Raises:
        ValueError: If they do not fit, or nothing is prunable.
    """
    if masks is not None:
        return own_masks(masks, without_hidden(params))
    chosen = own_prunable(params, prunable)
    return jax.tree.map(lambda leaf: jnp.ones_like(leaf, dtype=bool), chosen)


def own_prunable(params: PyTree, prunable: Prunable | None) -> PyTree:
    """The prunable leaves of what ``init`` was given.

    Args:
        params: What ``init`` was given.
        prunable: The caller's predicate, or None for ``pruning.prunable``.

    Returns:
        A tree like masks.

    Raises:
        ValueError: If nothing is prunable, or the dtype of a weight has no zero.
    """
    params = without_hidden(params)
    try:
        chosen = prunable_params(params, default_prunable if prunable is None else prunable)
    except ValueError as error:
        raise ValueError(_flat_message(params)) if _is_flat(params) else error from None
    jax.tree_util.tree_map_with_path(_check_zero, chosen)
    return chosen


def own_masks(masks: PyTree, params: PyTree) -> PyTree:
    """The caller's masks for a transformation's state: checked, copied, and placed as the params are.

    Copied, because a step that donates the state would otherwise delete the caller's masks.

    Args:
        masks: A tree of masks.
        params: From ``without_hidden``; a mask of what is hidden is left out.

    Returns:
        Masks of the params.

    Raises:
        ValueError: If the masks do not fit.
    """
    if _is_flat(params) and getattr(masks, "shape", None) != params.shape:
        raise ValueError(_flat_message(params))
    if any(leaf is None for leaf in jax.tree.leaves(params, is_leaf=is_none)):
        # Hidden may be a leaf or all of a subtree. Masks of another structure are refused below.
        with contextlib.suppress(ValueError):
            masks = jax.tree.map(lambda p, m: None if p is None else m, params, masks, is_leaf=is_none)
    masks = fit_masks(masks, params)
    check_masks(masks, params)
    jax.tree_util.tree_map_with_path(_check_zero, map_masks(lambda _, leaf: leaf, masks, params))
    return map_masks(placed_as, masks, params)


def _check_zero(path: Any, leaf: Any) -> None:
    # As a Python float: compared as it is, the 0 would become what the dtype has in its place.
    if jnp.issubdtype(leaf.dtype, jnp.floating) and float(jnp.finfo(leaf.dtype).min) >= 0:
        where = jax.tree_util.keystr(path)
        raise ValueError(
            f"expected weights of a dtype that has a zero, for pruned ones, at {where}, got {leaf.dtype}"
        )


def _is_flat(params: PyTree) -> bool:
    return getattr(params, "ndim", 0) == 1


def _flat_message(params: PyTree) -> str:
    return (
        f"expected a tree of params, got one flat array of shape {params.shape}: if that is "
        "optax.flatten's, put the pruning transformation around it, optax.chain(optax.flatten("
        "optimizer), ...), where it sees the layers"
    )


def _accumulate(
    magnitude: Callable[[Any], Any], first: int, last: int | None, prunable: Prunable | None
) -> optax.GradientTransformationExtraArgs:
    check_steps(first=(first, 1))
    if last is not None:
        check_steps(last=(last, 1 if is_traced(first) else first))

    def init_fn(params: PyTree) -> AccumulateGradientsState:
        chosen = params if is_placeholder(params) else own_prunable(params, prunable)
        return AccumulateGradientsState(
            count=zero_count(params),
            gradient_sums=jax.tree.map(
                lambda p: jnp.zeros_like(p, dtype=at_least_float32(p.dtype)), chosen
            ),
        )

    def update_fn(updates, state, params=None, **extra_args):
        del params, extra_args
        count = jnp.asarray(optax.safe_increment(state.count))

        def add(sums: PyTree) -> PyTree:
            return map_masks(lambda s, u: s + magnitude(u.astype(s.dtype)), sums, updates)

        inside = count >= first if last is None else (count >= first) & (count <= last)
        sums = compute_where(inside, lambda: add(state.gradient_sums), state.gradient_sums)
        return updates, AccumulateGradientsState(count, sums)

    return optax.GradientTransformationExtraArgs(init_fn, update_fn)
