"""The methods that decide masks at one moment, as functions of what they may see.

A method is a score and a number of rounds; random pruning also with an allocation of its own to layers
instead of one ranking of the whole network.

Source: Frankle et al. 2021 (arXiv 2009.08576), section 3; the allocations as their docstrings in
``pruning.allocation`` say.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax

import pruning
from train.models import depth_order

PyTree = Any
Allocation = Callable[[PyTree, float], PyTree]


class Seen(NamedTuple):
    """What a score may look at; the images as they lie in the data set, uint8."""

    key: jax.Array
    params: PyTree
    other_params: PyTree
    batch_stats: PyTree
    images: jax.Array
    labels: jax.Array


class Losses(NamedTuple):
    """What a score may differentiate, for one network's statistics and examples."""

    loss: Callable[[PyTree, Any], jax.Array]
    cooled_loss: Callable[[PyTree, Any], jax.Array]
    output: Callable[[PyTree], jax.Array]


@dataclass(frozen=True, kw_only=True)
class ScoreMethod:
    """A method.

    Attributes:
        scores: ``scores(losses, seen, masked_params)``.
        rounds: In how many rounds it prunes.
        may_return: Whether a pruned weight may return in a later round.
        in_float64: Whether it is computed in float64.
        at_init_only: Whether it can only prune before training.
        allocation: ``allocation(params, sparsity)`` gives each layer its sparsity; None for one ranking
            of all weights.
    """

    scores: Callable[[Losses, Seen, PyTree], PyTree]
    rounds: int = 1
    may_return: bool = False
    in_float64: bool = False
    at_init_only: bool = False
    allocation: Allocation | None = None


def _random_scores(losses: Losses, seen: Seen, params: PyTree) -> PyTree:
    del losses
    return pruning.random_scores(seen.key, params)


def _smart_ratios(params: PyTree, sparsity: float) -> PyTree:
    paths = [row.path for row in pruning.layer_report(params, pruning.full_masks(params))]
    return pruning.smart_ratios(params, sparsity, layers=sorted(paths, key=depth_order))


def _batches(seen: Seen) -> list[Any]:
    return [(seen.images, seen.labels)]


SCORE_METHODS: dict[str, ScoreMethod] = {
    "random": ScoreMethod(scores=_random_scores),
    "magnitude": ScoreMethod(scores=lambda losses, seen, params: pruning.magnitude_scores(params)),
    "snip": ScoreMethod(
        scores=lambda losses, seen, params: pruning.snip_scores(losses.loss, params, _batches(seen))
    ),
    # Lee et al. 2019 score one draw of weights and train another.
    "snip-second-draw": ScoreMethod(
        scores=lambda losses, seen, params: pruning.snip_scores(
            losses.loss, seen.other_params, _batches(seen)
        ),
        at_init_only=True,
    ),
    "snip-iterative": ScoreMethod(
        scores=lambda losses, seen, params: pruning.snip_scores(losses.loss, params, _batches(seen)),
        rounds=100,
    ),
    "force": ScoreMethod(
        scores=lambda losses, seen, params: pruning.force_scores(
            losses.loss, seen.params, params, _batches(seen)
        ),
        rounds=100,
        may_return=True,
    ),
    "grasp": ScoreMethod(
        scores=lambda losses, seen, params: pruning.grasp_scores(
            losses.cooled_loss, params, _batches(seen)
        )
    ),
    "grasp-absolute": ScoreMethod(
        scores=lambda losses, seen, params: pruning.grasp_absolute_scores(
            losses.cooled_loss, params, _batches(seen)
        )
    ),
    "synflow": ScoreMethod(
        scores=lambda losses, seen, params: pruning.synflow_scores(losses.output, params),
        rounds=100,
        in_float64=True,
    ),
    "random-uniform": ScoreMethod(scores=_random_scores, allocation=pruning.uniform),
    "random-er": ScoreMethod(scores=_random_scores, allocation=pruning.erdos_renyi),
    "random-erk": ScoreMethod(scores=_random_scores, allocation=pruning.erdos_renyi_kernel),
    "random-igq": ScoreMethod(scores=_random_scores, allocation=pruning.ideal_gas_quotas),
    "random-smart-ratios": ScoreMethod(scores=_random_scores, allocation=_smart_ratios),
}
