"""A chunk that is killed goes on from where it was last kept, to the same numbers."""

import dataclasses
import json

import jax
import pytest
from safetensors.numpy import save

from experiments.engine import stage as stages
from experiments.engine.stage import Stage, run_stage
from experiments.engine.unfinished import Chunk, UnfinishedChunk, unfinished_chunks
from experiments.methods.point import Point
from pruning.files.sealed import seal, unseal
from tests.damage import mutated
from tests.experiments.made_up import folder
from tests.train.populations.test_population import member, ordinary
from train.populations.population import stack_members

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


@pytest.fixture(scope="module")
def stage():
    """One for all tests: what it trains with is compiled once."""
    return stage_of(ordinary())


def stage_of(pop):
    def begun(point):
        started = pop.start(stack_members([member(pop, point.seed)]))
        return jax.tree.map(lambda leaf: leaf[0], started)

    return Stage(
        name="networks",
        population=pop,
        points=[Point("random", sparsity_target=0.5, seed=seed) for seed in range(3)],
        member=lambda point: member(pop, point.seed),
        start=begun,
        at_stop=lambda *_: None,
        first_step=0,
        epochs=EPOCHS,
    )


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


@pytest.mark.slow
def test_a_killed_chunk_goes_on_though_chunks_are_larger_now(stage, tmp_path, keep_always):
    run(stage, tmp_path / "whole")
    two = dataclasses.replace(stage, points=stage.points[1:])
    assert run(two, tmp_path / "killed", dies_after=2, chunk_size=2).epochs == [1, 2]
    # The two that were begun end first; then the third trains.
    told = run(stage, tmp_path / "killed")
    assert (told.epochs, told.skipped) == ([2, 3, 1, 2, 3], 2)
    whole, killed = (without_seconds(folder(tmp_path / name).rows()) for name in ("whole", "killed"))
    assert whole == killed


@pytest.mark.slow
def test_a_killed_chunk_begins_anew_where_it_is_larger_than_asked(stage, tmp_path, keep_always):
    run(stage, tmp_path, dies_after=2)
    assert run(stage, tmp_path, chunk_size=2).epochs == [1, 2, 3] * 2


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
    others = dataclasses.replace(stage, points=stage.points[:2])
    assert run(others, tmp_path).epochs == [1, 2, 3]


def test_a_fresh_run_forgets_what_was_kept(stage, tmp_path, keep_always):
    run(stage, tmp_path, dies_after=2)
    assert list((tmp_path / "unfinished").iterdir())
    folder(tmp_path, fresh=True)
    assert not (tmp_path / "unfinished").exists()


def kept_by_a_killed_run(stage, path):
    run(stage, path, dies_after=2)
    (kept,) = (path / "unfinished").iterdir()
    states, metadata, _ = unseal(kept, ("progress",))
    return kept, states, json.loads(metadata["progress"])


@pytest.mark.slow
def test_no_content_of_whatever_kind_goes_on(stage, tmp_path, keep_always, capsys):
    """A valid file whose contents are wrong: each value replaced; the chunk begins anew, with a word."""
    kept, states, progress = kept_by_a_killed_run(stage, tmp_path)
    chunk = Chunk(tuple(progress["members"]), progress["size"])
    template = jax.eval_shape(
        stage.population.start, stack_members([stage.member(stage.points[i]) for i in (0, 1, 2, 2)])
    )
    columns = [point._asdict() for point in stage.points]

    def load():
        chunks = unfinished_chunks(folder(tmp_path))
        progress = UnfinishedChunk(folder(tmp_path), chunk).load(template, columns, stage.ends[:-1])
        return chunks, progress

    rows = progress["rows"]
    others = mutated(progress | {"rows": rows[:1]})
    others = [other | {"rows": [*other["rows"], *rows[1:]]} for other in others if _has_rows(other)]
    others += [progress | {"rows": other} for other in (None, 1, [], {}, [[]], [None] * len(rows))]
    others += [progress | {"step": step} for step in (0, 1, stage.ends[-1], 10**6, -stage.ends[0])]
    others += [None, 5, [], {}]
    capsys.readouterr()
    went_on = 0
    others = others[::3]  # In which each kind is met.
    for other in others:
        kept.write_bytes(seal(states, {"progress": json.dumps(other)}))
        chunks, found = load()
        said = capsys.readouterr().out
        if found is None:
            assert said.startswith("a chunk of networks begins anew: ") or chunks != [chunk]
            assert str(kept) in said or chunks
        else:
            # Numbers of rows may be any number.
            assert isinstance(found.rows[0]["train_loss"], int | float)
            went_on += 1
    assert went_on < len(others) / 4


def _has_rows(other):
    return isinstance(other, dict) and isinstance(other.get("rows"), list)


@pytest.mark.parametrize(
    ("harm", "because"),
    [
        ("cut short", "not a readable safetensors file"),
        ("of another model", "expected float32[4, 300]"),
        ("a folder", "is a folder"),
        ("without a checksum", "has no checksum"),
    ],
)
def test_what_cannot_be_used_is_removed_and_said(stage, tmp_path, keep_always, capsys, harm, because):
    run(stage, tmp_path, dies_after=2)
    (kept,) = (tmp_path / "unfinished").iterdir()
    states, metadata, _ = unseal(kept, ("progress",))
    if harm == "cut short":
        kept.write_bytes(kept.read_bytes()[:-10])
    elif harm == "a folder":
        kept.unlink()
        (kept / "inside").mkdir(parents=True)
    elif harm == "without a checksum":
        kept.write_bytes(save(states, metadata))
    else:  # As many networks, of another width.
        narrow = {name: leaf[:, :-1].copy() if leaf.ndim > 1 else leaf for name, leaf in states.items()}
        kept.write_bytes(seal(narrow, metadata))
    assert run(stage, tmp_path).epochs == [1, 2, 3]
    said = capsys.readouterr().out
    assert "begins anew" in said
    assert because in said
