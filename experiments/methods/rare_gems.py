"""Rare Gems: gates search among frozen weights in the first epochs; in the others these weights learn."""

from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

import pruning
from experiments.methods.gradual import check_before_the_end
from experiments.methods.method import Given, Look, Method, When
from experiments.methods.point import Point
from experiments.methods.programs import Program
from experiments.methods.seeds import seed_keys
from experiments.methods.study import Study
from experiments.options.training import TrainingOptions
from train.populations import population
from train.populations.reparametrization import Reparametrization
from train.recipes import make_optimizer, with_schedules_at

PyTree = Any
PENALTY = 1e-4
"""Weight of the sum of squared gates in the loss of the search, that of the released code."""


class Digging(NamedTuple):
    """A member whose weights are found by gates.

    Attributes:
        key: A PRNG key from which the initial gates are drawn.
        sparsities: After each epoch of the search, shape (prune_epochs,).
        learning_rate: With which the gates learn; a scalar.
    """

    key: jax.Array
    sparsities: jax.Array
    learning_rate: jax.Array


def _digging(study: Study, shapes: PyTree) -> population.Method:
    """Gates are trained by a recipe of the search's length, weights by the rest of the run's recipe."""
    every = study.steps_per_epoch
    of_search = study.recipe.of_length(study.prune_epochs)

    def method(optimizer: optax.GradientTransformation, data: Digging):
        gates = make_optimizer(of_search, data.learning_rate, jnp.float32(0), every)
        weights = optax.GradientTransformationExtraArgs(
            lambda params: with_schedules_at(optimizer.init(params), jnp.int32(_search_steps(study))),
            optax.with_extra_args_support(optimizer).update,
        )
        return pruning.rare_gems(weights, gates, data.sparsities, check_every=every)

    return method


def _rare_gems(study: Study) -> Reparametrization:
    last = _search_steps(study)

    def begin(params: PyTree, transformation: Any, data: Digging) -> pruning.SoftMasked:
        return pruning.SoftMasked(params, pruning.random_scores(data.key, params))

    def computed(both: pruning.SoftMasked, searches: jax.Array) -> PyTree:
        """What is pruned is 0 among the weights already."""
        rounded = pruning.rounded_gates(both.params, both.gates, pruning.full_masks(both.params))
        return jax.tree.map(lambda gem, leaf: jnp.where(searches, gem, leaf), rounded, both.params)

    def penalty(both: pruning.SoftMasked, data: Digging, step: jax.Array) -> jax.Array:
        squares = sum(jnp.sum(gate**2) for gate in jax.tree.leaves(both.gates))
        return jnp.where(step < last, PENALTY * squares, 0.0)

    return Reparametrization(
        begin=begin,
        params=lambda key, both, data, step: computed(both, step < last),
        penalty=penalty,
        tested=lambda both, data, step: computed(both, step + 1 < last),
        masks=lambda both, opt_state: pruning.get_masks(opt_state),
    )


def _search_steps(study: Study) -> int:
    return study.prune_epochs * study.steps_per_epoch


DIGGING = Program(name="Rare Gems", method=_digging, reparametrization=_rare_gems)


@dataclass(frozen=True, kw_only=True)
class RareGems(Method):
    """A search that ends each of its epochs with a drop of the smallest gates, then a training."""

    program: Program = DIGGING
    has_gates: bool = True
    in_first_epochs: bool = True

    def check(self, options: TrainingOptions) -> None:
        """Raises a ValueError if no epoch is left in which the weights are trained."""
        check_before_the_end(options)

    def data(self, point: Point, given: Given) -> PyTree:
        """How its gates begin and learn, and the sparsity after each epoch of the search."""
        target = point.sparsity_target or 0.0
        sparsities = pruning.exponential_sparsities(target, given.study.prune_epochs)
        return Digging(
            seed_keys(point.seed).scores,
            jnp.asarray(sparsities, jnp.float32),
            jnp.float32(given.study.gate_rate(point)),
        )


METHODS = (
    RareGems(
        name="rare-gems",
        look=Look("Rare Gems", "#2E7F8F", ">"),
        when=When.DURING,
        functions=("rare_gems", "rounded_gates", "exponential_sparsities"),
        source="Sreenivasan et al. 2022 (arXiv 2202.12002)",
        choices=(
            "The search takes the first `--prune-epochs`, with a drop at the end of each, and the "
            "weights are trained in the epochs that are left, by the rest of the recipe's schedule; the "
            "released code searches for 150 epochs, drops after every fifth, and then trains for as "
            "many. As in it, the trained network has all weights that were not dropped, those whose "
            "gate is below one half too. Counts are exact, and of equal gates the lower index is kept: "
            "the code removes `ceil(rate * active)` a round and all that tie with the last of them, "
            "more than asked for where gates are clipped to 0. Shortcuts are pruned here, never in the "
            "code's ResNets. Weights begin as the recipe says, where the code draws signed constants; "
            "biases and normalisation wait for the end of the search, where it has neither. Gates learn "
            "by the recipe's optimizer without its weight decay, where the code has SGD with momentum "
            "and a cosine schedule; the penalty is the code's, `1e-4` times the sum of squares. Their "
            "rate is `--gate-learning-rate`, by default the recipe's: with 0.01 on digits it is no "
            "better than random pruning at 95 % (23.2 ± 6.5 against 24.0 ± 7.7), with 3 it reaches 92.4 "
            "± 1.0 (`python -m experiments.pruning_methods --methods random rare-gems --sparsities 0.95 "
            "--seeds 2 --epochs 10`, and with `--gate-learning-rate 3`; 2 seeds)."
        ),
    ),
)
