"""What a finished run's folder holds for people: the table, the figures, the summary."""

from collections.abc import Callable, Mapping
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from experiments.report.stored_rows import Row, parquet

if TYPE_CHECKING:
    from experiments.report.table import Results

Write = Callable[[str, str | bytes], None]
"""``write(name, content)`` writes a file of a folder, whole or not at all."""
REFERENCE = "reference.csv"
"""The published numbers that a run's summary sets beside its own."""


class Reported(Protocol):
    """What an experiment says of how its results are shown."""

    @property
    def figures(self) -> Callable[["Results"], Mapping[str, Any]]:
        """From results to figures, by the name of their files."""
        ...

    @property
    def summary(self) -> Callable[["Results", Path | None], list[str]]:
        """From results, and published numbers, to the lines of the summary."""
        ...


def store_rows(write: Write, rows: list[Row], settings: dict[str, Any], facts: dict[str, Any]) -> None:
    """Writes the table, which is all that a report needs.

    Args:
        write: Into the run's folder.
        rows: Of all networks and epochs.
        settings: Of the run.
        facts: What only the data told.
    """
    from experiments.report.table import as_rows, as_table  # pandas is imported where it is used

    head = {name: settings[name] for name in ("experiment", "dataset", "model")}
    table = as_table(head | row for row in rows)
    write("results.parquet", parquet(as_rows(table), {"settings": settings, "facts": facts}))


def reference_in(folder: Path) -> Path | None:
    """The published numbers that a run's folder holds, if any."""
    path = folder / REFERENCE
    return path if path.is_file() else None


def write_report(
    experiment: Reported, results: "Results", reference: Path | None, write: Write
) -> list[str]:
    """Writes the figures, and last of all the summary, which says that the run is complete.

    Args:
        experiment: Of the results.
        results: Of the run.
        reference: Published numbers to set beside.
        write: Into the run's folder.

    Returns:
        The summary's lines.

    Raises:
        ValueError: If the published numbers are no good; nothing is written then.
    """
    lines = experiment.summary(results, reference)
    save_figures(write, experiment.figures(results))
    write("summary.md", "\n".join(lines) + "\n")
    return lines


def save_figures(write: Write, figures: Mapping[str, Any]) -> None:
    """Writes figures as PNG and SVG, by the name of their files, and closes them."""
    import matplotlib.pyplot as plt

    for name, figure in figures.items():
        for suffix in ("png", "svg"):
            drawn = BytesIO()
            figure.savefig(drawn, format=suffix, dpi=150)
            write(f"{name}.{suffix}", drawn.getvalue())
        plt.close(figure)
