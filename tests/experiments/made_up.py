"""Rows and results that no run has given: what tests of folders and of reports look at."""

from experiments.engine.run_folder import RunFolder
from experiments.methods.point import Point
from experiments.options.training import GridOptions
from experiments.report.table import Results, as_table

EPOCHS = 4
STEPS = 10  # of an epoch
SETTINGS = {"experiment": "made_up", "seeds": 2, "seed_keys": 2}


def folder(path, fresh=False, **settings):
    """The folder of a run with hardly any settings."""
    return RunFolder(path, SETTINGS | settings, {}, fresh=fresh)


def row(point, accuracy=0.5, *, epoch=EPOCHS, sparsity=None, failed=False, seconds=1.0, **more):
    """A row of a network, as runs store it."""
    measured = {"train_loss": 1.0, "test_loss": 1.5, "test_accuracy": accuracy, "failed": failed}
    reached = point.sparsity_target if sparsity is None else sparsity
    known = {"member": point.name, **point._asdict(), "epoch": epoch}
    return {**known, "sparsity": reached, **measured, "seconds": seconds, **more}


def several(method, accuracies, *, sparsity=0.9, variant="none", step=0, **more):
    """The final rows of a method at a sparsity, a seed each."""
    return [
        row(Point(method, variant, step, sparsity_target=sparsity, seed=seed), accuracy, **more)
        for seed, accuracy in enumerate(accuracies)
    ]


def results(rows, steps_per_epoch=STEPS, options=GridOptions, **settings):
    """The results of a run of these rows; its methods are theirs, the other settings the usual ones."""
    table = as_table(rows)
    options.experiment = getattr(options, "experiment", "made_up")
    usual = options(epochs=EPOCHS).settings() | {"ablations": [], "sparsities": [0.9]}
    usual |= {
        "seeds": int(table["seed"].max()) + 1,
        "methods": sorted({r["method"] for r in rows} - {"dense"}),
    }
    table.attrs = {"settings": usual | settings, "facts": {"steps_per_epoch": steps_per_epoch}}
    return Results(table)
