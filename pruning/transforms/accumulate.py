"""Sums of gradients, of absolute or of signed ones, kept in the optimizer's state."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from pruning.masks.counting import check_steps
from pruning.masks.tree import map_masks
from pruning.transforms.conditions import compute_where
from pruning.transforms.states import is_placeholder, own_prunable
from pruning.trees.leaves import Prunable, PyTree, is_traced
from pruning.trees.placement import zero_count
from pruning.trees.precision import at_least_float32


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
