"""Rows of a table as a parquet file that notices when its bytes have changed on the disk.

The pages have checksums, which parquet's readers verify where they are asked to; what is around the pages
(names, types, counts) has none, so a hash of the rows is stored beside them.
"""

import hashlib
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

Row = dict[str, Any]

RUN = b"run"
"""The key of what the metadata say of the run."""

HASH, RUN_HASH = b"rows-sha256", b"run-sha256"
"""The keys of the hashes of the rows, and of what is said of the run; files from before have none."""


def parquet(rows: list[Row], run: dict[str, Any] | None = None) -> bytes:
    """A parquet file of rows; a column that some rows lack is null there.

    Args:
        rows: At least one.
        run: What the file says of the run that the rows are of, if it is all of its results.

    Returns:
        The file's bytes.
    """
    names = list(dict.fromkeys(name for row in rows for name in row))
    table = pa.table({name: [row.get(name) for row in rows] for name in names})
    about = {HASH: _hash(table.to_pylist())}
    if run is not None:
        about |= {RUN: json.dumps(run).encode(), RUN_HASH: _hash(run)}
    table = table.replace_schema_metadata(about)
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, compression="zstd", write_page_checksum=True)
    return sink.getvalue().to_pybytes()


def read_rows(path: Path) -> list[Row]:
    """The rows of a file, as they were written; see ``read_results``."""
    return read_results(path)[0]


def read_results(path: Path) -> tuple[list[Row], dict[str, Any] | None]:
    """The rows of a file, as they were written, and what it says of their run; None if nothing.

    Raises:
        ValueError: If it is no parquet file, is damaged, or cannot be read, in words that go on after
            its name.
    """
    try:
        if not path.is_file():  # A device may have no end.
            raise FileNotFoundError("it is no file")
        # Read here, where the file system's words are not mixed with those of parquet.
        content = pa.py_buffer(path.read_bytes())
        table = pq.read_table(pa.BufferReader(content), page_checksum_verification=True)
        rows = table.to_pylist()
    except Exception as error:  # A footer that is damaged has errors of every kind.
        raise ValueError(f"cannot be read ({_first_line(error)})") from error
    about = table.schema.metadata or {}
    if about.get(HASH) not in (None, _hash(rows)):
        raise ValueError("cannot be read (its rows are not those that were written)")
    try:
        run = json.loads(about[RUN]) if RUN in about else None
    except ValueError as error:
        raise ValueError(f"cannot be read ({_first_line(error)})") from error
    if about.get(RUN_HASH) not in (None, _hash(run)):
        raise ValueError("cannot be read (what it says of its run is not what was written)")
    return rows, run


def _hash(content: Any) -> bytes:
    return hashlib.sha256(json.dumps(content, default=str).encode()).hexdigest().encode()


def _first_line(error: Exception) -> str:
    return f"{type(error).__name__}: {next(iter(str(error).splitlines()), '')}"
