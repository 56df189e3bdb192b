"""Members on several devices get the numbers that they get on one."""

import json

import jax
import numpy as np
import pytest

from tests.forced_devices import run_module
from tests.train.populations.test_population import dataset
from train.populations.devices import dataset_on_every_device, device_mesh, on_every_device


@pytest.fixture(scope="module")
def found():
    return json.loads(run_module("tests.train.populations.on_devices", devices=8))


@pytest.fixture(scope="module")
def runs(found):
    return {name: run for name, run in found.items() if name != "collectives"}


@pytest.mark.parametrize(
    "run",
    [
        "dense, in_turn, 8 devices, 1 each, 5 of 5",
        "dense, in_turn, 8 devices, 1 each, 3 of 5",
        "dense, side_by_side, 4 devices, 1 each, 8 of 8",
        "dense, side_by_side, 4 devices, 1 each, 5 of 8",
        "convolutional, side_by_side, 8 devices, 4 each, 3 of 3",
        "convolutional, side_by_side, 8 devices, 4 each, 1 of 3",
        "convolutional, in_turn, 4 devices, 2 each, 3 of 3",
        "dense, in_turn, 4 devices, 2 each, 3 of 3, streamed",
    ],
)
def test_the_numbers_are_those_of_one_device(runs, run):
    """Also where the devices do not divide the members, and where not all members count."""
    model = run.split(",")[0]
    one = next(result for name, result in runs.items() if name.startswith(f"{model}, in_turn, 1 dev"))
    for values, expected in zip(runs[run]["values"], one["values"], strict=True):
        common = min(len(values), len(expected))
        np.testing.assert_allclose(values[:common], expected[:common], rtol=1e-5, atol=2e-6)


def test_every_device_has_its_share(runs):
    assert runs["dense, side_by_side, 4 devices, 1 each, 8 of 8"]["shards"] == [2, 2, 2, 2]


def test_how_many_fit_is_found_on_any_devices(runs):
    assert {run["fit"] for run in runs.values()} == {4}


def test_the_program_is_compiled_once(runs):
    assert {run["compilations"] for run in runs.values()} == {1}
    assert {run["programs"] for run in runs.values()} == {1}


@pytest.mark.parametrize("lowering", ["accelerator", "tpu"])
def test_devices_add_up_where_they_share_batches_and_tell_each_other_nothing_else(lowering, found):
    assert found["collectives"][lowering] == {"1": [], "2": ["all-reduce"]}


@pytest.mark.parametrize("each", [0, 3])
def test_devices_that_cannot_be_divided_are_an_error(each):
    with pytest.raises(ValueError, match=f"divide the 4 of this process, got {each}"):
        device_mesh([None] * 4, devices_per_member=each)


def test_what_lies_on_the_devices_stays_there():
    placed = dataset_on_every_device(dataset(), device_mesh())
    again = on_every_device(placed.train)
    assert again.images.unsafe_buffer_pointer() == placed.train.images.unsafe_buffer_pointer()
    assert device_mesh().size == len(jax.local_devices())
