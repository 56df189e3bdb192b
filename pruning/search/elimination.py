"""Successive elimination: K-starts that drops the worse half of the candidates after each epoch.

The same candidates and fitness as ``k_starts``, at about 2k candidate-epochs in all instead of
k times the number of epochs.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from pruning.allocations.uniform import uniform
from pruning.masks.tree import apply_masks
from pruning.search.candidates import map_candidates, ranked_first, take_candidates
from pruning.search.fitness import Fitness
from pruning.search.kstarts import KStarts, candidate_masks, check_fitness, check_trained, fittest
from pruning.trees.leaves import Prunable, PyTree, Scalar, prunable


def successive_elimination(
    key: jax.Array,
    params: PyTree,
    train_fn: Callable[[PyTree, PyTree, int], tuple[PyTree, PyTree]],
    *,
    k: int,
    sparsity: Scalar,
    fitness: Fitness,
    allocation=uniform,
    prunable: Prunable = prunable,
) -> KStarts:
    r"""Trains all candidates for an epoch, keeps the fitter half, and again, until one is left.

    Epoch e begins with :math:`\lceil k / 2^e \rceil` candidates, each from where it was; there are
    :math:`\max(1, \lceil \log_2 k \rceil)` epochs. Survivors keep their order.

    Args:
        key: A typed PRNG key; decides the masks, which are those of ``k_starts`` with that key.
        params: The initialization that the candidates share.
        train_fn: ``train_fn(params, masks, epoch) -> (params, gradient_sums)`` trains one candidate
            for one epoch, ``epoch`` counting from 0; mapped over the candidates.
        k: Number of candidates, at least 1.
        sparsity: Fraction of prunable weights to remove, in [0, 1).
        fitness: As for ``k_starts``; standardised forms see the candidates of their epoch alone.
        allocation: From the sparsity to a sparsity for each layer.
        prunable: ``prunable(path, leaf)`` says which leaves may be pruned.

    Returns:
        The winner; ``fitness`` holds for each of the k candidates the one of the last epoch it
        trained in, and is comparable within an epoch only.

    Raises:
        ValueError: If k < 1, the sparsity is outside [0, 1), no leaf is prunable, ``train_fn`` returns no
            pair, or the fitness is not one number for each candidate of its epoch.

    Source: the halving of Karnin et al. 2013 and Jamieson & Talwalkar 2016 (arXiv 1502.07943),
    applied to the candidates of Haroon 2022 (arXiv 2209.02201).
    """
    masks = candidate_masks(key, params, k=k, sparsity=sparsity, allocation=allocation, prunable=prunable)
    trained = map_candidates(lambda candidate: apply_masks(params, candidate), masks)
    survivors, last = jnp.arange(k), None
    epoch, alive = 0, k
    while True:
        trained, sums = map_candidates(
            lambda both, epoch=epoch: check_trained(train_fn(both[0], both[1], epoch)), (trained, masks)
        )
        current = check_fitness(fitness(trained, sums, masks), alive)
        last = current if last is None else last.at[survivors].set(current)
        epoch, alive = epoch + 1, -(-alive // 2)
        if alive == 1:
            best = fittest(trained, masks, current)
            return best._replace(winner=survivors[best.winner], fitness=last)
        chosen = jnp.sort(ranked_first(current)[:alive])
        trained, masks, survivors = take_candidates((trained, masks, survivors), chosen)
