"""The static masks of ``experiments.missing_the_mark``: which method sees what, and its ablations.

A method is a function from what it may see to scores, and a number of rounds. Data, where a method
sees any, are 10 examples a class, without augmentation, in one batch unless the recipe says otherwise;
batch normalisation is in the mode that the recipe names, but for SynFlow, which scores in inference
mode with all params and running means made positive, in float64.

Counts are exact: they are computed in Python and passed to the compiled selection. Products are computed
in full precision, also where an accelerator's default is a shorter one.

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
from experiments.score_methods import SCORE_METHODS, Allocation, Losses, Seen
from pruning.masks.iterative import Rounds, prune_in_rounds, pruned_counts
from pruning.masks.selection import keep_highest
from train.data.datasets import Dataset, Split
from train.data.preprocessing import preprocess
from train.evaluation import apply_model, cross_entropy
from train.populations.population import MemberState
from train.recipes import Recipe, lookup

PyTree = Any
EXAMPLES_PER_CLASS = 10
_MEND = "the output or its gradient overflows or is NaN; try another initializer or a smaller network"
GRASP_TEMPERATURE = 200


class MaskMaker:
    """Makes the masks of one model, recipe and data set; compiles each method once."""

    def __init__(self, model: nn.Module, dataset: Dataset, recipe: Recipe) -> None:
        """Prepares the methods; nothing is compiled yet.

        Args:
            model: From images to logits, computing in float32.
            dataset: Whose training split is scored.
            recipe: Says how images are normalised and in which mode batches are.
        """
        self.model, self.dataset, self.recipe = model, dataset, recipe
        self._keep_highest = jax.jit(keep_highest)
        self._scores = lru_cache(maxsize=None)(self._compile_scores)
        self._rounds = lru_cache(maxsize=None)(self._compile_rounds)
        self._last: tuple[str, Seen | None, PyTree] = ("", None, None)

    def seen(self, seed: int, key: jax.Array, state: MemberState, other_params: PyTree) -> Seen:
        """What a method may see of a network and of the data.

        Args:
            seed: Of the choice of examples.
            key: Of the method's own randomness.
            state: The network.
            other_params: Another draw of its initial weights.

        Returns:
            The network, and 10 examples a class.
        """
        split = balanced_examples(self.dataset.train, EXAMPLES_PER_CLASS, seed=seed)
        if self.recipe.score_batch_size is not None:
            # Batches are of all classes, as in training.
            order = np.random.default_rng(seed).permutation(len(split.labels))
            split = Split(split.images[order], split.labels[order])
        images, labels = jnp.asarray(split.images), jnp.asarray(split.labels)
        return Seen(key, state.params, other_params, state.batch_stats, images, labels)

    def masks(self, name: str, seen: Seen, sparsity: float, *, invert: bool = False) -> PyTree:
        """Masks of an exact sparsity.

        Args:
            name: A name in ``SCORE_METHODS``.
            seen: What the method may see; where it is the same object as in the call before, scores of
                a method with one round are not computed again.
            sparsity: Fraction removed.
            invert: Whether the other end of the ranking is kept, in every round.

        Returns:
            The masks.

        Raises:
            ValueError: If there is no method of that name, or its scores cannot be ranked.
        """
        method = lookup(SCORE_METHODS, name, "method")
        if method.allocation is not None:
            return self._allocated(method.allocation, seen, sparsity)
        size = pruning.count_prunable(pruning.full_masks(seen.params))
        with jax.enable_x64(method.in_float64), jax.default_matmul_precision("highest"):
            if method.rounds == 1:
                scores = self._one_rounds_scores(name, seen)
                scores = pruning.invert_scores(scores) if invert else scores
                return self._keep_highest(scores, jnp.int32(pruning.pruned_count(sparsity, size)))
            counts = pruned_counts(sparsity, method.rounds, size)
            seen = _cast(seen, in_float64=method.in_float64)
            found = self._rounds(name, invert)(seen, counts)
            for first, what in ((found.failed, "NaN"), (found.unranked, "all 0, or not finite,")):
                if first < method.rounds:
                    where = f"in round {int(first) + 1} of {method.rounds}"
                    raise ValueError(f"the scores of {name} are {what} {where}: {_MEND}")
            return found.masks

    def _allocated(self, allocation: Allocation, seen: Seen, sparsity: float) -> PyTree:
        """Random masks with an exact count in each layer."""

        def keep(scores: jax.Array, layer: float) -> jax.Array:
            return self._keep_highest(scores, jnp.int32(pruning.pruned_count(layer, scores.size)))

        scores = pruning.random_scores(seen.key, seen.params)
        return jax.tree.map(keep, scores, allocation(seen.params, sparsity))

    def _one_rounds_scores(self, name: str, seen: Seen) -> PyTree:
        """The scores of the network as it is, checked; computed once for what is seen."""
        if self._last[0] != name or self._last[1] is not seen:
            scores = self._scores(name)(seen)
            for path, leaf in jax.tree_util.tree_leaves_with_path(scores):
                if not bool(jnp.all(jnp.isfinite(leaf))):
                    where = jax.tree_util.keystr(path)
                    raise ValueError(f"the scores of {name} are not finite at {where}: {_MEND}")
            self._last = name, seen, scores
        return self._last[2]

    def _losses(self, seen: Seen) -> Losses:
        def logits(params: PyTree, images: jax.Array) -> jax.Array:
            train = self.recipe.score_in_train_mode
            return apply_model(self.model, params, seen.batch_stats, images, train=train)[0]

        def output(params: PyTree) -> jax.Array:
            positive = jax.tree.map(jnp.abs, seen.batch_stats)
            ones = jnp.ones((1, *seen.images.shape[1:]), jax.tree.leaves(params)[0].dtype)
            return apply_model(self.model, params, positive, ones, train=False)[0]

        def loss(params: PyTree, batch: Any, temperature: float = 1) -> jax.Array:
            def mean(part: Any) -> jax.Array:
                images, labels = part
                found = logits(params, preprocess(images, self.dataset, self.recipe))
                return cross_entropy(found / temperature, labels).mean()

            return mean_in_parts(mean, batch, self.recipe.score_batch_size)

        return Losses(
            loss=loss,
            cooled_loss=lambda params, batch: loss(params, batch, GRASP_TEMPERATURE),
            output=output,
        )

    def _compile_scores(self, name: str) -> Callable[[Seen], PyTree]:
        method = SCORE_METHODS[name]
        return jax.jit(lambda seen: method.scores(self._losses(seen), seen, seen.params))

    def _compile_rounds(self, name: str, invert: bool) -> Callable[[Seen, jax.Array], Rounds]:
        method = SCORE_METHODS[name]

        @jax.jit
        def masks(seen: Seen, counts: jax.Array) -> Rounds:
            def score(params: PyTree) -> PyTree:
                scores = method.scores(self._losses(seen), seen, params)
                return pruning.invert_scores(scores) if invert else scores

            return prune_in_rounds(score, seen.params, counts, may_return=method.may_return)

        return masks


def mean_in_parts(mean: Callable[[Any], jax.Array], batch: PyTree, most: int | None) -> jax.Array:
    """A mean over a batch that is computed a part at a time, and so are its derivatives.

    Args:
        mean: Of a part.
        batch: Arrays of one leading axis, n examples.
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


def balanced_examples(split: Split, per_class: int, *, seed: int) -> Split:
    """A few examples of each class, drawn without replacement.

    Args:
        split: Labelled images.
        per_class: How many of each class, or all of a class that has fewer.
        seed: Of the draw.

    Returns:
        The examples, class by class.
    """
    rng = np.random.default_rng(seed)
    labels = np.asarray(split.labels)
    chosen = np.concatenate(
        [rng.permutation(np.flatnonzero(labels == label))[:per_class] for label in np.unique(labels)]
    )
    return Split(np.asarray(split.images[chosen]), labels[chosen])


def _cast(seen: Seen, *, in_float64: bool) -> Seen:
    def cast(leaf: Any) -> Any:
        if in_float64 and jnp.issubdtype(leaf.dtype, jnp.floating):
            return jnp.asarray(leaf, jnp.float64)
        return leaf

    return jax.tree.map(cast, seen)
