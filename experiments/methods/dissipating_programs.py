"""The training programs of dissipating gradients, and what tells their networks apart."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

import pruning
from experiments.methods.programs import Program
from experiments.methods.study import Study
from train.populations.population import Method as Transformed

PyTree = Any


class Band(NamedTuple):
    """A network from which weights within a fraction of their initial value dissipate."""

    fraction: jax.Array


class InLayers(NamedTuple):
    """A network of whose layers each has a sparsity of its own in the end.

    Attributes:
        sparsities: Of the network after each check, shape (checks,).
        layers: Of each layer in the end, scalars, a tree like masks.
    """

    sparsities: jax.Array
    layers: PyTree


def _to_sparsities(study: Study, shapes: PyTree) -> Transformed:
    every = study.steps_per_epoch
    return lambda optimizer, sparsities: optax.chain(
        optimizer, pruning.dissipate_to(sparsities, check_every=every)
    )


def _to_layer_sparsities(study: Study, shapes: PyTree) -> Transformed:
    every = study.steps_per_epoch

    def method(optimizer: Any, data: InLayers) -> optax.GradientTransformationExtraArgs:
        def select(scores: PyTree, sparsity: Any) -> PyTree:
            last = data.sparsities[-1]
            part = jnp.log1p(-sparsity) / jnp.log1p(-last)
            # In the end exactly what was asked for, which a power may round.
            now = jax.tree.map(
                lambda end, way: jnp.where(sparsity < last, way, end),
                data.layers,
                on_the_way(data.layers, part),
            )
            return pruning.layerwise_masks(scores, now)

        dissipated = pruning.dissipate_to(data.sparsities, check_every=every, select=select)
        return optax.chain(optimizer, dissipated)

    return method


def on_the_way(layers: PyTree, part: Any) -> PyTree:
    """Layer sparsities before the end: what each layer keeps falls exponentially.

    Args:
        layers: Sparsities in the end.
        part: How much of the way is done, from 0 to 1.
    """
    return jax.tree.map(lambda end: 1 - (1 - end) ** part, layers)


def _in_band(study: Study, shapes: PyTree) -> Transformed:
    every = study.steps_per_epoch
    window = study.prune_epochs * every
    return lambda optimizer, data: optax.chain(
        optimizer, pruning.dissipate(data.fraction, check_every=every, stop_after=window)
    )


DISSIPATING = Program(name="dissipating gradients", method=_to_sparsities)
IN_LAYERS = Program(name="dissipating gradients in layers", method=_to_layer_sparsities)
BAND = Program(name="dissipating gradients in a band", method=_in_band)
