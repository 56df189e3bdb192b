"""One process of a small run; run by test_processes.

python -m tests.experiments.one_of_several EXPERIMENT OUT_DIR PORT COUNT ID [killed | failed]
"""

import os
import sys
from pathlib import Path

from experiments.engine.options import run_command

from experiments import effective_sparsity, missing_the_mark, pruning_methods, stages, ticket_search
from experiments.effective_sparsity import EffectiveSparsity
from experiments.mark_options import MissingTheMark
from experiments.pruning_methods import PruningMethods
from experiments.ticket_options import TicketSearch

METHODS = ["--seeds", "2", "--sparsities", "0.5", "0.9", "--methods", "random", "magnitude-fine-tuned"]
MARK = ["--seeds", "2", "--sparsities", "0.5", "--ablations", "shuffle", "--steps", "0", "5", "--epochs"]
MARK += ["2", "--methods", "random", "snip", "magnitude-after-training", "lottery-ticket-rewinding"]
SEARCH = ["--seeds", "2", "--methods", "imp", "imp-continued", "cs-parallel", "cs-sequential"]
SEARCH += ["--rounds", "2", "--sequential-rounds", "2", "--epochs", "3"]
# The experiment, what runs it, and a small grid.
EXPERIMENTS = {
    "pruning_methods": (
        PruningMethods,
        pruning_methods.run,
        [*METHODS, "--epochs", "4", "--prune-epochs", "3"],
    ),
    "missing_the_mark": (MissingTheMark, missing_the_mark.run, MARK),
    "ticket_search": (TicketSearch, ticket_search.run, SEARCH),
    "effective_sparsity": (
        EffectiveSparsity,
        effective_sparsity.run,
        ["--seeds", "2", "--sparsities", "0.9", "0.99", "--methods", "random", "magnitude", "snip"],
    ),
}


def options(name: str, out_dir: Path) -> list[str]:
    """The command line of an experiment, but for the processes."""
    return [*EXPERIMENTS[name][2], "--out-dir", str(out_dir)]


if __name__ == "__main__":
    name, out_dir, port, count, number, *ends_early = sys.argv[1:]
    # In its share of the first stage: the others wait for it then.
    if ends_early == ["killed"]:
        stages._train_chunk = lambda *args: os._exit(9)
    elif ends_early == ["failed"]:
        stages._train_chunk = lambda *args: {}["what is not there"]
    address = f"127.0.0.1:{port}"
    several = ("--coordinator-address", address, "--num-processes", count, "--process-id", number)
    sys.argv = [name, *options(name, Path(out_dir)), *several]
    kind, run, _ = EXPERIMENTS[name]
    run_command(kind, run, None)
