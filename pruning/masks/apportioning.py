"""From the sparsities of layers to whole numbers of weights that add up to the network's sparsity."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from pruning.masks.counting import TOLERANCE, pruned_count
from pruning.trees.leaves import is_traced


class Quotas(NamedTuple):
    r"""What an allocation asks for, before it is made whole numbers.

    Attributes:
        total: :math:`\lfloor s n \rfloor`, how many weights the network loses, an int32 scalar.
        floors: :math:`\lfloor s_l n_l \rfloor` of each of the L layers, int32, shape (L,).
        remainders: What is cut off from :math:`s_l n_l`, float32, shape (L,).
    """

    total: jax.Array
    floors: jax.Array
    remainders: jax.Array


def quotas(sparsity: Any, layers: Sequence[Any], sizes: Sequence[int]) -> Quotas:
    """What an allocation asks of each layer.

    Args:
        sparsity: Of the network, a number or traced.
        layers: A sparsity a layer.
        sizes: The number of weights of each layer.

    Returns:
        The total, the whole numbers and what is cut off.
    """
    floors = [pruned_count(of_layer, size) for of_layer, size in zip(layers, sizes, strict=True)]
    asked = [_product(of_layer, size) for of_layer, size in zip(layers, sizes, strict=True)]
    rest = [a - floor for a, floor in zip(asked, floors, strict=True)]
    return Quotas(
        jnp.asarray(pruned_count(sparsity, sum(sizes)), jnp.int32),
        jnp.stack([jnp.asarray(floor, jnp.int32) for floor in floors]),
        jnp.stack([jnp.asarray(part, jnp.float32) for part in rest]),
    )


def apportioned(asked: Quotas, sizes: Sequence[int], removed: jax.Array) -> jax.Array:
    """How many weights each layer has lost after a check, so that together they are the total.

    Each layer loses its whole number; what is then left to lose goes to the layers of the largest
    remainders, one weight each, ties to the first. A weight that went this way at an earlier check stays
    away; where that is one too many, the layers of the smallest remainders lose one less. Where the
    layers' sparsities add up to another than the network's by more than rounding (an allocation that
    spares some layers) each keeps its own number. No layer loses its last weight, if need be at the
    cost of the total.

    Args:
        asked: From ``quotas``.
        sizes: The number of weights of each layer.
        removed: How many each layer has lost already, int32, shape (L,).

    Returns:
        int32, shape (L,); a layer that has lost more already loses none.

    Source: the method of largest remainders (Hamilton), with counts that do not fall.
    """
    missing = asked.total - jnp.sum(asked.floors, dtype=jnp.int32)
    cut_off = asked.remainders > 2 * TOLERANCE
    by_rounding = (missing >= 0) & (missing <= jnp.sum(cut_off, dtype=jnp.int32))
    has_more = removed == asked.floors + 1
    missing = jnp.where(by_rounding, missing - jnp.sum(has_more, dtype=jnp.int32), 0)
    may_more = asked.floors < jnp.array(sizes, jnp.int32) - 1
    more = cut_off & may_more & (removed <= asked.floors)
    more &= _rank(jnp.where(more, -asked.remainders, jnp.inf)) < missing
    fewer = asked.floors > removed
    fewer &= _rank(jnp.where(fewer, asked.remainders, jnp.inf)) < -missing
    return asked.floors + (has_more | more).astype(jnp.int32) - fewer.astype(jnp.int32)


def _product(sparsity: Any, size: int) -> Any:
    return jnp.asarray(sparsity, jnp.float32) * size if is_traced(sparsity) else float(sparsity) * size


def _rank(values: jax.Array) -> jax.Array:
    """The place of each value among all, from 0; equal ones in their order."""
    return jnp.argsort(jnp.argsort(values, stable=True), stable=True).astype(jnp.int32)
