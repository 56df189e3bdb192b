"""Benchmark rows of what selection adds to the time of compiling a program, layer by layer."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

import pruning
from experiments.benchmark_comparison import Comparison
from experiments.benchmark_programs import compile_anew

Params = dict[str, jax.Array]
SPARSITIES = (0.5, 0.9)


def _update(optimizer: optax.GradientTransformation) -> Callable[[Params], Any]:
    return lambda params: optimizer.update(params, optimizer.init(params), params)


PROGRAMS: dict[str, Callable[[Params], Any]] = {
    "global-masks": lambda params: pruning.global_masks(params, 0.9),
    "iterative-masks": lambda params: pruning.iterative_masks(
        pruning.magnitude_scores, params, 0.9, rounds=100
    ),
    "random-masks": lambda params: pruning.random_masks(jax.random.key(0), params, 0.9),
    "dissipate-to": _update(pruning.dissipate_to(SPARSITIES, check_every=1)),
    "gradual-magnitude": _update(pruning.gradual_magnitude(SPARSITIES, check_every=1)),
}


def compiling(program: str, leaves: int) -> Comparison:
    """Tracing and compiling a program that selects weights, against an update of Adam for the same tree.

    Args:
        program: A name in ``PROGRAMS``.
        leaves: How many layers there are, of 128 x 128 weights each.

    Returns:
        The comparison; both ways forget what was compiled and traced before.
    """
    params = {str(index): jnp.ones((128, 128)) for index in range(leaves)}

    def anew(function: Callable[[Params], Any]) -> Callable[[], object]:
        def work() -> None:
            jax.clear_caches()
            compile_anew(jax.jit(function), params)

        return work

    return Comparison(
        ours=anew(PROGRAMS[program]),
        theirs=anew(_update(optax.adam(1e-3))),
        against="compiling an update of Adam",
        unit="programs",
        amount=1,
        facts={"layers": leaves},
    )
