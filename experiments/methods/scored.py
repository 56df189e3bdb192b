"""Methods of one moment: weights are ranked by a score, in one round or several, and the highest stay.

They see the initial weights, or those of a later step of the same training, which then goes on.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import pruning
from experiments.methods.method import Given, Method
from experiments.methods.point import Need, Point, dense
from experiments.methods.ranking import Ranking, Walks
from experiments.methods.seeds import seed_keys
from experiments.methods.study import Study
from train.populations.population import MemberState, pruned

PyTree = Any
PUBLISHED_ABLATIONS = ("shuffle", "reinit", "invert")
"""Masks permuted within layers; other initial weights under the masks; the other end of the ranking."""
ABLATIONS = (*PUBLISHED_ABLATIONS, "sparse-reinit")
"""And other initial weights whose spread fits what the masks leave of each unit (Evci et al. 2022)."""


@dataclass(frozen=True, kw_only=True)
class Scored(Method):
    """A method that ranks weights, or walks through them.

    Attributes:
        ranking: How.
        at_init_only: Whether it can only prune before training.
    """

    ranking: Ranking | Walks
    at_init_only: bool = False

    def points(self, study: Study, seed: int) -> Iterator[Point]:
        """The grid at initialization, with ablations; then the grid of later steps."""
        yield from super().points(study, seed)
        for step in () if self.at_init_only else study.steps:
            for sparsity in study.step_sparsities:
                yield Point(self.name, pruned_at_step=step, sparsity_target=sparsity, seed=seed)

    def needs(self, point: Point, study: Study) -> tuple[Need, ...]:
        """The dense network at a later step; its initial weights follow from the seed."""
        return (Need(dense(point), point.pruned_at_step),) if point.pruned_at_step else ()

    def first_step(self, point: Point, study: Study) -> int:
        """Where it is pruned."""
        return point.pruned_at_step

    def passes(self, examples: int) -> float:
        """Of all rounds."""
        return self.ranking.passes_of(examples)

    def start(self, point: Point, given: Given) -> MemberState:
        """The network that was scored, or another, under the mask."""
        state = given.state(Need(dense(point), point.pruned_at_step))
        others = ("reinit", "sparse-reinit")
        network = given.initial(point.seed, "other_init") if point.variant in others else state
        return started(point, given, state.params, network, lambda: self.masks(point, given))

    def masks(self, point: Point, given: Given) -> PyTree:
        """The mask of a point, before an ablation permutes it."""
        seen = given.seen(Need(dense(point), point.pruned_at_step))
        sparsity, invert = point.sparsity_target or 0.0, point.variant == "invert"
        return given.maker.masks(self.name, self.ranking, seen, sparsity, invert=invert)


def started(point: Point, given: Given, scored: PyTree, network: MemberState, masks: Any) -> MemberState:
    """A network under the mask of another; mask or weights are changed where the point says so.

    Args:
        given: Keeps masks, since a variant may use those of another point.
        scored: The params that the mask is of. If they have diverged, so has the network.
    """
    if not all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(scored)):
        broken = jax.tree.map(lambda leaf: jnp.full_like(leaf, jnp.nan), network.params)
        drawn = pruning.random_scores(seed_keys(point.seed).scores, broken)
        return pruned(
            network._replace(params=broken), pruning.global_masks(drawn, point.sparsity_target or 0.0)
        )
    kept = point.variant if point.variant == "invert" else "none"
    found = given.kept_masks(point._replace(variant=kept), masks)
    if point.variant == "shuffle":
        found = _shuffle(seed_keys(point.seed).shuffle, found)
    if point.variant == "sparse-reinit":
        drawn = _redraw(seed_keys(point.seed).other_init, network.params, found)
        network = network._replace(params=drawn)
    return pruned(network, found)


def named(methods: Iterable[Scored], name: str) -> Scored:
    """One of some scored methods, for methods that begin with its masks."""
    return next(method for method in methods if method.name == name)


_shuffle = jax.jit(pruning.shuffle_masks)
_redraw = jax.jit(pruning.sparse_kaiming_normal)
