"""How gates are trained beside the weights: one tree, one optimizer, a rising temperature."""

from typing import Any, NamedTuple

import jax.numpy as jnp
import optax

from pruning.gates.continuous import check_temperature
from pruning.trees.counts import check_counts
from pruning.trees.leaves import PyTree
from pruning.trees.precision import check_precise


class SoftMasked(NamedTuple):
    """What is trained together: the weights, and a gate for each that is prunable."""

    params: PyTree
    gates: PyTree


def temperature_schedule(final: float, *, steps: int, constant_for: int = 1) -> optax.Schedule:
    r"""The temperature of each step of a round: exponential, from 1 to its final value.

    .. math:: \beta_t = \beta_T^{\lfloor t / c \rfloor / (\lceil T / c \rceil - 1)}

    Args:
        final: :math:`\beta_T` > 0, the last temperature, up to rounding; 200 in the paper.
        steps: T, the length of a round.
        constant_for: c, after how many steps it rises: the steps of an epoch in the paper. Where it does
            not divide T, the last temperature has fewer.

    Returns:
        A function of the step, counting from 0; after the round it stays as it is.

    Raises:
        ValueError: If ``final`` is not above 0, or shorter than float32, a number of steps is not whole
            or below 1, or the round has fewer than two temperatures.

    Source: Savarese et al. 2020 (arXiv 1912.04427), section 4.1.

    >>> schedule = temperature_schedule(100.0, steps=6, constant_for=2)
    >>> [round(float(schedule(step)), 1) for step in range(6)]
    [1.0, 1.0, 10.0, 10.0, 100.0, 100.0]
    """
    check_temperature(final)
    check_precise(final=final)
    check_counts(steps=steps, constant_for=constant_for)
    last = -(-steps // constant_for) - 1
    if last < 1:
        raise ValueError(
            f"expected a round of at least two temperatures, got {steps} steps with a temperature for "
            f"every {constant_for}"
        )

    def schedule(step: Any) -> Any:
        risen = jnp.minimum(jnp.asarray(step) // constant_for, last)
        return jnp.exp(jnp.log(final) * (risen / last))

    return schedule


def soft_masked_optimizer(
    params: optax.GradientTransformation, gates: optax.GradientTransformation
) -> optax.GradientTransformationExtraArgs:
    """One optimizer for weights and gates, each with its own rule.

    The paper's: SGD for both, weight decay for the weights alone. With ``optax.set_to_zero()`` for the
    weights only the gates are trained, which is a search for a supermask.

    Args:
        params: For the weights.
        gates: For the gates.

    Returns:
        A transformation over ``SoftMasked`` trees.

    Source: Savarese et al. 2020 (arXiv 1912.04427), section 5; supermasks: Zhou et al. 2019
    (arXiv 1905.01067).

    >>> both = SoftMasked({"w": jnp.ones((1, 1))}, {"w": jnp.zeros((1, 1))})
    >>> optimizer = soft_masked_optimizer(optax.set_to_zero(), optax.sgd(0.5))
    >>> updates, _ = optimizer.update(both._replace(gates=both.params), optimizer.init(both), both)
    >>> float(updates.params["w"][0, 0]), float(updates.gates["w"][0, 0])
    (0.0, -0.5)
    """
    return optax.partition({"params": params, "gates": gates}, SoftMasked("params", "gates"))
