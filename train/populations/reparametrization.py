"""What is trained, and how it becomes the params of the model.

In most methods both are the same, under masks that the optimizer's state holds. With soft masks a gate
is trained beside each weight, and the model computes with what both make together.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import optax

import pruning

PyTree = Any


@dataclass(frozen=True, kw_only=True)
class Reparametrization:
    """How trained trees and params belong together; every function is traced, for one member.

    Attributes:
        begin: ``begin(params, transformation, data)`` is what is trained, at the model's initial params.
        params: ``params(key, trained, data, step)`` is what the model computes with in a training step
            (counting from 0); the key is new each step.
        penalty: ``penalty(trained, data, step)`` is added to the loss of a training step.
        tested: ``tested(trained, data, step)`` is what the model is evaluated with, ``step`` being the
            last one that was trained.
        masks: ``masks(trained, opt_state)`` is what is kept.
    """

    begin: Callable[[PyTree, optax.GradientTransformation, Any], PyTree]
    params: Callable[[jax.Array, PyTree, Any, jax.Array], PyTree]
    penalty: Callable[[PyTree, Any, jax.Array], jax.Array]
    tested: Callable[[PyTree, Any, jax.Array], PyTree]
    masks: Callable[[PyTree, PyTree], PyTree]


def _masked(params: PyTree, transformation: optax.GradientTransformation, data: Any) -> PyTree:
    del data
    return pruning.apply_masks(params, pruning.get_masks(transformation.init(params)))


DIRECT = Reparametrization(
    begin=_masked,
    params=lambda key, trained, data, step: trained,
    penalty=lambda trained, data, step: jnp.float32(0),
    tested=lambda trained, data, step: trained,
    masks=lambda trained, opt_state: pruning.get_masks(opt_state),
)
"""The params themselves are trained, under the masks of the optimizer's state."""
