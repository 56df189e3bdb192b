"""A whole optimizer whose last word is that pruned weights are zero."""

from typing import Any

import jax
import jax.numpy as jnp
import optax

from pruning.masks.reading import get_masks
from pruning.transforms.states import is_placeholder
from pruning.transforms.updates import require_params, zero_pruned
from pruning.trees.differences import first_difference
from pruning.trees.leaves import PyTree, is_none


def hold_outside(optimizer: optax.GradientTransformation) -> optax.GradientTransformationExtraArgs:
    r"""Holds pruned weights at zero around wrappers that compute with the updates of what they wrap.

    ``optax.lookahead``, ``optax.contrib.sam``, ``schedule_free``, ``mechanize`` and the like take the
    updates of the optimizer inside, in which pruned weights go to zero, and make others of them. This
    reads the masks from the state after each update and makes the final update :math:`-w` where
    they prune. It also makes bool again what a wrapper that computes with states has made an integer.

    Needed where the pruning transformation cannot stand last in a chain itself: inside
    ``optax.lookahead``, whose params are two copies of the network (both are held). Around the others
    prefer ``optax.chain(wrapper(optimizer), dissipate(...))``, which judges the weights that the
    wrapper makes. docs/optimizers.md has the table.

    Args:
        optimizer: An optimizer with one pruning transformation somewhere inside.

    Returns:
        The optimizer, with the same state. It needs ``params`` in ``update``: those of the masks, or a
        tree with copies of that network.

    Raises:
        ValueError: From ``init`` if no transformation inside holds masks; from ``update`` without
            params, or if the masks fit no part of them.

    >>> import pruning
    >>> masks = {"w": jnp.array([[True, False]])}
    >>> inside = optax.chain(optax.sgd(1.0), pruning.hold_masks(masks))
    >>> tx = hold_outside(optax.contrib.mechanize(inside, s_init=1.0))
    >>> params = {"w": jnp.ones((1, 2))}
    >>> updates, _ = tx.update(params, tx.init(params), params)
    >>> float(optax.apply_updates(params, updates)["w"][0, 1])
    0.0
    """
    inner = optax.with_extra_args_support(optimizer)

    def init_fn(params: PyTree) -> Any:
        state = inner.init(params)
        if not is_placeholder(params):
            get_masks(state)
        return state

    def update_fn(updates, state, params=None, **extra_args):
        require_params(params, "hold_outside")
        updates, new = inner.update(updates, state, params, **extra_args)
        new = jax.tree.map(_of_its_kind, state, new)
        return _zero_in_copies(updates, params, get_masks(new)), new

    return optax.GradientTransformationExtraArgs(init_fn, update_fn)


def _of_its_kind(old: Any, new: Any) -> Any:
    was_mask = jnp.result_type(old) == jnp.bool_
    return new != 0 if was_mask and jnp.result_type(new) != jnp.bool_ else new


def _zero_in_copies(updates: PyTree, params: PyTree, masks: PyTree) -> PyTree:
    """As ``zero_pruned``, in each part of the params that the masks fit."""
    copies = []

    def fits(part: PyTree) -> bool:
        try:
            alike = jax.tree.map(
                lambda mask, leaf: mask is None or mask.shape == jnp.shape(leaf),
                masks,
                part,
                is_leaf=is_none,
            )
        except (ValueError, TypeError):
            return False
        return all(jax.tree.leaves(alike))

    def held(part: PyTree, update: PyTree) -> PyTree:
        if not fits(part):
            return update
        copies.append(part)
        return zero_pruned(update, part, masks)

    updates = jax.tree.map(held, params, updates, is_leaf=fits)
    if not copies:
        difference = first_difference(masks, params) or "other shapes"
        raise ValueError(
            "expected params that the masks inside fit, or a tree with copies of them, got (masks "
            f"against params) {difference}; make them with pruning.full_masks(params)"
        )
    return updates
