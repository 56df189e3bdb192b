"""Compiles the programs of experiments for accelerators that need not be there, and says what they hold.

    python -m experiments.benchmarks.compile_for tpu-v5e --json tpu-v5e.json
    python -m experiments.benchmarks.compile_for h100 --devices 8 --only train-resnet-20
    python -m experiments.benchmarks.compile_for here --smallest

A row is a program: whether it compiles, how long that takes on this machine, in seconds and in processor
seconds, which other work changes less, the bytes that a device holds, what the devices tell each other,
and the compiler's own estimate of a training step, where it gives one, with the number of operations
that it has none of. Nothing is run, so nothing is known of the time that it would really take. The
compilers are those of jax[tpu] and jax[cuda12], under Python 3.12 or newer (docs/accelerators.md).
"""

import json
import time
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import jax
import tyro

from experiments.benchmarks.measuring import Unavailable, compiling_anew
from experiments.benchmarks.programs import PROGRAMS, Place
from experiments.benchmarks.reading import bytes_held, collectives, estimated_seconds
from experiments.benchmarks.sizes import ACCELERATOR, SMALLEST
from experiments.benchmarks.targets import TARGETS, Target
from experiments.engine.experiment import errors_in_one_line
from experiments.options.checks import check_count, check_writable
from pruning.files.writing import write_atomically
from train.lookup import lookup
from train.lowering import LOWERINGS, lowered

LONGEST_REASON = 300
FIELDS = {
    *("networks", "trace_seconds", "compile_seconds", "compile_processor_seconds", "bytes"),
    *("collectives", "step_seconds"),
}
"""Of a row that has been compiled."""
HEADER = (
    "| program | networks | traced in, s | compiled in, s | of processors, s | "
    "a device: arguments, MB | results, MB | temporaries, MB | collectives, largest | "
    f"a step, estimated ms |\n{'|---' * 10}|"
)


@dataclass(frozen=True, kw_only=True)
class CompileFor:
    """Compile this project's programs for an accelerator, and read what they hold."""

    target: Annotated[str, tyro.conf.Positional]
    """tpu-v5e, tpu-v6e, a100, h100, or here: what JAX finds"""
    devices: int = 1
    """how many share a program"""
    only: tuple[str, ...] = ()
    """programs to compile; by default all"""
    json: Path | None = None
    """a file for what is found, written anew after each program; a run goes on where it stopped, so use
    another one after programs have changed"""
    smallest: bool = False
    """few members and short searches, to see that programs compile"""

    def __post_init__(self) -> None:
        """Raises a ValueError that names the option that is wrong."""
        lookup(TARGETS, self.target, "target")
        check_count("--devices", self.devices)
        for name in self.only:
            lookup(PROGRAMS, name, "program")


def main() -> None:
    """Runs what the command line asks for."""
    with errors_in_one_line(""):
        run(tyro.cli(CompileFor, description=__doc__))


def run(config: CompileFor) -> None:
    """Compiles programs, prints and stores what is found; raises a ValueError if some do not compile."""
    if config.json is not None:
        check_writable("--json", config.json)
    target: Target = TARGETS[config.target]
    if target.memory is not None:
        config_of_jax: Any = jax.config
        config_of_jax.update("jax_platforms", "cpu")  # The others would look for their devices.
    try:
        devices = target.devices(config.devices)
    except Unavailable as reason:
        raise ValueError(str(reason)) from reason
    sizes = SMALLEST if config.smallest else ACCELERATOR
    place = Place(devices, target.memory, sizes)
    machine: dict[str, Any] = {
        "jax": jax.__version__,
        "device": devices[0].device_kind,
        "devices": config.devices,
        "smallest": config.smallest,
    }
    rows = {} if config.json is None else _stored_rows(config.json, machine)
    print(f"jax {machine['jax']}, {config.devices} x {machine['device']}\n\n{HEADER}", flush=True)
    names = config.only or tuple(PROGRAMS)
    for name in names:
        if "failed" in rows.get(name, {"failed": ""}):
            with (
                compiling_anew(),
                nullcontext() if target.lowering is None else lowered(LOWERINGS[target.lowering]),
            ):
                rows[name] = compiled_row(name, place)
        print(_line(name, rows[name]), flush=True)
        if config.json is not None:
            content = machine | {"rows": rows}
            write_atomically(config.json, (json.dumps(content, indent=2) + "\n").encode())
    if failed := [name for name in names if "failed" in rows[name]]:
        raise ValueError(f"these programs do not compile: {', '.join(failed)}")


def _stored_rows(path: Path, machine: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """What a run before has found for the same devices."""
    if not path.exists():
        return {}
    try:
        stored = json.loads(path.read_text(encoding="utf-8"))
        rows = stored["rows"]
        known = all("failed" in row or row.keys() >= FIELDS for row in rows.values())
    except (ValueError, LookupError, TypeError, AttributeError):
        known = False
    if not known or stored != machine | {"rows": rows}:
        raise ValueError(
            f"{path} holds something else than programs for {machine['devices']} x {machine['device']} "
            f"under jax {machine['jax']}: choose another file with --json"
        )
    return rows


def compiled_row(name: str, place: Place) -> dict[str, Any]:
    """What is known of a program when it is compiled, or why it is not."""
    try:
        program = PROGRAMS[name](place)
        start = time.perf_counter()
        traced = program.lower()
        begin, computed = time.perf_counter(), time.process_time()
        compiled = traced.compile()
        row = {
            "networks": program.networks,
            "trace_seconds": begin - start,
            "compile_seconds": time.perf_counter() - begin,
            "compile_processor_seconds": time.process_time() - computed,
            "bytes": bytes_held(compiled),
            "collectives": collectives(compiled),
        }
        step = None if program.step is None else program.step().compile()
        return row | {"step_seconds": None if step is None else estimated_seconds(step)}
    except Exception as error:  # Compilers raise errors of many types, and the programs after it count.
        return {"failed": f"{type(error).__name__}: {str(error)[:LONGEST_REASON]}"}


def _line(name: str, row: dict[str, Any]) -> str:
    """A row of the table."""
    if "failed" in row:
        return f"| {name} | failed: {' '.join(row['failed'].split())} | | | | | | | | |"
    held = " | ".join(
        f"{row['bytes'][kind] / 1e6:.4g}" for kind in ("arguments", "results", "temporaries")
    )
    told = ", ".join(
        f"{found['count']} {kind} ({found['largest'] / 1e6:.3g} MB)"
        for kind, found in row["collectives"].items()
    )
    step = ""
    if row["step_seconds"] is not None:
        seconds, unknown = row["step_seconds"]
        step = f"{1e3 * seconds:.3g}" + (f" and {unknown} unknown" if unknown else "")
    return (
        f"| {name} | {row['networks']} | {row['trace_seconds']:.1f} | {row['compile_seconds']:.1f} | "
        f"{row['compile_processor_seconds']:.1f} | "
        f"{held} | {told or 'none'} | {step} |"
    )


if __name__ == "__main__":
    main()
