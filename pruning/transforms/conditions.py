"""A condition that is cheap under ``vmap`` too, however deep.

Under ``vmap`` over members that each have their own condition, ``jax.lax.cond`` becomes a selection:
both sides are computed at every step. Here the work is done only when the condition holds for some
member, and selected per member then. In an ensemble of ensembles (``vmap`` of ``vmap``) the members
are those of all of them.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from pruning.trees.leaves import PyTree, is_traced


def compute_where(condition: jax.Array, compute: Callable[[], PyTree], default: PyTree) -> PyTree:
    """``compute()`` where the condition holds, else ``default``; computed only where it is needed.

    Args:
        condition: A bool scalar, maybe batched by ``vmap``.
        compute: Returns a tree like ``default``.
        default: What holds otherwise.

    Returns:
        One of the two.
    """

    def chosen() -> PyTree:
        return jax.tree.map(lambda new, old: jnp.where(condition, new, old), compute(), default)

    if not is_traced(condition) and not condition:  # Outside jit both sides are compiled in every call.
        return default
    return jax.lax.cond(for_any_member(condition), chosen, lambda: default)


@jax.custom_batching.custom_vmap
def for_any_member(condition: jax.Array) -> jax.Array:
    """Whether a condition holds; under ``vmap``, whether it holds for some member of all the ``vmap``s.

    Args:
        condition: A bool scalar, maybe batched by ``vmap``.

    Returns:
        A bool scalar that is not batched.
    """
    return condition


@for_any_member.def_vmap
def _any_over_members(axis_size: int, in_batched: list, condition: jax.Array):
    del axis_size
    # Asked again: under a ``vmap`` around this one, what is left is batched over that one's members.
    return for_any_member(jnp.any(condition, axis=0) if in_batched[0] else condition), False
