"""How many members fit into the memory of the devices: as many as asked for, or as the compiler says.

What a program holds as it is written, before the compiler fuses operations, is known from shapes. That is
more than it will hold, 1.3 to 4 times as much where it was measured. Where even that fits, nothing is
compiled; where it does not, programs of a few members say what one more takes. It is a line: for an H100
(jax 0.12.0.1, an epoch of ResNet-20 in batches of 128) the temporaries of 1, 2, 4 and 8 vmapped members
are 204, 526, 1051 and 2102 MB, proportional from two on, for one alone has no grouped convolution; of 1,
2 and 4 members in turn 206.5, 209.2 and 214.1 MB. Each took 20 to 28 s to compile on one core, so it is
not done where shapes suffice. On a TPU the number matters, since channels of several members share tiles:
of Conv-2 on a v5e, 2, 3, 4 and 6 vmapped members take 1766, 2093, 3497 and 4686 MB, and the line through
2 and 3 promised three times too many. Two and four are read.
"""

import bisect
import math
from typing import Any

import jax
import psutil
from jax.extend import core

from train.data.stored_images import is_stored
from train.lowering import lowering
from train.populations.devices import BATCH, MEMBERS
from train.populations.members import in_turn, map_members, on_shared_batches
from train.populations.population import Member, Population, stack_members

USABLE = 0.8
"""Of the memory that is free; the compiler needs some, and other arrays come and go."""
FEW = 2, 4
"""How many members a device has in the programs that are compiled to be read."""


def members_that_fit(
    population: Population, member: Member, *, most: int, free: int | None = None
) -> int:
    """How many members a population can train at once.

    Args:
        free: Bytes of each device, the data set not yet there; None for those at hand, and what is free.

    Returns:
        ``most``; or where the memory decides a multiple of the devices that members are divided over.
    """
    if is_stored(population.dataset.train.images):
        copies = 2  # While the devices train on a block the next one is read.
    elif free is None:
        population.place_data()
        copies = 0
    else:
        copies = 1
    available = USABLE * (free_bytes(population.mesh.devices.flat[0]) if free is None else free)
    devices = population.mesh.shape[MEMBERS]

    def room(each: int) -> float:
        return available - copies * population.data_bytes(each * devices)

    wanted = math.ceil(most / devices)
    if bytes_as_written(population, member, wanted) <= room(wanted):
        return most
    held = []
    for each in FEW:
        try:
            held.append(bytes_as_compiled(population, member, each))
        except jax.errors.JaxRuntimeError as error:
            if "RESOURCE_EXHAUSTED" not in str(error):
                raise
            return min(most, (1, *FEW)[len(held)] * devices)
    one_more = (held[1] - held[0]) / (FEW[1] - FEW[0])

    def too_many(each: int) -> bool:
        return held[0] + (each - FEW[0]) * one_more > room(each)

    fit = bisect.bisect_left(range(1, wanted + 1), True, key=too_many)
    return min(most, max(1, fit) * devices)


def free_bytes(device: Any) -> int:
    """Bytes that arrays may still take on a device.

    Returns:
        What its allocator has left; for a CPU, its share of what the machine can still give, files that
        it caches included.
    """
    stats = device.memory_stats()
    if stats and "bytes_limit" in stats:
        return stats["bytes_limit"] - stats["bytes_in_use"]
    return psutil.virtual_memory().available // jax.local_device_count(device.platform)


def bytes_as_compiled(population: Population, member: Member, each: int) -> int:
    """Bytes of a device, but for those of the data, in the compiled program of so many members on each.

    Raises:
        jax.errors.JaxRuntimeError: If the program does not compile, as on TPUs where it does not fit.
    """
    size = each * population.mesh.shape[MEMBERS]
    members = jax.eval_shape(lambda: stack_members([member] * size))
    found: Any = population.lower(members).compile().memory_analysis()
    results = found.output_size_in_bytes - found.alias_size_in_bytes
    held = found.argument_size_in_bytes + results + found.temp_size_in_bytes
    return held - population.data_bytes(size)


def bytes_as_written(population: Population, member: Member, each: int) -> int:
    """The same from shapes, before the compiler fuses operations.

    A member needs its state twice (what an epoch begins with, and what it leaves) and, while it is
    trained, what a step and the evaluation hold at once. Vmapped members all hold that at the same time;
    members in turn hold it one after another.
    """
    state, held = state_bytes(population, member), step_bytes(population, member)
    parts = population.mesh.shape[BATCH]
    # Gradients and updates, each of a state's size at most, are not divided with the batch.
    held = held // parts + (2 * state if parts > 1 else 0)
    execute = on_shared_batches(population.execute) if parts > 1 else population.execute
    one_by_one = execute is in_turn or (execute is map_members and lowering().in_turn)
    return each * 2 * state + (1 if one_by_one else each) * held


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
