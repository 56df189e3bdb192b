"""Training programs with gates: Continuous Sparsification, and gates that are drawn.

What tells members apart, the gates' initial value among it, is data: a parallel search over several
values is one program.
"""

import dataclasses
import warnings
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

import pruning
from pruning.gates.continuous import LOWEST_INITIAL, closing_factor
from train.populations.population import Method
from train.populations.reparametrization import Reparametrization
from train.recipes import Recipe, make_optimizer

PyTree = Any
DEAD = 1e-12  # gates that do not move close by more than this: from -0.14 down, at temperature 200


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


def check_start(option: str, start: float, final_temperature: float) -> None:
    """Checks where the gates of a network begin, and warns of gates that cannot open.

    Args:
        option: By which it was given.
        start: Of the gates.
        final_temperature: To which the temperature rises.

    Raises:
        ValueError: If a mask cannot be computed from them.

    Warns:
        UserWarning: If gates that do not move close altogether.
    """
    if not final_temperature > 0:
        raise ValueError(f"expected --final-temperature > 0, got {final_temperature}")
    if not LOWEST_INITIAL <= start < float("inf"):
        raise ValueError(f"expected {option} of at least {LOWEST_INITIAL:g}, got {start}")
    closed = closing_factor(start, final_temperature)
    if closed < DEAD:
        warnings.warn(
            f"gates that begin at {start:g} and do not move shrink by a factor of {closed:.0e} while "
            f"the temperature rises to {final_temperature:g}: only weights whose gates the loss lifts "
            "above 0 survive, and in a short training there may be none",
            stacklevel=5,
        )


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


def continuous_sparsification(
    final_temperature: float, *, epochs: int, steps_per_epoch: int
) -> Reparametrization:
    """Weights times soft masks, the temperature rising from epoch to epoch.

    In the last step of all the network is tested with its ticket, the limit of the soft masks; before, as
    it is computed in the last step that was trained.

    Args:
        final_temperature: Of the last epoch.
        epochs: Of a round.
        steps_per_epoch: Of the recipe on the data set.

    Returns:
        The reparametrization, for members with ``Gated``.

    Raises:
        ValueError: If there are fewer than two epochs, or the temperature is not above 0.
    """
    steps = epochs * steps_per_epoch
    temperature = pruning.temperature_schedule(
        final_temperature, steps=steps, constant_for=steps_per_epoch
    )

    def soft(both: pruning.SoftMasked, data: Gated, step: jax.Array) -> PyTree:
        return pruning.soft_masks(both.gates, jnp.asarray(temperature(step)), initial=data.initial)

    def tested(both: pruning.SoftMasked, data: Gated, step: jax.Array) -> PyTree:
        limit = 1 / jax.nn.sigmoid(data.initial)
        factors = jax.tree.map(
            lambda mask, factor: jnp.where(step < steps - 1, factor, jnp.where(mask, limit, 0)),
            _ticket(both, ()),
            soft(both, data, step),
        )
        return pruning.apply_soft_masks(both.params, factors)

    def penalty(both: pruning.SoftMasked, data: Gated, step: jax.Array) -> jax.Array:
        total = pruning.gate_penalty(both.gates, jnp.asarray(temperature(step)), initial=data.initial)
        return data.penalty * total

    return Reparametrization(
        begin=_with_gates,
        params=lambda key, both, data, step: pruning.apply_soft_masks(
            both.params, soft(both, data, step)
        ),
        penalty=penalty,
        tested=tested,
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
