"""The networks of the runs of a few methods and of all, which tests of methods begin again."""

import pytest

from experiments.engine.networks import Networks
from experiments.engine.run_folder import RunFolder
from experiments.methods import seeds
from experiments.methods.registry import METHODS, find_method
from tests.experiments.everything import FEW, Everything, points


@pytest.fixture(scope="module")
def networks(few):
    """Those of a few methods, trained."""
    return networks_of(few, FEW)


@pytest.fixture(scope="module")
def all_networks(everything):
    """Those of every method, trained."""
    return networks_of(everything, tuple(METHODS))


def networks_of(path, methods):
    options = Everything(methods=methods)
    found = Networks(options, options.load(), lambda study: points(options, study), find_method)
    settings = options.settings() | {"seed_keys": seeds.VERSION}
    found.open(RunFolder(path, settings, {}, fresh=False), 16)
    return found
