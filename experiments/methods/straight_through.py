"""Masks that are made anew in every step: what they prune goes on learning behind them.

Gradual magnitude pruning with dense weights behind the mask, and edge-popup, in which weights stay as
they were initialised and scores beside them learn which of them to keep.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.nn.initializers import variance_scaling

import pruning
from experiments.methods.gradual import Gradual
from experiments.methods.method import Given, Look, Method, When
from experiments.methods.point import Point
from experiments.methods.programs import Program
from experiments.methods.seeds import seed_keys
from experiments.methods.study import Study
from train.populations import population
from train.populations.reparametrization import Reparametrization
from train.recipes import make_optimizer

PyTree = Any
MasksOf = Callable[[PyTree, jax.Array], PyTree]
"""Masks of what is trained after so many steps."""


class NotedMasksState(NamedTuple):
    """The steps taken, and the masks of what they have led to."""

    count: jax.Array
    masks: PyTree


def noted_masks(masks_of: MasksOf) -> optax.GradientTransformation:
    """Changes no update, and keeps the masks of what is trained in the state, where others look."""

    def init_fn(params: PyTree) -> NotedMasksState:
        return NotedMasksState(jnp.int32(0), masks_of(params, jnp.int32(0)))

    def update_fn(updates: PyTree, state: Any, params: PyTree = None) -> tuple[PyTree, NotedMasksState]:
        count = state.count + 1
        return updates, NotedMasksState(count, masks_of(optax.apply_updates(params, updates), count))

    return optax.GradientTransformation(init_fn, update_fn)


def _no_penalty(trained: PyTree, data: Any, step: jax.Array) -> jax.Array:
    return jnp.float32(0)


# --- gradual magnitude pruning with dense weights behind the mask -----------------------------------


def _behind(study: Study, shapes: PyTree) -> population.Method:
    def method(optimizer: optax.GradientTransformation, sparsities: jax.Array):
        masks_of = _largest(study, sparsities)
        return optax.chain(optimizer, noted_masks(masks_of))

    return method


def _largest(study: Study, sparsities: jax.Array) -> MasksOf:
    """The largest weights, at the sparsity that the epochs so far have led to."""

    def masks_of(params: PyTree, count: jax.Array) -> PyTree:
        checks = jnp.minimum(count // study.steps_per_epoch, len(sparsities))
        sparsity = jnp.where(checks == 0, 0, sparsities[checks - 1])
        return pruning.global_masks(pruning.magnitude_scores(params), sparsity)

    return masks_of


def _straight_through(study: Study) -> Reparametrization:
    def computed_with(key: jax.Array, params: PyTree, sparsities: jax.Array, step: jax.Array) -> PyTree:
        masks = _largest(study, sparsities)(jax.lax.stop_gradient(params), step)
        return pruning.straight_through(params, masks)

    def tested(params: PyTree, sparsities: jax.Array, step: jax.Array) -> PyTree:
        return pruning.apply_masks(params, _largest(study, sparsities)(params, step + 1))

    return Reparametrization(
        begin=lambda params, transformation, data: params,
        params=computed_with,
        penalty=_no_penalty,
        tested=tested,
        masks=lambda params, opt_state: pruning.get_masks(opt_state),
    )


# --- edge-popup -------------------------------------------------------------------------------------


class Popping(NamedTuple):
    """A member with scores beside its frozen weights.

    Attributes:
        key: A PRNG key from which the initial scores are drawn.
        sparsity: The fraction of each layer that is removed; a scalar.
        learning_rate: With which the scores learn; a scalar.
        weight_decay: With which the scores decay; a scalar.
    """

    key: jax.Array
    sparsity: jax.Array
    learning_rate: jax.Array
    weight_decay: jax.Array


def _popping(study: Study, shapes: PyTree) -> population.Method:
    """Scores are trained as the recipe trains weights; nothing else learns."""

    def method(optimizer: optax.GradientTransformation, data: Popping):
        rates = data.learning_rate, data.weight_decay
        scores = make_optimizer(study.recipe, *rates, study.steps_per_epoch)

        def masks_of(scores: PyTree, count: jax.Array) -> PyTree:
            sizes = jax.tree.map(jnp.abs, scores)
            return pruning.layerwise_masks(sizes, jax.tree.map(lambda _: data.sparsity, sizes))

        frozen = optax.chain(optimizer, optax.scale(0.0))
        return pruning.soft_masked_optimizer(frozen, optax.chain(scores, noted_masks(masks_of)))

    return method


def _edge_popup(study: Study) -> Reparametrization:
    def popped(both: pruning.SoftMasked, data: Popping) -> PyTree:
        return pruning.edge_popup(both.params, both.gates, data.sparsity)

    return Reparametrization(
        begin=_with_scores,
        params=lambda key, both, data, step: popped(both, data),
        penalty=_no_penalty,
        tested=lambda both, data, step: popped(both, data),
        masks=lambda both, opt_state: pruning.get_masks(opt_state).gates,
    )


def _with_scores(params: PyTree, transformation: Any, data: Popping) -> pruning.SoftMasked:
    """Scores drawn evenly from within 1 / sqrt(fan-in) of 0, as PyTorch draws weights."""
    draw = variance_scaling(1 / 3, "fan_in", "uniform")
    like = pruning.initial_gates(params, 0.0)
    leaves, structure = jax.tree.flatten(like)
    keys = jax.random.split(data.key, len(leaves))
    drawn = [draw(key, leaf.shape, leaf.dtype) for key, leaf in zip(keys, leaves, strict=True)]
    return pruning.SoftMasked(params, structure.unflatten(drawn))


BEHIND = Program(name="straight through", method=_behind, reparametrization=_straight_through)
POPPING = Program(name="edge-popup", method=_popping, reparametrization=_edge_popup)


@dataclass(frozen=True, kw_only=True)
class StraightThrough(Gradual):
    """The largest weights on the cubic schedule; those that are pruned learn on, and may return."""

    program: Program = BEHIND
    in_first_epochs: bool = False


@dataclass(frozen=True, kw_only=True)
class EdgePopup(Method):
    """The network of the highest scores of each layer, with its initial weights."""

    program: Program = POPPING
    has_gates: bool = True

    def data(self, point: Point, given: Given) -> PyTree:
        """How its scores begin and learn."""
        study = given.study
        numbers = point.sparsity_target or 0.0, study.gate_rate(point), study.decay(point)
        return Popping(seed_keys(point.seed).scores, *map(jnp.float32, numbers))


METHODS = (
    StraightThrough(
        name="gradual-magnitude-ste",
        look=Look("Gradual magnitude, straight through", "#3060C0", "p"),
        when=When.DURING,
        functions=("straight_through", "magnitude_scores", "cubic_sparsities"),
        source="Lin et al. 2020 (arXiv 2006.07253)",
        choices=(
            "The paper makes masks anew every 16 steps; here in every one, as jaxpruner's "
            "straight-through pruners do. The cubic schedule's steps are the ends of the first epochs, "
            "as in `gradual-magnitude`."
        ),
    ),
    EdgePopup(
        name="edge-popup",
        look=Look("Edge-popup", "#904000", "<"),
        when=When.DURING,
        functions=("edge_popup", "soft_masked_optimizer"),
        source="Ramanujan et al. 2020 (arXiv 1911.13299)",
        choices=(
            "Weights keep their initial values, those of the recipe, and biases stay 0; the paper finds "
            "signed constants to serve better. Scores are ranked by magnitude, as in the released code, "
            "and learn at `--gate-learning-rate`, by default the recipe's, which decides much: on digits "
            "35.4 ± 9.4 % are right at 95 % removed with 0.01, and 86.0 ± 2.8 % with 3, 10 seeds "
            "(docs/results/README.md)."
        ),
    ),
)
