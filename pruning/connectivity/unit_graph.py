"""The graph of a network's units, as tables that many walks look up at once.

Nodes are the input units and the output units of all uses of weights. Within a use every input unit of a
group leads to every output unit of it, and those on no path from the input to the output are closed.
Between uses there are *junctions*: an output unit may lead to input units of several uses (past a
shortcut, into parallel branches), and several may lead to one.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from pruning.connectivity.layer_uses import Layer
from pruning.connectivity.unit_links import Link, Linked


class Junctions(NamedTuple):
    """Where a walk may go on from each node: a row for each, one beside the other.

    Attributes:
        first: Where a node's row begins, int32.
        count: How many ways on it has, at least 1.
        cumulative: Cumulative probabilities within the row, float64.
        onward: The nodes that the ways lead to; their total number where the walk ends, int32.
    """

    first: np.ndarray
    count: np.ndarray
    cumulative: np.ndarray
    onward: np.ndarray


class _Ways(NamedTuple):
    """Ways from nodes of a use to nodes of the next one, as pairs."""

    use: int
    following: int
    nodes: np.ndarray
    onward: np.ndarray


class UnitGraph(NamedTuple):
    """The graph.

    Attributes:
        uses: In the order in which they are computed.
        inputs: The input units that the network's input feeds, by node.
        outputs: The output units that lead to the network's output, by node.
        is_open_in: For each use whether its input units are on a path, bool (G, I).
        is_open_out: For each use whether its output units are on a path, bool (G, O).
        forward: From output units to input units.
        backward: From input units to output units.
        longest: How many uses the longest path goes through.
    """

    uses: list[Layer]
    inputs: np.ndarray
    outputs: np.ndarray
    is_open_in: list[np.ndarray]
    is_open_out: list[np.ndarray]
    forward: Junctions
    backward: Junctions
    longest: int


def graph_of(linked: Linked) -> UnitGraph:
    """Builds the graph.

    Args:
        linked: Uses in the order in which they are computed, and their links.

    Returns:
        The graph of what lies on a path from the input to the output.

    Raises:
        ValueError: If no path does.
    """
    uses, count = linked.uses, len(linked.uses)
    is_open_in, is_open_out = _on_paths(linked)
    if not any(array.any() for array in is_open_in):
        raise ValueError(
            "expected a path of prunable weights from the network's input to its output, got none: let "
            "output_fn apply all prunable leaves of the params that it is given to an input of ones, or "
            "leave out with prunable= those that no path leads through"
        )
    links = [_open_part(link, is_open_in, is_open_out) for link in linked.links]
    links = [link for link in links if len(link.outputs)]
    after = np.zeros((count + 1, count + 1), bool)
    for link in sorted(links, key=lambda link: -link.source):
        after[link.source] |= after[link.target]
        after[link.source, link.target] = True
    steps = np.ones(count + 1, int)
    for link in sorted(links, key=lambda link: link.source):
        steps[link.target] = max(steps[link.target], steps[link.source] + 1)
    first_in = np.cumsum([0, *(array.size for array in is_open_in)])
    first_out = np.cumsum([0, *(array.size for array in is_open_out)])
    ends, between = [], []
    for link in links:
        if link.target == count:
            ends.append((link, first_out[link.source] + link.outputs))
        else:
            nodes = first_out[link.source] + link.outputs, first_in[link.target] + link.inputs
            between.append((link, *nodes))
    inputs = [
        first + np.flatnonzero(fed & is_open.ravel())
        for first, fed, is_open in zip(first_in[:-1], linked.fed, is_open_in, strict=True)
    ]
    ahead = [_Ways(link.source, link.target, here, there) for link, here, there in between]
    ahead += [_Ways(link.source, count, nodes, np.full_like(nodes, first_in[-1])) for link, nodes in ends]
    back = [_Ways(link.target, link.source, here, there) for link, there, here in between]
    back += [
        _Ways(place, count, nodes, np.full_like(nodes, first_out[-1]))
        for place, nodes in enumerate(inputs)
    ]
    return UnitGraph(
        uses=uses,
        inputs=np.concatenate(inputs),
        outputs=np.concatenate([nodes for _, nodes in ends]),
        is_open_in=is_open_in,
        is_open_out=is_open_out,
        forward=_junctions(ahead, after, first_out[-1]),
        backward=_junctions(back, after.T, first_in[-1]),
        longest=int(steps[count]) - 1,
    )


def _on_paths(linked: Linked) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Whether each unit is fed by the input and leads to the output."""
    shapes = [use.shape for use in linked.uses]
    fed_in = [fed.reshape(shape[:2]).copy() for fed, shape in zip(linked.fed, shapes, strict=True)]
    fed_out: list[np.ndarray] = []
    for place, (_, _, outputs, _) in enumerate(shapes):
        fed_out.append(np.repeat(np.any(fed_in[place], axis=1, keepdims=True), outputs, axis=1))
        for link in linked.links:
            if link.source == place and link.target < len(shapes):
                going = fed_out[place].ravel()[link.outputs]
                fed_in[link.target].ravel()[link.inputs[going]] = True
    leads_out = [np.zeros((shape[0], shape[2]), bool) for shape in shapes]
    leads_in: list[np.ndarray] = [np.zeros(shape[:2], bool) for shape in shapes]
    for place in reversed(range(len(shapes))):
        for link in linked.links:
            if link.source == place:
                useful = np.ones(len(link.outputs), bool)
                if link.target < len(shapes):
                    useful = leads_in[link.target].ravel()[link.inputs]
                leads_out[place].ravel()[link.outputs[useful]] = True
        leads_in[place] |= np.any(leads_out[place], axis=1, keepdims=True)
    is_open_in = [one & other for one, other in zip(fed_in, leads_in, strict=True)]
    return is_open_in, [one & other for one, other in zip(fed_out, leads_out, strict=True)]


