"""Runs of a few methods and of all, which tests of methods, engine and report look at."""

import os

import pytest
from filelock import FileLock

from experiments.engine.experiment import run
from experiments.methods import mask_maker
from experiments.methods.registry import METHODS
from tests.experiments.everything import EXPERIMENT, FEW, Everything


def pytest_collection_modifyitems(items):
    """The file that makes a run comes first, so that no other process waits for it."""
    runs = {"few", "everything"}
    first = next((item.path for item in items if runs & set(item.fixturenames)), None)
    items.sort(key=lambda item: item.path != first)


@pytest.fixture(scope="session")
def few(tmp_path_factory):
    """The folder of the run of a few methods."""
    return run_once(tmp_path_factory, "few", FEW)


@pytest.fixture(scope="session")
def everything(tmp_path_factory):
    """The folder of the run of all methods, for slow tests."""
    return run_once(tmp_path_factory, "everything", tuple(METHODS))


def run_once(tmp_path_factory, name, methods):
    """Of several test processes the first one trains the networks."""
    root = tmp_path_factory.getbasetemp()
    root = root.parent if "PYTEST_XDIST_WORKER" in os.environ else root
    with FileLock(root / f"{name}.lock"), pytest.MonkeyPatch.context() as patch:
        patch.setattr(mask_maker, "EXAMPLES_PER_CLASS", 2)  # Some scores look at one after the other.
        return run(EXPERIMENT, Everything(methods=methods, out_dir=root / name))
