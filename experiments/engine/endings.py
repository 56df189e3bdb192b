"""How a command ends: in one line for what its user or the machine can mend, else with a traceback."""

import io
import os
import signal
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import jax

from experiments import leave_at_once
from experiments.engine.processes import leave, leave_silently

INTERRUPTED = 128 + signal.SIGINT
NO_READER = 128 + 13  # as a command that SIGPIPE ends


@contextmanager
def errors_in_one_line(afterwards: str) -> Iterator[None]:
    """Runs a command; what its user or the machine can mend ends it in one line.

    These are ValueErrors, what the operating system refuses (a full disk, a folder where a file is
    expected, ...), Ctrl-C, and a reader of the output that has seen enough, as in ``| head``. Everything
    else is a fault of the program and keeps its traceback. Text that the terminal cannot show is replaced
    by question marks.

    Args:
        afterwards: What is said after Ctrl-C and after an error of the operating system: what is kept.
    """
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")
    if signal.getsignal(signal.SIGINT) is leave_at_once:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
        print(end="", flush=True)
    except ValueError as error:
        leave(str(error))
    except KeyboardInterrupt:
        # A second Ctrl-C ends the process wherever it is, without a word.
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        print(f"interrupted{afterwards}", file=sys.stderr, flush=True)
        leave_silently(INTERRUPTED)
    except OSError as error:
        if isinstance(error, BrokenPipeError) and _reader_has_gone():
            leave_silently(NO_READER)
        leave(f"{_described(error)}{afterwards}")
    except Exception:
        if jax.distributed.is_initialized():
            traceback.print_exc()
            leave("it has failed, as above")  # Else the others would wait for it.
        raise
    finally:
        # What cannot be written now could not be at the exit either, where Python would say so at length.
        if not _flushes():
            _forget_output()


def _described(error: OSError) -> str:
    """What failed, and on which file if that is known."""
    files = [str(name) for name in (error.filename, error.filename2) if name is not None]
    said = error.strerror or str(error) or type(error).__name__
    return f"{said}: {' -> '.join(files)}" if files else said


def _reader_has_gone() -> bool:
    """Whether it is the standard output that nobody reads any more."""
    try:
        print(flush=True)
    except BrokenPipeError:
        return True
    return False


def _flushes() -> bool:
    try:
        print(end="", flush=True)  # There may be no standard output at all.
    except OSError:
        return False
    return True


def _forget_output() -> None:
    """Sends what is still to be written to the standard output nowhere."""
    with suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