def _open_part(link: Link, is_open_in: Sequence[np.ndarray], is_open_out: Sequence[np.ndarray]) -> Link:
    kept = is_open_out[link.source].ravel()[link.outputs]
    if link.target < len(is_open_in):
        kept = kept & is_open_in[link.target].ravel()[link.inputs]
    return link._replace(outputs=link.outputs[kept], inputs=link.inputs[kept])


def _junctions(ways: Sequence[_Ways], after: np.ndarray, count: int) -> Junctions:
    """Rows of ways; `after[a, b]` says that use b comes after use a."""
    found: list[tuple[np.ndarray, ...]] = []
    for use in sorted({way.use for way in ways}):
        several = [way for way in ways if way.use == use and len(way.nodes)]
        if not several:
            continue
        sizes = [len(way.nodes) for way in several]
        column = np.repeat(np.arange(len(several)), sizes)
        places, row = np.unique(np.concatenate([way.nodes for way in several]), return_inverse=True)
        number = np.zeros((len(places), len(several)))
        np.add.at(number, (row, column), 1)
        kinds, kind = np.unique(number > 0, axis=0, return_inverse=True)
        shares = np.zeros(kinds.shape)
        for each, leads in zip(shares, kinds, strict=True):
            each[leads] = way_shares([several[place].following for place in np.flatnonzero(leads)], after)
        share = shares[kind.ravel()[row], column] / number[row, column]
        found.append((places[row], share, np.concatenate([way.onward for way in several])))
    nodes, share, onward = (np.concatenate(parts) for parts in zip(*found, strict=True))
    order = np.argsort(nodes, kind="stable")
    number = np.bincount(nodes, minlength=count)
    first = np.cumsum(number) - number
    running = np.cumsum(share[order])
    before = np.concatenate([[0.0], running])[first[nodes[order]]]
    return Junctions(
        first=first.astype(np.int32),
        count=np.maximum(number, 1).astype(np.int32),
        cumulative=running - before,
        onward=onward[order].astype(np.int32),
    )


def way_shares(following: Sequence[int], after: np.ndarray) -> list[float]:
    """The probabilities with which a walk goes on into each of several uses.

    At a junction every way on is equally probable: into one of the uses that come first, or past them
    all, to where the rest divide in the same way. So a block and the shortcut around it have 1/2 each,
    and so have a convolution and the one in the shortcut beside it.

    Args:
        following: The uses, by number.
        after: ``after[a, b]`` says whether use b comes after a on some path.

    Returns:
        A probability for each; they add up to 1.
    """
    shares, left, share = [0.0] * len(following), list(range(len(following))), 1.0
    while left:
        first = [
            place
            for place in left
            if not any(after[following[other], following[place]] for other in left)
        ]
        share /= len(first) + (len(first) < len(left))
        for place in first:
            shares[place] = share
        left = [place for place in left if place not in first]
    return shares
