"""What an experiment is, and how one is run: from a command line to a finished folder."""

import importlib
import pkgutil
import sys
from collections.abc import Callable, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import tyro

import experiments
from experiments.engine.compiled_programs import keep_compiled_programs
from experiments.engine.endings import errors_in_one_line
from experiments.engine.folders import find_folder
from experiments.engine.networks import Networks
from experiments.engine.processes import is_first, join, wait_for_all
from experiments.engine.run_folder import Row, RunFolder, is_finished
from experiments.engine.training import Watch, train_all
from experiments.methods import seeds
from experiments.methods.point import DENSE, Point
from experiments.methods.registry import find_method
from experiments.methods.study import Study
from experiments.options.options import Options
from experiments.options.training import TrainingOptions
from experiments.report.writing import reference_in, store_reference, store_rows, write_report
from train.lookup import lookup
from train.lowering import LOWERINGS, lowered
from train.populations.devices import check_devices, device_mesh

if TYPE_CHECKING:
    from experiments.report.findings import Finding
    from experiments.report.table import Results

Facts = dict[str, Any]
Fill = Callable[[RunFolder], Facts]


@dataclass(frozen=True, kw_only=True)
class Experiment:
    """One experiment: its options, who is trained or looked at, and what is made of the results.

    Attributes:
        options: The dataclass of its options.
        help: What ``--help`` says.
        prepare: ``prepare(options)`` reads the data and returns what fills the run's folder with rows;
            that returns facts which only the data tell (the steps of an epoch, say).
        figures: From results to figures, by the name of their files.
        summary: From results, and the file of published numbers if there is one, to a summary's lines.
        findings: The statements that a run decides, or none.
        derived: From all rows to those that follow from others, such as a search's winner's.
        check_reference: Raises a ValueError if a file of published numbers is no good for the settings.
    """

    options: type[Options]
    help: str | None
    prepare: Callable[[Any], Fill]
    figures: Callable[["Results"], dict[str, Any]]
    summary: Callable[["Results", Path | None], list[str]]
    findings: "Callable[[Results], list[Finding]] | None" = None
    derived: Callable[[Sequence[Row], dict[str, Any]], list[Row]] = lambda rows, settings: []
    check_reference: Callable[[Path, dict[str, Any]], object] = lambda path, settings: None


def find_experiment(name: str) -> Experiment:
    """The experiment of a name; raises a ValueError if there is none."""
    known = {module.name for module in pkgutil.iter_modules(experiments.__path__)}
    module = importlib.import_module(f"experiments.{name}") if name in known else None
    experiment = getattr(module, "EXPERIMENT", None)
    if experiment is None:
        raise ValueError(f"expected the results of an experiment, got those of {name!r}")
    return experiment


def of_methods(options: Any, study: Study) -> list[Point]:
    """The dense networks, and those of every method that is asked for."""
    return [
        point
        for seed in options.all_seeds()
        for method in (DENSE, *options.methods)
        for point in find_method(method).points(study, seed)
    ]


def no_facts(networks: Networks) -> Facts:
    """Nothing."""
    return {}


def training(
    points: Callable[[Any, Study], Sequence[Point]] = of_methods,
    facts: Callable[[Networks], Facts] = no_facts,
    watch: Watch | None = None,
) -> Callable[[TrainingOptions], Fill]:
    """``Experiment.prepare`` of one that trains.

    Args:
        points: ``points(options, study)`` says which networks.
        facts: What the networks tell besides their rows, once they are trained.
        watch: ``watch(networks, program)`` says what is noted of finished networks besides.
    """

    def prepare(options: TrainingOptions) -> Fill:
        dataset = options.load()
        networks = Networks(
            options, dataset, lambda study: _swept(points(options, study), options), find_method
        )

        def fill(folder: RunFolder) -> Facts:
            train_all(networks, folder, chunk_size=options.plumbing.chunk_size, watch=watch)
            return {"steps_per_epoch": networks.study.steps_per_epoch, **facts(networks)}

        return fill

    return prepare


