"""Which entries of a program's values are wanted.

Beginning with nothing, the outputs are wanted whole. Of what a wanted entry sums, those are wanted that
the input reaches and that are not multiplied by 0; of what belongs together, all is wanted where one is.
What is never wanted can go: a unit that no weight leads out of, and one whose value is a constant.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from pruning.connectivity.compaction.axis_relations import Position, Relations, Summed, Whole
from pruning.connectivity.compaction.dependence import Facts
from pruning.connectivity.compaction.programs import Program

Kept = dict[Position, np.ndarray]


def wanted(
    program: Program,
    relations: Relations,
    facts: Facts,
    whole: Sequence[int],
    leaves: Sequence[int],
    with_constants: Sequence[Summed],
) -> Kept:
    """The entries that are wanted.

    Args:
        program: The network's, or that of another function of its variables.
        relations: The relations between its axes.
        facts: What is known of its values.
        whole: The numbers of values of which everything is wanted.
        leaves: The numbers of the arrays that are to be smaller; none becomes empty.
        with_constants: The sums of which entries are wanted too that are constants other than 0.

    Returns:
        For every axis of every value a bool for each entry.
    """
    kept = relations.start(program, kept=False)
    rules = [*relations.between]
    rules += [
        Whole(Position(value, axis), "output")
        for value in whole
        for axis in range(len(program.shape(value)))
    ]
    # An entry that is kept for no other reason wants what leads to it: what is used last comes first.
    steps = enumerate(program.plain_steps())
    used = {value: number for number, step in steps for value in step.operands}
    last_first = sorted(leaves, key=lambda value: used.get(value, -1), reverse=True)
    axes = [Position(value, axis) for value in last_first for axis in range(len(program.shape(value)))]
    while True:
        _spread_wanted(kept, rules, relations.sums, facts, with_constants)
        empty = [place for place in axes if len(kept[place]) and not kept[place].any()]
        if not empty:
            return kept
        kept[empty[0]] = np.arange(len(kept[empty[0]])) == 0


def _spread_wanted(
    kept: Kept,
    rules: Sequence[Any],
    sums: Sequence[Summed],
    facts: Facts,
    with_constants: Sequence[Summed],
) -> None:
    """Until nothing changes; what is wanted spreads from the outputs, so backwards first."""
    changed = True
    while changed:
        before = {place: array.sum() for place, array in kept.items()}
        for rule in reversed(rules):
            rule.join(kept, np.logical_or)
        for summed in reversed(sums):
            _want_summed(
                kept, summed, facts, is_constant_wanted=any(summed is each for each in with_constants)
            )
        changed = any(kept[place].sum() != count for place, count in before.items())


def _want_summed(kept: Kept, summed: Summed, facts: Facts, *, is_constant_wanted: bool) -> None:
    """Wants the entries that add to a wanted one something that is no constant."""
    terms = terms_of(kept, summed, facts, is_constant_wanted=is_constant_wanted)
    rank = len(summed.axes[0])
    for place in range(rank):
        others = tuple(axis for axis in range(rank) if axis != place)
        along = terms.any(axis=others)
        for value, axes in zip(summed.step.operands, summed.axes, strict=True):
            position = Position(value, axes[place])
            kept[position] = kept[position] | along


def terms_of(
    kept: Mapping[Position, np.ndarray], summed: Summed, facts: Facts, *, is_constant_wanted: bool
) -> np.ndarray:
    """Which of what is summed add something to an entry that is kept.

    Args:
        kept: The entries that are kept, a bool for each entry of every axis.
        summed: What is summed, and along which axes.
        facts: What is known of the values.
        is_constant_wanted: Whether a term that no input reaches, and that is not 0, counts too.

    Returns:
        A bool array with an axis for each that is summed.
    """
    reached, possible, present = (
        [_along(kept, summed, place, flags(value)) for place, value in enumerate(summed.step.operands)]
        for flags in (facts.reached.__getitem__, facts.possible.__getitem__, facts.present)
    )
    if is_constant_wanted:
        terms = present[0] if len(present) == 1 else present[0] & present[1]
    elif len(reached) == 1:
        terms = reached[0]
    else:
        terms = (reached[0] & possible[1]) | (possible[0] & reached[1])
    batches = len(summed.beside[0])
    return np.asarray(terms.any(axis=tuple(range(batches))))


def _along(kept: Mapping[Position, np.ndarray], summed: Summed, place: int, array: Any) -> np.ndarray:
    """Whether there is something at kept entries of the other axes; axes of batches come first."""
    value, axes, beside = summed.step.operands[place], summed.axes[place], summed.beside[place]
    order = (*beside, *axes)
    for axis in range(array.ndim):
        if axis not in axes:
            shape = [1] * array.ndim
            shape[axis] = array.shape[axis]
            array = array & kept[Position(value, axis)].reshape(shape)
    others = tuple(axis for axis in range(array.ndim) if axis not in order)
    left = [axis for axis in range(array.ndim) if axis not in others]
    return np.transpose(array.any(axis=others), [left.index(axis) for axis in order])
