"""The ticket search end to end on a small scale: who is trained, from where, and again from files."""

import dataclasses
import itertools
import shutil
import warnings
from pathlib import Path

import jax
import numpy as np
import optax
import pyarrow.parquet as pq
import pytest
from safetensors.numpy import save

import pruning
from experiments import ticket_search, train_ticket
from experiments.engine.run_folder import RunFolder
from experiments.programs import begun_at
from experiments.ticket_options import TicketSearch
from experiments.ticket_plan import CHAIN_OF, METHODS, Place, Start, place_of
from experiments.ticket_states import TicketStates
from experiments.train_ticket import TrainTicket
from pruning.files.sealed import unseal
from tests.damage import mutated
from train.data.datasets import load_dataset
from train.populations.population import stack_members

EPOCH = 23  # steps, of digits
CONFIG = TicketSearch(
    seeds=1, rounds=2, epochs=2, starts=(-0.01, 0.02), sequential_rounds=2, rewind_step=3, chunk_size=4
)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    path = tmp_path_factory.mktemp("tickets") / "run"
    return ticket_search.run(dataclasses.replace(CONFIG, out_dir=path))


@pytest.fixture(scope="module")
def rows(finished):
    return pq.read_table(finished / "results.parquet").to_pylist()


def final(rows, method):
    return {
        (row["round"], row["start"]): row
        for row in rows
        if row["method"] == method and row["epoch"] == CONFIG.epochs
    }


def test_every_ticket_is_there(rows):
    for method in METHODS[:4]:
        assert set(final(rows, method)) == {(1, None), (2, None)}
    assert set(final(rows, "cs-search")) == {(1, -0.01), (1, 0.02), (1, 0.0), (2, 0.0)}
    assert set(final(rows, "cs-parallel")) == {(1, -0.01), (1, 0.02)}
    assert set(final(rows, "cs-sequential")) == {(1, 0.0), (2, 0.0)}


def test_sparsities_are_those_of_the_rounds(rows):
    size = 64 * 300 + 300 * 100 + 100 * 10
    kept = size - int(0.2 * size)
    for method in METHODS[:4]:
        found = final(rows, method)
        assert found[1, None]["sparsity"] == pytest.approx(1 - kept / size, abs=1e-6)
        assert found[2, None]["sparsity"] == pytest.approx(1 - (kept - int(0.2 * kept)) / size, abs=1e-6)


def test_a_ticket_has_the_sparsity_of_its_search(rows):
    searched = final(rows, "cs-search")
    for method in ("cs-parallel", "cs-sequential"):
        for place, row in final(rows, method).items():
            assert row["sparsity"] == pytest.approx(searched[place]["sparsity"], abs=1e-6)
    assert searched[1, -0.01]["sparsity"] > searched[1, 0.02]["sparsity"]
    assert searched[2, 0.0]["sparsity"] > searched[1, 0.0]["sparsity"]


def states_of(finished):
    config = dataclasses.replace(CONFIG, out_dir=finished)
    search = ticket_search.Search(config, load_dataset("digits"))
    folder = RunFolder(finished, config.settings(), fresh=False)
    return TicketStates(search.plan, search.static, search.soft, folder, chunk_size=4)


def named(members, method, start=None):
    (found,) = [m for m in members if (m.columns["method"], m.columns["start"]) == (method, start)]
    return found


def test_masks_and_weights_are_where_they_should_come_from(finished):
    """Round 2 of imp: the mask from the end of its round 1, the weights from step 3 of the dense run."""
    states = states_of(finished)
    first = states.static_snapshots.load(Place("imp", 1, None, 0).name, 2 * EPOCH)
    ticket = finished / "tickets" / "imp-round-2-seed-0.safetensors"
    masks = pruning.load_masks(ticket, first.params)
    before = jax.tree.map(np.asarray, pruning.get_masks(first.opt_state))
    expected = pruning.prune_remaining(pruning.magnitude_scores(first.params), before, 0.2)
    jax.tree.map(np.testing.assert_array_equal, masks, expected)


