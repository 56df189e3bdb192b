"""Progress of a population on a terminal: epochs, members, member-epochs a second, time left."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn


class TrainingProgress:
    """Counts member-epochs; shows them where the output is a terminal, else says nothing."""

    def __init__(self, progress: Progress, total: int) -> None:
        self._progress = progress
        self._task = progress.add_task("", total=total, detail="starting")
        self._done = 0
        self._start = time.perf_counter()

    def skip(self, member_epochs: int) -> None:
        """Takes work off the total that earlier runs have done."""
        total = self._progress.tasks[self._task].total or 0
        self._progress.update(self._task, total=total - member_epochs)

    def advance(self, what: str, members: int, epoch: int, epochs: int) -> None:
        """Notes that some members have finished an epoch."""
        self._done += members
        rate = self._done / (time.perf_counter() - self._start)
        detail = f"{what}: {members} members, epoch {epoch}/{epochs}, {rate:.1f}/s"
        self._progress.update(self._task, advance=members, detail=detail)


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
