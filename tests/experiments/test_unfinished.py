"""A chunk that is killed goes on from where it was last kept, to the same numbers."""

import dataclasses

import pytest

from experiments import stages
from experiments.run_folder import RunFolder
from experiments.stages import NamedMember, Stage, run_stage
from tests.train.test_population import member, population
from train.models import make_model

EPOCHS = 3


class Killed(Exception):
    pass


class Told:
    """A progress that notes what it is told, and dies after some epochs."""

    def __init__(self, dies_after=None):
        self.epochs, self.skipped, self.dies_after = [], 0, dies_after

    def skip(self, epochs):
        self.skipped += epochs

    def advance(self, name, members, epoch, epochs):
        self.epochs.append(epoch)
        if epoch == self.dies_after:
            raise Killed


@pytest.fixture
def stage():
    pop = population()
    named = [NamedMember(columns={"seed": seed}, member=member(pop, seed)) for seed in range(3)]
    return Stage(name="networks", population=pop, members=named, epochs=EPOCHS)


def folder(path, fresh=False):
    return RunFolder(path, {"settings": 1}, fresh=fresh)


def without_seconds(rows):
    key = lambda row: (row["member"], row["epoch"])  # noqa: E731
    return sorted(({**row, "seconds": 0} for row in rows), key=key)


def run(stage, path, dies_after=None, chunk_size=4):
    told = Told(dies_after)
    if dies_after is None:
        run_stage(stage, folder(path), told, chunk_size=chunk_size)
    else:
        with pytest.raises(Killed):
            run_stage(stage, folder(path), told, chunk_size=chunk_size)
    return told


@pytest.fixture
def keep_always(monkeypatch):
    monkeypatch.setattr(stages, "KEEP_AFTER_SECONDS", 0)


def test_a_killed_chunk_goes_on_to_the_same_numbers(stage, tmp_path, keep_always):
    run(stage, tmp_path / "whole")
    # Killed while the second epoch is told of: the first was kept.
    assert run(stage, tmp_path / "killed", dies_after=2).epochs == [1, 2]
    told = run(stage, tmp_path / "killed")
    assert (told.epochs, told.skipped) == ([2, 3], 3)
    whole, killed = (without_seconds(folder(tmp_path / name).rows()) for name in ("whole", "killed"))
    assert whole == killed
    assert len(whole) == 3 * EPOCHS
    assert not list((tmp_path / "killed" / "unfinished").iterdir())


def test_a_killed_chunk_goes_on_though_chunks_are_larger_now(stage, tmp_path, keep_always):
    run(stage, tmp_path / "whole")
    two = dataclasses.replace(stage, members=stage.members[1:])
    assert run(two, tmp_path / "killed", dies_after=2, chunk_size=2).epochs == [1, 2]
    # The two that were begun end first; then the third trains.
    told = run(stage, tmp_path / "killed")
    assert (told.epochs, told.skipped) == ([2, 3, 1, 2, 3], 2)
    whole, killed = (without_seconds(folder(tmp_path / name).rows()) for name in ("whole", "killed"))
    assert whole == killed


def test_a_killed_chunk_begins_anew_where_it_is_larger_than_asked(stage, tmp_path, keep_always):
    run(stage, tmp_path, dies_after=2)
    assert run(stage, tmp_path, chunk_size=3).epochs == [1, 2, 3]


def test_of_several_processes_each_goes_on_with_its_share(stage, tmp_path, keep_always, monkeypatch):
    run(stage, tmp_path, dies_after=2)
    monkeypatch.setattr(stages, "share", lambda items: items[1::2])
    assert run(stage, tmp_path).epochs == []  # The one chunk is the other's, with all that are in it.
    monkeypatch.setattr(stages, "share", lambda items: items[::2])
    assert run(stage, tmp_path).epochs == [2, 3]


def test_short_chunks_are_not_kept(stage, tmp_path):
    run(stage, tmp_path, dies_after=2)
    assert not (tmp_path / "unfinished").exists()
    assert run(stage, tmp_path).epochs == [1, 2, 3]


def test_a_chunk_of_others_begins_anew(stage, tmp_path, keep_always):
    run(stage, tmp_path, dies_after=2)
    others = dataclasses.replace(stage, members=stage.members[:2])
    assert run(others, tmp_path).epochs == [1, 2, 3]


def test_a_fresh_run_forgets_what_was_kept(stage, tmp_path, keep_always):
    run(stage, tmp_path, dies_after=2)
    assert list((tmp_path / "unfinished").iterdir())
    folder(tmp_path, fresh=True)
    assert not (tmp_path / "unfinished").exists()


@pytest.mark.parametrize("harm", ["cut short", "of another model"])
def test_what_cannot_be_used_is_removed_and_said(stage, tmp_path, keep_always, capsys, harm):
    run(stage, tmp_path, dies_after=2)
    (kept,) = (tmp_path / "unfinished").iterdir()
    if harm == "cut short":
        kept.write_bytes(kept.read_bytes()[:-10])
    else:
        wide = population(model=make_model("lenet-300-100", num_classes=4))
        named = [dataclasses.replace(n, member=member(wide, i)) for i, n in enumerate(stage.members)]
        stage = dataclasses.replace(stage, population=wide, members=named)
    assert run(stage, tmp_path).epochs == [1, 2, 3]
    assert "begins anew" in capsys.readouterr().out
