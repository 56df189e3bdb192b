"""How a model is run, and how well it does on a split."""

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

from train.data import Split

PyTree = Any
EVALUATION_BATCH = 1000

cross_entropy = optax.softmax_cross_entropy_with_integer_labels


def apply_model(
    model: nn.Module, params: PyTree, batch_stats: PyTree, images: jax.Array, *, train: bool
) -> tuple[jax.Array, PyTree]:
    """Runs a model.

    Args:
        model: As in ``Population``.
        params: Its params.
        batch_stats: Its running statistics; empty where it has none.
        images: Normalised, shape (B, H, W, C).
        train: Whether batches are normalised by their own statistics, which also moves the running
            ones.

    Returns:
        The logits, float32 at least, and the statistics after it.
    """
    variables = {"params": params, "batch_stats": batch_stats}
    logits, updated = model.apply(variables, images, train=train, mutable=["batch_stats"])
    logits = jnp.asarray(logits)
    return logits.astype(jnp.promote_types(logits.dtype, jnp.float32)), updated.get("batch_stats", {})


def evaluate(logits: Callable[[Any], jax.Array], split: Split) -> tuple[jax.Array, jax.Array]:
    """Mean loss and accuracy over a split, in batches; what fills up the last one is ignored.

    Args:
        logits: From uint8 images, shape (B, H, W, C), to logits.
        split: Of n images.

    Returns:
        The mean cross-entropy and the fraction of images that are classified right.
    """
    size = len(split.labels)
    batch = min(EVALUATION_BATCH, size)
    positions = jnp.arange(-(-size // batch) * batch).reshape(-1, batch)

    def add(totals: Any, position: jax.Array) -> tuple[Any, None]:
        indices, counted = position % size, position < size
        labels = split.labels[indices]
        found = logits(split.images[indices])
        right = jnp.argmax(found, -1) == labels
        sums = (jnp.sum(jnp.where(counted, cross_entropy(found, labels), 0)), jnp.sum(right & counted))
        return jax.tree.map(jnp.add, totals, sums), None

    totals = (jnp.float32(0), jnp.int32(0))
    (loss, right), _ = jax.lax.scan(add, totals, positions)
    return loss / size, right / size
