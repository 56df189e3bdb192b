r"""Stochastic gates: masks drawn from the gates' probabilities, the gradient straight through.

The search for a supermask trains gates alone over frozen weights: draw a mask, take the gradient as if
it were the probability, repeat (``soft_masked_optimizer`` with ``optax.set_to_zero()`` for the weights).
Continuous Sparsification's ``soft_masks`` are the deterministic counterpart, for the same gates trees.
"""

import jax
import jax.numpy as jnp

from pruning.trees.layout import Layout, flax_layout, map_layers
from pruning.trees.leaves import PyTree
from pruning.trees.precision import at_least_float32


def sampled_masks(key: jax.Array, gates: PyTree) -> PyTree:
    r"""Draws each weight's mask from its gate: 1 with probability :math:`\sigma(s)`, else 0.

    The gradient is that of the probability: :math:`\partial m / \partial s := \sigma(s)(1 - \sigma(s))`.

    Args:
        key: A typed PRNG key, a new one each step.
        gates: A tree of gates s.

    Returns:
        A tree like the gates, of zeros and ones in their dtypes; for ``apply_soft_masks``.

    Source: Zhou et al. 2019 (arXiv 1905.01067), section 5; straight through: Bengio et al. 2013
    (arXiv 1308.3432).

    >>> gates = {"w": jnp.array([[9.0, -9.0]])}
    >>> sampled_masks(jax.random.key(0), gates)
    {'w': Array([[1., 0.]], dtype=float32)}
    """
    leaves, structure = jax.tree.flatten(gates)
    keys = jax.random.split(key, len(leaves))

    def draw(key: jax.Array, gate: jax.Array) -> jax.Array:
        # In float32 at least: in bfloat16 the probability is 1 from s = 6.2 on, and its gradient 0.
        wide = at_least_float32(gate.dtype)
        probability = jax.nn.sigmoid(gate.astype(wide))
        ones = (jax.random.uniform(key, gate.shape, wide) < probability).astype(wide)
        # The difference is 0 exactly; added one by one the terms would round.
        return (ones + (probability - jax.lax.stop_gradient(probability))).astype(gate.dtype)

    return structure.unflatten([draw(key, gate) for key, gate in zip(keys, leaves, strict=True)])


def rescaled_masks(masks: PyTree, *, layout: Layout = flax_layout) -> PyTree:
    r"""Divides each layer's drawn masks by the fraction that they keep, so that signals keep their size.

    Args:
        masks: From ``sampled_masks``.
        layout: ``layout(path, leaf)`` says which axes are layers (``pruning.trees.layout``).

    Returns:
        A tree like them, in float32 where they are bools; a layer of which nothing is kept stays 0. The
        fraction counts as a constant in the gradient.

    Source: Zhou et al. 2019 (arXiv 1905.01067), section 5, "dynamic weight rescaling".

    >>> rescaled_masks({"w": jnp.array([[1.0, 0.0, 0.0, 0.0]])})
    {'w': Array([[4., 0., 0., 0.]], dtype=float32)}
    """

    def rescale(mask: jax.Array) -> jax.Array:
        wide = at_least_float32(mask.dtype)
        kept = jax.lax.stop_gradient(jnp.mean(mask, dtype=wide))
        scaled = mask.astype(wide) / jnp.where(kept > 0, kept, 1)
        return scaled.astype(mask.dtype if jnp.issubdtype(mask.dtype, jnp.floating) else wide)

    return map_layers(rescale, layout, masks)
