"""The networks of the run of every method, which tests of methods begin again."""

import pytest

from experiments.engine.networks import Networks
from experiments.engine.run_folder import RunFolder
from experiments.methods import seeds
from experiments.methods.registry import find_method
from tests.experiments.everything import Everything, points


@pytest.fixture(scope="module")
def networks(everything):
    """All of them are trained."""
    options = Everything()
    found = Networks(options, options.load(), lambda study: points(options, study), find_method)
    settings = options.settings() | {"seed_keys": seeds.VERSION}
    found.open(RunFolder(everything, settings, {}, fresh=False), 16)
    return found
