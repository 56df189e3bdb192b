"""safetensors files that carry a checksum: what has changed on the disk since is refused.

The checksum is the CRC-32 of the other metadata, of every tensor's name, dtype and shape, and of the
tensors' bytes. It finds every change of up to 32 neighbouring bits, and of others all but one in 2^32;
hashes that also withstand forgers take two to four times as long, and nobody forges a mask.
"""

import json
import os
import stat
import zlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

CHECKSUM = "crc32"
"""Its key in the metadata; eight hexadecimal digits."""


class Sealed(NamedTuple):
    """What a file holds.

    Attributes:
        tensors: By name.
        metadata: Without the checksum.
        checked: Whether there was one; files from before have none.
    """

    tensors: dict[str, np.ndarray]
    metadata: dict[str, str]
    checked: bool


def seal(tensors: Mapping[str, np.ndarray], metadata: Mapping[str, str]) -> bytes:
    """A safetensors file of tensors with a checksum.

    Args:
        tensors: By name, in C order.
        metadata: Of the file.

    Returns:
        Its bytes.
    """
    found = _checksum(tensors, metadata)
    return save(dict(tensors), {**metadata, CHECKSUM: found})


def read_metadata(path: str | os.PathLike) -> dict[str, str]:
    """The metadata of a file; no tensor is read, and nothing compared.

    Args:
        path: The file.

    Returns:
        It, the checksum included.

    Raises:
        ValueError: If it is no safetensors file, in words that go on after its name.
    """
    with _opened(path) as file:
        return file.metadata() or {}


def unseal(path: str | os.PathLike, names: Iterable[str]) -> Sealed:
    """Reads a file, and compares its checksum if it has one.

    Args:
        path: The file.
        names: The metadata's keys but the checksum's. Others are refused: one of them may be what is
            left of the checksum's.

    Returns:
        What it holds.

    Raises:
        ValueError: If the file cannot be read or is damaged, in words that go on after its name.
    """
    with _opened(path) as file:
        metadata = file.metadata() or {}
        expected = metadata.pop(CHECKSUM, None)
        if set(metadata) != set(names):
            raise ValueError(
                f"is damaged: expected the metadata {sorted(names)}, got {sorted(metadata)[:8]}"
            )
        try:
            # It is no dict: its keys are a method's.
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        except (AttributeError, KeyError, TypeError) as error:
            raise ValueError(f"holds tensors that NumPy has no dtype for ({error})") from error
    if expected is not None and expected != (found := _checksum(tensors, metadata)):
        raise ValueError(f"is damaged: its checksum is {found}, where it says {expected!r}")
    return Sealed(tensors, metadata, expected is not None)


@contextmanager
def _opened(path: str | os.PathLike) -> Iterator[Any]:
    if os.path.isdir(path):
        raise ValueError("is a folder, where a file is expected")
    try:
        with safe_open(path, framework="numpy") as file:
            yield file
    except (SafetensorError, OSError) as error:
        raise ValueError(
            f"is not a readable safetensors file (truncated, or not one): {error}"
        ) from error


def _checksum(tensors: Mapping[str, np.ndarray], metadata: Mapping[str, str]) -> str:
    forms = [[name, str(tensor.dtype), list(tensor.shape)] for name, tensor in sorted(tensors.items())]
    checksum = zlib.crc32(json.dumps([sorted(metadata.items()), forms]).encode())
    for _, tensor in sorted(tensors.items()):
        content: Any = np.ascontiguousarray(tensor).reshape(-1).view(np.uint8)  # a buffer, to zlib
        checksum = zlib.crc32(content, checksum)
    return f"{checksum:08x}"


def require_file(path: str | os.PathLike) -> None:
    """Checks that there is a file.

    Args:
        path: Of the file.

    Raises:
        ValueError: If there is none, or it may not be read.
    """
    try:
        found = stat.S_ISREG(os.stat(path).st_mode)
    except PermissionError as error:
        raise ValueError(f"cannot read {path}: {error.strerror}") from error
    except (OSError, ValueError):  # A name that is too long, or no name.
        found = False
    if not found:
        raise ValueError(f"there is no file at {path}")
