"""A ticket trains again from its files, to the run's accuracy; what is no ticket is refused in a line."""

import itertools
import shutil

import numpy as np
import pytest
from safetensors.numpy import save

import pruning
from experiments import train_ticket
from experiments.engine.ticket_file import read_ticket
from experiments.train_ticket import TrainTicket, run
from pruning.files.sealed import unseal
from tests.damage import mutated
from tests.experiments.everything import EPOCH, rows_of
from train.data.datasets import load_dataset

LAST = 3 * EPOCH
NAME = "imp-round-1-seed-0"


@pytest.mark.parametrize(
    "name",
    [
        "imp-round-2",
        pytest.param("imp-continued-round-2", marks=pytest.mark.slow),
        pytest.param("learning-rate-rewinding-round-2", marks=pytest.mark.slow),
        pytest.param("imp-reinit-round-1", marks=pytest.mark.slow),
        pytest.param("cs-parallel-setting--0.01-round-1", marks=pytest.mark.slow),
        pytest.param("cs-sequential-setting-0.0-round-2", marks=pytest.mark.slow),
    ],
)
def test_a_ticket_trains_again_to_the_same_accuracy(few, name):
    found = {point.file_name: row for point, row in rows_of(few).items()}
    accuracy = run(TrainTicket(ticket=few / f"tickets/{name}-seed-0.safetensors"))
    assert accuracy == found[f"{name}-seed-0"]["test_accuracy"]


@pytest.fixture
def ticket(few, tmp_path):
    """A ticket whose file may be changed, and what it says."""
    (tmp_path / "tickets").mkdir()
    (tmp_path / "snapshots").symlink_to(few / "snapshots")
    path = tmp_path / "tickets" / f"{NAME}.safetensors"
    shutil.copy(few / "tickets" / path.name, path)
    return path, pruning.load_masks(path), pruning.load_metadata(path)


@pytest.mark.slow
def test_no_metadata_of_whatever_kind_is_a_crash(ticket, monkeypatch):
    """Each value replaced: a line that names the file, or a training; none is trained here."""

    class Trained(Exception):
        pass

    def train(*args, **kwargs):
        raise Trained

    digits = load_dataset("digits")
    known = lambda name, **knobs: digits if name == "digits" else load_dataset(name)  # noqa: E731
    monkeypatch.setattr(train_ticket, "stack_members", train)
    monkeypatch.setattr(train_ticket, "load_dataset", known)
    path, masks, metadata = ticket
    metadata["settings"] = {name: metadata["settings"][name] for name in ("dataset", "model", "recipe")}
    outcomes = {"refused": 0, "trained": 0}
    others = (other for other in mutated(metadata) if isinstance(other, dict))
    for other in itertools.islice(others, 0, None, 4):
        pruning.save_masks(path, masks, other)
        try:
            run(TrainTicket(ticket=path))
        except Trained:
            outcomes["trained"] += 1
        except ValueError as error:
            assert "\n" not in str(error)
            assert str(path) in str(error)
            outcomes["refused"] += 1
    # What is trained after all: rates, decays and flags that a recipe may have, and what is not read.
    assert outcomes["refused"] > outcomes["trained"] > 0


def starting(snapshot, step, at):
    return {"start": {"snapshot": snapshot, "snapshot_step": step, "step": at}}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"chunk_size": 10**9}, r"trained with 1000000000 networks at a time, of which \d+ fit"),
        (starting("../../x-seed-0", 0, 0), "name of a snapshot"),
        (starting("a/b-seed-0", 0, 0), "name of a snapshot"),
        (starting("dense-seed-1", 0, 0), "snapshot of seed 0"),
        (starting("dense-seed-0", 0, LAST), f"ends at step {LAST}"),
        (starting("dense-seed-0", 9, 3), "step-9.* is gone"),
        ({"network": {"seed": 0, "learning_rate": "fast"}}, "holds other masks .*recipe"),
    ],
)
def test_what_a_ticket_may_not_say(ticket, change, message):
    path, masks, metadata = ticket
    pruning.save_masks(path, masks, metadata | change)
    with pytest.raises(ValueError, match=message):
        run(TrainTicket(ticket=path))


def test_a_ticket_of_a_sweep_is_trained_with_its_own_rate(ticket):
    path, masks, metadata = ticket
    network = metadata["network"] | {"learning_rate": 0.25}
    pruning.save_masks(path, masks, metadata | {"network": network})
    assert read_ticket(path).recipe.learning_rate == 0.25


def test_other_masks_are_no_ticket(ticket, tmp_path):
    path, masks, metadata = ticket
    pruning.save_masks(tmp_path / "masks", {"w": np.ones((2, 2), bool)})
    with pytest.raises(ValueError, match="expected the ticket of a ticket_search"):
        run(TrainTicket(ticket=tmp_path / "masks"))
    masks["dense1"]["kernel"] = None
    pruning.save_masks(path, masks, metadata)
    with pytest.raises(ValueError, match="lacks the mask of a layer of lenet-300-100"):
        run(TrainTicket(ticket=path))


def test_a_ticket_and_snapshots_from_before_there_were_checksums(ticket, few):
    path, _, _ = ticket
    (path.parents[1] / "snapshots").unlink()
    (path.parents[1] / "snapshots").mkdir()
    snapshot = few / "snapshots" / "dense-sparsity-0.0-seed-0-step-3.safetensors"
    for file, names in ((path, ("format", "leaves", "metadata")), (snapshot, ("network", "step"))):
        tensors, metadata, _ = unseal(file, names)
        other = path.parents[1] / file.parent.name / file.name
        other.write_bytes(save(tensors, metadata if file == path else None))
    found = {point.file_name: row for point, row in rows_of(few).items()}
    assert run(TrainTicket(ticket=path)) == found[NAME]["test_accuracy"]
