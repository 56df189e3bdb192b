"""Static masks of scored methods: what a score sees, compiled once for all sparsities.

Data, where a method sees any, are 10 examples a class, without augmentation, in one batch unless the
recipe says otherwise; batch normalisation is in the mode that the recipe names, but for SynFlow, which
scores in inference mode with all params and running means made positive, in float64. Products are
computed in full precision, also where an accelerator's default is a shorter one.

Source: Frankle et al. 2021 (arXiv 2009.08576), section 3 and appendix A.
"""

from collections.abc import Callable
from functools import lru_cache
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

import pruning
from experiments.methods.ranking import Losses, Ranking, Seen, Walks
from pruning.masks.iterative import Rounds, prune_in_rounds, pruned_counts
from train.data.datasets import Dataset, Split
from train.data.examples import balanced_examples
from train.data.preprocessing import check_moments, preprocess
from train.evaluation import apply_model, batch_statistics, cross_entropy
from train.models import layers_in_order
from train.models.layers import Activation
from train.recipes import Recipe

PyTree = Any
EXAMPLES_PER_CLASS = 10
_MEND = "the output or its gradient overflows or is NaN; try another initializer or a smaller network"
GRASP_TEMPERATURE = 200


class MaskMaker:
    """Makes the masks of one model, recipe and data set; compiles each ranking once."""

    def __init__(self, model: nn.Module, dataset: Dataset, recipe: Recipe) -> None:
        """Prepares; nothing is compiled yet.

        Args:
            recipe: Says how images are normalised and in which mode batches are.

        Raises:
            ValueError: If it normalises other images.
        """
        check_moments(dataset, recipe)
        self.model, self.dataset, self.recipe = model, dataset, recipe
        self.layers = layers_in_order(model, dataset.train.images.shape[1:])
        self._scores = lru_cache(maxsize=None)(self._compile_scores)
        self._rounds = lru_cache(maxsize=None)(self._compile_rounds)
        self._masks = lru_cache(maxsize=None)(self._compile_masks)
        self._moved_statistics = jax.jit(self._move_statistics)
        self._last: tuple[Ranking | None, Seen | None, PyTree] = (None, None, None)

    def seen(
        self, seed: int, key: jax.Array, params: PyTree, batch_stats: PyTree, other_params: PyTree
    ) -> Seen:
        """What a method may see of a network and of the data."""
        split = balanced_examples(self.dataset.train, EXAMPLES_PER_CLASS, seed=seed)
        if self.recipe.score_batch_size is not None:
            # Batches are of all classes, as in training.
            order = np.random.default_rng(seed).permutation(len(split.labels))
            split = Split(split.images[order], split.labels[order])
        images, labels = jnp.asarray(split.images), jnp.asarray(split.labels)
        if self.recipe.score_after_warm_up:
            batch_stats = self._warmed_up(params, batch_stats)
        return Seen(key, params, other_params, batch_stats, images, labels)

    def _warmed_up(self, params: PyTree, batch_stats: PyTree) -> PyTree:
        """The running statistics after one pass over the training images, in whole batches."""
        train, size = self.dataset.train, self.recipe.batch_size
        for first in range(0, len(train.labels) - size + 1, size):
            images = jnp.asarray(train.images[np.arange(first, first + size)])
            batch_stats = self._moved_statistics(params, batch_stats, images)
        return batch_stats

    def _move_statistics(self, params: PyTree, batch_stats: PyTree, images: jax.Array) -> PyTree:
        images = preprocess(images, self.dataset, self.recipe)
        return apply_model(self.model, params, batch_stats, images, train=True)[1]

    def masks(
        self, name: str, ranking: Ranking | Walks, seen: Seen, sparsity: float, *, invert: bool = False
    ) -> PyTree:
        """Masks of an exact sparsity.

        Args:
            ranking: Where it and ``seen`` are the same objects as in the call before, scores of one round
                are not computed again.
            invert: Whether the other end of the ranking is kept, in every round.

        Raises:
            ValueError: If the scores cannot be ranked, or there are none, so no other end either.
        """
        if isinstance(ranking, Walks):
            if invert:
                raise ValueError(f"expected no other end of {name} to be kept: it ranks by no score")
            size = pruning.count_prunable(pruning.full_masks(seen.params))
            return self._masks(ranking)(seen, np.int32(pruning.pruned_count(sparsity, size)))
        with jax.enable_x64(ranking.in_float64), jax.default_matmul_precision("highest"):
            if ranking.rounds == 1:
                scores = self._one_rounds_scores(name, ranking, seen)
                scores = pruning.invert_scores(scores) if invert else scores
                if ranking.select is not None:
                    return ranking.select(scores, sparsity, self.layers)
                if ranking.allocation is not None:
                    sparsities = ranking.allocation(seen.params, sparsity, self.layers)
                    return pruning.layerwise_masks(scores, sparsities)
                return pruning.global_masks(scores, sparsity)
            size = pruning.count_prunable(pruning.full_masks(seen.params))
            counts = pruned_counts(sparsity, ranking.rounds, size)
            seen = _cast(seen, in_float64=ranking.in_float64)
            found = self._rounds(ranking, invert)(seen, counts)
            for first, what in ((found.failed, "NaN"), (found.unranked, "all 0, or not finite,")):
                if first < ranking.rounds:
                    where = f"in round {int(first) + 1} of {ranking.rounds}"
                    raise ValueError(f"the scores of {name} are {what} {where}: {_MEND}")
            return found.masks

    def _one_rounds_scores(self, name: str, ranking: Ranking, seen: Seen) -> PyTree:
        """The scores of the network as it is, checked; computed once for what is seen."""
        if self._last[0] is not ranking or self._last[1] is not seen:
            scores = self._scores(ranking)(seen)
            for path, leaf in jax.tree_util.tree_leaves_with_path(scores):
                if not bool(jnp.all(jnp.isfinite(leaf))):
                    where = jax.tree_util.keystr(path)
                    raise ValueError(f"the scores of {name} are not finite at {where}: {_MEND}")
            self._last = ranking, seen, scores
        return self._last[2]

    def _losses(self, seen: Seen) -> Losses:
        in_training = self.recipe.score_in_train_mode

        def logits(params: PyTree, images: jax.Array, *, train: bool) -> jax.Array:
            return apply_model(self.model, params, seen.batch_stats, images, train=train)[0]

        def variables(key: jax.Array) -> PyTree:
            return self.model.init(key, jnp.zeros((1, *seen.images.shape[1:])))

        def network(params: PyTree, inputs: jax.Array, activation: Activation) -> jax.Array:
            if not hasattr(self.model, "activation"):
                raise ValueError(
                    f"expected a model with a field `activation`, which this method replaces, got "
                    f"{type(self.model).__name__} without one"
                )
            model, fresh = self.model.clone(activation=activation), variables(seen.key)
            return apply_model(model, params, fresh.get("batch_stats", {}), inputs, train=False)[0]

        def output(params: PyTree) -> jax.Array:
            positive = jax.tree.map(jnp.abs, seen.batch_stats)
            ones = jnp.ones((1, *seen.images.shape[1:]), jax.tree.leaves(params)[0].dtype)
            return apply_model(self.model, params, positive, ones, train=False)[0]

        def loss(temperature: float, *, train: bool) -> Callable[[PyTree, Any], jax.Array]:
            def of_batch(params: PyTree, batch: Any) -> jax.Array:
                def mean(part: Any) -> jax.Array:
                    images, labels = part
                    images = preprocess(images, self.dataset, self.recipe)
                    found = logits(params, images, train=train) / temperature
                    return cross_entropy(found, labels).mean()

                return mean_in_parts(mean, batch, self.recipe.score_batch_size)

            return of_batch

        return Losses(
            loss=loss(1, train=in_training),
            cooled_loss=loss(GRASP_TEMPERATURE, train=in_training),
            loss_by_example=loss(1, train=False),
            cooled_loss_by_example=loss(GRASP_TEMPERATURE, train=False),
            output=output,
            inputs=preprocess(seen.images, self.dataset, self.recipe),
            network=network,
            draw=lambda key: variables(key)["params"],
            logits=lambda params, inputs, statistics: apply_model(
                self.model, params, statistics, inputs, train=False
            )[0],
            statistics=lambda params, inputs: batch_statistics(
                self.model, params, seen.batch_stats, inputs
            ),
        )

    def _compile_scores(self, ranking: Ranking) -> Callable[[Seen], PyTree]:
        return jax.jit(lambda seen: ranking.scores(self._losses(seen), seen, seen.params))

    def _compile_masks(self, walks: Walks) -> Callable[[Seen, Any], PyTree]:
        return jax.jit(lambda seen, pruned: walks.masks(self._losses(seen), seen, pruned))

    def _compile_rounds(self, ranking: Ranking, invert: bool) -> Callable[[Seen, jax.Array], Rounds]:
        @jax.jit
        def masks(seen: Seen, counts: jax.Array) -> Rounds:
            def score(params: PyTree) -> PyTree:
                scores = ranking.scores(self._losses(seen), seen, params)
                return pruning.invert_scores(scores) if invert else scores

            return prune_in_rounds(score, seen.params, counts, may_return=ranking.may_return)

        return masks


