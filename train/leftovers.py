"""Hidden files that killed processes have left in the middle of writing: found, and removed."""

import contextlib
import time
from pathlib import Path

import psutil

from pruning.files.writing import this_writer, writer_of

LONGEST_WRITE = 24 * 3600
"""Seconds. Whether another machine's process lives is not known; its file is left alone for so long."""


def remove_leftovers(folder: Path) -> None:
    """Removes hidden files whose writer is gone; what cannot be removed stays.

    They are those of ``pruning.files.writing``.

    Args:
        folder: Where files are written; not the folders in it.
    """
    with contextlib.suppress(OSError):
        for path in folder.glob(".*"):
            if _is_left(path):
                path.unlink(missing_ok=True)


def _is_left(path: Path) -> bool:
    writer = writer_of(path)
    if writer is None:
        return False
    changed = path.stat().st_mtime
    if writer.host != this_writer().host:
        return time.time() - changed > LONGEST_WRITE
    try:
        process = psutil.Process(writer.process)
        # One that began after the file was written has only the writer's number.
        return process.status() == psutil.STATUS_ZOMBIE or process.create_time() > changed + 1
    except psutil.NoSuchProcess:
        return True
    except psutil.AccessDenied:
        return False
