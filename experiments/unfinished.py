"""A chunk of networks in the middle of its training, on disk: a killed run goes on from there."""

import hashlib
import json
from pathlib import Path
from typing import Any, NamedTuple

import jax
from safetensors import SafetensorError, safe_open

from experiments.run_folder import Row, RunFolder
from experiments.snapshots import read_snapshot, state_file
from train.population import MemberState

KEEP_AFTER_SECONDS = 600
"""Of training since a chunk was last kept; shorter chunks are trained anew after a kill."""

_UNUSABLE = (OSError, ValueError, KeyError, TypeError, SafetensorError)


class Progress(NamedTuple):
    """How far a chunk has come.

    Attributes:
        states: Its stacked states; None for those of its beginning.
        step: Training steps taken.
        rows: Of the epochs behind it.
    """

    states: MemberState | None
    step: int
    rows: list[Row]


class Chunk(NamedTuple):
    """Who trains together.

    Attributes:
        members: Their names, in order.
        size: Members of the shape that they fill up.
    """

    members: tuple[str, ...]
    size: int


def unfinished_chunks(folder: RunFolder) -> list[Chunk]:
    """The chunks that a run was killed in, whatever size its chunks have now.

    Args:
        folder: Of the run.

    Returns:
        Each, the largest first; what cannot be read is left out.
    """
    found = []
    for path in sorted((folder.path / "unfinished").glob("*.safetensors")):
        try:
            kept = _read_progress(path)
            found.append(Chunk(tuple(kept["members"]), kept["size"]))
        except _UNUSABLE as error:
            print(f"a chunk of networks begins anew: {error}")
    return sorted(found, key=lambda chunk: -len(chunk.members))


class UnfinishedChunk:
    """Where a chunk is kept; known by who is in it."""

    def __init__(self, folder: RunFolder, chunk: Chunk) -> None:
        """Finds the place; reads nothing.

        Args:
            folder: Of the run.
            chunk: Who is in it.
        """
        known_by = hashlib.sha256("\n".join([*chunk.members, str(chunk.size)]).encode()).hexdigest()[:16]
        self._folder, self._chunk, self._name = folder, chunk, f"unfinished/{known_by}.safetensors"
        self._path = folder.path / self._name

    def load(self, template: MemberState) -> Progress | None:
        """What was kept, if anything was.

        Args:
            template: Stacked states of the same structure, or their shapes.

        Returns:
            The progress, or None; what cannot be used is removed, and said.
        """
        if not self._path.exists():
            return None
        try:
            states = read_snapshot(self._path, template)
            kept = _read_progress(self._path)
            if jax.tree.map(_form, states) != jax.tree.map(_form, template):
                raise ValueError(f"{self._path} is of networks of other shapes")
            return Progress(states, kept["step"], kept["rows"])
        except _UNUSABLE as error:
            print(f"a chunk of networks begins anew: {error}")
            self.remove()
            return None

    def keep(self, states: MemberState, step: int, rows: list[Row]) -> None:
        """Stores how far the chunk has come, in the place of an earlier time.

        Args:
            states: Stacked, with arrays that can be read.
            step: Training steps taken.
            rows: Of the epochs behind it.
        """
        text = json.dumps({**self._chunk._asdict(), "step": step, "rows": rows})
        self._path.parent.mkdir(exist_ok=True)
        self._folder.write(self._name, state_file(states, {"progress": text}))

    def remove(self) -> None:
        """Forgets the chunk: it is finished."""
        self._path.unlink(missing_ok=True)


def _read_progress(path: Path) -> dict[str, Any]:
    with safe_open(path, framework="numpy") as file:
        return json.loads(file.metadata()["progress"])


def _form(leaf: Any) -> tuple[tuple[int, ...], str]:
    return leaf.shape, str(leaf.dtype)
