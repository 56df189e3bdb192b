"""Gradual magnitude pruning: the smallest weights go at the end of each of the first epochs."""

from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
import optax

import pruning
from experiments.methods.method import Given, Look, Method, When
from experiments.methods.point import Point
from experiments.methods.programs import Program
from experiments.methods.study import Study
from experiments.options.training import TrainingOptions
from train.populations import population

PyTree = Any


def _to_sparsities(study: Study, shapes: PyTree) -> population.Method:
    every = study.steps_per_epoch
    return lambda optimizer, sparsities: optax.chain(
        optimizer, pruning.gradual_magnitude(sparsities, check_every=every)
    )


GRADUAL = Program(name="gradual pruning", method=_to_sparsities)


@dataclass(frozen=True, kw_only=True)
class Gradual(Method):
    """On the cubic schedule, from the dense network."""

    program: Program = GRADUAL
    in_first_epochs: bool = True

    def check(self, options: TrainingOptions) -> None:
        """Raises a ValueError if nothing is trained after the last check."""
        check_before_the_end(options)

    def data(self, point: Point, given: Given) -> PyTree:
        """The sparsity after each check."""
        sparsities = pruning.cubic_sparsities(point.sparsity_target or 0.0, given.study.prune_epochs)
        return jnp.asarray(sparsities, jnp.float32)


def check_before_the_end(options: TrainingOptions) -> None:
    """Raises a ValueError if a network is not trained after it is pruned."""
    epochs, pruned = options.resolved_recipe().epochs, options.prune_epochs()
    if not pruned < epochs:
        raise ValueError(
            f"expected --prune-epochs < --epochs, got {pruned}, {epochs}: what is pruned late is trained "
            "afterwards"
        )


METHODS = (
    Gradual(
        name="gradual-magnitude",
        look=Look("Gradual magnitude", "#0072B2", "p"),
        when=When.DURING,
        functions=("gradual_magnitude", "cubic_sparsities"),
        source="Zhu and Gupta 2017 (arXiv 1710.01878)",
    ),
)
