"""One run of every method, which tests of methods, engine and report look at."""

import os

import pytest
from filelock import FileLock

from experiments.engine.experiment import run
from experiments.methods import mask_maker
from tests.experiments.everything import EXPERIMENT, Everything


def pytest_collection_modifyitems(items):
    """The file that makes the run comes first, so that no other process waits for it."""
    first = next((item.path for item in items if "everything" in item.fixturenames), None)
    items.sort(key=lambda item: item.path != first)


@pytest.fixture(scope="session")
def everything(tmp_path_factory):
    """The folder of the run; of several test processes the first one trains it."""
    root = tmp_path_factory.getbasetemp()
    root = root.parent if "PYTEST_XDIST_WORKER" in os.environ else root
    with FileLock(root / "everything.lock"), pytest.MonkeyPatch.context() as patch:
        patch.setattr(mask_maker, "EXAMPLES_PER_CLASS", 2)  # Some scores look at one after the other.
        return run(EXPERIMENT, Everything(out_dir=root / "everything"))
