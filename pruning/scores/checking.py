"""What a loss must return, and what scores of a whole network must be, to rank its weights."""

from typing import Any

import jax
import jax.numpy as jnp
from jax.experimental import checkify

from pruning.masks.rankable import zero_leaves
from pruning.trees.leaves import PyTree, is_traced


def check_scalar(value: Any) -> jax.Array:
    """A loss, if it is a float scalar.

    Args:
        value: What ``loss_fn(params, batch)`` returned.

    Returns:
        The same.

    Raises:
        ValueError: If it is anything else.
    """
    dtype, shape = getattr(value, "dtype", type(value).__name__), getattr(value, "shape", None)
    if shape != () or not jnp.issubdtype(dtype, jnp.floating):
        raise ValueError(
            "expected loss_fn(params, batch) to return a float scalar, the mean loss of the batch, "
            f"got {dtype}" + ("" if shape is None else f" of shape {shape}")
        )
    return value


def check_finite(scores: PyTree, what: str) -> PyTree:
    """Refuses scores that are not finite, if they can be read.

    Args:
        scores: A tree like masks with float leaves.
        what: What an error calls that which is not finite: "the loss or its gradient".

    Returns:
        The scores.

    Raises:
        ValueError: If one is NaN or infinite (when nothing is traced).
    """
    leaves = jax.tree_util.tree_leaves_with_path(scores)
    if any(is_traced(leaf) for _, leaf in leaves):
        for path, leaf in leaves:
            finite = jnp.all(jnp.isfinite(leaf))
            checkify.debug_check(finite, f"expected finite scores at {jax.tree_util.keystr(path)}")
        return scores
    for path, leaf in leaves:
        if not bool(jnp.all(jnp.isfinite(leaf))):
            raise ValueError(
                f"expected finite scores, got NaN or infinity at {jax.tree_util.keystr(path)}: {what} "
                f"is not finite in {leaf.dtype}; look for NaN in the params and the data, or compute "
                "in float64 (float64 params under jax.enable_x64(True))"
            )
    return scores


def check_scores(scores: PyTree, weights: PyTree, what: str) -> PyTree:
    """Refuses scores that are not finite, or all 0 of an unpruned network, if they can be read.

    Args:
        scores: A tree like masks with float leaves.
        weights: The prunable weights that they are of.
        what: What an error calls that which is not finite: "the loss or its gradient".

    Returns:
        The scores.

    Raises:
        ValueError: If they rank nothing (when nothing is traced).
    """
    leaves = jax.tree.leaves(check_finite(scores, what))
    if not any(is_traced(leaf) or jnp.any(leaf) for leaf in leaves):
        _refuse_zeros(weights)
    return scores


def _refuse_zeros(weights: PyTree) -> None:
    zeros = zero_leaves(weights)
    if zeros is None:
        return  # Pruned, and cut.
    why = (
        f"{zeros[0]} is zero everywhere; give it small random values and score those"
        if zeros
        else "the loss does not depend on the params, or its derivatives underflow: compute in float64 "
        "(float64 params under jax.enable_x64(True))"
    )
    raise ValueError(f"expected scores that rank the weights, got 0 for all of them: {why}")
