"""Members on several devices get the numbers that they get on one."""

import json

import jax
import numpy as np
import pytest

from tests.forced_devices import run_module
from tests.train.populations.test_population import dataset
from train.populations.devices import dataset_on_every_device, device_mesh, on_every_device


def found(what):
    return json.loads(run_module("tests.train.populations.on_devices", what, devices=8))


@pytest.fixture(scope="module")
def few():
    return found("few")


@pytest.fixture(scope="module")
def every():
    return found("all")


@pytest.fixture(scope="module")
def runs(every):
    return {name: run for name, run in every.items() if name != "collectives"}


def assert_as_on_one_device(runs, name):
    model = name.split(",")[0]
    one = next(result for run, result in runs.items() if run.startswith(f"{model}, in_turn, 1 dev"))
    for values, expected in zip(runs[name]["values"], one["values"], strict=True):
        common = min(len(values), len(expected))
        np.testing.assert_allclose(values[:common], expected[:common], rtol=1e-5, atol=2e-6)


@pytest.mark.slow
@pytest.mark.parametrize("count", [5, 3])
def test_members_of_eight_devices_have_the_numbers_of_one(few, count):
    """Also where not all members count."""
    assert_as_on_one_device(few, f"dense, in_turn, 8 devices, 1 each, {count} of 5")


@pytest.mark.slow
@pytest.mark.parametrize(
    "run",
    [
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
    assert_as_on_one_device(runs, run)


@pytest.mark.slow
def test_every_device_has_its_share(runs):
    assert runs["dense, side_by_side, 4 devices, 1 each, 8 of 8"]["shards"] == [2, 2, 2, 2]


@pytest.mark.slow
def test_how_many_fit_is_found_on_any_devices(runs):
    assert {run["fit"] for run in runs.values()} == {4}


@pytest.mark.slow
def test_the_program_is_compiled_once(few):
    assert {run["compilations"] for run in few.values()} == {1}
    assert {run["programs"] for run in few.values()} == {1}


@pytest.mark.slow
def test_each_of_all_the_programs_is_compiled_once(runs):
    assert {run["compilations"] for run in runs.values()} == {1}
    assert {run["programs"] for run in runs.values()} == {1}


@pytest.mark.slow
@pytest.mark.parametrize("lowering", ["accelerator", "tpu"])
def test_devices_add_up_where_they_share_batches_and_tell_each_other_nothing_else(lowering, every):
    assert every["collectives"][lowering] == {"1": [], "2": ["all-reduce"]}


@pytest.mark.parametrize("each", [0, 3])
def test_devices_that_cannot_be_divided_are_an_error(each):
    with pytest.raises(ValueError, match=f"divide the 4 of this process, got {each}"):
        device_mesh([None] * 4, devices_per_member=each)


def test_what_lies_on_the_devices_stays_there():
    placed = dataset_on_every_device(dataset(), device_mesh())
    again = on_every_device(placed.train)
    assert again.images.unsafe_buffer_pointer() == placed.train.images.unsafe_buffer_pointer()
    assert device_mesh().size == len(jax.local_devices())
