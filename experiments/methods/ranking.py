"""How a method of one moment chooses weights, and what it may look at."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax

from train.models.layers import Activation

PyTree = Any
Allocation = Callable[[PyTree, float, list[str]], PyTree]
Select = Callable[[PyTree, float, list[str]], PyTree]


class Seen(NamedTuple):
    """What a score may look at; the images as they lie in the data set, uint8."""

    key: jax.Array
    params: PyTree
    other_params: PyTree
    batch_stats: PyTree
    images: jax.Array
    labels: jax.Array


class Losses(NamedTuple):
    """What a score may differentiate, for one network's statistics and examples.

    Attributes:
        loss: ``loss(params, batch)`` in the mode that the recipe names.
        cooled_loss: The same with GraSP's temperature.
        loss_by_example: In inference mode, so that it may be taken of one example.
        cooled_loss_by_example: The same with GraSP's temperature.
        output: ``output(params)`` of an input of ones, in inference mode.
        inputs: The examples as the network is given them.
        network: ``network(params, inputs, activation)`` in inference mode, with batch normalisation's
            statistics at 0 and 1, and any activation in place of the network's own.
        draw: ``draw(key)`` gives other initial params.
        logits: ``logits(params, inputs, statistics)``, normalised with these statistics.
        statistics: ``statistics(params, inputs)`` of the batch.
    """

    loss: Callable[[PyTree, Any], jax.Array]
    cooled_loss: Callable[[PyTree, Any], jax.Array]
    loss_by_example: Callable[[PyTree, Any], jax.Array]
    cooled_loss_by_example: Callable[[PyTree, Any], jax.Array]
    output: Callable[[PyTree], jax.Array]
    inputs: jax.Array
    network: Callable[[PyTree, jax.Array, Activation], jax.Array]
    draw: Callable[[jax.Array], PyTree]
    logits: Callable[[PyTree, jax.Array, PyTree], jax.Array]
    statistics: Callable[[PyTree, jax.Array], PyTree]


@dataclass(frozen=True, kw_only=True)
class Ranking:
    """How a method ranks weights.

    Attributes:
        scores: ``scores(losses, seen, masked_params)``.
        rounds: In how many rounds it prunes.
        may_return: Whether a pruned weight may return in a later round.
        in_float64: Whether it is computed in float64.
        passes: Forward-backward passes of one round over the examples, or over one input where
            ``sees_data`` is False: 1 for a gradient, a third for the outputs alone, 2 for a product with
            the Hessian.
        sees_data: Whether it looks at the examples.
        allocation: ``allocation(params, sparsity, layers)`` gives each layer its sparsity, ``layers``
            being their paths from input to output; None for one ranking of all weights.
        select: ``select(scores, sparsity, layers)`` makes masks of scores where weights are chosen
            neither by one ranking nor by one of each layer: whole channels, say.
    """

    scores: Callable[[Losses, Seen, PyTree], PyTree]
    rounds: int = 1
    may_return: bool = False
    in_float64: bool = False
    passes: float = 0
    sees_data: bool = True
    allocation: Allocation | None = None
    select: Select | None = None

    def passes_of(self, examples: int) -> float:
        """Forward-backward passes of all rounds, in examples."""
        return self.rounds * self.passes * (examples if self.sees_data else 1)


class Walks(NamedTuple):
    """How a method chooses weights without a score, by walks through the network, which see no data.

    Attributes:
        masks: ``masks(losses, seen, pruned)`` leaves so many weights out.
    """

    masks: Callable[[Losses, Seen, Any], PyTree]

    def passes_of(self, examples: int) -> float:
        """Of examples it passes none forward or backward."""
        del examples
        return 0
