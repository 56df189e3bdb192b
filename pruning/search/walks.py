"""Biased random walks over the weights of a network, thousands at a time.

A walk goes forward from an input unit or backward from an output unit and steps over one weight in each
use that it comes through. What is chosen at a step is a uniform number looked up in a row of cumulative
probabilities, by bisection, so that all walks step together whatever layer each of them is in.

Shapes: W walks, T steps, the uses on the longest path.
"""

import functools
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from pruning.connectivity.unit_graph import Junctions, UnitGraph
from pruning.search.path_probabilities import step_probabilities
from pruning.trees.precision import at_least_float32, wider

NO_WEIGHT = np.int32(np.iinfo(np.int32).max)
"""Where a walk has ended already, in place of a weight."""


class Rows(NamedTuple):
    """A row of cumulative probabilities for each node, one beside the other.

    Attributes:
        first: Where a node's row begins.
        count: How many entries it has.
        cumulative: The cumulative probabilities of all rows, one row behind the other.
        partner: The first of the units that the row is about, by node.
        most: Entries of the longest row.
    """

    first: np.ndarray
    count: np.ndarray
    cumulative: jax.Array
    partner: np.ndarray
    most: int


class Tables(NamedTuple):
    """All that a walk looks up.

    Attributes:
        forward: Rows of input units, over output units.
        backward: Rows of output units, over input units.
        position: Cumulative probabilities of positions, a row for each two units.
        places: The number among all weights of each entry of ``position``, int32.
        first_weight: Where the entries of an input unit begin.
        positions: How many positions a kernel has at an input unit.
        local: The number of an output unit within its group.
        possible: How many entries a step may be over.
    """

    forward: Rows
    backward: Rows
    position: jax.Array
    places: jax.Array
    first_weight: np.ndarray
    positions: np.ndarray
    local: np.ndarray
    possible: jax.Array


def make_tables(graph: UnitGraph, leaves: dict[int, Any], numbers: dict[int, Any]) -> Tables:
    """Looks the probabilities up once.

    Args:
        graph: The units of the network and what connects them.
        leaves: The weights, by the index of their leaf.
        numbers: int32 arrays of the same shapes that count them.

    Returns:
        The tables, in the dtype of the weights (float32 at least).
    """
    forward, backward, position, places, possible = [], [], [], [], jnp.int32(0)
    dtype = functools.reduce(wider, (at_least_float32(leaf.dtype) for leaf in leaves.values()))
    alike: dict[tuple[int, ...], list[int]] = {}
    for place, use in enumerate(graph.uses):
        alike.setdefault(use.shape[1:], []).append(place)
    for members in alike.values():  # together, as more groups of units: a program compiles them once
        uses = [graph.uses[place] for place in members]
        open_in, open_out = (
            np.concatenate([parts[place] for place in members])
            for parts in (graph.is_open_in, graph.is_open_out)
        )
        whole = bool(open_in.all() and open_out.all())
        weights = jnp.concatenate([use.weights(leaves).astype(dtype) for use in uses])
        ahead, back, within = step_probabilities(
            weights, True if whole else open_in, True if whole else open_out
        )
        chosen = (ahead > 0) | (jnp.swapaxes(back, 1, 2) > 0)
        if not whole:
            chosen &= open_in[:, :, None] & open_out[:, None, :]
        possible += jnp.sum(chosen[..., None] & (within > 0), dtype=jnp.int32)
        forward.append(_running(ahead))
        backward.append(_running(back))
        position.append(_running(within))
        places.extend(use.weights(numbers).ravel() for use in uses)
    shapes = np.array([use.shape for use in graph.uses])
    groups, inputs, outputs, positions = shapes.T
    count_in, count_out = groups * inputs, groups * outputs
    pairs = count_in * outputs
    first_pair, first_place = (
        _starts(counts, [place for members in alike.values() for place in members])
        for counts in (pairs, pairs * positions)
    )
    # What each node's use has, by the number of the use, and the node's own place in it.
    of_in, of_out = (np.repeat(np.arange(len(shapes)), count) for count in (count_in, count_out))
    place_in, place_out = (np.arange(c.sum()) - np.repeat(_starts(c), c) for c in (count_in, count_out))
    row_in = first_pair[of_in] + place_in * outputs[of_in]
    row_out = first_pair[of_out] + place_out * inputs[of_out]
    partner_in = _starts(count_out)[of_in] + place_in // inputs[of_in] * outputs[of_in]
    partner_out = _starts(count_in)[of_out] + place_out // outputs[of_out] * inputs[of_out]
    return Tables(
        forward=_rows(row_in, outputs[of_in], forward, partner_in),
        backward=_rows(row_out, inputs[of_out], backward, partner_out),
        position=jnp.concatenate(position),
        places=jnp.concatenate(places),
        first_weight=_int32(first_place[of_in] + place_in * (outputs * positions)[of_in]),
        positions=_int32(positions[of_in]),
        local=_int32(place_out % outputs[of_out]),
        possible=possible,
    )


