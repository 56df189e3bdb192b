"""Experiments get the same numbers however they read their data, and on whatever devices they run."""

import sys

import numpy as np
import pyarrow.parquet as pq
import pytest

from experiments.engine import options as command_line
from experiments.train_ticket import TrainTicket
from tests.experiments.on_devices import TICKET
from tests.forced_devices import run_module
from tests.train.data.test_datasets import write_set
from train.lowering import LOWERINGS, lowering


def run(folder, out_dir, *options, devices=1):
    """The results of both experiments, and what train_ticket printed."""
    said = run_module("tests.experiments.on_devices", folder, out_dir, *options, devices=devices)
    tables = [pq.read_table(out_dir / name / "results.parquet") for name in ("mark", "search")]
    return [table.to_pylist() for table in tables], said.splitlines()[-1]


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
    streamed, ticket = run(sets, tmp_path / "streamed", *options, devices=4)
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
    assert ticket.endswith(f"test accuracy {final['test_accuracy']:.4f}"), (TICKET, ticket)


@pytest.mark.parametrize("name", LOWERINGS)
def test_the_lowering_of_the_command_line_holds_while_it_runs(name, monkeypatch):
    monkeypatch.setattr(command_line, "keep_compiled_programs", lambda: None)
    monkeypatch.setattr(sys, "argv", ["train_ticket", "a.safetensors", "--lowering", name])
    seen = []
    command_line.run_command(TrainTicket, lambda _: seen.append(lowering()), None)
    assert seen == [LOWERINGS[name]]


def test_an_unknown_lowering_ends_the_command_with_the_names(monkeypatch):
    monkeypatch.setattr(command_line, "keep_compiled_programs", lambda: None)
    monkeypatch.setattr(sys, "argv", ["train_ticket", "a.safetensors", "--lowering", "gpu"])
    with pytest.raises(SystemExit, match=r"unknown lowering 'gpu'.*accelerator-in-turn"):
        command_line.run_command(TrainTicket, lambda _: pytest.fail("ran"), None)
