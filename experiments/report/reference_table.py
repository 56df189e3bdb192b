"""Tables of numbers that others published, given by ``--reference``: CSV files in UTF-8."""

import csv
import math
from collections.abc import Collection
from pathlib import Path
from typing import NamedTuple


class Line(NamedTuple):
    """A line of a table.

    Attributes:
        place: File and number, for errors.
        cells: By column; None where the line ends before it.
    """

    place: str
    cells: dict[str, str | None]

    def text(self, column: str) -> str:
        """A cell's text.

        Raises:
            ValueError: If the line ends before it.
        """
        found = self.cells[column]
        if found is None:
            raise ValueError(f"expected a value of {column} in {self.place}, which ends before it")
        return found

    def number(self, column: str, *, highest: float = math.inf) -> float:
        """A cell's number.

        Args:
            highest: The largest that it may be; the least is 0.

        Raises:
            ValueError: If it is none, not finite, or out of range.
        """
        text = self.cells[column] or ""
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not (0 <= value <= highest and math.isfinite(value)):
            bounds = "of at least 0" if highest == math.inf else f"from 0 to {highest:g}"
            raise ValueError(f"expected a number {bounds} as {column} in {self.place}, got {text!r}")
        return value


class Table(NamedTuple):
    """A table that was read.

    Attributes:
        columns: Their names.
        lines: All.
    """

    columns: tuple[str, ...]
    lines: list[Line]


def read_table(path: Path, needed: Collection[str]) -> Table:
    """Reads a CSV file with a line of names at its head.

    Raises:
        ValueError: If it is no such file, or cannot be read.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file)
            columns = tuple(reader.fieldnames or ())
            lines = [Line(f"line {reader.line_num} of {path}", cells) for cells in reader]
    except UnicodeDecodeError as error:
        raise ValueError(f"expected a CSV in UTF-8, {path} is in another encoding ({error})") from error
    except (OSError, csv.Error) as error:
        raise ValueError(f"cannot read {path} as a CSV: {error}") from error
    missing = sorted(set(needed) - set(columns))
    if missing:
        raise ValueError(
            f"expected a CSV with the columns {', '.join(needed)}, {path} lacks {', '.join(missing)}"
        )
    if len(set(columns)) < len(columns):
        raise ValueError(f"expected different columns in {path}, got {', '.join(columns)}")
    for line in lines:
        if None in line.cells:  # Where the reader puts what no column is left for.
            raise ValueError(
                f"expected {len(columns)} values, as there are columns, in {line.place}, got more: "
                "a text with a comma belongs in quotes"
            )
    return Table(columns, lines)
