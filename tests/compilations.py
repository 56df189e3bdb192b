"""Which programs XLA compiles.

JAX traces a function once for arguments of one kind, and compiles it once for each way that they are
placed: a program may be compiled anew without a trace, and only JAX's events say so. (The size of its
cache of calls does not: once, in a long process, it was 0 behind a program that had just run.)
"""

import gc
from collections.abc import Iterator
from contextlib import contextmanager

import jax

EVENT = "/jax/core/compile/backend_compile_duration"
MOST_HELD = 4000
_held = 0


def _count(event: str, _: float, **found: object) -> None:
    global _held
    _held += event == EVENT


jax.monitoring.register_event_duration_secs_listener(_count)


def let_programs_go() -> None:
    """Empties JAX's caches where many programs were compiled: each in them holds 1.3 MB."""
    global _held
    if _held > MOST_HELD:
        jax.clear_caches()
        gc.collect()
        _held = 0


@contextmanager
def compiled_programs() -> Iterator[list[str]]:
    """Collects the names of the functions that are compiled meanwhile, once for each time."""
    names = []

    def listen(event, _, **found):
        if event == EVENT:
            names.append(found["fun_name"].removeprefix("jit(").removesuffix(")"))

    jax.monitoring.register_event_duration_secs_listener(listen)
    try:
        yield names
    finally:
        jax.monitoring.unregister_event_duration_listener(listen)
