"""What run a folder holds: its identity, its stored settings against those of today, and who ran it."""

import hashlib
import json
import os
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jax

from experiments.methods.spelling import VERSION
from experiments.report.config import Settings, flat, unequal


def identity(chosen: Settings) -> str:
    """A short hash of the settings that differ from their defaults, so that a new option moves no run."""
    canonical = json.dumps({"version": VERSION} | chosen, sort_keys=True)
    return hashlib.sha256(canonical.encode()).hexdigest()[:8]


def different_settings(there: Settings, here: Settings, unnamed: Settings) -> str | None:
    """In what a stored run differs from one that is asked for, in words that go on after its folder.

    Args:
        unnamed: What the stored run had of settings that it does not name; by default as here.

    Returns:
        None if the stored run can go on.
    """
    asked = flat(here)
    # A setting that did not exist then had its default, or follows from others.
    stored = asked | flat(unnamed) | flat(there)
    if stored.get("seed_keys") != asked.get("seed_keys"):
        return (
            "belongs to a run that was begun with other keys of its seeds, by an earlier version: its "
            "networks are not those of today, and are never mixed with them. Go on with that version, "
            "or start over with --fresh or another --out-dir"
        )
    differences = "; ".join(f"{name}: there {a!r}, here {b!r}" for name, a, b in unequal(stored, asked))
    if not differences:
        return None
    return (
        f"belongs to a run with other settings ({differences}): choose another with --out-dir, or leave "
        "it out"
    )


def what_runs() -> dict[str, Any]:
    """The code, the packages and the devices of this process."""
    packages = ("jax", "jaxlib", "flax", "optax", "numpy")
    return {
        "git_commit": _git_commit(),
        "versions": {"python": sys.version.split()[0]} | {name: version(name) for name in packages},
        "devices": [device.device_kind for device in jax.devices()],
        "cpu_cores": os.cpu_count(),
    }


def _git_commit() -> str | None:
    """The commit of this checkout, "-dirty" if files differ from it, or None outside one."""
    try:
        result = subprocess.run(
            ["git", "describe", "--always", "--abbrev=40", "--dirty", "--exclude=*"],
            cwd=Path(__file__).parent,
            capture_output=True,
            text=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return result.stdout.strip()
