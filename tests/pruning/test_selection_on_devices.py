"""Masks of params that are divided over devices: the same ones, and they lie as the params do."""

import json

import pytest

from tests.forced_devices import run_module


@pytest.mark.parametrize("devices", [pytest.param(4, marks=pytest.mark.slow), 8])
def test_masks_of_divided_params(devices):
    found = json.loads(run_module("tests.pruning.on_devices", devices=devices))
    assert len(found["right"]) == 10 * 3
    wrong = {where: result for where, result in found["right"].items() if not all(result.values())}
    assert wrong == {}
    # Counts of a leaf on each device, for three probes; the smallest leaf has 2,048 scores.
    assert min(found["exchanges"].values()) > 0
    assert max(found["exchanges"].values()) <= 3 * 4 * devices
