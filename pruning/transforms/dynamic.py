"""Dynamic sparse training: what RigL and SET have in common, around any optax optimizer."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.experimental import checkify

from pruning.masks.counting import check_steps
from pruning.masks.reading import as_bool
from pruning.masks.tree import map_masks
from pruning.transforms.conditions import compute_where
from pruning.transforms.regrowth import Regrown
from pruning.transforms.slots import check_slots, zero_slots
from pruning.transforms.states import is_placeholder, own_masks, without_hidden
from pruning.transforms.updates import after_update, require_params, zero_pruned
from pruning.trees.counts import check_fractions
from pruning.trees.leaves import PyTree, Scalar, is_none, is_traced
from pruning.trees.placement import zero_count
from pruning.trees.precision import check_precise

DropFraction = float | Callable[[jax.Array], Scalar]


class DynamicSparseState(NamedTuple):
    """State of ``rigl``, ``sparse_evolutionary`` and ``n_m_rigl``.

    Attributes:
        count: Steps seen, an int32 scalar.
        masks: What is kept.
        explored: Which weights have ever been kept; ``1 - sparsity(explored)`` is the coverage of In-Time
            Over-Parameterization (Liu et al. 2021, arXiv 2102.02887), as a fraction.
        blind: At how many checks a layer stayed as it was, since no pruned weight of it had a gradient,
            an int32 scalar; always 0 where weights grow at random.
        inner: State of the optimizer.
    """

    count: jax.Array
    masks: PyTree
    explored: PyTree
    blind: jax.Array
    inner: Any


class Growth(NamedTuple):
    """How weights go and grow.

    Attributes:
        name: Of the public function.
        scores: ``scores(gradients, count)``: a tree like masks.
        steps_at_checks: Whether the optimizer takes its step before a check, or leaves it out.
        regrow: ``regrow(masks, weights, scores, fraction)``: the masks after a check.
    """

    name: str
    scores: Callable[[PyTree, jax.Array], PyTree]
    steps_at_checks: bool
    regrow: Callable[[PyTree, PyTree, PyTree, Scalar], Regrown]


def dynamic_sparse(
    optimizer: optax.GradientTransformation,
    masks: PyTree,
    growth: Growth,
    *,
    check_every: int,
    stop_after: int,
    drop_fraction: DropFraction,
) -> optax.GradientTransformationExtraArgs:
    """An optimizer under masks that move at checks; ``rigl`` and its siblings say how.

    Args:
        optimizer: Sees the gradients of kept weights alone.
        masks: Where to begin.
        growth: How weights go and grow.
        check_every: Steps between checks, >= 1.
        stop_after: Steps after which there are none, >= 0.
        drop_fraction: Of the kept weights of a layer, in [0, 1], or a schedule ``fraction(step)``.

    Returns:
        The optimizer.
    """
    check_steps(check_every=(check_every, 1), stop_after=(stop_after, 0))
    if not callable(drop_fraction):
        check_fractions(drop_fraction=drop_fraction)
        check_precise(drop_fraction=drop_fraction)
    inner = optax.with_extra_args_support(optimizer)

    def init_fn(params: PyTree) -> DynamicSparseState:
        state, count = inner.init(params), zero_count(params)
        if is_placeholder(params):
            return DynamicSparseState(count, params, params, count, state)
        own = own_masks(masks, without_hidden(params))
        check_slots(state, own, params, growth.name)
        return DynamicSparseState(count, own, jax.tree.map(jnp.copy, own), jnp.zeros_like(count), state)

    def update_fn(updates, state, params=None, **extra_args):
        require_params(params, growth.name)
        before, explored = as_bool(state.masks), as_bool(state.explored)
        count = jnp.asarray(optax.safe_increment(state.count))
        is_check = (count % check_every == 0) & (count <= stop_after)

        def step() -> tuple[PyTree, Any]:
            return inner.update(_masked(updates, before), state.inner, params, **extra_args)

        def check() -> tuple[PyTree, PyTree, jax.Array]:
            weights = map_masks(_itself, before, params)
            if growth.steps_at_checks:
                # The step is taken once more: handed in, its updates would lie in memory at every step.
                weights = after_update(params, step()[0], before)
            fraction = drop_fraction(count) if callable(drop_fraction) else drop_fraction
            scores = growth.scores(map_masks(_itself, before, updates), count)
            found = growth.regrow(before, weights, scores, fraction)
            checkify.debug_check(~found.blind, f"{growth.name}: {_BLIND}")
            ever = jax.tree.map(jnp.logical_or, explored, found.masks)
            return found.masks, ever, state.blind + found.blind.astype(state.blind.dtype)

        kept, ever, blind = compute_where(is_check, check, (before, explored, state.blind))
        _refuse_blind(blind, state.blind, growth.name)
        moved, inside = step()
        if not growth.steps_at_checks:
            moved = jax.tree.map(lambda leaf: jnp.where(is_check, jnp.zeros_like(leaf), leaf), moved)
            inside = jax.tree.map(lambda new, old: jnp.where(is_check, old, new), inside, state.inner)
        # What comes starts at 0, as does all that the optimizer keeps of it.
        stayed = jax.tree.map(jnp.logical_and, kept, before)
        new = jax.tree.map(lambda now, then: now & ~then, kept, before)
        after = DynamicSparseState(count, kept, ever, blind, zero_slots(inside, new, params))
        return zero_pruned(moved, params, stayed), after

    return optax.GradientTransformationExtraArgs(init_fn, update_fn)


_BLIND = (
    "expected gradients of the dense network, got 0 for every pruned weight of a layer: do not multiply "
    "the params by the masks inside the loss (they are 0 already), or weights grow by their place"
)


def _itself(_: Any, leaf: Any) -> Any:
    return leaf


def _masked(updates: PyTree, masks: PyTree) -> PyTree:
    return jax.tree.map(
        lambda mask, leaf: leaf if mask is None else jnp.where(mask, leaf, jnp.zeros_like(leaf)),
        masks,
        updates,
        is_leaf=is_none,
    )


def _refuse_blind(now: jax.Array, before: jax.Array, name: str) -> None:
    if not is_traced(now) and not is_traced(before) and now > before:
        raise ValueError(f"{name}: {_BLIND}")
