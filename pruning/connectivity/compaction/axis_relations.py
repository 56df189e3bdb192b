"""Which axes of a step's operands and results have to lose the same entries.

A *position* is an axis of a value. Relations between positions follow from the primitives: a sum entry
by entry has the same entries in all its operands, a flattened image has those of its channels at every
pixel, a concatenation those of its parts. Where it is not known what an axis does, it stays whole.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from pruning.connectivity.compaction.programs import Program, Step

Join = Callable[[Any, Any], np.ndarray]


class Position(NamedTuple):
    """An axis of a value; within a step also one that no value has (the groups of a convolution)."""

    value: int
    axis: int
    within: int = -1


class Alike(NamedTuple):
    """Axes with the same entries."""

    positions: tuple[Position, ...]

    def join(self, kept: dict[Position, np.ndarray], join: Join) -> None:
        """Joins what is kept of the axes."""
        for place in self.positions[1:]:
            kept[self.positions[0]] = join(kept[self.positions[0]], kept[place])
        for place in self.positions[1:]:
            kept[place] = kept[self.positions[0]]


class Flattened(NamedTuple):
    """An axis that is several others in one, in C order: it keeps the pairs of what they keep."""

    whole: Position
    parts: tuple[Position, ...]

    def join(self, kept: dict[Position, np.ndarray], join: Join) -> None:
        """Joins what is kept of the axes."""
        sizes = [len(kept[part]) for part in self.parts]
        grid = kept[self.whole].reshape(sizes)
        for axis, part in enumerate(self.parts):
            others = tuple(other for other in range(len(sizes)) if other != axis)
            kept[part] = join(kept[part], grid.any(axis=others))
        kept[self.whole] = join(kept[self.whole], self.pairs(kept))

    def pairs(self, kept: dict[Position, np.ndarray]) -> np.ndarray:
        """The entries of the whole that are kept in every part."""
        grid = np.ones((), bool)
        for part in self.parts:
            grid = grid[..., None] & kept[part]
        return grid.ravel()


class Picked(NamedTuple):
    """Entries of an axis that are entries of another: ``index`` says which, -1 for none."""

    source: Position
    result: Position
    index: np.ndarray

    def join(self, kept: dict[Position, np.ndarray], join: Join) -> None:
        """Joins what is kept of the axes."""
        has = self.index >= 0
        source, result = kept[self.source].copy(), kept[self.result].copy()
        both = join(source[self.index[has]], result[has])
        source[self.index[has]], result[has] = both, both
        kept[self.source], kept[self.result] = source, result


class Whole(NamedTuple):
    """An axis of which everything is needed, and the primitive that needs it."""

    position: Position
    primitive: str

    def join(self, kept: dict[Position, np.ndarray], join: Join) -> None:
        """Joins what is kept of the axis with all of it."""
        kept[self.position] = join(kept[self.position], np.ones_like(kept[self.position]))


class Summed(NamedTuple):
    """Axes that a step sums over: an entry may go where it adds nothing, or a constant.

    Attributes:
        step: A product, a convolution or a sum.
        axes: For each operand the axes that are summed, in one order.
        beside: For each operand the axes that its entries are matched along besides: of batches.
    """

    step: Step
    axes: tuple[tuple[int, ...], ...]
    beside: tuple[tuple[int, ...], ...]


Relation = Alike | Flattened | Picked | Whole


class Relations(NamedTuple):
    """The relations between all axes of a program.

    Attributes:
        between: Which axes have the same entries, or are needed whole.
        sums: The products, convolutions and sums, with the axes that they sum over.
        not_followed: Steps of which it is not known what their axes do.
        sizes: How many entries those axes have that no value has.
    """

    between: list[Relation]
    sums: list[Summed]
    not_followed: list[Step]
    sizes: dict[Position, int]

    def start(self, program: Program, kept: bool) -> dict[Position, np.ndarray]:
        """Everything kept, or nothing, at every position; axes of one entry always keep it."""
        avals = enumerate(program.avals)
        sizes = {Position(v, axis): n for v, aval in avals for axis, n in enumerate(aval.shape)}
        return {place: np.full(size, kept or size == 1) for place, size in (sizes | self.sizes).items()}
