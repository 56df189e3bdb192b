"""One process of a small run; run by test_processes.

python -m tests.experiments.one_of_several OUT_DIR PORT COUNT ID [killed | failed]
"""

import os
import sys
from pathlib import Path

from experiments import pruning_methods, stages
from experiments.options import run_command
from experiments.pruning_methods import PruningMethods

CONFIG = PruningMethods(
    seeds=2, methods=("random", "magnitude-fine-tuned"), sparsities=(0.5, 0.9), epochs=4, prune_epochs=3
)


def options(out_dir: Path, *several: str) -> list[str]:
    """The command line of the run."""
    command = ["--out-dir", str(out_dir), "--seeds", str(CONFIG.seeds), "--epochs", "4"]
    command += ["--prune-epochs", "3", "--methods", *CONFIG.methods]
    return [*command, "--sparsities", *map(str, CONFIG.sparsities), *several]


if __name__ == "__main__":
    out_dir, port, count, number, *ends_early = sys.argv[1:]
    # In its share of the first stage: the others wait for it then.
    if ends_early == ["killed"]:
        stages._train_chunk = lambda *args: os._exit(9)
    elif ends_early == ["failed"]:
        stages._train_chunk = lambda *args: {}["what is not there"]
    address = f"127.0.0.1:{port}"
    several = ("--coordinator-address", address, "--num-processes", count, "--process-id", number)
    sys.argv = ["pruning_methods", *options(Path(out_dir), *several)]
    run_command(PruningMethods, pruning_methods.run, None)
