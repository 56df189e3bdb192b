"""How a model is run, and how well it does on a split."""

from collections.abc import Callable
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax

from train.data.datasets import Split
from train.models.layers import MOMENTUM

PyTree = Any
EVALUATION_BATCH = 1000

cross_entropy = optax.softmax_cross_entropy_with_integer_labels


def smoothed_cross_entropy(logits: jax.Array, labels: jax.Array, label_smoothing: float) -> jax.Array:
    """The cross-entropy with labels of which all classes share a fraction evenly.

    Args:
        logits: (B, classes).
        labels: Integers, (B,).
        label_smoothing: That fraction, in [0, 1); without any it is the plain cross-entropy.

    Returns:
        That of each example, (B,).
    """
    if not label_smoothing:
        return cross_entropy(logits, labels)
    targets = jax.nn.one_hot(labels, logits.shape[-1], dtype=logits.dtype)
    return optax.softmax_cross_entropy(logits, optax.smooth_labels(targets, label_smoothing))


def apply_model(
    model: nn.Module, params: PyTree, batch_stats: PyTree, images: jax.Array, *, train: bool
) -> tuple[jax.Array, PyTree]:
    """Runs a model.

    Args:
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


def batch_statistics(model: nn.Module, params: PyTree, batch_stats: PyTree, images: jax.Array) -> PyTree:
    """The statistics of one batch, which running ones approach.

    Args:
        batch_stats: Of the model; only their shapes matter.
        images: Normalised, shape (B, H, W, C).

    Returns:
        A tree like ``batch_stats``.
    """
    none_yet = jax.tree.map(jnp.zeros_like, batch_stats)
    _, moved = apply_model(model, params, none_yet, images, train=True)
    return jax.tree.map(lambda leaf: leaf / (1 - MOMENTUM), moved)


class Totals(NamedTuple):
    """What has been counted of a split so far.

    Attributes:
        loss: The sum of the cross-entropies.
        right: How many images are classified right.
    """

    loss: jax.Array
    right: jax.Array


def no_totals() -> Totals:
    """The totals of no image."""
    return Totals(jnp.float32(0), jnp.int32(0))


def add_batch(
    logits: Callable[[Any], jax.Array], totals: Totals, images: Any, labels: Any, counted: Any
) -> Totals:
    """Adds a batch to the totals.

    Args:
        logits: From uint8 images, shape (B, H, W, C), to logits.
        images: Uint8.
        labels: Int32, (B,).
        counted: Bool, (B,): which images count; the others fill up the batch.
    """
    found = logits(images)
    loss = jnp.sum(jnp.where(counted, cross_entropy(found, labels), 0))
    right = jnp.sum((jnp.argmax(found, -1) == labels) & counted, dtype=jnp.int32)
    return Totals(totals.loss + loss.astype(jnp.float32), totals.right + right)


def evaluation_batches(size: int) -> tuple[np.ndarray, np.ndarray]:
    """The batches in which a split is evaluated.

    Returns:
        The places of each batch's images, (batches, B), and which of them count: what fills up the last
        batch does not.
    """
    batch = min(EVALUATION_BATCH, size)
    places = np.arange(-(-size // batch) * batch).reshape(-1, batch)
    return places % size, places < size


def evaluate(logits: Callable[[Any], jax.Array], split: Split) -> tuple[jax.Array, jax.Array]:
    """Mean loss and accuracy over a split that fits on the device, in batches.

    Args:
        logits: From uint8 images, shape (B, H, W, C), to logits.

    Returns:
        The mean cross-entropy and the fraction of images that are classified right.
    """
    images, true = jnp.asarray(split.images), jnp.asarray(split.labels)

    def add(totals: Totals, batch: Any) -> tuple[Totals, None]:
        places, counted = batch
        return add_batch(logits, totals, images[places], true[places], counted), None

    size = len(split.labels)
    totals, _ = jax.lax.scan(add, no_totals(), evaluation_batches(size))
    return totals.loss / size, totals.right / size
