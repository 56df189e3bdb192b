"""Several processes that share one run: on several machines, or several GPUs of one.

Networks have nothing to tell each other, so each process trains its share of every stage on its own
devices and stores what it has finished in the run's folder, which all of them must see. Between stages
they wait for each other; the first one writes the results. What a process had finished when it died is
stored, and the same command goes on, with as many processes as one likes.
"""

import functools
import itertools
import json
import os
import re
import socket
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NoReturn, ParamSpec

import jax
import numpy as np
from jax.experimental import multihost_utils

P = ParamSpec("P")

LONGEST_WAIT = 30 * 24 * 3600  # seconds
LONGEST_SEARCH = 30  # seconds: a scheduler may name a machine a little later than it starts this one
MOST_PROCESSES = 100_000

_waits = itertools.count()


def join(
    coordinator_address: str | None = None,
    num_processes: int | None = None,
    process_id: int | None = None,
) -> None:
    """Makes this process one of several, if it is; before JAX computes anything.

    Without arguments a process is one of several where Slurm (``srun``) or a TPU pod (GKE included) says
    so. Slurm's processes take a GPU each, that of their local number; processes that are started by hand
    on one machine need CUDA_VISIBLE_DEVICES, since each takes all that it sees.

    Args:
        num_processes: How many there are; 1 for a process that is alone whatever Slurm says.
        process_id: Which this one is, from 0.

    Raises:
        ValueError: If some of the three are missing, or do not fit. Where the first process does not
            answer within 5 minutes, JAX ends this one. If the address is none, its host is unknown, or
            its port is taken.
    """
    if num_processes == 1:
        return
    given = {
        "--coordinator-address": coordinator_address,
        "--num-processes": num_processes,
        "--process-id": process_id,
    }
    missing = [name for name, value in given.items() if value is None]
    if len(missing) == len(given) and not _is_one_of_several(os.environ):
        return
    if missing and len(missing) < len(given):
        raise ValueError(f"several processes need {', '.join(given)}: {', '.join(missing)} is missing")
    if num_processes is not None and not 1 <= num_processes <= MOST_PROCESSES:
        raise ValueError(f"expected --num-processes from 1 to {MOST_PROCESSES}, got {num_processes}")
    if num_processes is not None and process_id is not None and not 0 <= process_id < num_processes:
        raise ValueError(
            f"expected --process-id from 0 to {num_processes - 1} of --num-processes, got {process_id}"
        )
    if coordinator_address is not None:
        _check_address(coordinator_address)
    # A share may take hours: the others wait, and are told by the connection when a process has gone.
    flags = os.environ.get("XLA_FLAGS", "")
    os.environ["XLA_FLAGS"] = f"--xla_cpu_collective_timeout_seconds={LONGEST_WAIT} {flags}".strip()
    # JAX would catch SIGTERM for its own use, and a scheduler could not end the run.
    jax.config.update("jax_enable_preemption_service", False)
    try:
        jax.distributed.initialize(
            coordinator_address, num_processes, process_id, heartbeat_timeout_seconds=30
        )
    except jax.errors.JaxRuntimeError as error:
        raise ValueError(
            f"cannot begin a run of several processes at {coordinator_address} ({error}): is the port "
            "taken? Choose another with --coordinator-address"
        ) from error
    if not is_first():
        sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115 - for as long as the process lives


def _check_address(address: str) -> None:
    """Raises a ValueError unless an address is HOST:PORT, of a host that is known here."""
    parts = re.fullmatch(r"(?P<host>\[[\da-fA-F:.]+\]|[^\s:\[\]]+):(?P<port>\d{1,5})", address, re.ASCII)
    if parts is None or not 1 <= int(parts["port"]) <= 65535:
        raise ValueError(
            f"expected --coordinator-address to be HOST:PORT, the port from 1 to 65535, got {address!r}"
        )
    end = time.monotonic() + LONGEST_SEARCH
    while True:
        try:
            socket.getaddrinfo(parts["host"].strip("[]"), parts["port"])
            return
        except (OSError, UnicodeError) as error:
            if time.monotonic() >= end:
                raise ValueError(
                    f"no machine is known here by the host of --coordinator-address {address!r} ({error})"
                ) from error
        time.sleep(1)


def is_first() -> bool:
    """Whether this process is the one that writes results; alone it is."""
    return jax.process_index() == 0


def share(items: list[Any]) -> list[Any]:
    """This process's share of a list that is the same in all of them."""
    return items[jax.process_index() :: jax.process_count()]


def wait_for_all() -> None:
    """Waits until every process is here; ends this one, with a word, if another has died."""
    if jax.process_count() == 1:
        return
    with _all_alive():
        multihost_utils.sync_global_devices(f"wait {next(_waits)}")


def as_first_sees(value: Any) -> Any:
    """What the first process passes, in all of them: of a shared folder each may see another state."""
    if jax.process_count() == 1:
        return value
    text = np.frombuffer(json.dumps(value).encode(), np.uint8)
    with _all_alive():
        size = int(multihost_utils.broadcast_one_to_all(np.int32(len(text))))
        text = multihost_utils.broadcast_one_to_all(np.resize(text, size))
    return json.loads(np.asarray(text, np.uint8).tobytes())


@contextmanager
def _all_alive() -> Iterator[None]:
    """Ends this process, with a word, if one that it hears from has died."""
    try:
        yield
    except Exception as error:  # The collective's own; each platform has another.
        leave(
            "the other processes of this run are not to be reached; most likely one has ended early. "
            f"What is finished is stored, and the same command goes on. ({str(error)[:200]})"
        )


def by_first(write: Callable[P, None]) -> Callable[P, None]:
    """Lets the first process do something while the others wait for it.

    Returns:
        The function for all processes to call.
    """

    @functools.wraps(write)
    def in_all(*args: P.args, **kwargs: P.kwargs) -> None:
        if is_first():
            write(*args, **kwargs)
        wait_for_all()

    return in_all


def leave(message: str) -> NoReturn:
    """Ends this process with an error, without waiting for others of the run."""
    if _is_joined():
        message = f"process {jax.process_index()}: {message}"
        print(f"error: {message}", file=sys.stderr, flush=True)
        leave_silently(1)
    sys.exit(f"error: {message}")


def leave_silently(code: int) -> NoReturn:
    """Ends this process, without waiting for others of the run."""
    if _is_joined():
        os._exit(code)  # JAX would wait at the exit for processes that wait for this one.
    sys.exit(code)


def _is_joined() -> bool:
    return jax.distributed.is_initialized() and jax.process_count() > 1


def _is_one_of_several(environment: Mapping[str, str]) -> bool:
    started_by_srun = "SLURM_PROCID" in environment and "SLURM_STEP_NODELIST" in environment
    slurm = started_by_srun and int(environment.get("SLURM_NTASKS", "1")) > 1
    pod = "," in environment.get("TPU_WORKER_HOSTNAMES", "")
    return slurm or pod
