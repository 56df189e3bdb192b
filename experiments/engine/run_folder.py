"""The output folder of a run: what is finished, and the results.

Members are stored as they finish, each file whole or not
at all, so an interrupted run continues and repeats only what was in flight.
"""

import hashlib
import json
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from experiments.engine.identity import different_settings, what_runs
from experiments.methods.spelling import VERSION, row_of_today
from experiments.report.config import read_config
from experiments.report.stored_rows import Row, parquet, read_rows
from pruning.files.writing import write_atomically
from train.leftovers import remove_leftovers

__all__ = ["Row", "RunFolder", "is_finished", "parquet"]

FOLDERS = ("parts", "snapshots", "tickets", "unfinished")
FILES = ("config.json", "results.parquet", "summary.md")


class RunFolder:
    """A folder with config.json, parts/ (finished members), and the results once all is done."""

    def __init__(
        self, path: Path, settings: dict[str, Any], unnamed: dict[str, Any], *, fresh: bool
    ) -> None:
        """Opens the folder of a run, or makes it.

        Args:
            settings: Everything that decides the results, as JSON can hold it.
            unnamed: What an older run had of settings that it does not name; by default as here.
            fresh: Whether to throw away what an earlier run of the same settings has left.

        Raises:
            ValueError: If the folder cannot be written, holds something that is not a run, or
                belongs to a run with other settings.
        """
        self.path = path
        self.settings = json.loads(json.dumps(settings))
        self._unnamed = json.loads(json.dumps(unnamed))
        with writing_to(path):
            path.mkdir(parents=True, exist_ok=True)
            found = self._adopted(fresh=fresh)
            self._check_kinds()
        if fresh:
            with writing_to(path):
                # The summary first: without it, what a kill leaves is an unfinished run.
                (path / "summary.md").unlink(missing_ok=True)
                (path / "results.parquet").unlink(missing_ok=True)
        config = self._config(None if fresh else found)
        self._started_over = secrets.token_hex(8) if fresh and found else self._started_over_there()
        if not is_finished(path):
            if (path / "summary.md").exists():
                print(
                    f"the summary or the results in {path} are damaged or missing: they are written again"
                )
            with writing_to(path):
                # The config before anything else: a folder without one is taken for somebody else's, and
                # a copy of this run that goes on beside a fresh start must notice.
                started_over = {"started_over": self._started_over} if self._started_over else {}
                text = json.dumps(config | started_over, indent=2) + "\n"
                write_atomically(path / "config.json", text.encode())
                for own in FOLDERS if fresh else ():
                    _remove_folder(path / own)
                (path / "parts").mkdir(exist_ok=True)
        # A finished run may lie where nothing can be written.
        for folder in (path, *(path / own for own in FOLDERS)):
            remove_leftovers(folder)

    def rows(self) -> list[Row]:
        """All rows of finished members, in the order of the files' names; a member counts once."""
        found: dict[tuple[str, int], Row] = {}
        for part in sorted((self.path / "parts").glob("*.parquet")):
            try:
                for row in read_rows(part):
                    member, epoch = row.get("member"), row.get("epoch")
                    if not isinstance(member, str) or type(epoch) is not int:
                        raise ValueError(
                            f"cannot be read (it has a row of member {member!r}, epoch {epoch!r})"
                        )
                    row = row_of_today(row, self.settings["experiment"])
                    found.setdefault((row["member"], epoch), row)
            except ValueError as error:
                self.check_not_started_over()
                raise ValueError(
                    f"{part} {error}: if it is damaged, delete it, and the same command trains its "
                    "networks again"
                ) from error
        self.check_not_started_over()
        return list(found.values())

    def check_not_started_over(self) -> None:
        """Raises a ValueError if another command has begun this run anew, or removed it."""
        if not (self.path / "config.json").exists():
            raise ValueError(
                f"the output folder {self.path} was removed while this command was running: the same "
                "command starts over"
            )
        if self._started_over_there() != self._started_over:
            raise ValueError(
                f"another command has started the run in {self.path} over with --fresh: wait for it, or "
                "give the same command again without --fresh, and it goes on from what is there then"
            )

    def _started_over_there(self) -> str | None:
        """What the last fresh start has noted in the config; None if there was none."""
        try:
            return json.loads((self.path / "config.json").read_text(encoding="utf-8")).get("started_over")
        except (OSError, ValueError, AttributeError):
            return None

    def announce(self, done: int, total: int, what: str) -> None:
        """Says what a run has before it, and that it goes on where some of it is done."""
        if done:
            print(f"goes on: {done} of {total} {what} are stored in {self.path}", flush=True)
        else:
            print(f"{total} {what}, stored in {self.path} as they finish", flush=True)

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

        Raises:
            ValueError: If the folder cannot be written.
        """
        self.check_not_started_over()
        self._check_file(name)
        try:
            with writing_to(self.path):
                write_atomically(
                    self.path / name, content.encode() if isinstance(content, str) else content
                )
        except ValueError:
            self.check_not_started_over()  # A fresh start removes folders while this one writes in them.
            raise

    def _check_kinds(self) -> None:
        """Raises a ValueError if a file is in the place of one of the run's folders, or the reverse."""
        for name in FOLDERS:
            if os.path.lexists(self.path / name) and not (self.path / name).is_dir():
                raise ValueError(
                    f"{self.path / name} is a file and should be a folder: delete it, and the same "
                    "command goes on"
                )
        for name in FILES:
            self._check_file(name)

    def _check_file(self, name: str) -> None:
        path = self.path / name
        if path.exists() and not path.is_file():
            what = "a folder" if path.is_dir() else "a device or a pipe"
            raise ValueError(
                f"{path} is {what} and should be a file: delete it, and the same command goes on"
            )

    def _adopted(self, *, fresh: bool) -> dict[str, Any] | None:
        """The config of the run that the folder holds, if it is this one; None for an empty folder."""
        path = self.path / "config.json"
        if not os.path.lexists(path):
            # Hidden files are what a kill has left of a file being written.
            if any(not entry.name.startswith(".") for entry in self.path.iterdir()):
                raise ValueError(
                    f"the output folder {self.path} holds files, but no run (no config.json): "
                    "choose an empty one with --out-dir"
                )
            return None
        self._check_file(path.name)
        config, found = read_config(path)
        if fresh and "seed_keys" in self.settings:  # Of what is thrown away they do not matter.
            found["seed_keys"] = self.settings["seed_keys"]
        if differences := different_settings(found, self.settings, self._unnamed):
            raise ValueError(f"the output folder {self.path} {differences}")
        return config

    def _config(self, found: dict[str, Any] | None) -> dict[str, Any]:
        """What is run, and by what: a run that others have begun keeps their entry."""
        by, before = what_runs(), [] if found is None else found.get("run_by", [])
        return {
            "version": VERSION,
            "settings": self.settings,
            # Who writes the results again from what is stored has not run anything.
            "run_by": before if by in before or _has_summary(self.path) else [*before, by],
        }


def _remove_folder(path: Path) -> None:
    """Removes a folder into which a copy of the run may have written a last file meanwhile."""
    for last in (False, True):
        try:
            if path.exists():
                shutil.rmtree(path)
        except OSError:
            if last:
                raise


@contextmanager
def writing_to(path: Path) -> Iterator[None]:
    """Reports what the file system refuses as what it is to the user: a folder that will not do."""
    try:
        yield
    except OSError as error:
        raise ValueError(
            f"cannot write to the output folder {path}: {error}; choose another with --out-dir"
        ) from error


def is_finished(path: Path) -> bool:
    """Whether a folder holds a complete run: the summary is written last, and the results are whole.

    Returns:
        True if nothing is left to do.
    """
    try:
        return _has_summary(path) and bool(read_rows(path / "results.parquet"))
    except ValueError:
        return False


def _has_summary(path: Path) -> bool:
    try:
        summary = path / "summary.md"
        return summary.is_file() and bool(summary.read_text(encoding="utf-8").strip())
    except (OSError, ValueError):
        return False
