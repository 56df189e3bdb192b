"""What was read of data sets, kept in the user's cache folder: reading it anew takes seconds to hours.

That is the decoded arrays of small sets, and the labels and moments of those that stay on disk. A copy
is known by the folder it was read from and that folder's files, their sizes and times of change: a set
that is prepared again, or damaged, is read anew. A copy that is itself damaged fails its checksum
(``pruning.files.sealed``, an eighth of the time in which CIFAR-10's is loaded) and is made again.
"""

import contextlib
import hashlib
from collections.abc import Collection
from pathlib import Path

import numpy as np
import platformdirs

from pruning.files.sealed import seal, unseal
from pruning.files.writing import write_atomically
from train.leftovers import remove_leftovers

MOST_BYTES = 2**30
"""Larger copies are not kept."""


def read(folder: Path, what: str, names: Collection[str]) -> dict[str, np.ndarray] | None:
    """What was read of a prepared set, if there is a copy of it as it is now.

    Args:
        what: A name for it; a part of a file's name.

    Returns:
        Name -> array, or None; that a copy cannot be used is said.
    """
    copy = _copy_of(folder, what)
    try:
        if not copy.exists():
            return None
        arrays, _, checked = unseal(copy, ())
        if not checked:
            raise ValueError("has no checksum: it is of an earlier version, or damaged")
        if set(arrays) != set(names):
            raise ValueError(f"lacks or adds {sorted(set(names) ^ set(arrays))[:4]}")
    except (OSError, ValueError) as error:
        print(f"the data set in {folder} is read again: its decoded copy {copy} {error}")
        return None
    return arrays


def keep(folder: Path, what: str, arrays: dict[str, np.ndarray]) -> None:
    """Stores what was read of a prepared set, in the place of an older copy.

    Nothing is stored where the set is larger than ``MOST_BYTES`` or the cache folder cannot be written.

    Args:
        what: A name for it; a part of a file's name.
    """
    if sum(array.nbytes for array in arrays.values()) > MOST_BYTES:
        return
    copy = _copy_of(folder, what)
    with contextlib.suppress(OSError, ValueError):
        for older in copy.parent.glob(f"{_hash(folder.resolve())}-{what}-*"):
            if older != copy:  # That one is replaced at the end, so that there always is one.
                older.unlink()
        remove_leftovers(copy.parent)
        write_atomically(copy, seal(arrays, {}))


def _copy_of(folder: Path, what: str) -> Path:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    state = [(path.name, stat.st_size, stat.st_mtime_ns) for path in files for stat in [path.stat()]]
    name = f"{_hash(folder.resolve())}-{what}-{_hash(state)}.safetensors"
    return platformdirs.user_cache_path("pruning-at-init") / "datasets" / name


def _hash(value: object) -> str:
    return hashlib.sha256(repr(value).encode()).hexdigest()[:16]
