"""Whether an accelerator computes right numbers, before anything is measured on it."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import pruning
from experiments.benchmark_populations import ImageShape
from train.evaluation import apply_model, cross_entropy
from train.models import make_model

Finding = dict[str, float | str]

RIGHT, WRONG = "right", "WRONG"
LIMIT = 1e-3
"""Relative, in float32 at the highest precision: a ReLU whose sign rounding turns makes 3e-4."""


def matrix_vector_products() -> Finding:
    """``jit(vmap(matrix @ row))``, reduced: whole numbers that float32 holds (jax issue 39103).

    Returns:
        The verdict.
    """
    matrix = jnp.eye(3)
    rows = jnp.zeros((32769, 3)).at[:, 0].set(jnp.arange(32769.0))
    squared_norms = jax.jit(jax.vmap(lambda row: jnp.sum((matrix @ row) ** 2)))
    with jax.default_matmul_precision("highest"):
        found = np.asarray(squared_norms(rows), np.float64)
    expected = np.arange(32769, dtype=np.float32) ** 2
    return judge(float(np.max(np.abs(found - expected))), limit=0.0)


def gradients(model_name: str, image_shape: ImageShape, batch: int) -> Finding:
    """A network's logits and gradients on the accelerator against those on the CPU.

    Args:
        model_name: A name of ``train.models``.
        image_shape: Height, width, channels of random images.
        batch: How many.

    Returns:
        The verdict.
    """
    differentiate, variables, images = _network(model_name, image_shape, batch)
    here, there = (
        jax.device_get(differentiate(*jax.device_put((variables, images), device)))
        for device in (jax.devices()[0], jax.devices("cpu")[0])
    )
    return judge(relative_difference(here, there))


def members(model_name: str, image_shape: ImageShape, batch: int, count: int) -> Finding:
    """Gradients of vmapped networks against those of the same networks one by one.

    Args:
        model_name: A name of ``train.models``.
        image_shape: Height, width, channels of random images.
        batch: How many.
        count: Networks; they differ in a factor of their weights.

    Returns:
        The verdict.
    """
    differentiate, variables, images = _network(model_name, image_shape, batch)
    factors = jnp.linspace(0.5, 1.5, count)

    def scaled(factor: Any) -> Any:
        return jax.tree.map(lambda leaf: factor * leaf, variables)

    together = jax.jit(jax.vmap(lambda factor: differentiate(scaled(factor), images)))(factors)
    one_by_one = [differentiate(scaled(factor), images) for factor in factors]
    expected = jax.tree.map(lambda *leaves: np.stack(leaves), *jax.device_get(one_by_one))
    return judge(relative_difference(jax.device_get(together), expected))


def selection(size: int) -> Finding:
    """Exact global selection, of scores with many ties, against a stable sort on the host.

    Args:
        size: How many scores.

    Returns:
        The verdict; the difference is the number of weights that differ.
    """
    scores = np.round(np.random.default_rng(0).normal(size=size) * 64).astype(np.float32) / 64
    found = jax.jit(lambda scores: pruning.global_masks({"w": scores}, 0.9)["w"])(scores.reshape(-1, 1))
    # From the end: of equal scores the last one goes first.
    pruned = size - 1 - np.argsort(scores[::-1], kind="stable")[: pruning.pruned_count(0.9, size)]
    expected = np.ones(size, bool)
    expected[pruned] = False
    return judge(float(np.sum(np.asarray(found).ravel() != expected)), limit=0.0)


def judge(difference: float, *, limit: float = LIMIT) -> Finding:
    """A verdict; NaN is wrong.

    Args:
        difference: Found.
        limit: The largest that is right.

    Returns:
        The verdict with both.
    """
    verdict = RIGHT if difference <= limit else WRONG
    return {"verdict": verdict, "difference": difference, "at most": limit}


def relative_difference(found: Any, expected: Any) -> float:
    """The norm of the difference of two trees over that of the second.

    Args:
        found: Arrays on the host.
        expected: Likewise.
    """
    pairs = list(zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True))
    difference = sum(np.sum((a.astype(np.float64) - b) ** 2) for a, b in pairs)
    return float(np.sqrt(difference / sum(np.sum(b.astype(np.float64) ** 2) for _, b in pairs)))


def _network(model_name: str, image_shape: ImageShape, batch: int) -> Any:
    """From (variables, images) to (logits, gradients); the variables and the images, on the host."""
    model = make_model(model_name, num_classes=10)
    images = np.random.default_rng(0).normal(size=(batch, *image_shape)).astype(np.float32)
    labels = np.arange(batch) % 10
    variables = jax.device_get(jax.jit(model.init)(jax.random.key(0), images))

    def loss(params: Any, stats: Any, images: Any) -> Any:
        logits, _ = apply_model(model, params, stats, images, train=True)
        return cross_entropy(logits, labels).mean(), logits

    @jax.jit
    def differentiate(variables: Any, images: Any) -> Any:
        with jax.default_matmul_precision("highest"):
            stats = variables.get("batch_stats", {})
            return jax.grad(loss, has_aux=True)(variables["params"], stats, images)

    return differentiate, variables, images
