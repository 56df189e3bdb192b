"""Masks of params that are divided over devices: the same ones, and they lie as the params do."""

import json

import pytest

from tests.forced_devices import run_module


@pytest.mark.slow
@pytest.mark.parametrize(
    ("devices", "first", "last"),
    [
        (8, 0, 7),
        pytest.param(8, 7, 12, marks=pytest.mark.slow),
        pytest.param(4, 0, 12, marks=pytest.mark.slow),
    ],
)
def test_masks_of_divided_params(devices, first, last):
    arguments = (str(first), str(last))
    found = json.loads(
        run_module("tests.pruning.masks.selection_on_devices", *arguments, devices=devices)
    )
    assert len(found["right"]) == (last - first) * 3
    wrong = {where: result for where, result in found["right"].items() if not all(result.values())}
    assert wrong == {}
    # Counts of a leaf on each device, for three probes; the smallest leaf has 2,048 scores.
    exchanges = found["exchanges"].values()
    assert all(0 < exchange <= 3 * 4 * devices for exchange in exchanges)
    assert len(exchanges) == max(0, 4 - first) * 2
