"""Runnable modules, one per figure or table: ``python -m experiments.NAME --help``."""

import os
import signal
import sys

# XLA logs an error for every program that it reads from the cache of a CPU with AVX-512, though it fits
# (jax issue 38445). Before jax is imported its log is silenced below fatal errors, unless one wants it.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")


def leave_at_once(signal_number: int, frame: object) -> None:
    """Ends a command that is still importing its modules: nothing has begun.

    Args:
        signal_number: Of Ctrl-C.
        frame: Where it came.
    """
    os.write(2, b"interrupted before it began\n")
    os._exit(128 + signal_number)


# While ``python -m experiments.NAME`` looks for the module, its first argument is "-m". Once the command
# runs, ``experiments.engine.endings`` decides.
if sys.argv[:1] == ["-m"] and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    signal.signal(signal.SIGINT, leave_at_once)
