"""A run of every method there is on a small grid, and one of a few of them, which fast tests look at."""

from dataclasses import dataclass

import pytest

from experiments.engine.experiment import Experiment, training
from experiments.methods.point import point_of
from experiments.methods.registry import METHODS, check_methods, find_method, scored
from experiments.methods.scored import ABLATIONS
from experiments.methods.spelling import row_of_today
from experiments.options.knobs import GateKnobs, Knobs, RoundKnobs, ScheduleKnobs, SearchKnobs
from experiments.options.training import Grid, GridOptions, TrainingPlumbing
from experiments.report.stored_rows import read_rows

ABLATED = (
    *("magnitude", "snip", "grasp", "grasp-iterative", "snip-erk", "phew"),
    *("magnitude-after-training", "lottery-ticket-rewinding", "k-starts"),
)
"""Methods whose ablations and later steps are a part of the run; those of the others are alike."""
FEW = (
    *("random", "magnitude", "snip", "magnitude-fine-tuned", "magnitude-after-training"),
    *("lottery-ticket-rewinding", "k-starts", "dissipating-gradients", "random+dissipating-gradients"),
    *("k-starts+dissipating-gradients", "continuous-sparsification", "supermask", "imp", "imp-continued"),
    *("learning-rate-rewinding", "imp-reinit", "cs-parallel", "cs-sequential"),
)
"""Of every way to begin one: from masks, from trained weights, from a search, from rounds, with gates."""
KNOBS = Knobs(
    search=SearchKnobs(k=4, search_epochs=1, generations=2, mutation=0.0, kept_in_group=(2,)),
    schedule=ScheduleKnobs(prune_epochs=2, fractions=(0.3,), rewind_step=3),
    gates=GateKnobs(starts=(-0.01, 0.02), stochastic_starts=(-1.0, 1.0)),
    rounds=RoundKnobs(rounds=2, sequential_rounds=2),
)
CHUNKS = TrainingPlumbing(chunk_size=16)
EPOCH = 23  # steps, of digits


@dataclass(frozen=True, kw_only=True)
class Everything(GridOptions):
    """The options of the run; by default those of the shared one."""

    experiment = "everything"

    methods: tuple[str, ...] = (*METHODS,)
    ablations: tuple[str, ...] = (*ABLATIONS, "retrained")
    sparsities: tuple[float, ...] = (0.9,)
    steps: tuple[int, ...] = (5, EPOCH)
    seeds: int = 1
    epochs: int | None = 3
    knobs: Knobs = KNOBS
    plumbing: TrainingPlumbing = CHUNKS

    def __post_init__(self):
        super().__post_init__()
        check_methods(self, self.methods, METHODS, "is no method")

    def grid(self):
        return Grid(self.sparsities, self.ablations, self.steps, (0.9,))


def points(options, study):
    """Those of every method; ablations and later steps of a few.

    Inverted rankings of many rounds take long to compile, and are left out.
    """
    return [
        point
        for seed in options.all_seeds()
        for method in ("dense", *options.methods)
        for point in find_method(method).points(study, seed)
        if method in ABLATED
        or method not in scored()
        or (point.variant, point.pruned_at_step) == ("none", 0)
        if not (point.variant == "invert" and find_method(method).ranking.rounds > 1)
    ]


def by_name(names):
    """Parameters of a test: the methods that are not in the run of a few are slow."""
    return [pytest.param(name, marks=[pytest.mark.slow] * (name not in FEW)) for name in names]


def rows_of(path):
    """The final rows of a run, by their networks."""
    rows = [row_of_today(row, "everything") for row in read_rows(path / "results.parquet")]
    last = max(row["epoch"] for row in rows)
    return {point_of(row): row for row in rows if row["epoch"] == last}


EXPERIMENT = Experiment(
    options=Everything,
    help=None,
    prepare=training(points),
    figures=lambda results: {},
    summary=lambda results, reference: ["# everything"],
)
