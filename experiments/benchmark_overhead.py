"""Benchmark rows of methods that act in the training step: what they add to it, in time and memory."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

import pruning
from experiments.benchmark_comparison import Comparison
from experiments.benchmark_populations import (
    ImageShape,
    epochs_of,
    synthetic_population,
    training_flops,
)
from experiments.benchmark_programs import compile_anew, temporary_bytes, tree_bytes


def dissipation(model_name: str, image_shape: ImageShape, steps: int) -> Comparison:
    """Training steps with dissipating gradients, a check in each call, against steps without.

    Args:
        model_name: A name of ``train.models``.
        image_shape: Height, width, channels of synthetic images.
        steps: Training steps in one call, the last of them a check.

    Returns:
        The comparison.
    """

    def dissipate(optimizer: optax.GradientTransformation, data: Any) -> Any:
        window = pruning.dissipate(0.01, check_every=steps, stop_after=10_000 * steps)
        return optax.chain(optimizer, window)

    with_it = synthetic_population(model_name, image_shape, steps, method=dissipate)
    # Nothing is removed by masks that keep all; without them a population has no sparsity to report.
    without = synthetic_population(model_name, image_shape, steps)
    keep_all = pruning.random_masks(jax.random.key(0), without.initial_params(jax.random.key(0)), 0.0)
    return Comparison(
        ours=epochs_of(with_it, 1, ()),
        theirs=epochs_of(without, 1, keep_all),
        against="steps that hold a mask",
        unit="training steps",
        amount=steps,
        flops=training_flops(model_name, image_shape, with_it.recipe.batch_size),
    )


def optimizer_step(size: int, method: Callable[[Any], optax.GradientTransformation]) -> Comparison:
    """An optimizer's step with a pruning transformation against the step without, between its checks.

    The facts are what the transformation adds to the optimizer's state, and to what the compiled loop of
    steps (its checks included) holds besides, as ratios to the bytes of the params.

    Args:
        size: Weights.
        method: From masks to the transformation.

    Returns:
        The comparison: SGD with momentum.
    """
    params = {"kernel": jax.random.normal(jax.random.key(0), (size // 1000, 1000))}
    gradients = {"kernel": jax.random.normal(jax.random.key(2), params["kernel"].shape)}
    masks = pruning.random_masks(jax.random.key(1), params, 0.9)
    plain = optax.sgd(1e-3, momentum=0.9)

    def steps(optimizer: optax.GradientTransformation) -> tuple[Callable[[], None], int, int]:
        """The work, the bytes of the state, and those that the loop holds besides."""

        def ten(carry: Any, gradients: Any) -> Any:
            def body(_: Any, carry: Any) -> Any:
                params, state = carry
                updates, state = optimizer.update(gradients, state, params)
                return optax.apply_updates(params, updates), state

            return jax.lax.fori_loop(0, 10, body, carry)

        copy = jax.tree.map(jnp.array, params)
        carry = [(copy, optimizer.init(copy))]
        loop, _ = compile_anew(jax.jit(ten, donate_argnums=0), carry[0], gradients)

        def work() -> None:
            carry[0] = jax.block_until_ready(loop(carry[0], gradients))

        return work, tree_bytes(carry[0][1]), temporary_bytes(loop)

    ours, our_state, our_temporaries = steps(optax.chain(plain, method(masks)))
    theirs, their_state, their_temporaries = steps(plain)
    return Comparison(
        ours=ours,
        theirs=theirs,
        against="SGD with momentum alone",
        unit="optimizer steps",
        amount=10,
        # Gradient, momentum, weight and mask are read, momentum and weight written.
        bytes=(5 * 4 + 1) * size,
        facts={
            "extra state / params": (our_state - their_state) / tree_bytes(params),
            "extra temporaries / params": (our_temporaries - their_temporaries) / tree_bytes(params),
        },
    )
