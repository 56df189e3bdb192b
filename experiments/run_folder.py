"""The output folder of a run: its identity, what is finished, and the results.

A run is known by the hash of its settings. Members are stored as they finish, each file whole or not
at all, so an interrupted run continues and repeats only what was in flight.
"""

import dataclasses
import hashlib
import json
import shutil
import subprocess
import sys
from collections.abc import Iterable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jax
import pyarrow as pa
import pyarrow.lib
import pyarrow.parquet as pq

from pruning.artifacts import write_atomically

Row = dict[str, Any]


class RunFolder:
    """A folder with config.json, parts/ (finished members), and the results once all is done."""

    def __init__(self, path: Path, experiment: str, settings: dict[str, Any], *, fresh: bool) -> None:
        """Opens the folder of a run, or makes it.

        Args:
            path: The folder.
            experiment: The experiment's name.
            settings: Everything that decides the results, as JSON can hold it.
            fresh: Whether to throw away what an earlier run of the same settings has left.

        Raises:
            ValueError: If the folder cannot be written, holds something that is not a run, or
                belongs to a run with other settings.
        """
        self.path = path
        self.settings = json.loads(json.dumps({"experiment": experiment, **settings}))
        try:
            path.mkdir(parents=True, exist_ok=True)
            self._adopt(fresh)
            if fresh or not (path / "config.json").exists():
                self.write("config.json", json.dumps(self._config(), indent=2) + "\n")
            (path / "parts").mkdir(exist_ok=True)
        except OSError as error:
            raise ValueError(
                f"cannot write to the output folder {path}: {error}; choose another with --out-dir"
            ) from error

    def done(self) -> set[str]:
        """The ids of the members that are finished."""
        return {row["member"] for row in self.rows()}

    def rows(self) -> list[Row]:
        """All rows of finished members, in the order of the files' names."""
        return [row for part in sorted(self._parts()) for row in pq.read_table(part).to_pylist()]

    def save_part(self, rows: list[Row]) -> None:
        """Stores finished members.

        Args:
            rows: Their rows; each names its ``member``.
        """
        members = "\n".join(sorted({row["member"] for row in rows}))
        name = hashlib.sha256(members.encode()).hexdigest()[:16]
        self.write(f"parts/{name}.parquet", parquet(rows))

    def finished(self) -> bool:
        """Whether the run is complete: the summary is written last."""
        return (self.path / "summary.md").exists()

    def write(self, name: str, content: str | bytes) -> None:
        """Writes a file of the folder, whole or not at all.

        Args:
            name: Its path in the folder.
            content: Text or bytes.
        """
        write_atomically(self.path / name, content.encode() if isinstance(content, str) else content)

    def _parts(self) -> Iterable[Path]:
        return (self.path / "parts").glob("*.parquet")

    def _adopt(self, fresh: bool) -> None:
        """Checks that what the folder holds is this run's; clears it if it is to start over."""
        config = self.path / "config.json"
        if not config.exists():
            # Hidden files are what a kill has left of a file being written.
            if any(not entry.name.startswith(".") for entry in self.path.iterdir()):
                raise ValueError(
                    f"the output folder {self.path} holds files, but no run (no config.json): "
                    "choose an empty one with --out-dir"
                )
            return
        try:
            found = json.loads(config.read_text())["settings"]
        except (json.JSONDecodeError, KeyError, UnicodeDecodeError) as error:
            raise ValueError(
                f"{config} is not a run's config ({error!r}): choose another folder with --out-dir"
            ) from error
        if found != self.settings:
            there, here = _flat(found), _flat(self.settings)
            differences = "; ".join(
                f"{key}: there {there.get(key)!r}, here {here.get(key)!r}"
                for key in sorted(there.keys() | here.keys())
                if there.get(key) != here.get(key)
            )
            raise ValueError(
                f"the output folder {self.path} belongs to a run with other settings "
                f"({differences}): choose another with --out-dir, or leave it out"
            )
        if fresh:
            shutil.rmtree(self.path / "parts", ignore_errors=True)
            (self.path / "summary.md").unlink(missing_ok=True)

    def _config(self) -> dict[str, Any]:
        packages = ("jax", "jaxlib", "flax", "optax", "numpy")
        return {
            "settings": self.settings,
            "identity": identity(self.settings),
            "versions": {"python": sys.version.split()[0]} | {name: version(name) for name in packages},
            "devices": [device.device_kind for device in jax.devices()],
            "git_commit": _git_commit(),
        }


def identity(settings: dict[str, Any]) -> str:
    """A short hash of a run's settings.

    Args:
        settings: Everything that decides the results, as JSON can hold it.

    Returns:
        Eight hexadecimal digits.
    """
    canonical = json.dumps(settings, sort_keys=True, default=_plain)
    return hashlib.sha256(canonical.encode()).hexdigest()[:8]


def parquet(rows: list[Row]) -> bytes:
    """A parquet file of rows; a column that some rows lack is null there.

    Args:
        rows: At least one.

    Returns:
        The file's bytes.
    """
    names = list(dict.fromkeys(name for row in rows for name in row))
    table = pa.table({name: [row.get(name) for row in rows] for name in names})
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, compression="zstd")
    return sink.getvalue().to_pybytes()


def _flat(settings: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested settings as one dict: ``{"recipe": {"epochs": 3}}`` as ``{"recipe.epochs": 3}``."""
    flat: dict[str, Any] = {}
    for key, value in settings.items():
        inner = _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key: value}
        flat |= inner
    return flat


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return dataclasses.asdict(value)
    raise TypeError(f"{type(value).__name__} cannot be part of a run's settings")


def _git_commit() -> str | None:
    """The commit of this checkout, or None outside one."""
    try:
        result = subprocess.run(
            ["git", "rev-parse", "HEAD"],
            cwd=Path(__file__).parent,
            capture_output=True,
            text=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return result.stdout.strip()
