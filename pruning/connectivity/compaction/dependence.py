"""What of a program's values depends on its input, entry by entry, and what the rest is.

An entry that no input reaches is a constant, whatever the weights before it are: that of a unit whose
incoming weights are all 0 is its bias after the activation. An entry counts as reached unless it is
known not to be.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from pruning.connectivity.compaction.programs import Program, Step
from pruning.connectivity.equations import bind, bind_one
from pruning.connectivity.signal_rules import ENTRYWISE, UNCHANGED

MOVES = (
    *("broadcast_in_dim", "reshape", "transpose", "squeeze", "expand_dims"),
    *("concatenate", "slice", "split", "rev", "pad"),
)
"""Primitives that move entries."""


class Facts(NamedTuple):
    """What is known of the values, by number.

    Attributes:
        arrays: What they are at the input that was given.
        reached: Where the input reaches them, bool, of their shapes.
    """

    arrays: dict[int, Any]
    reached: dict[int, np.ndarray]

    def fixed(self, value: int) -> np.ndarray:
        """A value with 0 where the input reaches it."""
        array = np.asarray(self.arrays[value])
        return np.where(self.reached[value], np.zeros_like(array), array)

    def present(self, value: int) -> np.ndarray:
        """Where a value may be other than 0."""
        return self.reached[value] | (np.asarray(self.arrays[value]) != 0)


def facts_of(program: Program, arguments: Sequence[Any], known_count: int) -> Facts:
    """Evaluates a program step by step.

    Args:
        program: Any.
        arguments: Concrete arrays, one for each of its arguments.
        known_count: How many of them are what they are; those after them are inputs, which may be any.

    Returns:
        What is known of its values.
    """
    known = {**program.constants, **dict(zip(program.arguments, arguments, strict=True))}
    facts = Facts(known, {})
    inputs = program.arguments[known_count:]
    for value in known:
        facts.reached[value] = np.full(program.shape(value), value in inputs)
    for step in program.plain_steps():
        operands = [facts.arrays[value] for value in step.operands]
        with jax.debug_nans(False), jax.debug_infs(False):
            results = bind(step.equation, operands)
        reached = _reached(step, facts, [np.shape(result) for result in results])
        for value, result, where in zip(step.results, results, reached, strict=True):
            facts.arrays[value], facts.reached[value] = result, where
    return facts


def _reached(step: Step, facts: Facts, shapes: Sequence[tuple[int, ...]]) -> list[np.ndarray]:
    operands = [facts.reached[value] for value in step.operands]
    if not any(where.any() for where in operands):
        return [np.zeros(shape, bool) for shape in shapes]
    if step.name in UNCHANGED:
        return operands
    if step.name in MOVES:
        return [np.asarray(where) for where in bind(step.equation, [jnp.asarray(w) for w in operands])]
    if step.name in _RULES:
        return [np.asarray(_RULES[step.name](step, facts))]
    if step.name in ENTRYWISE or step.name in ("add", "sub", "add_any", "max", "min", "clamp"):
        return [np.broadcast_to(_any(operands), shapes[0])]
    return [np.ones(shape, bool) for shape in shapes]


def _any(operands: Sequence[np.ndarray]) -> np.ndarray:
    result = np.zeros((), bool)
    for where in operands:
        result = result | where
    return result


def _multiplied(step: Step, facts: Facts) -> np.ndarray:
    """By a constant 0 nothing arrives."""
    one, other = step.operands
    here, there = facts.reached[one], facts.reached[other]
    return (here & facts.present(other)) | (facts.present(one) & there)


def _divided(step: Step, facts: Facts) -> np.ndarray:
    one, other = step.operands
    return facts.reached[one] | (facts.present(one) & facts.reached[other])


def _chosen(step: Step, facts: Facts) -> np.ndarray:
    which, *cases = (facts.reached[value] for value in step.operands)
    if which.any():
        return which | _any(cases)
    return bind_one(step.equation, facts.arrays[step.operands[0]], *map(jnp.asarray, cases))


def _contracted(step: Step, facts: Facts) -> np.ndarray:
    one, other = step.operands

    def product(first: np.ndarray, second: np.ndarray) -> np.ndarray:
        pair = (jnp.asarray(array, jnp.float32) for array in (first, second))
        changed = {"precision": None, "preferred_element_type": jnp.dtype("float32")}
        return np.asarray(bind_one(step.equation, *pair, **changed)) > 0.5

    return product(facts.reached[one], facts.present(other)) | product(
        facts.present(one), facts.reached[other]
    )


def _reduced(step: Step, facts: Facts) -> np.ndarray:
    return np.asarray(facts.reached[step.operands[0]].any(axis=tuple(step.equation.params["axes"])))


def _windowed(step: Step, facts: Facts) -> np.ndarray:
    numbers = step.equation.params
    where = jnp.asarray(facts.reached[step.operands[0]], jnp.float32)
    spread = lax.reduce_window(
        where,
        jnp.zeros((), jnp.float32),
        lax.max,
        numbers["window_dimensions"],
        numbers["window_strides"],
        numbers["padding"],
        numbers["base_dilation"],
        numbers["window_dilation"],
    )
    return np.asarray(spread) > 0


def _cumulated(step: Step, facts: Facts) -> np.ndarray:
    where = facts.reached[step.operands[0]]
    return np.broadcast_to(where.any(axis=step.equation.params["axis"], keepdims=True), where.shape)


_RULES: dict[str, Callable[[Step, Facts], Any]] = {
    "mul": _multiplied,
    "div": _divided,
    "select_n": _chosen,
    **dict.fromkeys(("dot_general", "conv_general_dilated"), _contracted),
    **dict.fromkeys((f"reduce_{name}" for name in ("sum", "max", "min", "prod", "and", "or")), _reduced),
    **dict.fromkeys(("argmax", "argmin"), _reduced),
    **dict.fromkeys((f"reduce_window_{name}" for name in ("sum", "max", "min")), _windowed),
    **dict.fromkeys(("cumsum", "cumprod", "cummax", "cummin", "cumlogsumexp"), _cumulated),
}
