"""Stages: sets of named members that one training program serves, stored as they finish."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import jax
import numpy as np

from experiments.processes import as_first_sees, share, wait_for_all
from experiments.run_folder import Row, RunFolder
from experiments.unfinished import (
    KEEP_AFTER_SECONDS,
    Chunk,
    Progress,
    UnfinishedChunk,
    unfinished_chunks,
)
from train.lowering import lowering
from train.populations.capacity import members_that_fit
from train.populations.population import EpochResult, Member, MemberState, Population, stack_members
from train.populations.progress import TrainingProgress

MOST_IN_TURN = 32  # More are no faster, and a killed run repeats them.
MOST_VMAPPED = 256  # Not measured yet.

Observe = Callable[[MemberState], dict[str, jax.Array]]


@dataclass(frozen=True, kw_only=True)
class NamedMember:
    """A member of a stage and what its rows say of it.

    Attributes:
        columns: method, variant, sparsity_target, seed, ...; together they are its name.
        member: What is trained.
    """

    columns: Row
    member: Member

    @property
    def name(self) -> str:
        """The member's id in the run's folder."""
        return "/".join(str(value) for value in self.columns.values() if value is not None)


@dataclass(frozen=True, kw_only=True)
class Stage:
    """Members that train alike for the same number of epochs.

    Attributes:
        name: For the progress.
        population: The program that trains them.
        members: Who.
        epochs: The epoch after which they end.
        observe: Epoch -> what to read from the states after it; arrays of shape (N,).
        first_step: The step at which they begin.
        start: A member's state at that step; None for its initialization.
        stops: Steps after which ``at_stop`` sees the members.
        at_stop: Called with a member, the step, and the member's state.
    """

    name: str
    population: Population
    members: Sequence[NamedMember]
    epochs: int
    observe: Mapping[int, Observe] = field(default_factory=dict)
    first_step: int = 0
    start: Callable[[NamedMember], MemberState] | None = None
    stops: Sequence[int] = ()
    at_stop: Callable[[NamedMember, int, MemberState], None] | None = None

    @property
    def member_epochs(self) -> int:
        """Epochs, begun ones included, of all members."""
        return len(self.members) * self.epochs_each

    @property
    def epochs_each(self) -> int:
        """Epochs, begun ones included, of one member."""
        return len(self.ends)

    @property
    def ends(self) -> range:
        """The steps at which its epochs end, the one that it begins in the middle of included."""
        per_epoch = self.population.steps_per_epoch
        first = (self.first_step // per_epoch + 1) * per_epoch
        return range(first, self.epochs * per_epoch + 1, per_epoch)

    def finished(self, folder: RunFolder) -> set[str]:
        """The names of members of which the folder has every epoch, or why they were not trained.

        Args:
            folder: Of the run.
        """
        per_epoch = self.population.steps_per_epoch
        return folder.done([end // per_epoch for end in self.ends])


def run_stage(
    stage: Stage, folder: RunFolder, progress: TrainingProgress, *, chunk_size: int | None
) -> None:
    """Trains the members of a stage that are not finished yet, and stores them.

    Of several processes each trains its share; all leave together. Chunks that a killed run has begun
    come first, as they were.

    Args:
        stage: What to train.
        folder: Where finished members are kept.
        progress: What is told of finished epochs.
        chunk_size: Members that train together and are stored together; None for ``chunk_that_fits``.
    """
    done = stage.finished(folder)
    names = [named.name for named in stage.members if named.name not in done]
    # One view decides, or a network that is another's here and mine there would be nobody's.
    names, begun = as_first_sees([names, _begun_chunks(folder, set(names), chunk_size)])
    begun = [Chunk(tuple(members), size) for members, size in begun]
    in_them = {name for chunk in begun for name in chunk.members}
    begun, rest = share(begun), share([name for name in names if name not in in_them])
    pending = {named.name: named for named in stage.members}
    mine = sum(len(chunk.members) for chunk in begun) + len(rest)
    progress.skip((len(stage.members) - mine) * stage.epochs_each)
    wait_for_all()  # All have seen what is finished before one stores more.
    size = chunk_size or (chunk_that_fits(stage.population, pending[rest[0]].member) if rest else 1)
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
    """How many members train together: a round number, or fewer where the memory holds no more.

    Args:
        population: Which.
        member: One like the others.

    Returns:
        At least 1; said on the terminal where it is the memory that decides.
    """
    most = MOST_IN_TURN if lowering().in_turn else MOST_VMAPPED
    size = members_that_fit(population, member, most=most)
    if size < most:
        print(f"{size} networks train together: as many as fit into the memory (--chunk-size changes it)")
    return size


def _train_chunk(
    stage: Stage, chunk: Sequence[NamedMember], size: int, folder: RunFolder, progress: TrainingProgress
) -> None:
    """Trains one chunk, filled up to the common size, and stores a row per member and epoch."""
    members = _stack_filled([named.member for named in chunk], size)
    unfinished = UnfinishedChunk(folder, Chunk(tuple(named.name for named in chunk), size))
    template = jax.eval_shape(stage.population.start, members)
    begun = unfinished.load(template, [named.columns for named in chunk], stage.ends[:-1]) or Progress(
        None if stage.start is None else _stack_filled([stage.start(n) for n in chunk], size),
        stage.first_step,
        [],
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
        size=len(chunk),
    )
    for result in results:
        if stage.at_stop is not None and result.step in stage.stops:
            states = jax.device_get(result.states)
            for index, named in enumerate(chunk):
                stage.at_stop(named, result.step, jax.tree.map(lambda leaf, i=index: leaf[i], states))
        if not result.complete:
            continue
        columns = _columns(stage, result)
        seconds = (time.perf_counter() - start) / len(chunk)
        for index, named in enumerate(chunk):
            values = {name: float(column[index]) for name, column in columns.items()}
            rows.append(
                {
                    "member": named.name,
                    **named.columns,
                    "epoch": result.epoch,
                    **values,
                    "failed": not np.isfinite(values["train_loss"] + values["test_loss"]),
                    "seconds": seconds,
                }
            )
        progress.advance(stage.name, len(chunk), result.epoch, stage.epochs)
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
    observed = stage.observe[result.epoch](result.states) if result.epoch in stage.observe else {}
    return jax.device_get({**result.metrics, **observed})