def main(experiment: Experiment) -> None:
    """Runs what the command line asks for; a user's mistake ends it in one line."""
    run_command(experiment.options, lambda options: run(experiment, options), experiment.help)


def run_command(options: type[Any], run: Callable[[Any], object], description: str | None) -> None:
    """Runs a command with the options of the command line; a user's mistake ends it in one line.

    Compiled programs are kept for the next run (``experiments.engine.compiled_programs``).
    """
    goes_on = issubclass(options, Options)
    with errors_in_one_line(
        "; what is finished is stored, and the same command goes on" if goes_on else ""
    ):
        keep_compiled_programs()
        parsed = tyro.cli(options, prog=_command(), description=description)
        plumbing = getattr(parsed, "plumbing", parsed)
        if goes_on:
            join(plumbing.coordinator_address, plumbing.num_processes, plumbing.process_id)
        check_devices()
        chosen = getattr(plumbing, "lowering", None)
        with nullcontext() if chosen is None else lowered(lookup(LOWERINGS, chosen, "lowering")):
            run(parsed)


def run(experiment: Experiment, options: Any) -> Path:
    """Does what is not done yet, and prints the summary.

    Raises:
        ValueError: If the data set, the output folder or the options are no good.
    """
    settings = options.settings() | {"seed_keys": seeds.VERSION}
    reference: Path | None = getattr(options, "reference", None)
    if reference is not None:
        experiment.check_reference(reference, settings)  # Before what takes long.
    path = find_folder(options, settings)
    with readable(path):
        unfinished = options.fresh or not is_finished(path)
    if isinstance(options, TrainingOptions):
        device_mesh(devices_per_member=options.plumbing.devices_per_network)  # Before what takes long.
    # The first one reads the data; what it keeps decoded is there for the others. A misspelt name does
    # not leave a folder behind.
    fill = experiment.prepare(options) if unfinished and is_first() else None
    wait_for_all()
    if unfinished and fill is None:
        fill = experiment.prepare(options)
    wait_for_all()  # All have seen what there is before the first one changes it.
    unnamed = options.where_unnamed()
    folder = RunFolder(path, settings, unnamed, fresh=options.fresh) if is_first() else None
    wait_for_all()
    folder = folder or RunFolder(path, settings, unnamed, fresh=False)
    if fill is not None:
        facts = fill(folder)
        if is_first():
            rows = folder.rows()
            rows += experiment.derived(rows, folder.settings)
            store_rows(folder.write, rows, folder.settings, facts)
        wait_for_all()
    if is_first():
        if unfinished or reference is not None:
            from experiments.report.table import Results, load  # pandas is imported where it is used

            results = Results(load(path))
            write_report(experiment, results, reference or reference_in(path), folder.write)
            if reference is not None:
                store_reference(folder.write, path, reference)
        folder.forget_unfinished()
        with readable(path):
            summary = (path / "summary.md").read_text(encoding="utf-8")
        print(summary)
        print(f"results in {path}")
    return path


def _command() -> str | None:
    """What a user has typed: "python -m experiments.compare"."""
    spec = sys.modules["__main__"].__spec__
    return None if spec is None else f"python -m {spec.name.removesuffix('.__main__')}"


@contextmanager
def readable(path: Path):
    """Reports what cannot be read of an output folder as what it is to the user: one that will not do."""
    try:
        yield
    except (OSError, UnicodeError) as error:
        raise ValueError(
            f"cannot read the output folder {path}: {error}; choose another with --out-dir"
        ) from error


def _swept(points: Sequence[Point], options: TrainingOptions) -> list[Point]:
    """Every point with each learning rate and weight decay that is asked for."""
    return [
        point._replace(learning_rate=rate, weight_decay=decay)
        for rate in options.learning_rates or (None,)
        for decay in options.weight_decays or (None,)
        for point in points
    ]
