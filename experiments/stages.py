"""Stages: sets of named members that one training program serves, stored as they finish."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import jax
import numpy as np

from experiments.run_folder import Row, RunFolder
from train.population import EpochResult, Member, MemberState, Population, stack_members
from train.progress import TrainingProgress

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
        epochs: How long.
        observe: Epoch -> what to read from the states after it; arrays of shape (N,).
    """

    name: str
    population: Population
    members: Sequence[NamedMember]
    epochs: int
    observe: Mapping[int, Observe] = field(default_factory=dict)


def run_stage(stage: Stage, folder: RunFolder, progress: TrainingProgress, *, chunk_size: int) -> None:
    """Trains the members of a stage that are not finished yet, and stores them.

    Args:
        stage: What to train.
        folder: Where finished members are kept.
        progress: What is told of finished epochs.
        chunk_size: Members that train together and are stored together.
    """
    done = folder.done()
    waiting = [member for member in stage.members if member.name not in done]
    progress.skip((len(stage.members) - len(waiting)) * stage.epochs)
    for begin in range(0, len(waiting), chunk_size):
        chunk = waiting[begin : begin + chunk_size]
        folder.save_part(_train_chunk(stage, chunk, chunk_size, progress))


def _train_chunk(
    stage: Stage, chunk: Sequence[NamedMember], size: int, progress: TrainingProgress
) -> list[Row]:
    """Trains one chunk, filled up to the common size, and returns a row per member and epoch."""
    filled = [*chunk, *[chunk[-1]] * (size - len(chunk))]
    members = stack_members([named.member for named in filled])
    rows: list[Row] = []
    start = time.perf_counter()
    for result in stage.population.train(members, epochs=stage.epochs, size=len(chunk)):
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
    return rows


def _columns(stage: Stage, result: EpochResult) -> dict[str, Any]:
    observed = stage.observe[result.epoch](result.states) if result.epoch in stage.observe else {}
    return jax.device_get({**result.metrics, **observed})