def test_where_networks_begin(finished):
    plan = states_of(finished).plan
    second = plan.iterative(2)
    assert plan.start_of(named(second, "imp")) == Start("dense-round-0-seed-0", 3, 3)
    assert plan.start_of(named(second, "imp-continued")) == Start("dense-round-0-seed-0", 3, 3)
    assert plan.start_of(named(second, "imp-reinit")) == Start("imp-reinit-round-0-seed-0", 0, 0)
    before = "learning-rate-rewinding-round-1-seed-0"
    assert plan.start_of(named(second, "learning-rate-rewinding")) == Start(before, 2 * EPOCH, 0)
    search = "cs-search-start--0.01-round-1-seed-0"
    assert plan.start_of(named(plan.tickets(), "cs-parallel", -0.01)) == Start(search, 3, 3)
    assert CHAIN_OF["imp-continued"] == "learning-rate-rewinding"
    from_init = dataclasses.replace(plan, rewind_step=0)
    assert from_init.start_of(named(plan.tickets(), "cs-parallel", -0.01)) == Start(
        "dense-round-0-seed-0", 0, 0
    )


def test_early_weights_are_those_of_the_search_and_reinitialised_ones_are_other(finished):
    load = states_of(finished).static_snapshots.load
    dense, search, initial, other = (
        load(name, step).params["dense1"]["kernel"]
        for name, step in (
            ("dense-round-0-seed-0", 3),
            ("cs-search-start--0.01-round-1-seed-0", 3),
            ("dense-round-0-seed-0", 0),
            ("imp-reinit-round-0-seed-0", 0),
        )
    )
    assert 0 < np.abs(dense - search).max() < 0.1 < np.abs(initial - other).max()


def test_the_second_round_goes_on_with_the_weights_and_the_papers_gates(finished):
    states = states_of(finished)
    member = named(states.plan.searches(2), "cs-search", 0.0)
    before = states.soft_snapshots.load(Place("cs-search", 1, 0.0, 0).name, 2 * EPOCH)
    begun = states.soft_start(member)
    jax.tree.map(np.testing.assert_array_equal, begun.params.params, before.params.params)
    expected = pruning.next_round(before.params.gates, 200.0, initial=0.0)
    jax.tree.map(np.testing.assert_array_equal, begun.params.gates, expected)
    assert begun.step == 0
    assert not any(np.any(leaf) for leaf in jax.tree.leaves(begun.opt_state))


def test_only_what_others_begin_with_is_kept(finished):
    names = {file.name.split("-round")[0] for file in (finished / "snapshots").iterdir()}
    kept = {"dense", "imp", "imp-reinit", "learning-rate-rewinding"}
    assert names == kept | {f"cs-search-start-{start}" for start in (-0.01, 0.0, 0.02)}


def test_tickets_may_be_rewound_to_initialization(tmp_path):
    config = dataclasses.replace(
        CONFIG, out_dir=tmp_path / "run", rewind_step=0, rounds=1, methods=("imp", "cs-parallel")
    )
    path = ticket_search.run(config)
    found = pq.read_table(path / "results.parquet").to_pylist()
    assert set(final(found, "cs-parallel")) == {(1, -0.01), (1, 0.02)}
    assert [row["epoch"] for row in found if row["method"] == "imp"] == [1, 2]


def test_one_seed_does_not_say_which_tickets_are_level(finished):
    assert "| one seed cannot tell |" in (finished / "summary.md").read_text()


@pytest.mark.parametrize(
    ("damage", "what"), [(Path.unlink, "gone"), (lambda file: file.write_bytes(b"half"), "damaged")]
)
def test_a_snapshot_that_is_gone_or_damaged_is_an_error_and_no_finding(finished, tmp_path, damage, what):
    path = tmp_path / "run"
    shutil.copytree(finished, path)
    (path / "summary.md").unlink()
    damage(path / "snapshots" / f"imp-round-1-seed-0-step-{2 * EPOCH}.safetensors")
    for part in (path / "parts").iterdir():
        if any(row["round"] == 2 for row in pq.read_table(part).to_pylist()):
            part.unlink()
    with pytest.raises(ValueError, match=f"imp-round-1-seed-0-step-46.* is {what}"):
        ticket_search.run(dataclasses.replace(CONFIG, out_dir=path))


