"""Rare Gems: gates find a network among frozen weights, in rounds; then its weights are trained.

``rounded_gates`` is what the search computes with. Here is the optimizer of both phases, over
``SoftMasked`` trees, as ``soft_masked_optimizer`` is for gates and weights that learn side by side.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from pruning.gates.training import SoftMasked
from pruning.masks.counting import check_rising, check_steps, pruned_count
from pruning.masks.reading import as_bool
from pruning.masks.selection import keep_highest
from pruning.masks.tree import check_masks, count_prunable
from pruning.transforms.conditions import compute_where
from pruning.transforms.states import is_placeholder
from pruning.transforms.updates import after_update, require_params, zero_pruned
from pruning.trees.leaves import PyTree
from pruning.trees.placement import zero_count
from pruning.trees.precision import check_precise, wider


class RareGemsState(NamedTuple):
    """State of ``rare_gems``.

    Attributes:
        count: Steps seen, an int32 scalar.
        masks: What is kept.
        params: State of the weights' optimizer, as new until the search has ended.
        gates: State of the gates' optimizer, as the search has left it once it has ended.
    """

    count: jax.Array
    masks: PyTree
    params: Any
    gates: Any


def rare_gems(
    params: optax.GradientTransformation,
    gates: optax.GradientTransformation,
    sparsities: Sequence[float] | np.ndarray | jax.Array,
    *,
    check_every: int,
) -> optax.GradientTransformationExtraArgs:
    r"""Searches by gates for weights, which are frozen; then trains those that it has found.

    The search lasts T = ``len(sparsities) * check_every`` steps. In each of them the gates move and are
    clipped, :math:`p \leftarrow \min(\max(p + u, 0), 1)`; in step ``i * check_every`` the kept weights of
    the smallest p over all layers go besides, until the sparsity is exactly ``sparsities[i - 1]``, ties
    kept by the lower index.

    From step T + 1 on the gates stay as they are and the params learn, those of weights and all others;
    their optimizer begins then. A pruned weight is exactly 0 from its removal on, and so is its gate.

    The loss of the search is that of ``rounded_gates(params, gates, masks)`` (full masks do: what is
    pruned is 0), and :math:`\lambda \sum p^2` with it; that of the training after it is of the params as
    they are. The masks keep weights whose gate is below one half too: there are as many as asked for.

    Args:
        params: The optimizer of the params, for the training after the search.
        gates: The optimizer of the gates. ``optax.add_decayed_weights(2 * penalty)`` at its head is the
            penalty, if the loss has none.
        sparsities: Sparsity after each check, non-decreasing, in [0, 1), shape (checks,); may be traced.
            ``exponential_sparsities`` makes those of the paper.
        check_every: Steps between checks, >= 1.

    Returns:
        A transformation over ``SoftMasked`` trees, whose gates begin in [0, 1], as ``random_scores``
        draws them. It needs ``params`` in ``update``; read the masks with ``pruning.get_masks``.

    Raises:
        ValueError: If the sparsities are empty, out of range or decreasing, or check_every < 1; from
            ``init`` if what is trained is no ``SoftMasked`` or the gates do not fit; from ``update``
            without params.

    Source: Sreenivasan et al. 2022 (arXiv 2202.12002), algorithm 1, and their released code, which
    removes ``ceil(rate * kept)`` weights a round and all that tie with the last of them: those whose
    gates were clipped to 0, say.

    >>> both = SoftMasked({"w": jnp.ones((1, 3))}, {"w": jnp.array([[0.25, 0.75, 0.625]])})
    >>> tx = rare_gems(optax.sgd(0.5), optax.sgd(1.0), [0.4], check_every=1)
    >>> gradients = SoftMasked(both.params, {"w": jnp.array([[-0.5, -0.5, 0.5]])})
    >>> updates, state = tx.update(gradients, tx.init(both), both)
    >>> both = optax.apply_updates(both, updates)
    >>> both.gates["w"], both.params["w"]
    (Array([[0.75, 1.  , 0.  ]], dtype=float32), Array([[1., 1., 0.]], dtype=float32))
    >>> optax.apply_updates(both, tx.update(gradients, state, both)[0]).params["w"]
    Array([[0.5, 0.5, 0. ]], dtype=float32)
    """
    check_precise(sparsities=sparsities)
    check_rising(sparsities)
    check_steps(check_every=(check_every, 1))
    last = len(sparsities) * check_every
    check_steps(**{"len(sparsities) * check_every": (last, 1)})
    of_params, of_gates = optax.with_extra_args_support(params), optax.with_extra_args_support(gates)

    def init_fn(params: Any) -> RareGemsState:
        if is_placeholder(params):
            return RareGemsState(
                zero_count(params), params, of_params.init(params), of_gates.init(params)
            )
        _check_both(params)
        masks = jax.tree.map(lambda gate: jnp.ones_like(gate, dtype=bool), params.gates)
        check_masks(masks, params.params)
        inner = of_params.init(params.params), of_gates.init(params.gates)
        return RareGemsState(zero_count(params), masks, *inner)

    def update_fn(updates: Any, state: Any, params: Any = None, **extra_args: Any):
        require_params(params, "rare_gems")
        count, before = jnp.asarray(optax.safe_increment(state.count)), as_bool(state.masks)

        def step(optimizer: Any, updates: PyTree, inner: Any, trained: PyTree, now: jax.Array) -> Any:
            """The optimizer's step in its phase; out of it nothing moves, its state neither."""

            def moved() -> tuple[PyTree, Any]:
                return optimizer.update(updates, inner, trained, **extra_args)

            # An optimizer's updates may have another dtype than the gradients.
            still = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), jax.eval_shape(moved)[0])
            return compute_where(now, moved, (still, inner))

        searches = count <= last
        moved, inner = step(of_params, updates.params, state.params, params.params, ~searches)
        opened, inner_gates = step(of_gates, updates.gates, state.gates, params.gates, searches)
        opened = jax.tree.map(_within_unit_interval, opened, params.gates)

        def prune() -> PyTree:
            size = count_prunable(before)
            counts = jnp.stack([jnp.asarray(pruned_count(s, size)) for s in sparsities])
            scores = after_update(params.gates, opened, before)
            return keep_highest(scores, counts[count // check_every - 1], masks=before)

        kept = compute_where(searches & (count % check_every == 0), prune, before)
        zeroed = SoftMasked(
            zero_pruned(moved, params.params, kept), zero_pruned(opened, params.gates, kept)
        )
        return zeroed, RareGemsState(count, kept, inner, inner_gates)

    return optax.GradientTransformationExtraArgs(init_fn, update_fn)


def _within_unit_interval(update: jax.Array, gate: jax.Array) -> jax.Array:
    """The update of a gate in [0, 1], shortened where it would leave it; 0 and 1 are met exactly."""
    dtype = wider(update.dtype, gate.dtype)
    update, gate = update.astype(dtype), gate.astype(dtype)
    moved = gate + update
    return jnp.where(moved < 0, -gate, jnp.where(moved > 1, 1 - gate, update))


def _check_both(both: Any) -> None:
    if not isinstance(both, SoftMasked):
        raise ValueError(
            "expected rare_gems to train pruning.SoftMasked(params, gates), with gates in [0, 1] from "
            f"pruning.random_scores(key, params), got {type(both).__name__}"
        )
