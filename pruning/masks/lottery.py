"""Iterative pruning after training: rounds of train, prune a fraction of what is left, rewind.

A round's mask comes from the trained weights by a criterion: ``magnitude_scores`` (large final),
``magnitude_increase_scores``, ``movement_scores``, ``random_scores``. ``prune_remaining`` ranks the
network as a whole, ``prune_remaining_by_layer`` each layer by itself. Where the next round's weights
begin is the caller's choice: at initialization or at an early step of the first run (rewinding), where
they are with the schedule restarted (learning-rate rewinding), or where they are, with only the last
ticket rewound (IMP-Continued).
"""

from typing import Any

from pruning.masks.counting import check_sparsity, pruned_count
from pruning.masks.rankable import check_rankable
from pruning.masks.reading import fit_masks
from pruning.masks.selection import check_scores, keep_highest, select_by_layer
from pruning.masks.tree import count_kept, count_prunable
from pruning.trees.layout import Layout, flax_layout
from pruning.trees.leaves import PyTree, Scalar, is_traced


def prune_remaining(scores: PyTree, masks: PyTree, fraction: Scalar) -> PyTree:
    r"""Removes a fraction of the weights that are left, those of the lowest scores in the network.

    Args:
        scores: A tree like masks with float leaves, the highest are kept; those of pruned weights
            play no part.
        masks: What is left.
        fraction: To remove, of the kept weights, in [0, 1); 0.2 in most of the literature. May be traced.

    Returns:
        Masks with :math:`\lfloor f\,n_{kept} + 10^{-6} \rfloor` weights fewer, so at least one of
        those that were left remains.

    Raises:
        ValueError: If the fraction is outside [0, 1), the scores rank nothing (``check_rankable``), a
            score is NaN, or the trees do not match.

    Source: Frankle and Carbin 2019 (arXiv 1803.03635); global ranking: Renda et al. 2020
    (arXiv 2003.02389).

    >>> import jax.numpy as jnp
    >>> masks = {"w": jnp.array([[True, True, True, False]])}
    >>> prune_remaining({"w": jnp.array([[3.0, 1.0, 2.0, 9.0]])}, masks, 0.4)
    {'w': Array([[ True, False,  True, False]], dtype=bool)}
    """
    masks = fit_masks(masks, scores)
    check_scores(scores, masks)
    check_sparsity(fraction, "the fraction to remove")
    if not is_traced(fraction) and float(fraction) > 0:
        check_rankable(scores, masks)
    return keep_highest(scores, _pruned_in_all(masks, fraction), masks=masks)


def prune_remaining_by_layer(
    scores: PyTree, masks: PyTree, fractions: PyTree, *, layout: Layout = flax_layout
) -> PyTree:
    """As ``prune_remaining``, for every layer by itself and with a fraction of its own.

    Args:
        scores: A tree like masks with float leaves.
        masks: What is left.
        fractions: A tree like masks with a number in [0, 1) for each layer: for
            ``jax.tree.map(lambda mask: 0.2, masks)``, 0.2 everywhere. Frankle and Carbin remove 0.1 of
            the output layer. For a leaf of stacked layers an array of them, or one for all.
        layout: ``layout(path, leaf)`` says which axes are layers (``pruning.trees.layout``).

    Returns:
        Masks.

    Raises:
        ValueError: If a fraction is outside [0, 1), the scores of all layers rank nothing
            (``check_rankable``), one is NaN, or the trees do not match.

    Source: Frankle and Carbin 2019 (arXiv 1803.03635), section 2; Zhou et al. 2019 (arXiv 1905.01067).

    >>> import jax.numpy as jnp
    >>> masks = {"a": jnp.ones((1, 2), bool), "b": jnp.ones((1, 2), bool)}
    >>> scores = {"a": jnp.array([[3.0, 1.0]]), "b": jnp.array([[8.0, 9.0]])}
    >>> prune_remaining_by_layer(scores, masks, {"a": 0.5, "b": 0.0})
    {'a': Array([[ True, False]], dtype=bool), 'b': Array([[ True,  True]], dtype=bool)}
    """

    def count(where: str, fraction: Scalar, size: int, mask: Any) -> Any:
        check_sparsity(fraction, f"the fraction to remove of {where}")
        return _pruned_in_all(mask, fraction)

    return select_by_layer(count, scores, fractions, masks, "fraction to remove", layout)


def _pruned_in_all(masks: PyTree, fraction: Any) -> Any:
    """How many weights are pruned when a fraction of what is left has gone."""
    left, size = count_kept(masks), count_prunable(masks)
    if not is_traced(left) and left == 0:
        return size
    return size - left + pruned_count(fraction, left)