def test_a_search_whose_gates_diverged_is_no_ticket_and_no_crash(finished, tmp_path):
    path = tmp_path / "run"
    shutil.copytree(finished, path)
    states = states_of(path)
    member = named(states.plan.tickets(), "cs-parallel", -0.01)
    place = Place("cs-search", 1, -0.01, 0)
    state = states.soft_snapshots.load(place.name, 2 * EPOCH)
    gates = jax.tree.map(lambda gate: np.full_like(gate, np.nan), state.params.gates)
    broken = state._replace(params=state.params._replace(gates=gates))
    states.soft_snapshots.save(place.name, 2 * EPOCH, broken)
    assert "has diverged" in states_of(path).why_useless(member, ())
    assert states_of(finished).why_useless(member, ()) is None


def test_a_fresh_start_leaves_nothing_of_the_old(finished, tmp_path):
    path = tmp_path / "run"
    shutil.copytree(finished, path)
    RunFolder(path, dataclasses.replace(CONFIG, out_dir=path).settings(), fresh=True)
    assert not list((path / "parts").iterdir())
    assert not (path / "snapshots").exists()
    assert not (path / "tickets").exists()


@pytest.mark.parametrize(
    ("name", "method", "place"),
    [
        ("imp-round-2-seed-0", "imp", (2, None)),
        ("imp-continued-round-2-seed-0", "imp-continued", (2, None)),
        ("learning-rate-rewinding-round-2-seed-0", "learning-rate-rewinding", (2, None)),
        ("imp-reinit-round-1-seed-0", "imp-reinit", (1, None)),
        ("cs-parallel-start--0.01-round-1-seed-0", "cs-parallel", (1, -0.01)),
        ("cs-sequential-start-0.0-round-2-seed-0", "cs-sequential", (2, 0.0)),
    ],
)
def test_a_ticket_trains_again_from_its_files_to_the_same_accuracy(finished, rows, name, method, place):
    accuracy = train_ticket.run(TrainTicket(ticket=finished / "tickets" / f"{name}.safetensors"))
    assert accuracy == final(rows, method)[place]["test_accuracy"]


def test_an_interrupted_search_goes_on_after_the_last_finished_round(finished, rows, tmp_path, capsys):
    """A run of one round is the beginning of a run of two, and stops where the latter goes on."""
    path = tmp_path / "run"
    config = dataclasses.replace(CONFIG, out_dir=path)
    folder = RunFolder(path, config.settings(), fresh=False)
    # What the finished run had stored when its first round was over.
    first = [row for row in rows if row["round"] <= 1 and row["method"] in ("dense", *METHODS[:4])]
    extra = ("experiment", "dataset", "model", "sparsity_target")
    folder.save_part([{k: v for k, v in row.items() if k not in extra} for row in first])
    (path / "snapshots").mkdir()
    for file in (finished / "snapshots").iterdir():
        if file.name.startswith(
            ("dense", "imp-reinit-round-0", "imp-round-1", "learning-rate-rewinding-")
        ):
            (path / "snapshots" / file.name).write_bytes(file.read_bytes())
    capsys.readouterr()
    ticket_search.run(config)
    out = capsys.readouterr().out
    assert "networks with masks 1, with gates 1" in out
    again = pq.read_table(path / "results.parquet").to_pylist()
    without = ("seconds", "untrained_because")
    strip = lambda row: {k: v for k, v in row.items() if k not in without}  # noqa: E731
    assert [strip(row) for row in again] == [strip(row) for row in rows]


def test_a_finished_search_prints_its_summary(finished, capsys):
    ticket_search.run(dataclasses.replace(CONFIG, out_dir=finished))
    out = capsys.readouterr().out
    assert "## Where iterative pruning by magnitude turns" in out
    assert "compiled" not in out
    for name in ("tickets.png", "cost.svg"):
        assert (finished / name).stat().st_size > 10_000


