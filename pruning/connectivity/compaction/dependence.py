"""What of a program's values depends on its input, entry by entry, and what the rest is.

An entry that no input reaches is a constant, whatever the weights before it are: that of a unit whose
incoming weights are all pruned is its bias after the activation. An entry counts as reached unless it is
known not to be, and a weight that is kept counts as there, also where it happens to be 0.
"""

from collections.abc import Callable, Mapping, Sequence
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


Flags = Mapping[int, np.ndarray]
Rule = Callable[[Step, "Facts", Flags], Any]


class Facts(NamedTuple):
    """What is known of the values, by number.

    Attributes:
        arrays: What they are at the inputs that were given.
        reached: Where an input reaches them, bool, of their shapes. What is random is reached, since it
            is other where there are more examples.
        possible: Where they may be other than 0, for some input and some weights under the masks.
        learned: The values that depend on weights: they may be others later.
    """

    arrays: dict[int, Any]
    reached: dict[int, np.ndarray]
    possible: dict[int, np.ndarray]
    learned: set[int]

    def fixed(self, value: int) -> np.ndarray:
        """A value with 0 where an input reaches it."""
        array = np.asarray(self.arrays[value])
        return np.where(self.reached[value], np.zeros_like(array), array)

    def present(self, value: int) -> np.ndarray:
        """Where a value is reached, or other than 0."""
        return self.reached[value] | (np.asarray(self.arrays[value]) != 0)


def facts_of(program: Program, arguments: Sequence[Any], kept: Sequence[Any]) -> Facts:
    """Evaluates a program step by step.

    Args:
        program: The steps of the network.
        arguments: Concrete arrays, one for each of its arguments.
        kept: For the first of them, the weights, a mask, or None where all are kept. Those after them are
            inputs, which may be any.

    Returns:
        What is known of its values.
    """
    facts = Facts({}, {}, {}, {*program.arguments[: len(kept)]})
    for value, array in program.constants.items():
        _note(facts, value, array, reached=False, possible=_is_nonzero(array))
    for value, array, mask in zip(program.arguments, arguments, kept, strict=False):
        _note(facts, value, array, reached=False, possible=True if mask is None else np.asarray(mask))
    for value, array in zip(program.arguments[len(kept) :], arguments[len(kept) :], strict=True):
        _note(facts, value, array, reached=True, possible=True)
    for step in program.plain_steps():
        operands = [facts.arrays[value] for value in step.operands]
        with jax.debug_nans(False), jax.debug_infs(False):
            results = bind(step.equation, operands)
        shapes = [np.shape(result) for result in results]
        if facts.learned.intersection(step.operands):
            facts.learned.update(step.results)
        reached, possible = _reached(step, facts, shapes), _possible(step, facts, shapes)
        for value, result, *flags in zip(step.results, results, reached, possible, strict=True):
            _note(facts, value, result, flags[0], flags[1] | _is_nonzero(result))
    return facts


def arrivals(program: Program, facts: Facts, starts: Mapping[int, np.ndarray]) -> dict[int, np.ndarray]:
    """Where some entries of a program's arguments arrive.

    Args:
        program: The steps of the network.
        facts: What is known of its values.
        starts: Of arguments, by number, the entries in question, bool.

    Returns:
        For each value, by number, a bool array of its shape; all that is not known not to depend on one
        of these entries.
    """
    found = {
        value: np.broadcast_to(starts.get(value, False), np.shape(facts.arrays[value]))
        for value in (*program.constants, *program.arguments)
    }
    for step in program.plain_steps():
        shapes = [np.shape(facts.arrays[value]) for value in step.results]
        for value, where in zip(step.results, _spread(step, facts, found, shapes, _REACHED), strict=True):
            found[value] = np.broadcast_to(where, np.shape(facts.arrays[value]))
    return found


def _note(facts: Facts, value: int, array: Any, reached: Any, possible: Any) -> None:
    shape = np.shape(array)
    facts.arrays[value] = array
    facts.reached[value] = np.broadcast_to(reached, shape)
    facts.possible[value] = np.broadcast_to(possible, shape)


def _is_nonzero(array: Any) -> Any:
    return jnp.issubdtype(array.dtype, jax.dtypes.prng_key) or np.asarray(array) != 0


def _reached(step: Step, facts: Facts, shapes: Sequence[tuple[int, ...]]) -> list[np.ndarray]:
    if step.name in _RANDOM:
        return [np.ones(shape, bool) for shape in shapes]
    return _spread(step, facts, facts.reached, shapes, _REACHED)


def _possible(step: Step, facts: Facts, shapes: Sequence[tuple[int, ...]]) -> list[np.ndarray]:
    return _spread(step, facts, facts.possible, shapes, _POSSIBLE)


