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
METADATA: dict[str, Any] = {"png": {}, "svg": {"Date": None}}
REFERENCE = "reference-"
"""How the name begins of a file of published numbers that a run's summary sets beside its own."""


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
        write: Writes a file into the run's folder.
        rows: One for every network and epoch.
        settings: All that decided the results; the table carries them.
        facts: What only the data told, such as how many steps an epoch has.
    """
    from experiments.report.table import as_rows, as_table  # pandas is imported where it is used

    head = {name: settings[name] for name in ("experiment", "dataset", "model")}
    table = as_table(head | row for row in rows)
    write("results.parquet", parquet(as_rows(table), {"settings": settings, "facts": facts}))


def reference_in(folder: Path) -> Path | None:
    """The published numbers that a run's folder holds, if any."""
    return next(iter(sorted(folder.glob(f"{REFERENCE}*.csv"))), None)


def store_reference(write: Write, folder: Path, path: Path) -> None:
    """Keeps published numbers in a run's folder, instead of others, for when it is reported on again."""
    name, before = f"{REFERENCE}{path.name.removeprefix(REFERENCE)}", reference_in(folder)
    write(name, path.read_bytes())
    if before is not None and before.name != name:
        before.unlink(missing_ok=True)


def write_report(
    experiment: Reported, results: "Results", reference: Path | None, write: Write
) -> list[str]:
    """Writes the figures, and last of all the summary, which says that the run is complete.

    Args:
        experiment: Says which figures and which summary the results have.
        results: The run's table.
        reference: A file of published numbers to set beside ours; None for none.
        write: Writes a file into the run's folder.

    Returns:
        The summary's lines.

    Raises:
        ValueError: If the published numbers are no good; nothing is written then.
    """
    from experiments.report.sweeps import by_sweep, suffix, sweep_figure, sweep_lines

    parts, lines = list(by_sweep(results)), []
    for name, part in parts:
        own = experiment.summary(part, reference)
        # Of a sweep, all of a part's headings stand below the part's.
        lines += [f"## With {name}", "", *_lower(own[2:]), ""] if name else [*own, ""]
    if len(parts) > 1:
        lines = [f"# A sweep: {results.title}", "", *sweep_lines(parts), *lines]
        if results.sparsities:
            save_figures(write, {"sweep": sweep_figure(parts)})
    for name, part in parts:
        drawn = experiment.figures(part)
        save_figures(write, {f"{figure}{suffix(name)}": f for figure, f in drawn.items()})
    write("summary.md", "\n".join(lines).rstrip() + "\n")
    return lines


def _lower(lines: list[str]) -> list[str]:
    """Lines of Markdown, the headings a level lower."""
    return [f"#{line}" if line.startswith("#") else line for line in lines]


def save_figures(write: Write, figures: Mapping[str, Any]) -> None:
    """Writes figures as PNG and SVG, by the name of their files, and closes them."""
    import matplotlib.pyplot as plt

    plt.rcParams["svg.hashsalt"] = "the same figure is the same file"
    for name, figure in figures.items():
        for suffix in METADATA:
            drawn = BytesIO()
            figure.savefig(drawn, format=suffix, dpi=150, metadata=METADATA[suffix])
            write(f"{name}.{suffix}", drawn.getvalue())
        plt.close(figure)