def test_a_search_that_empties_the_network_ends_and_says_so(tmp_path):
    config = dict(methods=("cs-parallel", "cs-sequential"), starts=(-5.0, 0.02), sequential_start=-5.0)
    with pytest.warns(UserWarning, match="gates that begin at -5 and do not move shrink"):
        config = dataclasses.replace(CONFIG, out_dir=tmp_path / "run", **config)
    path = ticket_search.run(config)
    found = pq.read_table(path / "results.parquet").to_pylist()
    untrained = {
        (row["method"], row["round"], row["start"]): row["untrained_because"]
        for row in found
        if row["untrained_because"]
    }
    layers = ", ".join(f"['dense{number}']['kernel']" for number in (1, 2, 3))
    emptied = f"the mask leaves nothing of {layers}"
    assert untrained == {
        ("cs-search", 2, -5.0): emptied,
        ("cs-parallel", 1, -5.0): emptied,
        ("cs-sequential", 1, -5.0): emptied,
        ("cs-sequential", 2, -5.0): "the rounds before have ended without a useful ticket",
    }
    assert set(final(found, "cs-parallel")) == {(1, 0.02)}
    assert (
        "- cs-sequential/none/1/-5.0/0: the mask leaves nothing of" in (path / "summary.md").read_text()
    )


def test_a_rewound_network_knows_its_place_in_the_schedule():
    config = dataclasses.replace(CONFIG)
    search = ticket_search.Search(config, load_dataset("digits"))
    member = search.plan.dense()[0].member
    template = jax.tree.map(lambda leaf: leaf[0], search.static.start(stack_members([member])))
    masks = pruning.random_masks(jax.random.key(0), template.params, 0.5)
    state = begun_at(template, template, 7, masks)
    counts = jax.tree.leaves(
        optax.tree.get(state.opt_state, "count", filtering=lambda path, _: "Schedule" in str(path))
    )
    assert [int(count) for count in counts] == [7]
    assert int(state.step) == 7
    jax.tree.map(np.testing.assert_array_equal, pruning.get_masks(state.opt_state), masks)
    pruned = pruning.apply_masks(template.params, masks)
    jax.tree.map(np.testing.assert_array_equal, state.params, pruned)


def test_layers_may_be_ranked_by_themselves_and_the_output_layer_less(tmp_path):
    config = dataclasses.replace(
        CONFIG,
        out_dir=tmp_path / "run",
        methods=("imp",),
        rounds=1,
        by_layer=True,
        output_fraction=0.1,
        criterion="movement",
    )
    path = ticket_search.run(config)
    masks = pruning.load_masks(path / "tickets" / "imp-round-1-seed-0.safetensors")
    removed = [float(1 - np.mean(masks[layer]["kernel"])) for layer in ("dense1", "dense2", "dense3")]
    np.testing.assert_allclose(removed, [0.2, 0.2, 0.1], atol=1e-6)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"methods": ("lottery",)}, "unknown method"),
        ({"criterion": "size"}, "unknown criterion"),
        ({"fraction": 1.0}, "--fraction in"),
        ({"output_fraction": 0.1}, "--output-fraction needs --by-layer"),
        ({"final_temperature": 0.0}, "--final-temperature > 0"),
        ({"penalty": -1.0}, "--penalty >= 0"),
        ({"starts": (-100.0,)}, "--starts of at least -80"),
        ({"sequential_start": -100.0}, "--sequential-start of at least -80"),
        ({"starts": (0.0, 0.0)}, "different --starts"),
        ({"rounds": 0}, "--rounds >= 1"),
        ({"epochs": 1}, "--epochs >= 2"),
    ],
)
def test_options_that_are_wrong_are_named(change, message):
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(CONFIG, **change)


def test_a_rewinding_step_beyond_the_training_is_an_error_and_leaves_no_folder(tmp_path):
    config = dataclasses.replace(CONFIG, out_dir=tmp_path / "run", rewind_step=2 * EPOCH)
    with pytest.raises(ValueError, match="--rewind-step from 0 to below the end"):
        ticket_search.run(config)
    assert not (tmp_path / "run").exists()


def test_the_defaults_warn_of_nothing():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        TicketSearch()


def test_other_masks_are_no_ticket(tmp_path):
    path = tmp_path / "masks.safetensors"
    pruning.save_masks(path, {"w": np.ones((2, 2), bool)})
    with pytest.raises(ValueError, match="expected the ticket of a ticket_search"):
        train_ticket.run(TrainTicket(ticket=path))


