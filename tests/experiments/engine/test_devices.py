"""Experiments get the same numbers however they read their data, and on whatever devices they run."""

import numpy as np
import pytest

from experiments.report.stored_rows import read_rows
from tests.experiments.on_devices import TICKET
from tests.forced_devices import run_module
from tests.train.data.test_datasets import write_set


def run(folder, out_dir, *options, devices=1):
    """The results of both experiments, and what train_ticket printed."""
    said = run_module("tests.experiments.on_devices", folder, out_dir, *options, devices=devices)
    return [read_rows(out_dir / name / "results.parquet") for name in ("mark", "search")], said


@pytest.fixture(scope="module")
def sets(tmp_path_factory):
    import tensorflow_datasets as tfds

    folder = tmp_path_factory.mktemp("sets")
    image, label = tfds.features.Image(shape=(8, 8, 3)), tfds.features.ClassLabel(num_classes=3)
    write_set(folder, sizes=(100, 40), shape=(8, 8, 3), features={"image": image, "label": label})
    return folder


@pytest.mark.slow
def test_streamed_on_four_devices_two_to_a_network(sets, tmp_path):
    whole, _ = run(sets, tmp_path / "whole")
    options = ("--stream", "--devices-per-network", "2", "--lowering", "accelerator-in-turn")
    streamed, said = run(sets, tmp_path / "streamed", *options, devices=4)
    for here, there in zip(whole, streamed, strict=True):
        assert len(here) == len(there) > 3
        for one, other in zip(here, there, strict=True):
            assert {**one, **other}.keys() == one.keys()
            for name in one.keys() - {"seconds"}:
                if isinstance(one[name], float):
                    np.testing.assert_allclose(one[name], other[name], rtol=1e-4, err_msg=name)
                else:
                    assert one[name] == other[name], name
    (final,) = [r for r in streamed[1] if (r["method"], r["round"], r["epoch"]) == ("imp", 1, 2)]
    last = said.splitlines()[-1]
    assert last.endswith(f"test accuracy {final['test_accuracy']:.4f}"), (TICKET, last)
