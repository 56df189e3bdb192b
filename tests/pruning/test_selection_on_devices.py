"""Scores that are divided over devices get the masks that they get on one, divided likewise."""

import json

from tests.forced_devices import run_module


def test_divided_scores_get_the_same_masks():
    found = json.loads(run_module("tests.pruning.on_devices", devices=4))
    assert len(found) == 4
    assert all(result == [True, True] for result in found.values()), found