@pytest.fixture
def ticket(finished, tmp_path):
    """A ticket whose file may be changed, and what it says."""
    (tmp_path / "tickets").mkdir()
    (tmp_path / "snapshots").symlink_to(finished / "snapshots")
    path = tmp_path / "tickets" / "imp-round-1-seed-0.safetensors"
    shutil.copy(finished / "tickets" / path.name, path)
    return path, pruning.load_masks(path), pruning.load_metadata(path)


def is_dict(value):
    return isinstance(value, dict)


def known(digits, name):
    """As ``load_dataset``, but read once."""
    return digits if name == "digits" else load_dataset(name)


def test_no_metadata_of_whatever_kind_is_a_crash(ticket, monkeypatch):
    """Each value replaced: a line that names a file, or a training; none is trained here."""

    class Trained(Exception):
        pass

    def train(*args, **kwargs):
        raise Trained

    digits = load_dataset("digits")
    monkeypatch.setattr(train_ticket, "stack_members", train)
    monkeypatch.setattr(train_ticket, "load_dataset", lambda name, **knobs: known(digits, name))
    path, masks, metadata = ticket
    metadata["settings"] = {name: metadata["settings"][name] for name in ("dataset", "model", "recipe")}
    outcomes = {"refused": 0, "trained": 0}
    for other in itertools.islice(filter(is_dict, mutated(metadata)), 0, None, 2):
        pruning.save_masks(path, masks, other)
        try:
            train_ticket.run(TrainTicket(ticket=path))
        except Trained:
            outcomes["trained"] += 1
        except ValueError as error:
            assert "\n" not in str(error)
            assert str(path) in str(error)
            outcomes["refused"] += 1
    # What is trained after all: rates, decays and flags that a recipe may have.
    assert outcomes["refused"] > 3 * outcomes["trained"] > 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"chunk_size": 10**9}, r"trained with 1000000000 networks at a time, of which \d+ fit"),
        ({"start": {"snapshot": "../../x-seed-0", "snapshot_step": 0, "step": 0}}, "name of a snapshot"),
        ({"start": {"snapshot": "a/b-seed-0", "snapshot_step": 0, "step": 0}}, "name of a snapshot"),
        ({"start": {"snapshot": "dense-seed-1", "snapshot_step": 0, "step": 0}}, "snapshot of seed 0"),
        ({"start": {"snapshot": "dense-seed-0", "snapshot_step": 0, "step": 46}}, "ends at step 46"),
        ({"start": {"snapshot": "dense-seed-0", "snapshot_step": 9, "step": 3}}, "step-9.* is gone"),
    ],
)
def test_what_a_ticket_may_not_say(ticket, change, message):
    path, masks, metadata = ticket
    pruning.save_masks(path, masks, metadata | change)
    with pytest.raises(ValueError, match=message):
        train_ticket.run(TrainTicket(ticket=path))


def test_a_ticket_with_a_mask_missing(ticket):
    path, masks, metadata = ticket
    masks["dense1"]["kernel"] = None
    pruning.save_masks(path, masks, metadata)
    with pytest.raises(ValueError, match="lacks the mask of a layer of lenet-300-100"):
        train_ticket.run(TrainTicket(ticket=path))


def test_a_ticket_and_snapshots_from_before_there_were_checksums(ticket, finished, rows):
    path, _, _ = ticket
    (path.parents[1] / "snapshots").unlink()
    (path.parents[1] / "snapshots").mkdir()
    for file, names in (
        (path, ("format", "leaves", "metadata")),
        (finished / "snapshots" / "dense-round-0-seed-0-step-3.safetensors", ("network", "step")),
    ):
        tensors, metadata, _ = unseal(file, names)
        other = path.parents[1] / file.parent.name / file.name
        other.write_bytes(save(tensors, metadata if file == path else None))
    accuracy = train_ticket.run(TrainTicket(ticket=path))
    assert accuracy == final(rows, "imp")[1, None]["test_accuracy"]


def test_a_folder_in_the_place_of_a_ticket(finished, tmp_path):
    path = tmp_path / "run"
    shutil.copytree(finished, path)
    states = states_of(path)
    member = named(states.plan.iterative(2), "imp")
    ticket = path / "tickets" / f"{place_of(member.columns).name}.safetensors"
    ticket.unlink()
    ticket.mkdir()
    with pytest.raises(ValueError, match=r"expected a file to write at .*safetensors, got a folder"):
        states.start(member)
