"""Benchmark rows of K-starts: what k candidates cost, in time and memory."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

import pruning
from experiments.benchmark_comparison import Comparison
from experiments.benchmark_populations import training_flops
from experiments.benchmark_programs import compile_anew, temporary_bytes, tree_bytes
from train.evaluation import apply_model, cross_entropy
from train.models import make_model

BATCH = 128


def candidates(k: int, steps: int, chunk_size: int | None = None) -> Comparison:
    """K-starts with k candidates of LeNet-300-100 against k searches with one.

    The facts are the bytes that the whole search holds at most, that its training does by itself, and
    that the candidates leave: their masks, weights and sums.

    Args:
        k: Candidates.
        steps: Training steps of each.
        chunk_size: How many train at once; None for all.

    Returns:
        The comparison.
    """
    model = make_model("lenet-300-100", num_classes=10)
    images = jax.random.normal(jax.random.key(1), (BATCH, 28, 28, 1))
    labels = jnp.arange(BATCH) % 10
    params = jax.jit(model.init)(jax.random.key(0), images)["params"]

    def loss(params: Any) -> jax.Array:
        return cross_entropy(apply_model(model, params, {}, images, train=True)[0], labels).mean()

    def train(params: Any, masks: Any) -> tuple[Any, Any]:
        held = pruning.accumulate_gradients(), optax.sgd(0.1), pruning.hold_masks(masks)
        optimizer = optax.chain(*held)

        def step(carry: Any, _: None) -> tuple[Any, None]:
            params, state = carry
            updates, state = optimizer.update(jax.grad(loss)(params), state, params)
            return (optax.apply_updates(params, updates), state), None

        (params, state), _ = jax.lax.scan(step, (params, optimizer.init(params)), length=steps)
        return params, optax.tree.get(state, "gradient_sums")

    def search(k: int, chunk_size: int | None) -> tuple[Callable[[jax.Array], Any], float]:
        def find(key: jax.Array) -> Any:
            # All of it: the winner's index alone is known beforehand where there is one candidate.
            return pruning.k_starts(
                key,
                params,
                train,
                k=k,
                sparsity=0.9,
                fitness=pruning.combined_fitness,
                chunk_size=chunk_size,
            )

        return compile_anew(jax.jit(find), jax.random.key(2))

    (together, compiling), (alone, _) = search(k, chunk_size), search(1, None)

    def one_by_one() -> None:
        for key in jax.random.split(jax.random.key(2), k):
            jax.block_until_ready(alone(key))

    key = jax.random.key(0)
    masks = jax.eval_shape(lambda: pruning.candidate_masks(key, params, k=k, sparsity=0.9))
    training, _ = compile_anew(
        jax.jit(lambda masks: pruning.train_candidates(train, params, masks, chunk_size=chunk_size)),
        masks,
    )
    return Comparison(
        ours=lambda: jax.block_until_ready(together(jax.random.key(2))),
        theirs=one_by_one,
        against="searches with one candidate",
        unit="candidates",
        amount=k,
        flops=steps * training_flops("lenet-300-100", (28, 28, 1), BATCH),
        facts={
            "seconds to compile": compiling,
            "MB held": temporary_bytes(together) / 1e6,
            "MB held while training": temporary_bytes(training) / 1e6,
            "MB that all candidates leave": (2 * k * tree_bytes(params) + tree_bytes(masks)) / 1e6,
        },
    )
