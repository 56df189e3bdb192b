"""Rows of what methods add to a training step, in time and memory, and to the time of compiling."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

import pruning
from experiments.benchmarks import populations
from experiments.benchmarks.measuring import Row, compile_anew, temporary_bytes
from experiments.benchmarks.populations import epochs_of, synthetic_population
from experiments.benchmarks.sizes import Sizes
from experiments.engine.timing import Work, alternating, tree_bytes

Params = dict[str, jax.Array]
FAR = 2**30
"""Steps to the next check, and to the last."""
METHODS: dict[str, Callable[[Any, Any], optax.GradientTransformation]] = {
    "dissipate": lambda optimizer, masks: optax.chain(
        optimizer, pruning.dissipate(0.1, masks=masks, check_every=FAR, stop_after=FAR)
    ),
    "hold-masks": lambda optimizer, masks: optax.chain(optimizer, pruning.hold_masks(masks)),
    "rigl": lambda optimizer, masks: pruning.rigl(optimizer, masks, check_every=FAR, stop_after=FAR),
}
"""An optimizer with what acts in its steps, made of masks."""


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


def between_checks(sizes: Sizes, method: str, model_name: str) -> Row:
    """Training steps with a method, far from its checks, against steps that hold a mask."""
    masks, steps = populations.random_masks(sizes, model_name, 0.9), sizes.steps(model_name)
    ours, theirs = (
        epochs_of(synthetic_population(sizes, model_name, method=acting))
        for acting in (lambda optimizer, _: METHODS[method](optimizer, masks), populations.holding(masks))
    )
    against = "steps that hold a mask"
    return populations.training_steps(sizes, model_name, ours, theirs, against, steps)


def optimizer_step(sizes: Sizes, method: str) -> Row:
    """Steps of SGD with a pruning transformation between its checks, against steps without.

    The facts are what the transformation adds to the optimizer's state, and to what the compiled loop of
    steps (its checks included) holds besides, as ratios to the bytes of the params.
    """
    params, masks = _weights(sizes, 1)
    ours, our_state, our_temporaries = ten_steps(params, lambda m: METHODS[method](SGD, m), masks)
    theirs, their_state, their_temporaries = ten_steps(params, lambda _: SGD, masks)
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


def optimizer_step_against_holding(sizes: Sizes, method: str, members: int) -> Row:
    """Steps of SGD with a method, far from its checks, against steps that hold a mask.

    The weights are those of so many networks, whose steps are mapped by ``jax.vmap``.
    """
    params, masks = _weights(sizes, members)
    ours, theirs = (
        ten_steps(params, lambda m, name=name: METHODS[name](SGD, m), masks)[0]
        for name in (method, "hold-masks")
    )
    size = params["kernel"].size
    against = "SGD with momentum that holds masks"
    return Row(alternating(ours, theirs), against, "optimizer steps", 10, bytes=(5 * 4 + 1) * size)


SGD = optax.sgd(1e-3, momentum=0.9)


def _weights(sizes: Sizes, members: int) -> tuple[Params, Any]:
    """Weights of so many networks, together as many as are measured, and a mask of each."""
    shape = (members, sizes.weights // 1000 // members, 1000)
    params = {"kernel": jax.random.normal(jax.random.key(0), shape)}
    keys = jax.random.split(jax.random.key(1), members)
    return params, jax.vmap(lambda key, one: pruning.random_masks(key, one, 0.9))(keys, params)


def ten_steps(
    params: Params, optimizer_of: Callable[[Any], optax.GradientTransformation], masks: Any
) -> tuple[Work, int, int]:
    """Ten steps of each network: the work, the bytes of the states, and those held besides."""
    gradients = {"kernel": jax.random.normal(jax.random.key(2), params["kernel"].shape)}

    def ten(carry: Any, masks: Any, gradients: Any) -> Any:
        optimizer = optimizer_of(masks)

        def body(_: Any, carry: Any) -> Any:
            params, state = carry
            updates, state = optimizer.update(gradients, state, params)
            return optax.apply_updates(params, updates), state

        return jax.lax.fori_loop(0, 10, body, carry)

    copy, own = jax.tree.map(jnp.array, (params, masks))  # What is donated is gone.
    mapped = jax.vmap if len(copy["kernel"]) > 1 else _of_one
    carry = [(copy, mapped(lambda p, m: optimizer_of(m).init(p))(copy, own))]
    loop, _ = compile_anew(jax.jit(mapped(ten), donate_argnums=0), carry[0], masks, gradients)

    def work() -> None:
        carry[0] = jax.block_until_ready(loop(carry[0], masks, gradients))

    return work, tree_bytes(carry[0][1]), temporary_bytes(loop)


def _of_one(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function of the only network, whose arrays have a first axis of 1."""

    def call(*trees: Any) -> Any:
        alone = jax.tree.map(lambda leaf: leaf[0], trees)
        return jax.tree.map(lambda leaf: leaf[None], function(*alone))

    return call


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
