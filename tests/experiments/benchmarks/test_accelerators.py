"""What the compilers of accelerators say of this project's programs; no accelerator is needed for it.

The compilers need Python 3.12 or newer, and an environment of their own: docs/accelerators.md has its
command. In it, ``python -m pytest -m slow tests/experiments/benchmarks/test_accelerators.py``.
"""

import json
import os
import subprocess
import sys

import jax
import pytest

from experiments.benchmarks.programs import DIVIDED
from experiments.benchmarks.targets import TARGETS
from train.models import make_model, param_shapes

pytestmark = pytest.mark.slow

MEMBERS = ("train-lenet-300-100", "train-lenet-300-100-gated")
WHOLE = ("train-lenet-300-100", "selection")
SELECTED = 4 * 25_600_000


def compiled(target, folder, *options):
    """The rows of a command, by name; a skipped test where the compiler is not there."""
    out = folder / f"{target}.json"
    command = [sys.executable, "-m", "experiments.benchmarks.compile_for", target, "--json", out]
    environment = {key: value for key, value in os.environ.items() if key != "XLA_FLAGS"}
    done = subprocess.run([*command, *options], env=environment, capture_output=True, text=True)
    if "no compiler for" in done.stdout + done.stderr:
        pytest.skip(f"no compiler for {target} here (docs/accelerators.md says how to install it)")
    assert done.returncode == 0, (done.stdout + done.stderr)[-1000:]
    return json.loads(out.read_text())["rows"]


@pytest.fixture(scope="module", params=["tpu-v5e", "h100"])
def alone(request, tmp_path_factory):
    """A device's memory, and programs of their full size for it."""
    rows = compiled(request.param, tmp_path_factory.mktemp("alone"), "--only", *WHOLE)
    return TARGETS[request.param].memory, rows


@pytest.mark.parametrize("target", ["tpu-v5e", "h100"])
def test_members_on_several_devices_tell_each_other_nothing(target, tmp_path):
    rows = compiled(target, tmp_path, "--devices", "4", "--smallest", "--only", *MEMBERS)
    assert {name: rows[name]["collectives"] for name in MEMBERS} == {name: {} for name in MEMBERS}


def test_devices_that_share_a_batch_add_up_gradients_and_statistics_and_nothing_larger(tmp_path):
    row = compiled("h100", tmp_path, "--devices", "4", "--smallest", "--only", DIVIDED)[DIVIDED]
    model = make_model("resnet-20", num_classes=10)
    largest = max(leaf.size for leaf in jax.tree.leaves(param_shapes(model, (32, 32, 3))))
    assert row["networks"] == 1
    assert set(row["collectives"]) == {"all-reduce"}
    assert row["collectives"]["all-reduce"]["largest"] == 4 * largest


def test_as_many_as_train_together_fit_into_a_device(alone):
    memory, rows = alone
    for name in WHOLE:
        assert sum(rows[name]["bytes"].values()) < 0.8 * memory


def test_the_selection_holds_a_few_copies_of_the_scores_and_nothing_quadratic(alone):
    held = alone[1]["selection"]["bytes"]
    assert held["arguments"] < 1.2 * SELECTED
    assert held["temporaries"] < 3 * SELECTED
