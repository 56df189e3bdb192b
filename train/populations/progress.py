"""Progress of a population: epochs, members, member-epochs a second, time left."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

LINE_EVERY = 60.0
"""Seconds between the lines of a log, where there is no terminal to draw a bar on."""


class TrainingProgress:
    """Counts member-epochs; draws a bar on a terminal, and writes a line a minute anywhere else."""

    def __init__(self, progress: Progress, total: int) -> None:
        self._progress = progress
        self._task = progress.add_task("", total=total, detail="starting")
        self._total = total
        self._done = 0
        self._start = self._said = time.perf_counter()

    def skip(self, member_epochs: int) -> None:
        """Takes work off the total that earlier runs have done."""
        self._total -= member_epochs
        self._progress.update(self._task, total=self._total)

    def advance(self, what: str, members: int, epoch: int, epochs: int) -> None:
        """Notes that some members have finished an epoch."""
        self._done += members
        now = time.perf_counter()
        rate = self._done / (now - self._start)
        detail = f"{what}: {members} members, epoch {epoch}/{epochs}, {rate:.1f}/s"
        self._progress.update(self._task, advance=members, detail=detail)
        if self._progress.disable and now - self._said >= LINE_EVERY:
            self._said = now
            share, left = self._done / self._total, timedelta(seconds=round(self._left(rate)))
            print(f"{100 * share:.0f} %, {left} left; {detail}", file=sys.stderr, flush=True)

    def _left(self, rate: float) -> float:
        return (self._total - self._done) / rate


@contextmanager
def training_progress(total: int) -> Iterator[TrainingProgress]:
    """Shows the progress of a run while it lasts."""
    console = Console(file=sys.stderr)
    columns = (
        BarColumn(bar_width=8),
        TextColumn("{task.percentage:>3.0f} %"),
        TimeRemainingColumn(),
        TextColumn("left; {task.fields[detail]}"),
    )
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        yield TrainingProgress(progress, total)