def mean_in_parts(mean: Callable[[Any], jax.Array], batch: PyTree, most: int | None) -> jax.Array:
    """A mean over a batch that is computed a part at a time, and so are its derivatives.

    Args:
        most: Examples in a part; they are divided as evenly as possible. None for one part.

    Returns:
        The mean over all examples; a derivative of it holds what one part needs.
    """
    count = len(jax.tree.leaves(batch)[0])
    if most is None or count <= most:
        return mean(batch)
    parts = -(-count // most)
    size, longer = divmod(count, parts)

    def add(total: jax.Array, part: PyTree) -> tuple[jax.Array, None]:
        return total + len(jax.tree.leaves(part)[0]) * jax.checkpoint(mean)(part), None

    def sum_of(first: int, number: int, size: int) -> jax.Array:
        """The sum over so many parts of one size."""

        def divide(leaf: jax.Array) -> jax.Array:
            return leaf[first : first + number * size].reshape(number, size, *leaf.shape[1:])

        return jax.lax.scan(add, jnp.zeros(()), jax.tree.map(divide, batch))[0]

    total = sum_of(0, longer, size + 1) + sum_of(longer * (size + 1), parts - longer, size)
    return total / count


def _cast(seen: Seen, *, in_float64: bool) -> Seen:
    def cast(leaf: Any) -> Any:
        if in_float64 and jnp.issubdtype(leaf.dtype, jnp.floating):
            return jnp.asarray(leaf, jnp.float64)
        return leaf

    return jax.tree.map(cast, seen)
