"""Networks in the middle of their training, on disk: from where a later part of a run begins."""

from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any

import jax
import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load as load_arrays
from safetensors.numpy import save as save_arrays

from experiments.run_folder import RunFolder
from train.population import MemberState

PyTree = Any


class Snapshots:
    """States of networks of one kind, at some of their steps, in the run's folder."""

    def __init__(self, folder: RunFolder, template: MemberState) -> None:
        """Opens the snapshots of a run.

        Args:
            folder: The run's.
            template: A state of the same structure, or its shapes.
        """
        self._folder = folder
        self._template = template
        self.load: Callable[[str, int], MemberState] = lru_cache(maxsize=8)(self._load)

    def has(self, name: str, step: int) -> bool:
        """Whether a snapshot is there, whole.

        Args:
            name: Of the network; a part of a file's name.
            step: Training steps taken.
        """
        return self._path(name, step).exists()

    def save(self, name: str, step: int, state: MemberState) -> None:
        """Stores a state.

        Args:
            name: Of the network; a part of a file's name.
            step: Training steps taken.
            state: With arrays that can be read.
        """
        path = self._path(name, step)
        path.parent.mkdir(exist_ok=True)
        self._folder.write(str(path.relative_to(self._folder.path)), state_file(state))

    def _load(self, name: str, step: int) -> MemberState:
        return read_snapshot(self._path(name, step), self._template)

    def _path(self, name: str, step: int) -> Path:
        return snapshot_file(self._folder.path, name, step)


def snapshot_file(folder: Path, name: str, step: int) -> Path:
    """Where a run keeps a snapshot.

    Args:
        folder: Of the run.
        name: Of the network.
        step: Training steps taken.
    """
    return folder / "snapshots" / f"{name}-step-{step}.safetensors"


def state_file(state: MemberState, metadata: dict[str, str] | None = None) -> bytes:
    """A safetensors file of a state.

    Args:
        state: With arrays that can be read.
        metadata: Of the file.

    Returns:
        Its bytes.
    """
    arrays = [np.asarray(leaf, order="C") for leaf in jax.tree.leaves(state)]
    return save_arrays(dict(zip(_names(state), arrays, strict=True)), metadata)


def read_snapshot(path: Path, template: MemberState) -> MemberState:
    """Reads a stored state.

    Args:
        path: Its file.
        template: A state of the same structure, or its shapes.

    Returns:
        The state.

    Raises:
        ValueError: If the file is gone, damaged, or of another network.
    """
    if not path.exists():
        raise ValueError(f"the snapshot {path} is gone: run its search again with --fresh")
    try:
        arrays = load_arrays(path.read_bytes())
    except SafetensorError as error:
        raise ValueError(
            f"the snapshot {path} is damaged ({error}): run its search again with --fresh"
        ) from error
    names = _names(template)
    if set(names) != set(arrays):
        raise ValueError(f"the snapshot {path} is of another network")
    return jax.tree.unflatten(jax.tree.structure(template), [arrays[name] for name in names])


def _names(state: MemberState) -> list[str]:
    return [jax.tree_util.keystr(path) for path, _ in jax.tree_util.tree_leaves_with_path(state)]
