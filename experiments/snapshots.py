"""Networks in the middle of their training, on disk: from where a later part of a run begins."""

from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any

import jax
import numpy as np
from safetensors.numpy import load as load_arrays
from safetensors.numpy import save as save_arrays

from experiments.run_folder import RunFolder
from train.population import MemberState

PyTree = Any


class Snapshots:
    """The states of one dense network a seed, at some steps, in the run's folder."""

    def __init__(self, folder: RunFolder, template: MemberState) -> None:
        """Opens the snapshots of a run.

        Args:
            folder: The run's.
            template: A state of the same structure, or its shapes.
        """
        self._folder = folder
        self._names = [
            jax.tree_util.keystr(path) for path, _ in jax.tree_util.tree_leaves_with_path(template)
        ]
        self._structure = jax.tree.structure(template)
        self.load: Callable[[int, int], MemberState] = lru_cache(maxsize=8)(self._load)

    def has(self, seed: int, step: int) -> bool:
        """Whether a snapshot is there, whole.

        Args:
            seed: Of the network.
            step: Training steps taken.
        """
        return self._path(seed, step).exists()

    def save(self, seed: int, step: int, state: MemberState) -> None:
        """Stores a state.

        Args:
            seed: Of the network.
            step: Training steps taken.
            state: With arrays that can be read.
        """
        arrays = [np.asarray(leaf, order="C") for leaf in jax.tree.leaves(state)]
        content = save_arrays(dict(zip(self._names, arrays, strict=True)))
        path = self._path(seed, step)
        path.parent.mkdir(exist_ok=True)
        self._folder.write(str(path.relative_to(self._folder.path)), content)

    def _load(self, seed: int, step: int) -> MemberState:
        arrays = load_arrays(self._path(seed, step).read_bytes())
        return jax.tree.unflatten(self._structure, [arrays[name] for name in self._names])

    def _path(self, seed: int, step: int) -> Path:
        return self._folder.path / "snapshots" / f"seed-{seed}-step-{step}.safetensors"
