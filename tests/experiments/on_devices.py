"""Small runs of experiments, streamed and on several devices; run by engine/test_devices.

    python -m tests.experiments.on_devices DATA_DIR OUT_DIR [OPTION ...]

Prints the accuracy that train_ticket finds. XLA makes several devices of one CPU only before JAX starts,
so this is a process of its own.
"""

import sys
from pathlib import Path

from experiments import missing_the_mark, ticket_search, train_ticket
from experiments.engine.experiment import main as run_main

SHORT = ["--recipe", "digits", "--epochs", "2", "--seeds", "1"]
MARK = [*SHORT, "--methods", "random", "snip", "--sparsities", "0.5", "--ablations", "invert"]
SEARCH = [*SHORT, "--methods", "imp", "cs-parallel", "--rounds", "1", "--starts", "0.0"]
TICKET = "tickets/imp-round-1-seed-0.safetensors"


def main(data_dir: str, out_dir: str, *options: str) -> None:
    """Runs both, then trains a ticket again."""
    data = ["--data-dir", data_dir, *options]
    for name, experiment, given in (("mark", missing_the_mark, MARK), ("search", ticket_search, SEARCH)):
        sys.argv = [name, "--dataset", "toy", *given, *data, "--out-dir", str(Path(out_dir) / name)]
        run_main(experiment.EXPERIMENT)
    sys.argv = ["train_ticket", str(Path(out_dir) / "search" / TICKET), *data]
    train_ticket.main()


if __name__ == "__main__":
    main(*sys.argv[1:])
