"""Training programs with gates: Continuous Sparsification, and gates that are drawn.

What tells members apart, the gates' initial value among it, is data: a parallel search over several
values is one program.
"""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

import pruning
from train.population import Method
from train.recipes import Recipe, make_optimizer
from train.reparametrization import Reparametrization

PyTree = Any


class Gated(NamedTuple):
    r"""A member with gates; all scalars.

    Attributes:
        initial: Where its gates begin, :math:`s_0`.
        penalty: The weight of the sum of soft masks in the loss, :math:`\lambda`.
        learning_rate: Of the gates.
        weights_learn: 1 where the weights are trained too, 0 where they are frozen.
    """

    initial: jax.Array
    penalty: jax.Array
    learning_rate: jax.Array
    weights_learn: jax.Array


def gated_optimizer(recipe: Recipe, *, steps_per_epoch: int) -> Method:
    """A method that trains weights as the recipe says, and gates alike but without weight decay.

    Args:
        recipe: Gives the gates' optimizer and schedule too.
        steps_per_epoch: Of the recipe on the data set.

    Returns:
        A method for members with ``Gated``.
    """
    without_decay = dataclasses.replace(recipe, weight_decay=0.0)

    def method(optimizer: optax.GradientTransformation, data: Gated):
        gates = make_optimizer(without_decay, data.learning_rate, jnp.float32(0), steps_per_epoch)
        weights = optax.chain(optimizer, optax.scale(data.weights_learn))
        return pruning.soft_masked_optimizer(weights, gates)

    return method


def continuous_sparsification(temperature: Callable[[Any], Any]) -> Reparametrization:
    """Weights times soft masks; tested as they are computed in the last step that was trained.

    Args:
        temperature: By the step, counting from 0.

    Returns:
        The reparametrization, for members with ``Gated``.
    """

    def masked(both: pruning.SoftMasked, data: Gated, step: jax.Array) -> PyTree:
        soft = pruning.soft_masks(both.gates, temperature(step), initial=data.initial)
        return pruning.apply_soft_masks(both.params, soft)

    def penalty(both: pruning.SoftMasked, data: Gated, step: jax.Array) -> jax.Array:
        total = pruning.gate_penalty(both.gates, temperature(step), initial=data.initial)
        return data.penalty * total

    return Reparametrization(
        begin=_with_gates,
        params=lambda key, both, data, step: masked(both, data, step),
        penalty=penalty,
        tested=masked,
        masks=_ticket,
    )


def drawn_gates() -> Reparametrization:
    """Weights times masks that are drawn anew each step; tested with the gates above 0.

    Returns:
        The reparametrization, for members with ``Gated``; the penalty is of the expected number of
        weights.
    """

    def drawn(key: jax.Array, both: pruning.SoftMasked, data: Gated, step: jax.Array) -> PyTree:
        del data, step
        return pruning.apply_soft_masks(both.params, pruning.sampled_masks(key, both.gates))

    def penalty(both: pruning.SoftMasked, data: Gated, step: jax.Array) -> jax.Array:
        del step
        # sigmoid(s) is the soft mask at temperature 1, up to the scale that is 1 / 2 at s0 = 0.
        return data.penalty * pruning.gate_penalty(both.gates, 1.0) / 2

    return Reparametrization(
        begin=_with_gates,
        params=drawn,
        penalty=penalty,
        tested=lambda both, data, step: pruning.apply_masks(both.params, _ticket(both, ())),
        masks=_ticket,
    )


def _with_gates(params: PyTree, transformation: Any, data: Gated) -> pruning.SoftMasked:
    del transformation
    return pruning.SoftMasked(params, pruning.initial_gates(params, data.initial))


def _ticket(both: pruning.SoftMasked, opt_state: PyTree) -> PyTree:
    del opt_state
    return pruning.ticket_masks(both.gates)
