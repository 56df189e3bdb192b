"""Members on several devices get the numbers that they get on one."""

import json
import os
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

from train.devices import dataset_on_every_device, members_mesh, on_every_device

from .test_population import dataset

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def found():
    flags = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count=8"
    done = subprocess.run(
        [sys.executable, "-m", "tests.train.on_devices"],
        cwd=ROOT,
        env=os.environ | {"XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize(
    "run",
    [
        "in_turn, 2 devices, 5 of 5",
        "in_turn, 4 devices, 8 of 8",
        "in_turn, 8 devices, 5 of 5",
        "in_turn, 8 devices, 3 of 5",
        "side_by_side, 4 devices, 5 of 5",
    ],
)
def test_the_numbers_are_those_of_one_device(found, run):
    """Also where the devices do not divide the members, and where not all members count."""
    one = found["in_turn, 1 devices, 5 of 5"]
    for values, expected in zip(found[run]["values"], one["values"], strict=True):
        common = min(len(values), len(expected))
        np.testing.assert_allclose(values[:common], expected[:common], rtol=1e-5, atol=1e-6)


def test_every_device_has_its_share(found):
    assert found["in_turn, 4 devices, 8 of 8"]["shards"] == [2, 2, 2, 2]


def test_the_program_is_compiled_once(found):
    assert {run["compilations"] for run in found.values()} == {1}
    assert {run["programs"] for run in found.values()} == {1}


def test_what_lies_on_the_devices_stays_there():
    placed = dataset_on_every_device(dataset())
    again = on_every_device(placed.train)
    assert again.images.unsafe_buffer_pointer() == placed.train.images.unsafe_buffer_pointer()
    assert members_mesh().size == len(jax.local_devices())
