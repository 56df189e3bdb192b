"""One process of a small run; run by engine/test_processes.

python -m tests.experiments.one_of_several EXPERIMENT OUT_DIR PORT COUNT ID [killed | failed]
"""

import os
import sys
from importlib import import_module
from pathlib import Path

from experiments.engine import stage
from experiments.engine.experiment import run, run_command

METHODS = ["--seeds", "2", "--sparsities", "0.5", "0.9", "--methods", "random", "magnitude-fine-tuned"]
MARK = ["--seeds", "2", "--sparsities", "0.5", "--ablations", "shuffle", "--steps", "0", "5", "--epochs"]
MARK += ["2", "--methods", "random", "snip", "magnitude-after-training", "lottery-ticket-rewinding"]
SEARCH = ["--seeds", "2", "--methods", "imp", "imp-continued", "cs-parallel", "cs-sequential"]
SEARCH += ["--rounds", "2", "--sequential-rounds", "2", "--epochs", "3"]
MASKS = ["--seeds", "2", "--sparsities", "0.9", "0.99", "--methods", "random", "magnitude", "snip"]
GRIDS = {
    "pruning_methods": [*METHODS, "--epochs", "2", "--prune-epochs", "1"],
    "missing_the_mark": MARK,
    "ticket_search": SEARCH,
    "effective_sparsity": MASKS,
}


def experiment_of(name: str):
    """By the name of its file."""
    return import_module(f"experiments.{name}").EXPERIMENT


def options(name: str, out_dir: Path) -> list[str]:
    """The command line of an experiment, but for the processes."""
    return [*GRIDS[name], "--out-dir", str(out_dir)]


if __name__ == "__main__":
    name, out_dir, port, count, number, *ends_early = sys.argv[1:]
    # In its share of the first stage: the others wait for it then.
    if ends_early == ["killed"]:
        stage._train_chunk = lambda *args: os._exit(9)
    elif ends_early == ["failed"]:
        stage._train_chunk = lambda *args: {}["what is not there"]
    address = f"127.0.0.1:{port}"
    several = ("--coordinator-address", address, "--num-processes", count, "--process-id", number)
    sys.argv = [name, *options(name, Path(out_dir)), *several]
    experiment = experiment_of(name)
    run_command(experiment.options, lambda given: run(experiment, given), None)
