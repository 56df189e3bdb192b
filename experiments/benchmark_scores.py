"""Benchmark rows of scores and selection."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

import pruning
from experiments.benchmark_comparison import Comparison
from experiments.benchmark_populations import ImageShape, training_flops
from experiments.benchmark_programs import compile_anew, temporary_bytes
from experiments.benchmark_torch_scores import grasp, snip, synflow_rounds
from train.evaluation import apply_model, cross_entropy
from train.models import make_model

SYNFLOW_SPARSITY = 0.99


class Sensitivity(NamedTuple):
    """A score of one batch.

    Attributes:
        scores: Ours.
        in_torch: Makes what computes it in PyTorch.
        passes: Products of a layer, in forward and backward passes of three. A gradient is one; its
            own gradient has two for each of its three, beside them.
    """

    scores: Callable[..., Any]
    in_torch: Callable[..., Callable[[], Any]]
    passes: int


SENSITIVITIES = {
    "snip": Sensitivity(pruning.snip_scores, snip, passes=1),
    "grasp": Sensitivity(pruning.grasp_scores, grasp, passes=3),
}


def selection(size: int) -> Comparison:
    """Exact global selection against a full argsort, which keeps the same weights (checked here).

    Args:
        size: How many scores; about three of 25 million have the same value, so ties are among them.

    Returns:
        The comparison.

    Raises:
        RuntimeError: If the two keep different weights.
    """
    scores = {"kernel": jax.random.normal(jax.random.key(0), (size // 1000, 1000))}
    select, _ = compile_anew(jax.jit(lambda scores: pruning.global_masks(scores, 0.9)), scores)
    # From the end: of equal scores the last one goes first.
    sort = jax.jit(lambda scores: jnp.argsort(scores["kernel"].ravel()[::-1], stable=True))
    pruned = sort(scores)[: pruning.pruned_count(0.9, size)]
    expected = jnp.ones(size, bool).at[size - 1 - pruned].set(False)
    if not jnp.array_equal(select(scores)["kernel"].ravel(), expected):
        raise RuntimeError("exact selection and a stable argsort keep different weights")
    return Comparison(
        ours=lambda: jax.block_until_ready(select(scores)),
        theirs=lambda: jax.block_until_ready(sort(scores)),
        against="a full argsort",
        unit="million scores",
        amount=size / 1e6,
        bytes=5e6,  # a score is read, a byte of mask written
        facts={"temporaries / scores": temporary_bytes(select) / (4 * size)},
    )


def sensitivity(method: str, model_name: str, image_shape: ImageShape, batch: int) -> Comparison:
    """Scores of one batch against one forward and backward pass of it.

    Args:
        method: A name in ``SENSITIVITIES``.
        model_name: A name of ``train.models``.
        image_shape: Height, width, channels of random images.
        batch: How many.

    Returns:
        The comparison.
    """
    model = make_model(model_name, num_classes=10)
    images = jax.random.normal(jax.random.key(1), (batch, *image_shape))
    labels = jnp.arange(batch) % 10
    variables = jax.jit(model.init)(jax.random.key(0), images)
    params, stats = variables["params"], variables.get("batch_stats", {})
    scores = SENSITIVITIES[method].scores

    def loss(params: Any, batch: tuple[jax.Array, jax.Array]) -> jax.Array:
        logits = apply_model(model, params, stats, batch[0], train=True)[0]
        return cross_entropy(logits, batch[1]).mean()

    score, compiling = compile_anew(
        jax.jit(lambda params: scores(loss, params, [(images, labels)])), params
    )
    differentiate = jax.jit(lambda params: jax.value_and_grad(loss)(params, (images, labels)))
    return Comparison(
        ours=lambda: jax.block_until_ready(score(params)),
        theirs=lambda: jax.block_until_ready(differentiate(params)),
        against="one forward and backward pass",
        unit="batches",
        amount=1,
        flops=SENSITIVITIES[method].passes * training_flops(model_name, image_shape, batch),
        facts={"seconds to compile": compiling},
    )


def sensitivity_against_torch(
    method: str, model_name: str, image_shape: ImageShape, batch: int
) -> Comparison:
    """Scores of one batch against the same in plain PyTorch.

    Args:
        method: A name in ``SENSITIVITIES``.
        model_name: One of those in ``experiments.benchmark_torch``.
        image_shape: Height, width, channels of random images.
        batch: How many.

    Returns:
        The comparison.

    Raises:
        Unavailable: If PyTorch is not installed.
    """
    theirs = SENSITIVITIES[method].in_torch(model_name, image_shape, batch)
    ours = sensitivity(method, model_name, image_shape, batch)
    return replace(ours, theirs=theirs, against="the same in plain PyTorch")


def synflow(model_name: str, image_shape: ImageShape, rounds: int, dtype: str) -> Comparison:
    """SynFlow in one compiled loop against as many forward and backward passes of the same input.

    A round is such a pass, and the masking, scoring and exact selection of every weight.

    Args:
        model_name: A name of ``train.models``.
        image_shape: Height, width, channels of the input of ones.
        rounds: How many.
        dtype: Of weights and scores; float64 is computed under ``jax.enable_x64``.

    Returns:
        The comparison.
    """
    wide = dtype == "float64"
    with jax.enable_x64(wide):
        model = make_model(model_name, num_classes=10)
        ones = jnp.ones((1, *image_shape), dtype)
        variables = jax.jit(model.init)(jax.random.key(0), ones)
        variables = jax.tree.map(lambda leaf: jnp.asarray(leaf, dtype), variables)
        params, stats = variables["params"], variables.get("batch_stats", {})

    def output(params: Any) -> jax.Array:
        return apply_model(model, params, stats, ones, train=False)[0]

    def masks(params: Any) -> Any:
        def score(masked: Any) -> Any:
            return pruning.synflow_scores(output, masked)

        return pruning.iterative_masks(score, params, SYNFLOW_SPARSITY, rounds=rounds)

    with jax.enable_x64(wide):
        prune, compiling = compile_anew(jax.jit(masks), params)
    differentiate = jax.jit(jax.value_and_grad(lambda params: jnp.sum(output(params))))

    def ours() -> None:
        with jax.enable_x64(wide):
            jax.block_until_ready(prune(params))

    def theirs() -> None:
        with jax.enable_x64(wide):
            for _ in range(rounds):
                jax.block_until_ready(differentiate(params))

    return Comparison(
        ours=ours,
        theirs=theirs,
        against="forward and backward passes alone",
        unit="rounds",
        amount=rounds,
        flops=training_flops(model_name, image_shape, 1),
        facts={"seconds to compile": compiling},
    )


def synflow_against_torch(model_name: str, image_shape: ImageShape, rounds: int) -> Comparison:
    """SynFlow in float32 against the same rounds in plain PyTorch, selection included.

    Args:
        model_name: One of those in ``experiments.benchmark_torch``.
        image_shape: Height, width, channels of the input of ones.
        rounds: How many.

    Returns:
        The comparison.

    Raises:
        Unavailable: If PyTorch is not installed.
    """
    theirs = synflow_rounds(model_name, image_shape, rounds, SYNFLOW_SPARSITY)
    ours = synflow(model_name, image_shape, rounds, "float32")
    return replace(ours, theirs=theirs, against="the same in plain PyTorch")
