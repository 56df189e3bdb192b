"""How many members fit into the memory of the devices, from shapes alone: nothing is compiled for it.

A member needs its state twice (what an epoch begins with, and what it leaves) and, while it is trained,
what a step and the evaluation hold at once. The latter is the peak of live values in the program as it
is written, before the compiler fuses operations, so it is more than what is held. Vmapped members all
hold it at the same time; members in turn hold it one after another.
"""

import math
from typing import Any

import jax
import psutil
from jax.extend import core

from train.data.stored_images import is_stored
from train.lowering import lowering
from train.populations.devices import BATCH, MEMBERS
from train.populations.members import map_members, side_by_side
from train.populations.population import Member, Population, stack_members
from train.populations.streamed_data import BLOCK_BYTES

USABLE = 0.8
"""Of the memory that is free; the compiler needs some, and estimates are estimates."""


def members_that_fit(
    population: Population, member: Member, *, most: int, free: int | None = None
) -> int:
    """How many members a population can train at once.

    Args:
        free: Bytes on each device; None for what there is.
    """
    available = USABLE * (free_bytes(population.mesh.devices.flat[0]) if free is None else free)
    vmapped = population.execute is side_by_side or (
        population.execute is map_members and not lowering().in_turn
    )
    state, held = 2 * state_bytes(population, member), step_bytes(population, member)
    parts = population.mesh.shape[BATCH]
    # Gradients and updates, each of a state's size at most, are not divided with the batch.
    held = held // parts + (state if parts > 1 else 0)
    each = state + held if vmapped else state
    if is_stored(population.dataset.train.images):
        # Of the images that are read ahead there are two blocks, of at least a step of every order, and
        # on each device those of all.
        step = population.recipe.batch_size * math.prod(population.dataset.train.images.shape[1:])
        available -= 2 * BLOCK_BYTES
        each += 2 * step * population.mesh.shape[MEMBERS] // parts
    rest = available if vmapped else available - held
    return max(1, min(most, population.mesh.shape[MEMBERS] * int(rest // max(1, each))))


def free_bytes(device: Any) -> int:
    """Bytes that arrays may still take on a device.

    Returns:
        What its allocator has left; for a CPU, what the machine can still give, files that it caches
        included.
    """
    stats = device.memory_stats()
    if stats and "bytes_limit" in stats:
        return stats["bytes_limit"] - stats["bytes_in_use"]
    return psutil.virtual_memory().available


def state_bytes(population: Population, member: Member) -> int:
    """Bytes of a member's state."""
    states = jax.eval_shape(population.start, stack_members([member]))
    return sum(_bytes(leaf) for leaf in jax.tree.leaves(states))


def step_bytes(population: Population, member: Member) -> int:
    """Bytes that a training step or the evaluation of a member holds at most, besides its state."""
    return _peak(population.trace_member(member).jaxpr)


def _peak(jaxpr: Any) -> int:
    """The most bytes of values that a program has computed and still needs."""
    last_use: dict[Any, int] = {}
    for index, eqn in enumerate(jaxpr.eqns):
        last_use |= {var: index for var in eqn.invars if isinstance(var, core.Var)}
    last_use |= {var: len(jaxpr.eqns) for var in jaxpr.outvars if isinstance(var, core.Var)}
    computed, live, peak = set(), 0, 0
    for index, eqn in enumerate(jaxpr.eqns):
        inner = max((_peak(inner) for inner in core.jaxprs_in_params(eqn.params)), default=0)
        live += sum(_bytes(var.aval) for var in eqn.outvars)
        peak = max(peak, live + inner)
        computed |= set(eqn.outvars)
        dead = {var for var in eqn.invars if isinstance(var, core.Var) and last_use[var] == index}
        dead |= {var for var in eqn.outvars if var not in last_use}
        live -= sum(_bytes(var.aval) for var in dead & computed)
    return peak


def _bytes(array: Any) -> int:
    return array.size * array.dtype.itemsize
