"""Holding masks: pruned weights stay exactly zero, whatever the optimizer does."""

from typing import NamedTuple

import optax

from pruning.masks.reading import as_bool
from pruning.transforms.states import is_placeholder, own_masks, without_hidden
from pruning.transforms.updates import require_params, zero_pruned
from pruning.trees.leaves import PyTree


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

    >>> import jax.numpy as jnp
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
