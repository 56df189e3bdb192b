"""Redraws runs from what they have stored, and makes one page of their results.

    python -m experiments.report runs/compare-digits-lenet-300-100-1a2b3c4d
    python -m experiments.report RUN OTHER_RUN --out-dir both

Of one run, its figures and summary.md are made again, in its folder or in --out-dir. Several runs of one
experiment, with other methods, seeds or sparsities, become one: its table, figures and summary go to
--out-dir. In both cases page.html is written beside them: all results on one page, to open in a browser.

Nothing is trained and no data set is read. Expected: a few seconds a run.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

if TYPE_CHECKING:
    from experiments.report.table import Results


@dataclass(frozen=True, kw_only=True)
class Report:
    """Redraw runs from what they have stored."""

    runs: Annotated[tuple[Path, ...], tyro.conf.Positional, tyro.conf.arg(metavar="DIR [DIR ...]")]
    """folders of finished runs, of one experiment"""
    out_dir: Path | None = None
    """where the figures, the summary and the page go; by default into the folder of the one run"""
    reference: Path | None = None
    """a CSV of published numbers to set beside; by default the one that a run has stored"""


def main() -> None:
    """Redraws what the command line asks for; a user's mistake ends it in one line."""
    config = tyro.cli(Report, prog="python -m experiments.report", description=__doc__)
    from experiments.engine.endings import errors_in_one_line  # JAX is not imported for --help

    with errors_in_one_line("; the runs are as they were, and the same command does it again"):
        run(config)


def run(config: Report) -> Path:
    """Writes the figures, the summary and the page.

    Args:
        config: Of which runs, and where to.

    Returns:
        The folder that they are in.

    Raises:
        ValueError: If a folder holds no finished run, the runs are not of one experiment, or the output
            folder is missing, belongs to another run or cannot be written.
    """
    from experiments.engine.experiment import find_experiment
    from experiments.engine.run_folder import writing_to
    from experiments.report.page import page
    from experiments.report.sweeps import by_sweep, suffix
    from experiments.report.table import Results, as_rows, load, merged
    from experiments.report.writing import reference_in, store_reference, store_rows, write_report
    from pruning.files.writing import write_atomically

    out_dir = _output_folder(config)
    tables = [load(run) for run in config.runs]
    results = Results(tables[0] if len(tables) == 1 else merged(tables))
    if len(tables) > 1:
        _check_nothing_is_lost(out_dir, results)
    experiment = find_experiment(results.settings["experiment"])
    if config.reference is not None and not hasattr(experiment.options, "reference"):
        name = results.settings["experiment"]
        raise ValueError(f"--reference would do nothing: {name} sets no published numbers beside its own")
    stored = (reference_in(run) for run in (out_dir, *config.runs))
    reference = config.reference or next((path for path in stored if path is not None), None)

    if reference is not None:
        experiment.check_reference(reference, results.settings)  # Before anything is written.
    drawn: dict[str, bytes] = {}

    def write(name: str, content: str | bytes) -> None:
        if name.endswith(".png") and isinstance(content, bytes):
            drawn[name] = content
        with writing_to(out_dir):
            write_atomically(out_dir / name, content.encode() if isinstance(content, str) else content)

    if len(tables) > 1:
        store_rows(write, as_rows(results.table), results.settings, results.facts)
    summary = write_report(experiment, results, reference, write)
    for name, part in by_sweep(results):
        own = {n: image for n, image in drawn.items() if n.endswith(f"{suffix(name)}.png")}
        write(f"page{suffix(name)}.html", page(part, summary, own))
    if reference is not None:
        store_reference(write, out_dir, reference)
    print(f"figures, summary.md and what to browse, page*.html, are in {out_dir}")
    return out_dir


def _output_folder(config: Report) -> Path:
    """Where the results go; raises a ValueError if that is nowhere, or where other results are."""
    runs, folder = config.runs, config.out_dir
    if not runs:
        raise ValueError("expected the folder of a finished run, or several, got none")
    if folder is None:
        if len(runs) == 1:
            return runs[0]
        raise ValueError(f"expected --out-dir, where the results of {len(runs)} runs go as one")
    own = len(runs) == 1 and folder.resolve() == runs[0].resolve()
    # What several runs have become may be written again.
    others = ("config.json",) if len(runs) > 1 else ("config.json", "results.parquet")
    if not own and any((folder / name).exists() for name in others):
        raise ValueError(f"expected a folder without other results as --out-dir, {folder} has some")
    return folder


def _check_nothing_is_lost(folder: Path, results: "Results") -> None:
    """Raises a ValueError if a folder has results that are not among those that several runs become."""
    from experiments.report.table import load, merged

    if not (folder / "results.parquet").exists():
        return
    there = load(folder)
    try:
        lost = set(there["member"]) - set(results.table["member"])
        lost = lost or merged([results.table, there]).attrs["settings"] != results.settings
    except ValueError:  # Not even runs of one experiment.
        lost = True
    if lost:
        raise ValueError(
            f"expected a folder without other results as --out-dir, {folder} has some that are not of "
            "these runs: choose another, or name it among the runs"
        )


if __name__ == "__main__":
    main()
