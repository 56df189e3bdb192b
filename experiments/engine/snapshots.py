"""Networks in the middle of their training, on disk: from where a later part of a run begins.

A file says whose state it holds and has a checksum (``pruning.files.sealed``): one that has changed on
the disk, or lies under another network's name, is refused.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any

import jax
import numpy as np

from experiments.engine.run_folder import RunFolder
from pruning.files.sealed import read_metadata, seal, unseal
from train.populations.population import MemberState

PyTree = Any


class Snapshots:
    """States of networks of one kind, at some of their steps, in the run's folder."""

    def __init__(self, folder: RunFolder, template: MemberState) -> None:
        """Opens the snapshots of a run.

        Args:
            template: A state of the same structure, or its shapes; stacked or not.
        """
        self._folder = folder
        # Where states are stacked, steps have an axis.
        stacked = len(template.step.shape)
        self._template = jax.tree.map(
            lambda leaf: jax.ShapeDtypeStruct(leaf.shape[stacked:], leaf.dtype), template
        )
        self.load: Callable[[str, int], MemberState] = lru_cache(maxsize=8)(self._load)

    def has(self, name: str, step: int) -> bool:
        """Whether a snapshot is there, whole.

        Args:
            name: Of the network; a part of a file's name.
        """
        return self._path(name, step).exists()

    def save(self, name: str, step: int, state: MemberState) -> None:
        """Stores a state.

        Args:
            name: Of the network; a part of a file's name.
        """
        path = self._path(name, step)
        content = state_file(state, {"network": name, "step": str(step)})
        self._folder.write(str(path.relative_to(self._folder.path)), content)

    def _load(self, name: str, step: int) -> MemberState:
        try:
            return read_snapshot(self._folder.path, name, step, self._template)
        except ValueError:
            self._folder.check_not_started_over()
            raise

    def _path(self, name: str, step: int) -> Path:
        return snapshot_file(self._folder.path, name, step)


def snapshot_file(folder: Path, name: str, step: int) -> Path:
    """Where a run keeps a snapshot."""
    return folder / "snapshots" / f"{name}-step-{step}.safetensors"


def read_snapshot(folder: Path, name: str, step: int, template: MemberState) -> MemberState:
    """Reads a stored state.

    Args:
        template: A state of the same structure, shapes and dtypes, or its shapes.

    Raises:
        ValueError: If the file is gone, damaged, or of another network.
    """
    with _refused(folder, name, step, "run the same command again, which trains its network") as path:
        before, arrays = _read(path, name, step)
        state = _whole(arrays, template)
        if before and any(np.isnan(leaf).any() for leaf in jax.tree.leaves(state)):
            raise ValueError("holds NaN, and has no checksum that would say whether it always did")
        return state


def read_weights(folder: Path, name: str, step: int, template: MemberState) -> tuple[Any, Any]:
    """Reads params and running statistics of a stored state, also of one with gates beside the params.

    Raises:
        ValueError: If the file is gone, damaged, or of another network.
    """
    weights = (template.params, template.batch_stats)
    plain = [f".params{n}" for n in _names(weights[0])]
    stats = [f".batch_stats{n}" for n in _names(weights[1])]
    with _refused(folder, name, step, "run its search again with --fresh") as path:
        _, arrays = _read(path, name, step)
        gated = [f".params{n}" for n in plain]
        names = gated if set(gated) <= set(arrays) else plain
        found = _picked(arrays, weights, [*names, *stats])
        if any(np.isnan(leaf).any() for leaf in jax.tree.leaves(found)):
            raise ValueError("holds NaN")
        return found


def _read(path: Path, name: str, step: int) -> tuple[bool, dict[str, np.ndarray]]:
    """Whether a file is from before there were checksums, and its arrays."""
    expected = {"network": name, "step": str(step)}
    # Files from before there were checksums have no metadata at all.
    before = not read_metadata(path)
    arrays, found, _ = unseal(path, () if before else expected)
    if not before and found != expected:
        raise ValueError(f"is of the network {found['network']} at step {found['step']}")
    return before, arrays


@contextmanager
def _refused(folder: Path, name: str, step: int, again: str) -> Iterator[Path]:
    """Reports what is wrong with a snapshot, and what to do."""
    path = snapshot_file(folder, name, step)
    if not path.exists():
        raise ValueError(f"the snapshot {path} is gone: {again}")
    try:
        yield path
    except ValueError as error:
        raise ValueError(
            f"the snapshot {path} is damaged or of another network (it {error}): delete it, and {again}"
        ) from error


def state_file(state: MemberState, metadata: Mapping[str, str]) -> bytes:
    """A safetensors file of a state."""
    arrays = [np.asarray(leaf, order="C") for leaf in jax.tree.leaves(state)]
    return seal(dict(zip(_names(state), arrays, strict=True)), metadata)


def read_state(
    path: Path, template: MemberState, names: Iterable[str]
) -> tuple[MemberState, dict[str, str], bool]:
    """Reads a file of a state.

    Args:
        template: A state of the same structure, shapes and dtypes, or its shapes.

    Returns:
        The state, the metadata, and whether there was a checksum.

    Raises:
        ValueError: If the file cannot be read, is damaged or holds another state, in words that go on
            after its name.
    """
    arrays, metadata, checked = unseal(path, names)
    return _whole(arrays, template), metadata, checked


def _whole(arrays: Mapping[str, np.ndarray], template: Any) -> Any:
    """A tree of all the arrays; raises a ValueError that goes on after the file's name."""
    names = _names(template)
    if set(arrays) != set(names):
        raise ValueError(f"differs at {sorted(set(arrays) ^ set(names))[:4]}")
    return _picked(arrays, template, names)


def _picked(arrays: Mapping[str, np.ndarray], template: Any, names: Sequence[str]) -> Any:
    """A tree of the arrays of these names; raises a ValueError that goes on after the file's name."""
    leaves, structure = jax.tree.flatten(template)
    for name, leaf in zip(names, leaves, strict=True):
        found = arrays.get(name)
        if found is None:
            raise ValueError(f"lacks {name}")
        if (found.shape, found.dtype) != (leaf.shape, leaf.dtype):
            raise ValueError(
                f"holds {found.dtype}{list(found.shape)} at {name}, "
                f"expected {leaf.dtype}{list(leaf.shape)}"
            )
    return structure.unflatten([arrays[name] for name in names])


def _names(state: Any) -> list[str]:
    return [jax.tree_util.keystr(path) for path, _ in jax.tree_util.tree_leaves_with_path(state)]
