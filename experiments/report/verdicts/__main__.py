"""The statements of one experiment side by side, as runs with other networks and data decide them.

    python -m experiments.report.verdicts docs/results/compare-mnist RUN_WITH_LENET_5

Prints a Markdown table: a line a statement, a column a run, or a part of one with several learning
rates. Each cell pools the sparsities that its heading names within a seed. Nothing is trained and no
data set is read. Expected: a few seconds a run.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro


@dataclass(frozen=True, kw_only=True)
class Verdicts:
    """Set the verdicts of several runs side by side."""

    runs: Annotated[tuple[Path, ...], tyro.conf.Positional, tyro.conf.arg(metavar="DIR [DIR ...]")]
    """folders of finished runs, of one experiment"""
    sparsities: tuple[float, ...] = ()
    """of each run, those to decide by; by default all that it has"""


def main() -> None:
    """Prints the table; a user's mistake ends it in one line."""
    config = tyro.cli(Verdicts, prog="python -m experiments.report.verdicts", description=__doc__)
    from experiments.engine.endings import errors_in_one_line  # JAX is not imported for --help

    with errors_in_one_line("; nothing was written"):
        print("\n".join(side_by_side(config)))


def side_by_side(config: Verdicts) -> list[str]:
    """The statements of all runs, in the order in which they first occur.

    Args:
        config: The runs, and the sparsities to decide by.

    Returns:
        Lines of Markdown.

    Raises:
        ValueError: If there is no run, a folder holds no finished one, they are not of one experiment, it
            has no statements, no run has one of the sparsities, or a run has none of them.
    """
    from experiments.engine.experiment import find_experiment
    from experiments.report.findings import UNCORRECTED, by_run
    from experiments.report.sweeps import by_sweep
    from experiments.report.table import Results, load

    if not config.runs:
        raise ValueError("expected the folder of a finished run, or several, got none")
    found = [Results(load(run)) for run in config.runs]
    names = sorted({results.settings["experiment"] for results in found})
    if len(names) > 1:
        raise ValueError(f"expected runs of one experiment, got those of {' and '.join(names)}")
    findings = find_experiment(names[0]).findings
    if findings is None:
        raise ValueError(f"expected an experiment that decides statements, {names[0]} has only tables")
    there = {sparsity for results in found for sparsity in results.sparsities}
    if unknown := [f"{sparsity:g}" for sparsity in config.sparsities if sparsity not in there]:
        raise ValueError(f"expected --sparsities that some run has, none has {', '.join(unknown)}")
    columns = []
    for run, results in zip(config.runs, found, strict=True):
        among = [s for s in results.sparsities if s in (config.sparsities or results.sparsities)]
        if not among:
            have = ", ".join(f"{s:g}" for s in results.sparsities)
            raise ValueError(f"expected --sparsities that {run} has, of {have}; got {config.sparsities}")
        removed = f"{', '.join(f'{100 * s:g}' for s in among)} % removed"
        for part_name, part in by_sweep(results):
            name = "; ".join(filter(None, (results.title, part_name, removed)))
            columns.append((name, [one.at(among) for one in findings(part)]))
    return [UNCORRECTED, "", *by_run(columns)]


if __name__ == "__main__":
    main()