def _spread(
    step: Step,
    facts: Facts,
    flags: Flags,
    shapes: Sequence[tuple[int, ...]],
    rules: Mapping[str, Rule],
) -> list[np.ndarray]:
    """Where flags arrive in the results."""
    operands = [flags[value] for value in step.operands]
    if not any(where.any() for where in operands):
        return [np.zeros(shape, bool) for shape in shapes]
    if step.name in UNCHANGED:
        return operands
    if step.name in MOVES:
        return [np.asarray(where) for where in bind(step.equation, [jnp.asarray(w) for w in operands])]
    rule = rules.get(step.name) or _RULES.get(step.name)
    if rule is not None:
        return [np.broadcast_to(rule(step, facts, flags), shapes[0])]
    if step.name in ENTRYWISE or step.name in ("add", "sub", "add_any", "max", "min", "clamp"):
        return [np.broadcast_to(_any(operands), shapes[0])]
    return [np.ones(shape, bool) for shape in shapes]


def _any(operands: Sequence[np.ndarray]) -> np.ndarray:
    result = np.zeros((), bool)
    for where in operands:
        result = result | where
    return result


def _multiplied(step: Step, facts: Facts, reached: Flags) -> np.ndarray:
    """By a 0 that stays one nothing arrives."""
    one, other = step.operands
    return (reached[one] & facts.possible[other]) | (facts.possible[one] & reached[other])


def _divided(step: Step, facts: Facts, reached: Flags) -> np.ndarray:
    one, other = step.operands
    return reached[one] | (facts.possible[one] & reached[other])


def _selected(step: Step, facts: Facts, flags: Flags) -> np.ndarray:
    """What is the same for any input and any weights chooses as it does, anything else any case."""
    which, *cases = step.operands
    if facts.reached[which].any() or which in facts.learned:
        return _any([flags[case] for case in cases])
    return bind_one(step.equation, facts.arrays[which], *(jnp.asarray(flags[case]) for case in cases))


def _chosen(step: Step, facts: Facts, flags: Flags) -> np.ndarray:
    return flags[step.operands[0]] | _selected(step, facts, flags)


def _contracted(step: Step, facts: Facts, reached: Flags) -> np.ndarray:
    one, other = step.operands
    return _contraction(step, reached[one], facts.possible[other]) | _contraction(
        step, facts.possible[one], reached[other]
    )


def _contraction(step: Step, one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Where a term of the product has both."""
    pair = (jnp.asarray(array, jnp.float32) for array in (one, other))
    changed = {"precision": None, "preferred_element_type": jnp.dtype("float32")}
    return np.asarray(bind_one(step.equation, *pair, **changed)) > 0.5


def _reduced(step: Step, facts: Facts, flags: Flags) -> np.ndarray:
    return np.asarray(flags[step.operands[0]].any(axis=tuple(step.equation.params["axes"])))


def _windowed(step: Step, facts: Facts, flags: Flags) -> np.ndarray:
    numbers = step.equation.params
    names = ("window_dimensions", "window_strides", "padding", "base_dilation", "window_dilation")
    where = jnp.asarray(flags[step.operands[0]], jnp.float32)
    spread = lax.reduce_window(
        where, jnp.zeros((), jnp.float32), lax.max, *(numbers[name] for name in names)
    )
    return np.asarray(spread) > 0


def _cumulated(step: Step, facts: Facts, flags: Flags) -> np.ndarray:
    return np.asarray(flags[step.operands[0]].any(axis=step.equation.params["axis"], keepdims=True))


_RANDOM = ("random_bits", "threefry2x32", "rng_bit_generator", "rng_uniform", "random_gamma")
_RULES: dict[str, Rule] = {
    "select_n": _chosen,
    **dict.fromkeys((f"reduce_{name}" for name in ("sum", "max", "min", "prod", "and", "or")), _reduced),
    **dict.fromkeys(("argmax", "argmin"), _reduced),
    **dict.fromkeys((f"reduce_window_{name}" for name in ("sum", "max", "min")), _windowed),
    **dict.fromkeys(("cumsum", "cumprod", "cummax", "cummin", "cumlogsumexp"), _cumulated),
}
_PRODUCTS = ("dot_general", "conv_general_dilated")
_REACHED: dict[str, Rule] = {
    "mul": _multiplied,
    "div": _divided,
    **dict.fromkeys(_PRODUCTS, _contracted),
}
_POSSIBLE: dict[str, Rule] = {
    "select_n": _selected,
    "mul": lambda step, facts, flags: flags[step.operands[0]] & flags[step.operands[1]],
    "div": lambda step, facts, flags: flags[step.operands[0]],
    **dict.fromkeys(
        _PRODUCTS,
        lambda step, facts, flags: _contraction(step, *(flags[value] for value in step.operands)),
    ),
}
