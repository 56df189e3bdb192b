"""Params that are divided over devices: state and masks lie as they do, and steps compile once."""

import json

import pytest

from tests.forced_devices import run_module


@pytest.mark.parametrize("devices", [pytest.param(4, marks=pytest.mark.slow), 8])
@pytest.mark.slow
def test_transformations_of_divided_params(devices):
    found = json.loads(run_module("tests.pruning.transforms.transformations_on_devices", devices=devices))
    assert len(found) == 9 * 5
    wrong = {where: result for where, result in found.items() if not all(result.values())}
    assert wrong == {}