def forward_walks(graph: UnitGraph, tables: Tables, starts: jax.Array, uniforms: jax.Array) -> jax.Array:
    """Walks from input units to the network's output.

    Args:
        graph: The units of the network and what connects them.
        tables: From ``make_tables``, of the same graph.
        starts: (W,) input units, by node.
        uniforms: (T, W, 3) in [0, 1): what chooses the output unit, the position and the way on.

    Returns:
        (T, W) int32: the numbers of the weights, in the order in which they are gone over.
    """
    return _walks(graph.forward, tables.forward, tables, starts, uniforms, is_forward=True)


def backward_walks(graph: UnitGraph, tables: Tables, starts: jax.Array, uniforms: jax.Array) -> jax.Array:
    """Walks from output units to the network's input.

    Args:
        graph: The units of the network and what connects them.
        tables: From ``make_tables``, of the same graph.
        starts: (W,) output units, by node.
        uniforms: (T, W, 3) in [0, 1): what chooses the input unit, the position and the way on.

    Returns:
        (T, W) int32: the numbers of the weights, in the order in which they are gone over.
    """
    return _walks(graph.backward, tables.backward, tables, starts, uniforms, is_forward=False)


def _walks(
    junctions: Junctions,
    rows: Rows,
    tables: Tables,
    starts: jax.Array,
    uniforms: jax.Array,
    *,
    is_forward: bool,
) -> jax.Array:
    ways = jnp.asarray(junctions.cumulative, rows.cumulative.dtype)
    first, count, onward = (jnp.asarray(a) for a in (junctions.first, junctions.count, junctions.onward))
    row, number, partner = (jnp.asarray(a) for a in (rows.first, rows.count, rows.partner))
    first_weight, positions, local = (
        jnp.asarray(a) for a in (tables.first_weight, tables.positions, tables.local)
    )
    end = len(rows.first)

    def step(node: jax.Array, uniform: jax.Array) -> tuple[jax.Array, jax.Array]:
        here = jnp.minimum(node, end - 1)
        choice = _chosen(rows.cumulative, row[here], number[here], uniform[:, 0], rows.most)
        there = partner[here] + choice
        unit_in, unit_out = (here, there) if is_forward else (there, here)
        kernel = first_weight[unit_in] + local[unit_out] * positions[unit_in]
        place = kernel + _chosen(
            tables.position, kernel, positions[unit_in], uniform[:, 1], int(tables.positions.max())
        )
        way = _chosen(ways, first[there], count[there], uniform[:, 2], int(junctions.count.max()))
        ended = node >= end
        weight = jnp.where(ended, NO_WEIGHT, tables.places[place])
        return jnp.where(ended, node, onward[first[there] + way]), weight

    return lax.scan(step, starts.astype(jnp.int32), uniforms)[1]


def _chosen(
    cumulative: jax.Array, first: jax.Array, count: jax.Array, uniform: jax.Array, most: int
) -> jax.Array:
    """The first entry of a row above a uniform number: ``searchsorted(row, u, side="right")``."""
    if most == 1:
        return jnp.zeros_like(first)

    def halve(_: Any, ends: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        low, high = ends
        middle = (low + high) // 2
        above = cumulative[first + middle] > uniform
        is_open = low < high
        return jnp.where(is_open & ~above, middle + 1, low), jnp.where(is_open & above, middle, high)

    low, _ = lax.fori_loop(0, most.bit_length(), halve, (jnp.zeros_like(first), count))
    return jnp.minimum(low, count - 1)


def _running(probabilities: jax.Array) -> jax.Array:
    """Cumulative along the last axis, 1 at the end, flat.

    Added up one after the other, so that what has no probability adds nothing and is never chosen.
    """
    if probabilities.shape[-1] == 1:
        return jnp.ones_like(probabilities).ravel()

    def add(total: jax.Array, part: jax.Array) -> tuple[jax.Array, jax.Array]:
        total = total + part
        return total, total

    parts = jnp.moveaxis(probabilities, -1, 0)
    total, running = lax.scan(add, jnp.zeros_like(parts[0]), parts)
    return jnp.moveaxis(running / jnp.where(total == 0, 1, total)[None], 0, -1).ravel()


def _starts(counts: np.ndarray, order: Sequence[int] | None = None) -> np.ndarray:
    """Where each begins when they lie one behind the other, in an order of their own."""
    order = range(len(counts)) if order is None else order
    starts = np.zeros_like(counts)
    starts[list(order)] = np.cumsum(counts[list(order)]) - counts[list(order)]
    return starts


def _rows(
    first: np.ndarray, count: np.ndarray, cumulative: Sequence[jax.Array], partner: np.ndarray
) -> Rows:
    rows = jnp.concatenate(cumulative)
    return Rows(_int32(first), _int32(count), rows, _int32(partner), int(count.max()))


def _int32(array: np.ndarray) -> np.ndarray:
    return array.astype(np.int32)
