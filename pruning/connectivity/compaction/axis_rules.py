"""The relations between axes that each primitive makes (``axis_relations.py``).

A primitive that is not here is not followed: all of its operands is needed.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np

from pruning.connectivity.compaction.axis_relations import (
    Alike,
    Flattened,
    Picked,
    Position,
    Relation,
    Relations,
    Summed,
    Whole,
)
from pruning.connectivity.compaction.programs import Program, Step
from pruning.connectivity.signal_rules import ENTRYWISE, UNCHANGED


def relations_of(program: Program) -> Relations:
    """The relations of a program.

    Args:
        program: The steps of any function.

    Returns:
        The relations that they make.
    """
    found = Relations([], [], [], {})
    for number, step in enumerate(program.plain_steps()):
        shapes = [program.shape(value) for value in step.operands]
        results = [program.shape(value) for value in step.results]
        _Rules(found, step, number, shapes, results).add()
    return found


class _Rules(NamedTuple):
    """The relations of one step: its operands and results by place, with their shapes."""

    found: Relations
    step: Step
    number: int
    shapes: list[tuple[int, ...]]
    results: list[tuple[int, ...]]

    def add(self) -> None:
        """Adds them to those found."""
        name = self.step.name
        if name in UNCHANGED:
            for place, shape in enumerate(self.shapes):
                self.alike(*(([place], [axis], place, axis) for axis in range(len(shape))))
        elif name in ENTRYWISE or name in _BY_ENTRY:
            self.by_entry()
        elif name in _RULES:
            _RULES[name](self)
        else:
            self.opaque()

    def operand(self, place: int, axis: int) -> Position:
        return Position(self.step.operands[place], axis)

    def result(self, axis: int, place: int = 0) -> Position:
        return Position(self.step.results[place], axis)

    def relate(self, *relations: Relation) -> None:
        self.found.between.extend(relations)

    def alike(self, *rows: tuple[Sequence[int], Sequence[int], int, int]) -> None:
        """Rows of operands, their axes, and a result with its axis."""
        for places, axes, place, axis in rows:
            operands = [self.operand(*pair) for pair in zip(places, axes, strict=True)]
            self.relate(Alike((*operands, self.result(axis, place))))

    def whole(self, *positions: Position) -> None:
        self.relate(*(Whole(position, self.step.name) for position in positions))

    def whole_along(self, axis: int, places: Sequence[int] | None = None) -> None:
        """An axis that all operands and results have."""
        among = range(len(self.shapes)) if places is None else places
        self.whole(*(self.operand(place, axis) for place in among))
        self.whole(*(self.result(axis, place) for place in range(len(self.results))))

    def opaque(self) -> None:
        """Nothing is known: all of the operands is needed."""
        self.found.not_followed.append(self.step)
        shapes = enumerate(self.shapes)
        self.whole(*(self.operand(place, axis) for place, s in shapes for axis in range(len(s))))

    def by_entry(self, but: Sequence[int] = ()) -> None:
        """Every entry by itself, along all axes but some, of which everything is needed."""
        rank = max(map(len, self.results), default=0)
        for axis in range(rank):
            if axis in but:
                self.whole_along(axis, [p for p, shape in enumerate(self.shapes) if len(shape) == rank])
                continue
            size = self.results[0][axis]
            places = [p for p, s in enumerate(self.shapes) if len(s) == rank and s[axis] == size]
            results = tuple(self.result(axis, place) for place in range(len(self.results)))
            self.relate(Alike((*(self.operand(place, axis) for place in places), *results)))


def _broadcast(rules: _Rules) -> None:
    for axis, to in enumerate(rules.step.equation.params["broadcast_dimensions"]):
        if rules.shapes[0][axis] == rules.results[0][to]:
            rules.alike(([0], [axis], 0, to))


def _reshape(rules: _Rules) -> None:
    if rules.step.equation.params.get("dimensions") is not None:
        rules.opaque()
        return
    for before, after in _matched(rules.shapes[0], rules.results[0]):
        ins, outs = [rules.operand(0, axis) for axis in before], [rules.result(axis) for axis in after]
        sizes = (
            math.prod(shape[axis] for axis in axes)
            for shape, axes in zip((rules.shapes[0], rules.results[0]), (before, after), strict=True)
        )
        if len({*sizes}) > 1:  # Of no entries any number of axes is as many.
            rules.whole(*ins, *outs)
        elif len(ins) == len(outs) == 1:
            rules.relate(Alike((*ins, *outs)))
        elif len(outs) == 1:
            rules.relate(Flattened(outs[0], tuple(ins)))
        elif len(ins) == 1:
            rules.relate(Flattened(ins[0], tuple(outs)))
        else:
            rules.whole(*ins, *outs)


def _matched(before: Sequence[int], after: Sequence[int]) -> Iterator[tuple[list[int], list[int]]]:
    """The smallest runs of axes, without those of one entry, that have as many entries.

    Where arrays have no entries the last runs may have another number each.
    """
    ins = [axis for axis, size in enumerate(before) if size != 1]
    outs = [axis for axis, size in enumerate(after) if size != 1]
    while ins and outs:
        one, other = [ins.pop(0)], [outs.pop(0)]
        sizes = [before[one[0]], after[other[0]]]
        while sizes[0] != sizes[1] and ins and outs:
            if sizes[0] < sizes[1]:
                one.append(ins.pop(0))
                sizes[0] *= before[one[-1]]
            else:
                other.append(outs.pop(0))
                sizes[1] *= after[other[-1]]
        if sizes[0] != sizes[1]:  # One side is used up, so the rest of the other belongs here.
            one, other, ins, outs = one + ins, other + outs, [], []
        yield one, other


def _transpose(rules: _Rules) -> None:
    order = rules.step.equation.params["permutation"]
    rules.alike(*(([0], [axis], 0, to) for to, axis in enumerate(order)))


def _squeeze(rules: _Rules) -> None:
    gone = {axis % len(rules.shapes[0]) for axis in rules.step.equation.params["dimensions"]}
    left = [axis for axis in range(len(rules.shapes[0])) if axis not in gone]
    rules.alike(*(([0], [axis], 0, to) for to, axis in enumerate(left)))


def _expand(rules: _Rules) -> None:
    new = {axis % len(rules.results[0]) for axis in rules.step.equation.params["dimensions"]}
    left = [axis for axis in range(len(rules.results[0])) if axis not in new]
    rules.alike(*(([0], [axis], 0, to) for axis, to in enumerate(left)))


def _reduction(rules: _Rules) -> None:
    axes = rules.step.equation.params["axes"]
    left = [axis for axis in range(len(rules.shapes[0])) if axis not in axes]
    rules.alike(*(([0], [axis], 0, to) for to, axis in enumerate(left)))
    if rules.step.name == "reduce_sum":
        rules.found.sums.append(Summed(rules.step, (tuple(axes),), ((),)))
    else:
        rules.whole(*(rules.operand(0, axis) for axis in axes))


def _concatenation(rules: _Rules) -> None:
    along = rules.step.equation.params["dimension"]
    for axis in range(len(rules.results[0])):
        if axis != along:
            places = range(len(rules.shapes))
            rules.alike((places, [axis] * len(rules.shapes), 0, axis))
    first = 0
    for place, shape in enumerate(rules.shapes):
        index = np.arange(first, first + shape[along])
        rules.relate(Picked(rules.result(along), rules.operand(place, along), index))
        first += shape[along]


def _slice(rules: _Rules) -> None:
    numbers = rules.step.equation.params
    strides = numbers["strides"] or (1,) * len(rules.shapes[0])
    for axis, (start, stride) in enumerate(zip(numbers["start_indices"], strides, strict=True)):
        index = start + stride * np.arange(rules.results[0][axis])
        rules.relate(Picked(rules.operand(0, axis), rules.result(axis), index))


def _split(rules: _Rules) -> None:
    along = rules.step.equation.params["axis"]
    first = 0
    for place, shape in enumerate(rules.results):
        for axis, size in enumerate(shape):
            index = np.arange(size) + (first if axis == along else 0)
            rules.relate(Picked(rules.operand(0, axis), rules.result(axis, place), index))
        first += shape[along]


def _reversal(rules: _Rules) -> None:
    for axis, size in enumerate(rules.shapes[0]):
        index = np.arange(size)
        index = index[::-1] if axis in rules.step.equation.params["dimensions"] else index
        rules.relate(Picked(rules.operand(0, axis), rules.result(axis), index))


def _padding(rules: _Rules) -> None:
    for axis, (low, _, between) in enumerate(rules.step.equation.params["padding_config"]):
        places = np.arange(rules.results[0][axis]) - low
        entries, rest = np.divmod(places, between + 1)
        inside = (rest == 0) & (entries >= 0) & (entries < rules.shapes[0][axis])
        index = np.where(inside, entries, -1)
        rules.relate(Picked(rules.operand(0, axis), rules.result(axis), index))


def _product(rules: _Rules) -> None:
    summed, batch = rules.step.equation.params["dimension_numbers"]
    rules.relate(
        *(Alike((rules.operand(0, a), rules.operand(1, b))) for a, b in zip(*summed, strict=True))
    )
    rules.alike(*(([0, 1], pair, 0, to) for to, pair in enumerate(zip(*batch, strict=True))))
    to = len(batch[0])
    for place, shape in enumerate(rules.shapes):
        for axis in range(len(shape)):
            if axis not in (*summed[place], *batch[place]):
                rules.alike(([place], [axis], 0, to))
                to += 1
    both = tuple(map(tuple, summed)), tuple(map(tuple, batch))
    rules.found.sums.append(Summed(rules.step, *both))


def _convolution(rules: _Rules) -> None:
    numbers = rules.step.equation.params
    images, kernel, result = numbers["dimension_numbers"]
    if numbers["batch_group_count"] != 1:
        rules.opaque()
        return
    rules.alike(([0], [images[0]], 0, result[0]))
    rules.whole(*(rules.operand(0, axis) for axis in images[2:]))
    rules.whole(*(rules.operand(1, axis) for axis in kernel[2:]))
    rules.whole(*(rules.result(axis) for axis in result[2:]))
    channels, inputs = rules.operand(0, images[1]), rules.operand(1, kernel[1])
    units = rules.operand(1, kernel[0])
    groups = numbers["feature_group_count"]
    rules.relate(Alike((units, rules.result(result[1]))))
    if groups == 1:
        rules.relate(Alike((channels, inputs)))
        rules.found.sums.append(Summed(rules.step, ((images[1],), (kernel[1],)), ((), ())))
        return
    rules.whole(inputs)
    group, within = (Position(-1, part, rules.number) for part in (0, 1))
    rules.found.sizes[group] = groups
    rules.found.sizes[within] = rules.shapes[1][kernel[0]] // groups
    rules.relate(Flattened(channels, (group, inputs)), Flattened(units, (group, within)))


def _along_one(rules: _Rules) -> None:
    numbers = rules.step.equation.params
    rules.by_entry(but=(numbers["dimension"] if rules.step.name == "sort" else numbers["axis"],))


def _window(rules: _Rules) -> None:
    numbers = rules.step.equation.params
    sizes = numbers["window_dimensions"]
    moved = [axis for axis, size in enumerate(sizes) if size != 1]
    moved += [axis for axis, stride in enumerate(numbers["window_strides"]) if stride != 1]
    moved += [axis for axis, pads in enumerate(numbers.get("padding", ())) if tuple(pads) != (0, 0)]
    for name in ("base_dilation", "window_dilation"):
        moved += [axis for axis, spread in enumerate(numbers.get(name, ())) if spread != 1]
    for axis, size in enumerate(rules.shapes[0]):
        if axis not in moved and rules.results[0][axis] == size:
            rules.alike(([0], [axis], 0, axis))
        else:
            rules.whole(rules.operand(0, axis), rules.result(axis))
    for place in range(1, len(rules.shapes)):
        rules.whole(*(rules.operand(place, axis) for axis in range(len(rules.shapes[place]))))


def _gather(rules: _Rules) -> None:
    numbers, sizes = (rules.step.equation.params[name] for name in ("dimension_numbers", "slice_sizes"))
    table, result = rules.shapes[0], rules.results[0]
    removed = (*numbers.collapsed_slice_dims, *numbers.operand_batching_dims)
    left = [axis for axis in range(len(table)) if axis not in removed]
    complete = dict(zip(left, numbers.offset_dims, strict=True))
    complete = {axis: to for axis, to in complete.items() if sizes[axis] == table[axis]}
    rules.alike(*(([0], [axis], 0, to) for axis, to in complete.items()))
    rules.whole(*(rules.operand(0, axis) for axis in range(len(table)) if axis not in complete))
    rules.whole(*(rules.operand(1, axis) for axis in range(len(rules.shapes[1]))))
    rules.whole(*(rules.result(axis) for axis in range(len(result)) if axis not in complete.values()))


def _part(rules: _Rules) -> None:
    """A part that begins anywhere, read or written: along its axes that are complete, entry by entry."""
    written = rules.step.name == "dynamic_update_slice"
    part, places = (rules.shapes[1], [0, 1]) if written else (rules.results[0], [0])
    for axis, size in enumerate(rules.shapes[0]):
        if part[axis] == size:
            rules.alike((places, [axis] * len(places), 0, axis))
        else:
            rules.whole(*(rules.operand(place, axis) for place in places), rules.result(axis))


_BY_ENTRY = ("mul", "div", "add", "sub", "add_any", "max", "min", "clamp", "select_n")
_REDUCED = ("sum", "max", "min", "prod", "and", "or", "xor")
_WINDOWS = ("reduce_window_sum", "reduce_window_max", "reduce_window_min", "reduce_window")
_RULES: dict[str, Callable[[_Rules], None]] = {
    "broadcast_in_dim": _broadcast,
    "reshape": _reshape,
    "transpose": _transpose,
    "squeeze": _squeeze,
    "expand_dims": _expand,
    **dict.fromkeys((*(f"reduce_{name}" for name in _REDUCED), "argmax", "argmin"), _reduction),
    "concatenate": _concatenation,
    "slice": _slice,
    "split": _split,
    "rev": _reversal,
    "pad": _padding,
    "dot_general": _product,
    "conv_general_dilated": _convolution,
    **dict.fromkeys(("sort", "cumsum", "cumprod", "cummax", "cummin", "cumlogsumexp"), _along_one),
    **dict.fromkeys(_WINDOWS, _window),
    "gather": _gather,
    **dict.fromkeys(("dynamic_slice", "dynamic_update_slice"), _part),
}
