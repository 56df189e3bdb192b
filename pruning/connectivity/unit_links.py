"""Which output units lead to which input units with no layer between: found by asking the cut network.

A pass through the network that is cut (``cuts.py``) answers for all uses at once. One pass a use tells
which uses it leads to, and where. Then units have numbers, and two passes for each of their bits, for
all uses that do not meet, tell which unit it is that arrives: only those whose bit is 1 are there, then
only those whose bit is 0. So a network of 512 units a layer takes 18 passes, not 512 a layer. Where
several units arrive at one (features are normalised, gates multiply), the units are asked one by one if
they are few, and numbered in three more ways if they are many. Then what is connected to a unit are all
whose numbers cannot be told from those of what arrives: never fewer than there are.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from pruning.connectivity.cuts import pass_through
from pruning.connectivity.interpreter import OutputFn
from pruning.connectivity.layer_uses import Layer, Use
from pruning.trees.leaves import PyTree

Code = Callable[[int], np.ndarray]
# Where several units arrive at one: so many other ways of numbering them, or so many units one by one.
_NUMBERINGS = 3
_ONE_BY_ONE = 128


class Link(NamedTuple):
    """Output units of one use that lead to input units of another, as pairs.

    Attributes:
        source: The number of a use.
        target: That of another, or the number of uses for the network's output.
        outputs: Output units of the source, int.
        inputs: Input units of the target, int; 0 for the network's output.
    """

    source: int
    target: int
    outputs: np.ndarray
    inputs: np.ndarray


class Linked(NamedTuple):
    """A network's uses and what connects them.

    Attributes:
        uses: The weights of each, in the order in which they are computed.
        links: Which output unit leads to which input unit, with no use between.
        fed: For each use a bool array: the input units that the network's input feeds and no use does.
    """

    uses: list[Layer]
    links: list[Link]
    fed: list[np.ndarray]


def find_links(output_fn: OutputFn, params: PyTree, cut_leaves: frozenset[int]) -> Linked:
    """Reads the graph of units from a network.

    Args:
        output_fn: ``output_fn(params)`` is the network's output at its input, of any structure.
        params: Its params; only their shapes and dtypes matter.
        cut_leaves: The leaves, by index, whose weights are walked over.

    Returns:
        The uses of these leaves and their links.

    Raises:
        ValueError: If the interpreter refuses the network.
    """
    uses: list[Use] = []

    def count(number: int, use: Use) -> Any:
        uses.append(use)
        return jnp.ones(use.shape[0] * use.shape[2], jnp.float32)

    jax.eval_shape(lambda: pass_through(output_fn, params, cut_leaves, count, jnp.zeros(1))[2:])
    sizes = [use.shape[0] * use.shape[2] for use in uses]
    first = np.cumsum([0, *sizes])

    def arrivals(units: jax.Array, is_fed: jax.Array) -> list[jax.Array]:
        def of_use(number: int, _: Use) -> jax.Array:
            return units[first[number] : first[number + 1]]

        cut = pass_through(output_fn, params, cut_leaves, of_use, is_fed)
        return [array > 0 for array in (*cut.arrived, cut.output)]

    # Compiled here, though this library compiles nothing: it is asked many times, and while the
    # caller's own function is traced.
    shapes = (jax.ShapeDtypeStruct((size,), jnp.float32) for size in (first[-1], 1))
    compiled = jax.jit(arrivals).lower(*shapes).compile()

    def ask(units: Sequence[np.ndarray], is_fed: float = 0.0) -> list[np.ndarray]:
        asked = np.concatenate([*units, []]).astype(np.float32)
        return [np.asarray(array) for array in compiled(asked, np.array([is_fed], np.float32))]

    def only(chosen: Iterable[int], numbers: Callable[[int], np.ndarray]) -> list[np.ndarray]:
        chosen = set(chosen)
        return [
            numbers(size) if place in chosen else np.zeros(size, bool) for place, size in enumerate(sizes)
        ]

    whole = [ask(only([place], lambda size: np.ones(size, bool))) for place in range(len(uses))]
    led = [np.any([row[target] for row in whole], axis=0) for target in range(len(uses))]
    fed = [
        array & ~reached
        for array, reached in zip(ask(only([], np.zeros), 1.0)[: len(uses)], led, strict=True)
    ]
    links = []
    for together in _apart(whole):
        links.extend(_told_apart(together, whole, sizes, lambda code, t=together: ask(only(t, code))))
    return Linked([Layer(use.weights, use.shape) for use in uses], links, fed)


def _apart(whole: list[list[np.ndarray]]) -> list[list[int]]:
    """Divides the uses into sets in which no two arrive at the same place."""
    sets: list[tuple[list[int], list[np.ndarray]]] = []
    for place, arrives in enumerate(whole):
        for members, taken in sets:
            if not any(np.any(one & other) for one, other in zip(taken, arrives, strict=True)):
                members.append(place)
                for one, other in zip(taken, arrives, strict=True):
                    one |= other
                break
        else:
            sets.append(([place], [array.copy() for array in arrives]))
    return [members for members, _ in sets]


def _told_apart(
    together: list[int],
    whole: list[list[np.ndarray]],
    sizes: list[int],
    ask: Callable[[Code], list[np.ndarray]],
) -> Iterable[Link]:
    """The links of uses that do not meet: ``ask(code)`` lets the units pass for which it is True."""
    columns = {
        (source, target): np.flatnonzero(arrives)
        for source in together
        for target, arrives in enumerate(whole[source])
        if arrives.any()
    }
    possible = {
        (source, target): np.ones((sizes[source], len(at)), bool)
        for (source, target), at in columns.items()
    }
    most = max((sizes[source] for source, _ in columns), default=0)

    def rule_out(code: Code, answer: list[np.ndarray]) -> None:
        """What is there now would arrive, so what does not arrive is none of it."""
        for (source, target), pairs in possible.items():
            pairs &= ~code(sizes[source])[:, None] | answer[target][columns[source, target]][None]

    for numbers in (np.arange, *map(_shuffled, range(_NUMBERINGS))):
        for bit in range((most - 1).bit_length()):
            for digit in (0, 1):
                code = _bit(numbers, bit, digit)
                rule_out(code, ask(code))
        if all((pairs.sum(axis=0) <= 1).all() for pairs in possible.values()):
            break
        if most <= _ONE_BY_ONE:
            for unit in range(most):
                code = _bit(lambda size, unit=unit: np.arange(size) == unit, 0, 1)
                rule_out(code, ask(code))
            break
    for (source, target), pairs in possible.items():
        outputs, places = np.nonzero(pairs)
        if target == len(sizes):
            outputs = np.unique(outputs)
            yield Link(source, target, outputs, np.zeros_like(outputs))
        else:
            yield Link(source, target, outputs, columns[source, target][places])


def _shuffled(seed: int) -> Code:
    return lambda size: np.random.default_rng(seed).permutation(size)


def _bit(numbers: Code, bit: int, digit: int) -> Code:
    """Whether a bit of the units' numbers has a value."""
    return lambda size: (numbers(size) >> bit) % 2 == digit
