"""Stages: networks that one training program trains alike, stored as they finish."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import jax
import numpy as np

from experiments.engine.processes import as_first_sees, share, wait_for_all
from experiments.engine.run_folder import RunFolder
from experiments.engine.unfinished import (
    KEEP_AFTER_SECONDS,
    Chunk,
    Progress,
    UnfinishedChunk,
    unfinished_chunks,
)
from experiments.methods.point import Point
from experiments.methods.programs import Observe
from train.lowering import lowering
from train.populations.capacity import members_that_fit
from train.populations.population import EpochResult, Member, MemberState, Population, stack_members
from train.populations.progress import TrainingProgress

MOST_IN_TURN = 32  # More are no faster, and a killed run repeats them.
MOST_VMAPPED = 256  # Not measured yet.


@dataclass(frozen=True, kw_only=True)
class Stage:
    """Points that train alike for the same number of epochs.

    Attributes:
        name: For the progress.
        population: The program that trains them.
        points: Who.
        member: What is trained, of a point.
        start: The state of a point at the first step.
        first_step: The step at which they begin.
        epochs: The epoch after which they end.
        observe: Epoch -> what to read from the states after it; arrays of shape (N,).
        stops: Steps after which ``at_stop`` sees a point's state.
    """

    name: str
    population: Population
    points: Sequence[Point]
    member: Callable[[Point], Member]
    start: Callable[[Point], MemberState]
    at_stop: Callable[[Point, int, MemberState], None]
    first_step: int
    epochs: int
    observe: Mapping[int, Sequence[Observe]] = field(default_factory=dict)
    stops: Sequence[int] = ()

    @property
    def ends(self) -> range:
        """The steps at which its epochs end, the one that it begins in the middle of included."""
        per_epoch = self.population.steps_per_epoch
        first = (self.first_step // per_epoch + 1) * per_epoch
        return range(first, self.epochs * per_epoch + 1, per_epoch)


def run_stage(
    stage: Stage, folder: RunFolder, progress: TrainingProgress, *, chunk_size: int | None
) -> None:
    """Trains the points of a stage, none of which is finished, and stores them.

    Of several processes each trains its share; all leave together. Chunks that a killed run has begun
    come first, as they were.

    Args:
        chunk_size: Networks that train together and are stored together; None for ``chunk_that_fits``.
    """
    pending = {point.name: point for point in stage.points}
    # One view decides, or a network that is another's here and mine there would be nobody's.
    begun = as_first_sees(_begun_chunks(folder, set(pending), chunk_size))
    begun = [Chunk(tuple(members), size) for members, size in begun]
    in_them = {name for chunk in begun for name in chunk.members}
    begun, rest = share(begun), share([name for name in pending if name not in in_them])
    mine = sum(len(chunk.members) for chunk in begun) + len(rest)
    progress.skip((len(pending) - mine) * len(stage.ends))
    wait_for_all()  # All have seen what is begun before one stores more.
    size = chunk_size or 1
    if rest and chunk_size is None:
        size = chunk_that_fits(stage.population, stage.member(pending[rest[0]]))
    new = [Chunk(tuple(rest[first : first + size]), size) for first in range(0, len(rest), size)]
    for chunk in [*begun, *new]:
        _train_chunk(stage, [pending[name] for name in chunk.members], chunk.size, folder, progress)
    wait_for_all()


def _begun_chunks(folder: RunFolder, pending: set[str], most: int | None) -> list[Chunk]:
    """Chunks that can go on: all in them are to be trained here, and no more at a time than asked."""
    chunks, left = [], set(pending)
    for chunk in unfinished_chunks(folder):
        if left.issuperset(chunk.members) and (most is None or chunk.size <= most):
            chunks.append(chunk)
            left -= set(chunk.members)
    return chunks


def chunk_that_fits(population: Population, member: Member) -> int:
    """How many networks train together: a round number, or fewer where the memory holds no more.

    It is said on the terminal where the memory decides.
    """
    most = MOST_IN_TURN if lowering().in_turn else MOST_VMAPPED
    size = members_that_fit(population, member, most=most)
    if size < most:
        print(f"{size} networks train together: as many as fit into the memory (--chunk-size changes it)")
    return size


def _train_chunk(
    stage: Stage, points: Sequence[Point], size: int, folder: RunFolder, progress: TrainingProgress
) -> None:
    """Trains one chunk, filled up to the common size, and stores a row per network and epoch."""
    members = _stack_filled([stage.member(point) for point in points], size)
    unfinished = UnfinishedChunk(folder, Chunk(tuple(point.name for point in points), size))
    template = jax.eval_shape(stage.population.start, members)
    begun = unfinished.load(template, [point._asdict() for point in points], stage.ends[:-1])
    begun = begun or Progress(
        _stack_filled([stage.start(point) for point in points], size), stage.first_step, []
    )
    rows = begun.rows
    progress.skip(len(rows))
    start = kept = time.perf_counter()
    results = stage.population.train(
        members,
        states=begun.states,
        first_step=begun.step,
        epochs=stage.epochs,
        stops=stage.stops,
        size=len(points),
    )
    for result in results:
        if result.step in stage.stops:
            states = jax.device_get(result.states)
            for index, point in enumerate(points):
                stage.at_stop(point, result.step, jax.tree.map(lambda leaf, i=index: leaf[i], states))
        if not result.complete:
            continue
        columns = _columns(stage, result)
        seconds = (time.perf_counter() - start) / len(points)
        for index, point in enumerate(points):
            values = {name: float(column[index]) for name, column in columns.items()}
            failed = not np.isfinite(values["train_loss"] + values["test_loss"])
            known = {"member": point.name, **point._asdict(), "epoch": result.epoch}
            rows.append(known | values | {"failed": failed, "seconds": seconds})
        progress.advance(stage.name, len(points), result.epoch, stage.epochs)
        start = time.perf_counter()
        if result.epoch < stage.epochs and start - kept >= KEEP_AFTER_SECONDS:
            unfinished.keep(jax.device_get(result.states), result.step, rows)
            kept = time.perf_counter()
    folder.save_part(rows)
    unfinished.remove()


def _stack_filled(trees: list[Any], size: int) -> Any:
    """Stacks trees, the last one repeated up to the common size."""
    return stack_members([*trees, *[trees[-1]] * (size - len(trees))])


def _columns(stage: Stage, result: EpochResult) -> dict[str, Any]:
    columns = dict(result.metrics)
    for observe in stage.observe.get(result.epoch, ()):
        columns |= observe(result.states)
    return jax.device_get(columns)
