"""Rows of what methods add to a training step, in time and memory, and to the time of compiling."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

import pruning
from experiments.benchmarks import populations
from experiments.benchmarks.measuring import (
    Row,
    Work,
    alternating,
    compile_anew,
    temporary_bytes,
    tree_bytes,
)
from experiments.benchmarks.populations import epochs_of, synthetic_population
from experiments.benchmarks.sizes import Sizes

Params = dict[str, jax.Array]
METHODS: dict[str, Callable[[Any], optax.GradientTransformation]] = {
    # Far from the next check.
    "dissipate": lambda masks: pruning.dissipate(0.1, check_every=2**30, stop_after=2**30, masks=masks),
    "hold-masks": pruning.hold_masks,
}
"""What acts in a step, made of masks."""


def dissipation(sizes: Sizes, model_name: str) -> Row:
    """Training steps with dissipating gradients, a check in each call, against steps that hold a mask."""
    steps = sizes.steps(model_name)
    window = pruning.dissipate(0.01, check_every=steps, stop_after=10_000 * steps)
    # The mask keeps all, as dissipation begins; without one a population has no sparsity to report.
    keep_all = populations.holding(populations.random_masks(sizes, model_name, 0))
    ours, theirs = (
        epochs_of(synthetic_population(sizes, model_name, method=method))
        for method in (lambda optimizer, _: optax.chain(optimizer, window), keep_all)
    )
    against = "steps that hold a mask"
    return populations.training_steps(sizes, model_name, ours, theirs, against, steps)


def optimizer_step(sizes: Sizes, method: str) -> Row:
    """Steps of SGD with a pruning transformation between its checks, against steps without.

    The facts are what the transformation adds to the optimizer's state, and to what the compiled loop of
    steps (its checks included) holds besides, as ratios to the bytes of the params.
    """
    params = {"kernel": jax.random.normal(jax.random.key(0), (sizes.weights // 1000, 1000))}
    gradients = {"kernel": jax.random.normal(jax.random.key(2), params["kernel"].shape)}
    masks = pruning.random_masks(jax.random.key(1), params, 0.9)
    plain = optax.sgd(1e-3, momentum=0.9)

    def steps(optimizer: optax.GradientTransformation) -> tuple[Work, int, int]:
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

    ours, our_state, our_temporaries = steps(optax.chain(plain, METHODS[method](masks)))
    theirs, their_state, their_temporaries = steps(plain)
    extra_state, extra_temporaries = our_state - their_state, our_temporaries - their_temporaries
    return Row(
        alternating(ours, theirs),
        against="SGD with momentum alone",
        unit="optimizer steps",
        amount=10,
        # Gradient, momentum, weight and mask are read, momentum and weight written.
        bytes=(5 * 4 + 1) * params["kernel"].size,
        facts={
            "extra state / params": extra_state / tree_bytes(params),
            "extra temporaries / params": extra_temporaries / tree_bytes(params),
        },
    )


def _update(optimizer: optax.GradientTransformation) -> Callable[[Params], Any]:
    return lambda params: optimizer.update(params, optimizer.init(params), params)


PROGRAMS: dict[str, Callable[[Params], Any]] = {
    "global-masks": lambda params: pruning.global_masks(params, 0.9),
    "iterative-masks": lambda params: pruning.iterative_masks(
        pruning.magnitude_scores, params, 0.9, rounds=100
    ),
    "random-masks": lambda params: pruning.random_masks(jax.random.key(0), params, 0.9),
    "dissipate-to": _update(pruning.dissipate_to((0.5, 0.9), check_every=1)),
    "gradual-magnitude": _update(pruning.gradual_magnitude((0.5, 0.9), check_every=1)),
}


def compiling(sizes: Sizes, program: str, layers: int) -> Row:
    """Tracing and compiling a selection of weights, against an update of Adam for the same tree."""
    params = {str(index): jnp.ones((128, 128)) for index in range(sizes.together(layers))}

    def anew(function: Callable[[Params], Any]) -> Work:
        def work() -> None:
            jax.clear_caches()
            compile_anew(jax.jit(function), params)

        return work

    pairs = alternating(anew(PROGRAMS[program]), anew(_update(optax.adam(1e-3))))
    return Row(pairs, "compiling an update of Adam", "programs", facts={"layers": len(params)})
