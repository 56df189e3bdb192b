"""A chunk of networks in the middle of its training, on disk: a killed run goes on from there."""

import hashlib
import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from experiments.engine.run_folder import Row, RunFolder
from experiments.engine.snapshots import read_state, state_file
from pruning.files.sealed import unseal
from train.populations.population import MemberState

KEEP_AFTER_SECONDS = 600
"""Of training since a chunk was last kept; shorter chunks are trained anew after a kill."""


MEASURED = {"train_loss", "test_loss", "test_accuracy", "sparsity", "failed", "seconds"}
"""What each row has besides its network and epoch, and what a stage observes."""


class Progress(NamedTuple):
    """How far a chunk has come.

    Attributes:
        states: The states of all its networks, stacked.
        step: Training steps taken.
        rows: Those of the epochs that are finished.
    """

    states: MemberState
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

    Returns:
        Each, the largest first; what cannot be read is removed, and said.
    """
    found = []
    for path in sorted((folder.path / "unfinished").glob("*.safetensors")):
        try:
            arrays, metadata, checked = unseal(path, ("progress",))
            kept = _progress(metadata, checked)
            if any(array.shape[:1] != (kept["size"],) for array in arrays.values()):
                raise ValueError("holds another number of networks than it says")
            found.append(Chunk(tuple(kept["members"]), kept["size"]))
        except ValueError as error:
            _begins_anew(path, error)
    return sorted(found, key=lambda chunk: -len(chunk.members))


class UnfinishedChunk:
    """Where a chunk is kept; known by who is in it."""

    def __init__(self, folder: RunFolder, chunk: Chunk) -> None:
        """Finds the place; reads nothing."""
        known_by = hashlib.sha256("\n".join([*chunk.members, str(chunk.size)]).encode()).hexdigest()[:16]
        self._folder, self._chunk, self._name = folder, chunk, f"unfinished/{known_by}.safetensors"
        self._path = folder.path / self._name

    def load(self, template: MemberState, columns: Sequence[Row], ends: range) -> Progress | None:
        """What was kept, if anything was.

        Args:
            template: Stacked states of the same structure, or their shapes.
            columns: Of each member, what its rows say of it besides numbers.
            ends: The steps at which the epochs of the training end, but for the last.

        Returns:
            The progress, or None; what cannot be used is removed, and said.
        """
        if not self._path.exists():
            return None
        try:
            states, metadata, checked = read_state(self._path, template, ("progress",))
            kept = _progress(metadata, checked)
            if Chunk(tuple(kept["members"]), kept["size"]) != self._chunk:
                raise ValueError("is of other networks")
            if kept["step"] not in ends:
                raise ValueError(f"was kept at step {kept['step']}, which is not the end of an epoch")
            epochs = [end // ends.step for end in ends if end <= kept["step"]]
            expected = [
                {"member": member, **known, "epoch": epoch}
                for epoch in epochs
                for member, known in zip(self._chunk.members, columns, strict=True)
            ]
            if not _are_rows_of(kept["rows"], json.loads(json.dumps(expected))):
                raise ValueError("has rows that are not those of its networks and epochs")
            return Progress(states, kept["step"], kept["rows"])
        except ValueError as error:
            _begins_anew(self._path, error)
            return None

    def keep(self, states: MemberState, step: int, rows: list[Row]) -> None:
        """Stores how far the chunk has come, in the place of an earlier time."""
        text = json.dumps({**self._chunk._asdict(), "step": step, "rows": rows})
        self._folder.write(self._name, state_file(states, {"progress": text}))

    def remove(self) -> None:
        """Forgets the chunk: it is finished."""
        self._path.unlink(missing_ok=True)


def _begins_anew(path: Path, error: ValueError) -> None:
    print(f"a chunk of networks begins anew: {path} {error}")
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def _progress(metadata: dict[str, str], checked: bool) -> dict[str, Any]:
    """Who is in a chunk and how far it is; raises a ValueError that goes on after the file's name."""
    if not checked:
        raise ValueError("has no checksum: it is of an earlier version, or damaged")
    try:
        kept = json.loads(metadata["progress"])
    except (ValueError, RecursionError) as error:
        raise ValueError(f"is damaged ({error})") from error
    if not isinstance(kept, dict) or set(kept) != {"members", "size", "step", "rows"}:
        raise ValueError("says nothing of its networks")
    members = kept["members"]
    if not isinstance(members, list) or not members or not all(isinstance(m, str) for m in members):
        raise ValueError("names no networks")
    if any(type(kept[name]) is not int for name in ("size", "step")):
        raise ValueError("says no number of networks or of steps")
    return kept


def _are_rows_of(rows: Any, expected: list[Row]) -> bool:
    """Whether rows begin as expected, and hold numbers besides."""
    if not isinstance(rows, list) or len(rows) != len(expected):
        return False
    for row, known in zip(rows, expected, strict=True):
        if not isinstance(row, dict) or {name: row.get(name) for name in known} != known:
            return False
        measured = {name: value for name, value in row.items() if name not in known}
        if not measured.keys() >= MEASURED:
            return False
        if not all(isinstance(value, int | float) for value in measured.values()):
            return False
    return True
