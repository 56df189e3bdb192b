"""Files that are written whole or not at all.

The content goes into a hidden file beside the target, which then takes its place. The hidden file's name
says who writes it, so that what a killed writer has left can be told from what is being written.
"""

import errno
import os
import re
import socket
import stat
import tempfile
from pathlib import Path
from typing import NamedTuple

_NAME_KEPT = 40  # characters; with all of a long one the hidden file's name would be too long
_TRIES = 3
_TEMPORARY = re.compile(r"\..*\.(?P<host>[A-Za-z0-9-]+)\.(?P<process>\d+)\.[a-z0-9_]{8}", re.DOTALL)


class Writer(NamedTuple):
    """Who writes a file.

    Attributes:
        host: Its machine, as ``this_writer`` spells it.
        process: The number of its process there.
    """

    host: str
    process: int


def this_writer() -> Writer:
    """This process."""
    return Writer(re.sub(r"[^A-Za-z0-9-]", "-", socket.gethostname())[:_NAME_KEPT] or "-", os.getpid())


def writer_of(path: Path) -> Writer | None:
    """Who writes, or wrote, a hidden file.

    Args:
        path: Any file.

    Returns:
        The writer; None if the file is not one of ``write_atomically``.
    """
    match = _TEMPORARY.fullmatch(path.name)
    return match and Writer(match["host"], int(match["process"]))


def write_atomically(path: Path, content: bytes) -> None:
    """Writes a file whole or not at all: a reader, or a crash, never sees a part of it.

    Args:
        path: The file; its folder is made if need be. Where it is a link, what it leads to is replaced.
            The mode of a file that is replaced is kept.
        content: The bytes.

    Raises:
        ValueError: If there is something else than a file, such as a folder or a device.
        OSError: If it cannot be written; the error names it, and an old file stays as it was.
    """
    try:
        _require_file(path)
        target = Path(os.path.realpath(path))
        target.parent.mkdir(parents=True, exist_ok=True)
        for remaining in reversed(range(_TRIES)):
            try:
                return _write(target, content)
            except FileNotFoundError:
                # Somebody took the hidden file for what a killed writer had left.
                if not remaining:
                    raise
    except OSError as error:
        raise OSError(error.errno or errno.EIO, error.strerror or str(error), str(path)) from error


def _require_file(path: Path) -> None:
    try:
        mode = os.stat(path).st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISREG(mode):
        what = "a folder" if stat.S_ISDIR(mode) else "a device or a pipe"
        raise ValueError(f"expected a file to write at {path}, got {what}: choose another path")


def _write(target: Path, content: bytes) -> None:
    host, process = this_writer()
    prefix = f".{target.name[:_NAME_KEPT]}.{host}.{process}."
    handle, temporary = tempfile.mkstemp(dir=target.parent, prefix=prefix)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, _mode(target))
        os.replace(temporary, target)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def _mode(target: Path) -> int:
    """Who may read and write a file: as before where it is there, else as the process makes files."""
    try:
        return stat.S_IMODE(os.stat(target).st_mode)
    except FileNotFoundError:
        umask = os.umask(0)
        os.umask(umask)
        return 0o666 & ~umask
