"""Pruning in rounds: a little, score what is left again, a little more."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from pruning.counting import exponential_sparsities, pruned_count
from pruning.leaves import Prunable, PyTree, Scalar, is_traced, prunable, prunable_params
from pruning.masks import apply_masks, count_prunable, full_masks
from pruning.selection import check_scores, keep_highest_and_check


class Rounds(NamedTuple):
    """What the rounds leave: the masks, and the first round (from 0) whose scores had a NaN."""

    masks: PyTree
    failed: jax.Array


def iterative_masks(
    score_fn: Callable[[PyTree], PyTree],
    params: PyTree,
    sparsity: Scalar,
    *,
    rounds: int,
    may_return: bool = False,
    prunable: Prunable = prunable,
) -> PyTree:
    r"""Prunes to a sparsity in rounds that each remove the same fraction of what is left.

    .. math:: d_i = (1 - s)^{i / n}, \quad i = 1, \dots, n

    Round i scores the params under the masks of round i - 1 and keeps a density of d_i, over all
    layers together, with exact counts. One loop, so one compilation whatever the number of rounds and
    (where it is traced) the sparsity. SynFlow is 100 rounds of ``synflow_scores``, iterative SNIP is
    rounds of ``snip_scores``, and FORCE is rounds of ``force_scores`` with ``may_return=True``.

    Args:
        score_fn: ``score_fn(masked_params) -> scores``; traced once.
        params: Any pytree of arrays.
        sparsity: Fraction of prunable weights to remove in the end, in [0, 1); may be traced. Then
            its rounding counts: a traced float32 can make a round's count differ by one from that
            of the same concrete number, a traced float64 does not.
        rounds: Their number n, at least 1.
        may_return: Whether a weight that was pruned may be kept in a later round.
        prunable: ``prunable(path, leaf)`` says which leaves may be pruned; the same as in the scores.

    Returns:
        Masks with exactly ``floor(sparsity * n + 1e-6)`` weights removed (of a traced float32: as
        ``pruned_count`` reads it).

    Raises:
        ValueError: If the sparsity is outside [0, 1), rounds is below 1, the scores do not fit the
            params, or a round's scores are NaN (when nothing is traced; else NaN ranks lowest).

    Source: Tanaka et al. 2020 (arXiv 2006.05467), algorithm 1; de Jorge et al. 2021
    (arXiv 2006.09081), iterative SNIP and FORCE with its exponential schedule.

    >>> from pruning.scores import magnitude_scores
    >>> iterative_masks(magnitude_scores, {"w": jnp.array([[3.0, 1.0, 4.0, 2.0]])}, 0.5, rounds=2)
    {'w': Array([[ True, False,  True, False]], dtype=bool)}
    """
    size = count_prunable(prunable_params(params, prunable))
    counts = pruned_counts(sparsity, rounds, size)
    masks, failed = prune_in_rounds(score_fn, params, counts, may_return=may_return, prunable=prunable)
    if not is_traced(failed):
        check_rounds(int(failed), rounds)
    return masks


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
    counts: jax.Array,
    *,
    may_return: bool,
    prunable: Prunable = prunable,
) -> Rounds:
    """The loop under ``iterative_masks``, for callers that count weights themselves, or compile it.

    Args:
        score_fn: As for ``iterative_masks``.
        params: As for ``iterative_masks``.
        counts: How many weights are pruned after each round, from ``pruned_counts``; may be traced.
        may_return: As for ``iterative_masks``.
        prunable: As for ``iterative_masks``.

    Returns:
        The masks, and the first round with a NaN score, or the number of rounds; see ``check_rounds``.
    """
    rounds = len(counts)

    def prune(i: Any, state: Rounds) -> Rounds:
        scores = score_fn(apply_masks(params, state.masks))
        check_scores(scores, state.masks)
        before = None if may_return else state.masks
        masks, nan = keep_highest_and_check(scores, counts[i], masks=before)
        return Rounds(masks, jnp.where(nan & (state.failed == rounds), i, state.failed))

    start = Rounds(full_masks(params, prunable=prunable), jnp.int32(rounds))
    return jax.lax.fori_loop(0, rounds, prune, start)


def check_rounds(failed: int, rounds: int) -> None:
    """Refuses masks that NaN scores have made.

    Args:
        failed: The first round with a NaN score, from 0.
        rounds: Their number.

    Raises:
        ValueError: If there was such a round.
    """
    if failed < rounds:
        raise ValueError(
            f"expected scores that can be ranked, got NaN in round {failed + 1} of {rounds}: score_fn is "
            "not finite there; if it overflows, compute in float64 (float64 params under "
            "jax.enable_x64(True))"
        )
