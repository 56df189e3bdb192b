"""The output folder of a run: its identity, what is finished, and the results.

A run is known by the hash of its settings. Members are stored as they finish, each file whole or not
at all, so an interrupted run continues and repeats only what was in flight.
"""

import dataclasses
import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jax
import pyarrow as pa
import pyarrow.lib
import pyarrow.parquet as pq

from pruning.artifacts import write_atomically
from train.recipes import recipe_from

Row = dict[str, Any]


class RunFolder:
    """A folder with config.json, parts/ (finished members), and the results once all is done."""

    def __init__(self, path: Path, settings: dict[str, Any], *, fresh: bool) -> None:
        """Opens the folder of a run, or makes it.

        Args:
            path: The folder.
            settings: Everything that decides the results, as JSON can hold it.
            fresh: Whether to throw away what an earlier run of the same settings has left.

        Raises:
            ValueError: If the folder cannot be written, holds something that is not a run, or
                belongs to a run with other settings.
        """
        self.path = path
        self.settings = json.loads(json.dumps(settings))
        with _as_value_error(path):
            path.mkdir(parents=True, exist_ok=True)
            found = self._adopted()
            if fresh:
                # The summary first: without it, what a kill leaves is an unfinished run.
                (path / "summary.md").unlink(missing_ok=True)
                for own in ("parts", "snapshots", "tickets", "unfinished"):
                    if (path / own).exists():
                        shutil.rmtree(path / own)
                found = None
            # The config before anything else: a folder without one is taken for somebody else's.
            self.write("config.json", json.dumps(self._config(found), indent=2) + "\n")
            (path / "parts").mkdir(exist_ok=True)

    def done(self) -> set[str]:
        """The ids of the members that are finished."""
        return {row["member"] for row in self.rows()}

    def rows(self) -> list[Row]:
        """All rows of finished members, in the order of the files' names; a member counts once."""
        found: dict[tuple[str, int], Row] = {}
        for part in sorted((self.path / "parts").glob("*.parquet")):
            try:
                for row in pq.read_table(part).to_pylist():
                    found.setdefault((row["member"], row["epoch"]), row)
            except (pa.ArrowInvalid, OSError, KeyError) as error:
                raise ValueError(
                    f"{part} cannot be read ({error}): if it is damaged, delete it, and the same command "
                    "trains its networks again"
                ) from error
        return list(found.values())

    def save_part(self, rows: list[Row]) -> None:
        """Stores finished members.

        Args:
            rows: Their rows; each names its ``member``.
        """
        members = "\n".join(sorted({row["member"] for row in rows}))
        name = hashlib.sha256(members.encode()).hexdigest()[:16]
        self.write(f"parts/{name}.parquet", parquet(rows))

    def forget_unfinished(self) -> None:
        """Removes chunks that were begun once and have been finished in others."""
        shutil.rmtree(self.path / "unfinished", ignore_errors=True)

    def write(self, name: str, content: str | bytes) -> None:
        """Writes a file of the folder, whole or not at all.

        Args:
            name: Its path in the folder.
            content: Text or bytes.

        Raises:
            ValueError: If the folder cannot be written.
        """
        with _as_value_error(self.path):
            write_atomically(self.path / name, content.encode() if isinstance(content, str) else content)

    def _adopted(self) -> dict[str, Any] | None:
        """The config of the run that the folder holds, if it is this one; None for an empty folder."""
        path = self.path / "config.json"
        if not path.exists():
            # Hidden files are what a kill has left of a file being written.
            if any(not entry.name.startswith(".") for entry in self.path.iterdir()):
                raise ValueError(
                    f"the output folder {self.path} holds files, but no run (no config.json): "
                    "choose an empty one with --out-dir"
                )
            return None
        try:
            config = json.loads(path.read_text(encoding="utf-8"))
            there, here = _flat(_of_today(config["settings"])), _flat(self.settings)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ValueError(
                f"{path} is not a run's config ({error!r}): choose another folder with --out-dir"
            ) from error
        differences = "; ".join(
            f"{key}: there {there.get(key)!r}, here {here.get(key)!r}"
            for key in sorted(there.keys() | here.keys())
            if there.get(key) != here.get(key)
        )
        if differences:
            raise ValueError(
                f"the output folder {self.path} belongs to a run with other settings "
                f"({differences}): choose another with --out-dir, or leave it out"
            )
        return config

    def _config(self, found: dict[str, Any] | None) -> dict[str, Any]:
        """What is run, and by what: a run that others have begun keeps their entry."""
        packages = ("jax", "jaxlib", "flax", "optax", "numpy")
        by = {
            "git_commit": _git_commit(),
            "versions": {"python": sys.version.split()[0]} | {name: version(name) for name in packages},
            "devices": [device.device_kind for device in jax.devices()],
            "cpu_cores": os.cpu_count(),
        }
        before = [] if found is None else found.get("run_by", [])
        return {
            "settings": self.settings,
            "identity": identity(self.settings),
            "run_by": before if by in before or is_finished(self.path) else [*before, by],
        }


def tidy_rows(rows: Iterable[Row], head: Row, order: Sequence[str]) -> list[Row]:
    """The result table: a row per network and epoch, in a fixed order.

    Args:
        rows: All rows of a run.
        head: Columns that are the same in all of them.
        order: The columns by which they are sorted; None counts as 0.

    Returns:
        The rows.
    """
    return sorted(
        ({**head, **row} for row in rows), key=lambda row: tuple(row[name] or 0 for name in order)
    )


@contextmanager
def _as_value_error(path: Path) -> Iterator[None]:
    """Reports what the file system refuses as what it is to the user: a folder that will not do."""
    try:
        yield
    except OSError as error:
        raise ValueError(
            f"cannot write to the output folder {path}: {error}; choose another with --out-dir"
        ) from error


def is_finished(path: Path) -> bool:
    """Whether a folder holds a complete run: the summary is written last.

    Args:
        path: The folder.

    Returns:
        True if nothing is left to do.
    """
    return (path / "summary.md").exists()


def identity(settings: dict[str, Any]) -> str:
    """A short hash of a run's settings.

    Args:
        settings: Everything that decides the results, as JSON can hold it.

    Returns:
        Eight hexadecimal digits.
    """
    canonical = json.dumps(settings, sort_keys=True)
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


def _of_today(settings: dict[str, Any]) -> dict[str, Any]:
    """Stored settings; what recipes could not say then has the default that it has now."""
    if "recipe" not in settings:
        return settings
    recipe = dataclasses.asdict(recipe_from(settings["recipe"]))
    return settings | {"recipe": json.loads(json.dumps(recipe))}


def _flat(settings: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested settings as one dict: ``{"recipe": {"epochs": 3}}`` as ``{"recipe.epochs": 3}``."""
    flat: dict[str, Any] = {}
    for key, value in settings.items():
        inner = _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key: value}
        flat |= inner
    return flat


def _git_commit() -> str | None:
    """The commit of this checkout, "-dirty" if files differ from it, or None outside one."""
    try:
        result = subprocess.run(
            ["git", "describe", "--always", "--abbrev=40", "--dirty", "--exclude=*"],
            cwd=Path(__file__).parent,
            capture_output=True,
            text=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return result.stdout.strip()
