"""Small runs of experiments, streamed and on several devices; run by test_ways_of_running.

    python -m tests.experiments.on_devices DATA_DIR OUT_DIR [OPTION ...]

Prints the accuracy that train_ticket finds. XLA makes several devices of one CPU only before JAX starts,
so this is a process of its own.
"""

import sys
from pathlib import Path

from experiments.engine.options import run_command

from experiments import missing_the_mark, ticket_search, train_ticket
from experiments.mark_options import MissingTheMark
from experiments.ticket_options import TicketSearch
from experiments.train_ticket import TrainTicket

SHORT = ["--recipe", "digits", "--epochs", "2", "--seeds", "1"]
MARK = [*SHORT, "--methods", "random", "snip", "--sparsities", "0.5", "--ablations", "invert"]
SEARCH = [*SHORT, "--methods", "imp", "cs-parallel", "--rounds", "1", "--starts", "0.0"]
TICKET = "tickets/imp-round-1-seed-0.safetensors"


def main(data_dir: str, out_dir: str, *options: str) -> None:
    """Runs both, then trains a ticket again."""
    data = ["--data-dir", data_dir, *options]
    for name, kind, run, given in (
        ("mark", MissingTheMark, missing_the_mark.run, MARK),
        ("search", TicketSearch, ticket_search.run, SEARCH),
    ):
        out = str(Path(out_dir) / name)
        sys.argv = [name, "--dataset", "toy", *given, *data, "--out-dir", out]
        run_command(kind, run, None)
    sys.argv = ["train_ticket", str(Path(out_dir) / "search" / TICKET), *data]
    run_command(TrainTicket, train_ticket.run, None)


if __name__ == "__main__":
    main(*sys.argv[1:])
