"""Pruning in rounds: a little, score what is left again, a little more."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import checkify

from pruning.masks.counting import exponential_sparsities, pruned_count
from pruning.masks.rankable import all_kept, ranking
from pruning.masks.selection import check_scores, global_masks, keep_highest
from pruning.masks.tree import (
    apply_masks,
    check_alike,
    count_kept,
    count_prunable,
    full_masks,
    intersect_masks,
    map_masks,
)
from pruning.trees.leaves import Prunable, PyTree, Scalar, is_traced, prunable, prunable_params
from pruning.trees.placement import is_manual, zero_over

Select = Callable[[PyTree, Scalar], PyTree]


class Rounds(NamedTuple):
    """What the rounds leave.

    Attributes:
        masks: The masks.
        failed: The first round, from 0, whose scores had a NaN; else the number of rounds.
        unranked: The first one whose scores ranked nothing: all of them not finite, or all 0 before any
            weight was pruned; else the number of rounds.
    """

    masks: PyTree
    failed: jax.Array
    unranked: jax.Array


def iterative_masks(
    score_fn: Callable[[PyTree], PyTree],
    params: PyTree,
    sparsity: Scalar,
    *,
    rounds: int,
    select: Select = global_masks,
    may_return: bool = False,
    prunable: Prunable = prunable,
) -> PyTree:
    r"""Prunes to a sparsity in rounds that each remove the same fraction of what is left.

    .. math:: d_i = (1 - s)^{i / n}, \quad i = 1, \dots, n

    Round i scores the params under the masks of round i - 1 and keeps a density of d_i, over all
    layers together, with exact counts. SynFlow is 100 rounds of ``synflow_scores``, iterative SNIP is
    rounds of ``snip_scores``, and FORCE is rounds of ``force_scores`` with ``may_return=True``.

    It is one loop, which compiles for about a second *each time that this is called outside* ``jit``. For
    several sparsities or networks compile once, with a traced sparsity, whatever the number of rounds::

        prune = jax.jit(lambda params, s: iterative_masks(score_fn, params, s, rounds=100))
        masks = [prune(params, s) for s in (0.9, 0.95, 0.98)]

    Scores may rank nothing (a head that is zero, a product that underflows; ``check_rankable`` has the
    rule). Called outside ``jit`` this is an error that names the round. Inside, where no value can be
    read, the masks then keep *no weight at all*, as no ranking would, and
    ``jax.experimental.checkify`` makes an error of it::

        error, masks = jax.jit(checkify.checkify(prune))(params, 0.9)
        error.throw()

    Another ``select`` ends the rounds in another structure. It is given the scores of round i, in which
    weights that are pruned already have the lowest of all (minus infinity) unless they may return, and
    the sparsity :math:`1 - d_i` of that round, a *traced* scalar: an allocation that needs a concrete
    sparsity is made outside. A selection whose sparsity is fixed, as that of ``n_m_masks`` is, selects at
    it in every round: the first one then decides, unless weights may return. ``docs/library.md`` shows
    rounds that end in N:M by degrees, and in the sparsities of an allocation.

    Args:
        score_fn: ``score_fn(masked_params) -> scores``; traced once.
        params: Any pytree of arrays.
        sparsity: Fraction of prunable weights to remove in the end, in [0, 1); may be traced. Then
            its rounding counts: a traced float32 can make a round's count differ by one from that
            of the same concrete number, a traced float64 does not.
        rounds: Their number n, at least 1.
        select: ``select(scores, sparsity) -> masks`` of one round; traced once. What ``global_masks``
            itself removes is counted before the loop, from the sparsity as it was given.
        may_return: Whether a weight that was pruned may be kept in a later round.
        prunable: ``prunable(path, leaf)`` says which leaves may be pruned; the same as in the scores.

    Returns:
        Masks with exactly ``floor(sparsity * n + 1e-6)`` weights removed (of a traced float32: as
        ``pruned_count`` reads it); of another ``select`` its masks of the last round. What an earlier
        round has pruned is pruned, whatever it selects, unless weights may return.

    Raises:
        ValueError: If the sparsity is outside [0, 1), rounds is below 1, the scores or the selected
            masks do not fit the params, or a round's scores are NaN or rank nothing (when nothing is
            traced; else some NaN among other scores ranks lowest). In a network that pruning has cut, 0
            for all the weights that are left is right and no error.

    Source: Tanaka et al. 2020 (arXiv 2006.05467), algorithm 1; de Jorge et al. 2021
    (arXiv 2006.09081), iterative SNIP and FORCE with its exponential schedule.

    >>> from pruning.scores.magnitude import magnitude_scores
    >>> iterative_masks(magnitude_scores, {"w": jnp.array([[3.0, 1.0, 4.0, 2.0]])}, 0.5, rounds=2)
    {'w': Array([[ True, False,  True, False]], dtype=bool)}
    """
    if select is global_masks:
        # A float32, as a traced sparsity of a round is, cannot say every number of weights.
        size = count_prunable(prunable_params(params, prunable))
        targets, chosen = pruned_counts(sparsity, rounds, size), keep_highest
    else:
        targets, chosen = jnp.asarray(exponential_sparsities(sparsity, rounds)), _among_kept(select)
    found = prune_in_rounds(
        score_fn, params, targets, select=chosen, may_return=may_return, prunable=prunable
    )
    if not is_traced(found.failed):
        check_rounds(int(found.failed), int(found.unranked), rounds)
        return found.masks
    message = "expected scores that can be ranked, got NaN in round {i} (from 0)"
    checkify.debug_check(found.failed == rounds, message, i=found.failed)
    ranked = found.unranked == rounds
    checkify.debug_check(ranked, f"{_UNRANKED} in round {{i}} (from 0)", i=found.unranked)
    return map_masks(lambda mask: mask & ranked, found.masks)


def pruned_counts(sparsity: Scalar, rounds: int, size: int) -> jax.Array:
    """How many weights are pruned after each round.

    Args:
        sparsity: At the end, in [0, 1); may be traced.
        rounds: Their number.
        size: The number of prunable weights.

    Returns:
        Int32 of shape (rounds,); exact for a concrete sparsity and a traced float64.
    """
    sparsities = exponential_sparsities(sparsity, rounds)
    if is_traced(sparsities):
        return jax.vmap(lambda one: pruned_count(one, size))(sparsities)
    return jnp.asarray(np.array([pruned_count(one, size) for one in sparsities], np.int32))


def prune_in_rounds(
    score_fn: Callable[[PyTree], PyTree],
    params: PyTree,
    targets: jax.Array,
    *,
    may_return: bool,
    select: Callable[..., PyTree] = keep_highest,
    prunable: Prunable = prunable,
) -> Rounds:
    """The loop under ``iterative_masks``, for callers that count weights themselves, or compile it.

    Args:
        score_fn: As for ``iterative_masks``.
        params: As for ``iterative_masks``.
        targets: What each round is to reach, shape (rounds,); may be traced. By default how many weights
            are pruned after it, from ``pruned_counts``.
        may_return: As for ``iterative_masks``.
        select: ``select(scores, target, masks=left) -> masks``; ``left`` is what may be kept, None for
            every weight.
        prunable: As for ``iterative_masks``.

    Returns:
        The masks, and which rounds failed, if any; see ``check_rounds``.
    """
    rounds = len(targets)

    def prune(i: Any, state: Rounds) -> Rounds:
        scores = score_fn(apply_masks(params, state.masks))
        check_scores(scores, state.masks)
        left = None if may_return else state.masks
        found = ranking(scores, left)
        masks = select(scores, targets[i], masks=left)
        # Where pruning has cut the network, 0 for what is left of it is right.
        nothing = found.infinite | (found.zero & all_kept(state.masks))
        fewer = count_kept(masks) < count_kept(state.masks)
        first = (found.nan, state.failed), (nothing & fewer, state.unranked)
        return Rounds(masks, *(jnp.where(now & (last == rounds), i, last) for now, last in first))

    full = full_masks(params, prunable=prunable)
    zero = zero_over([full, targets])
    start = Rounds(
        map_masks(lambda mask: mask & (zero == 0), full) if is_manual() else full,
        failed=zero + rounds,
        unranked=zero + rounds,
    )
    return jax.lax.fori_loop(0, rounds, prune, start)


def _among_kept(select: Select) -> Callable[..., PyTree]:
    """A selection that keeps nothing but what is left."""

    def chosen(scores: PyTree, sparsity: Scalar, *, masks: PyTree) -> PyTree:
        if masks is None:
            found = select(scores, sparsity)
            check_alike(found, scores)
            return found
        lowest = jax.tree.map(lambda mask, score: jnp.where(mask, score, -jnp.inf), masks, scores)
        return intersect_masks(masks, select(lowest, sparsity))

    return chosen


_UNRANKED = (
    "expected scores that rank the weights, got nothing but 0 before any weight was pruned, "
    "or nothing finite,"
)


def check_rounds(failed: int, unranked: int, rounds: int) -> None:
    """Refuses masks that no ranking has made.

    Args:
        failed: The first round with a NaN score, from 0.
        unranked: The first round whose scores ranked nothing, from 0.
        rounds: Their number.

    Raises:
        ValueError: If there was such a round.
    """
    mend = "compute in float64 (float64 params under jax.enable_x64(True))"
    if failed < rounds:
        raise ValueError(
            f"expected scores that can be ranked, got NaN in round {failed + 1} of {rounds}: score_fn is "
            f"not finite there; if it overflows, {mend}"
        )
    if unranked < rounds:
        raise ValueError(
            f"{_UNRANKED} in round {unranked + 1} of {rounds}: a layer of params is zero everywhere "
            f"(give it small random values and score those), or score_fn underflows or overflows: {mend}"
        )
