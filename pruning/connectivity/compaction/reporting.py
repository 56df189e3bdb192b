"""What compaction did, and what it left whole, in words."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from pruning.connectivity.compaction.axis_relations import Relations, Summed
from pruning.connectivity.compaction.parts import Arrays, Axes
from pruning.connectivity.compaction.programs import Program
from pruning.trees.leaves import PyTree


class CompactedArray(NamedTuple):
    """An array before and after.

    Attributes:
        path: Where the array is in the variables.
        shape: The shape that it had.
        compacted_shape: The shape that it has now.
        entries: For each axis which of its entries are left, in their order: what else has this shape, a
            momentum, is cut by ``array[numpy.ix_(*entries)]``.
        kept: How many of its weights a mask keeps; all, if it has none.
        compacted_kept: How many of those are left.
    """

    path: str
    shape: tuple[int, ...]
    compacted_shape: tuple[int, ...]
    entries: tuple[np.ndarray, ...]
    kept: int
    compacted_kept: int


class CompactionReport(NamedTuple):
    """What compaction did.

    Attributes:
        arrays: A row for each array of the variables, in tree order.
        left_whole: Sentences: what a primitive that is not followed keeps whole, and which constants had
            no weight to go to. Units that a network needs for another reason are not named.
    """

    arrays: tuple[CompactedArray, ...]
    left_whole: tuple[str, ...]


def rows_of(
    tree: Arrays, axes: Sequence[Axes], masks: PyTree, compacted_masks: PyTree
) -> tuple[CompactedArray, ...]:
    """A row for each array.

    Args:
        tree: The arrays of the variables.
        axes: Which entries of each are left.
        masks: Masks of the variables.
        compacted_masks: Masks of what is left.

    Returns:
        Rows in tree order.
    """
    rows = []
    whole, small = (tree.masks_in(each) for each in (masks, compacted_masks))
    for path, array, there, mask, left in zip(tree.paths, tree.arrays, axes, whole, small, strict=True):
        shape = tuple(int(axis.sum()) for axis in there)
        kept = array.size if mask is None else int(np.sum(mask))
        compacted_kept = int(np.prod(shape, dtype=int)) if left is None else int(np.sum(left))
        entries = tuple(np.flatnonzero(axis) for axis in there)
        rows.append(CompactedArray(path, array.shape, shape, entries, kept, compacted_kept))
    return tuple(rows)


def left_whole(
    program: Program,
    relations: Relations,
    paths: Mapping[int, str],
    stuck: Sequence[Summed],
) -> tuple[str, ...]:
    """What could not be removed.

    Args:
        program: The steps of the network.
        relations: The relations between its axes.
        paths: The paths of the variables' arrays, by number.
        stuck: Sums whose constants have no weight to go to.

    Returns:
        A sentence for each primitive that is not followed and for each sum that keeps constants.
    """
    sentences = []
    varying = {*program.arguments}
    for step in program.plain_steps():
        if varying.intersection(step.operands):
            varying.update(step.results)
    followed = [step for step in relations.not_followed if varying.intersection(step.operands)]
    for name in dict.fromkeys(step.name for step in followed):
        sentences.append(f"what enters {name!r} stays whole: its axes are not followed")
    origin = dict(paths)
    for step in program.plain_steps():
        names = [origin[value] for value in step.operands if value in origin]
        if len(step.operands) == 1 and names:
            origin.update(dict.fromkeys(step.results, names[0]))
    for summed in stuck:
        names = [origin[value] for value in summed.step.operands if value in origin]
        where = names[0] if names else f"a {summed.step.name!r}"
        sentences.append(
            f"constant units before {where} stay: what they add depends on the position or on a weight "
            "that stays, or nothing is added to it before a function, another weight or the output, or "
            "what is added there is stored in a lower precision"
        )
    return tuple(dict.fromkeys(sentences))
