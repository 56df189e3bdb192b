"""The main job, on a small grid: complete, resumable, one program a kind of method."""

import contextlib
import dataclasses
import io
import os
import signal
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import optax
import pyarrow.parquet as pq
import pytest

import pruning
from experiments import compare
from experiments.compare import Compare
from experiments.compare_plan import Plan, make_programs, seed_keys
from experiments.engine.run_folder import RunFolder, is_finished
from experiments.report.stored_rows import parquet
from experiments.programs import with_masks
from train.data.datasets import load_dataset
from train.populations.devices import device_mesh
from train.models import make_model
from train.populations.devices import device_mesh
from train.populations.population import stack_members
from train.recipes import RECIPES

SMALL = {
    "sparsities": (0.5, 0.9),
    "seeds": 2,
    "k": 2,
    "epochs": 3,
    "search_epochs": 1,
    "dissipate_epochs": 2,
    "fractions": (0.3,),
    "chunk_size": 4,
}
METHODS = {
    "dense": 2,
    "random": 4,
    "candidate": 8,
    "k-starts": 12,
    "search": 8,
    "retrained": 4,
    "dissipate": 2,
    "dissipate-to": 4,
    "k-starts+dissipate-to": 4,
    "random+dissipate-to": 4,
}


def table(path):
    return pq.read_table(path / "results.parquet").to_pylist()


def without_times(rows):
    return [{name: value for name, value in row.items() if name != "seconds"} for row in rows]


@pytest.fixture(scope="module")
def printed_and_finished(tmp_path_factory):
    """One whole run: what it printed, and its folder."""
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        path = compare.run(Compare(out_dir=tmp_path_factory.mktemp("run") / "out", **SMALL))
    return printed.getvalue(), path


@pytest.fixture(scope="module")
def finished(printed_and_finished):
    return printed_and_finished[1]


def test_the_table_is_whole(finished):
    rows = table(finished)
    columns = (
        "experiment dataset model method variant sparsity_target sparsity seed epoch test_accuracy "
        "test_loss seconds"
    )
    assert set(columns.split()) <= set(rows[0])
    last = {"search": 1}
    for method, networks in METHODS.items():
        found = [row for row in rows if row["method"] == method]
        assert len(found) == networks * last.get(method, 3), method
        assert all(0 <= row["test_accuracy"] <= 1 for row in found)


def test_final_sparsities_are_exact(finished):
    layers = (64 * 300, 300 * 100, 100 * 10)
    for row in table(finished):
        if row["method"] in ("random", "candidate", "k-starts") or (
            row["method"].endswith("dissipate-to") and row["epoch"] == 3
        ):
            target = row["sparsity_target"]
            pruned = np.floor(target * sum(layers) + 1e-6)
            assert row["sparsity"] == pytest.approx(pruned / sum(layers), abs=1e-7), row


def test_the_winner_is_the_candidate_of_the_highest_fitness(finished):
    rows = table(finished)
    for name in ("weight", "gradient", "combined"):
        for sparsity in SMALL["sparsities"]:
            group = [
                row
                for row in rows
                if row["method"] == "candidate"
                and (row["seed"], row["sparsity_target"], row["epoch"]) == (0, sparsity, 3)
            ]
            best = max(group, key=lambda row: row[f"fitness_{name}"])
            (chosen,) = [
                row
                for row in rows
                if (row["method"], row["variant"]) == ("k-starts", name)
                and (row["seed"], row["sparsity_target"], row["epoch"]) == (0, sparsity, 3)
            ]
            assert chosen["candidate"] == best["candidate"]
            assert chosen["test_loss"] == best["test_loss"]


def test_the_combination_goes_on_from_its_searchs_winner(finished):
    rows = table(finished)
    for seed in range(SMALL["seeds"]):
        for sparsity in SMALL["sparsities"]:
            here = [
                r for r in rows if (r["seed"], r["sparsity_target"], r["epoch"]) == (seed, sparsity, 1)
            ]
            searched = [row for row in here if row["method"] == "search"]
            best = max(searched, key=lambda row: row["fitness_combined"])
            (combined,) = [row for row in here if row["method"] == "k-starts+dissipate-to"]
            assert combined["test_loss"] == pytest.approx(best["test_loss"], rel=1e-6)
            assert combined["sparsity"] == best["sparsity"]


def test_summary_figures_and_config(finished):
    summary = (finished / "summary.md").read_text()
    for claim in (
        "beats one random mask",
        "beats the mean of its k candidates",
        "stays below the best of its k candidates",
        "at search time predicts final accuracy",
        "The combination beats K-starts",
        "The combination beats dissipating gradients",
        "Retraining the winner",
        "reach sparsity",
    ):
        assert claim in summary
    for name in ("accuracy", "sparsity", "fitness"):
        assert (finished / f"{name}.png").read_bytes().startswith(b"\x89PNG")
        assert "<svg" in (finished / f"{name}.svg").read_text()
    config = (finished / "config.json").read_text()
    assert all(word in config for word in ("settings", "versions", "devices", "git_commit", "cpu_cores"))


def test_a_second_run_trains_nothing(finished, monkeypatch, capsys):
    monkeypatch.setattr(compare, "run_stage", lambda *_, **__: pytest.fail("trained again"))
    compare.run(Compare(out_dir=finished, **SMALL))
    assert "beats one random mask" in capsys.readouterr().out


def test_killed_and_continued_it_gives_the_same_results(finished, tmp_path):
    """SIGKILL in the middle of storing the third chunk; then the same command once more."""
    driver = (
        "import os, signal\n"
        "from experiments import compare, run_folder\n"
        "stored, save = [], run_folder.write_atomically\n"
        "def die_at_third(path, content):\n"
        "    if path.parent.name == 'parts':\n"
        "        stored.append(path)\n"
        "        if len(stored) == 3:\n"
        "            path.with_name('.torn').write_bytes(content[:50])\n"
        "            os.kill(os.getpid(), signal.SIGKILL)\n"
        "    save(path, content)\n"
        "run_folder.write_atomically = die_at_third\n"
        f"compare.run(compare.Compare(out_dir=__import__('pathlib').Path({str(tmp_path / 'out')!r}), "
        f"**{SMALL!r}))\n"
    )
    root = Path(__file__).parents[2]
    environment = os.environ | {"PYTHONPATH": str(root)}
    killed = subprocess.run([sys.executable, "-c", driver], cwd=root, env=environment, check=False)
    assert killed.returncode == -signal.SIGKILL
    survived = sorted((tmp_path / "out" / "parts").glob("*.parquet"))
    assert len(survived) == 2
    stamps = [part.stat().st_mtime_ns for part in survived]
    compare.run(Compare(out_dir=tmp_path / "out", **SMALL))
    assert [part.stat().st_mtime_ns for part in survived] == stamps
    assert without_times(table(tmp_path / "out")) == without_times(table(finished))


def test_three_programs_serve_everything(printed_and_finished):
    assert "training programs compiled: 3" in printed_and_finished[0]


def test_the_programs_share_one_copy_of_the_data():
    for held_out in (0, 100):
        recipe = dataclasses.replace(RECIPES["digits"], validation_examples=held_out)
        plan = Plan(
            sparsities=(0.9,),
            seeds=1,
            k=1,
            search_epochs=1,
            fractions=(),
            dissipate_epochs=2,
            recipe=recipe,
        )
        programs = make_programs(
            make_model("lenet-300-100", num_classes=10), load_dataset("digits"), plan, device_mesh()
        )
        assert [len(p.train_split.labels) for p in programs] == [1437 - held_out] * 3
        places = {p.evaluation_splits["test"].images.unsafe_buffer_pointer() for p in programs}
        assert len(places) == 1


def test_the_gradient_sum_is_of_the_searchs_last_epoch_alone():
    """One run: the sum over epoch 1, the sum over epoch 2, and what a sum over both must be."""
    dataset, model = load_dataset("digits"), make_model("lenet-300-100", num_classes=10)
    plan = Plan(
        sparsities=(0.5,),
        seeds=1,
        k=1,
        search_epochs=1,
        fractions=(),
        dissipate_epochs=3,
        recipe=RECIPES["digits"],
    )
    first = make_programs(model, dataset, plan, device_mesh()).static
    second = make_programs(
        model, dataset, dataclasses.replace(plan, search_epochs=2), device_mesh()
    ).static

    def both(optimizer, data):
        masked = first.method(optimizer, data)
        return optax.chain(pruning.accumulate_gradients(), masked)

    members = stack_members([plan.static()[0].member])

    def sums(population):
        *_, result = population.train(members, epochs=2)
        state = result.states.opt_state
        found = optax.tree.get_all_with_path(state, "gradient_sums")
        return found[0][1]

    whole = sums(dataclasses.replace(first, method=both))
    jax.tree.map(
        lambda one, two, total: np.testing.assert_allclose(one + two, total, rtol=1e-4),
        sums(first),
        sums(second),
        whole,
    )


def test_the_population_searches_as_k_starts_does():
    """The library's ``k_starts`` with the same key and training finds the same winner."""
    plan = Plan(
        sparsities=(0.9,),
        seeds=1,
        k=3,
        search_epochs=1,
        fractions=(),
        dissipate_epochs=2,
        recipe=Compare().resolved_recipe(),
    )
    dataset = load_dataset("digits")
    population = make_programs(
        make_model("lenet-300-100", num_classes=10), dataset, plan, device_mesh()
    ).static
    members = [named for named in plan.static() if named.columns["method"] == "candidate"]
    (result,) = population.train(stack_members([named.member for named in members]), epochs=1)
    expected = compare.observe_fitness(result.states)["fitness_weight"]

    keys, template = seed_keys(0), members[0].member

    def only(stacked):
        return jax.tree.map(lambda leaf: leaf[0], stacked)

    def train_fn(params, masks):
        """The same epoch, given the masks: a population of one, within the search's own program."""
        alone = stack_members([template])
        begun = only(population.start(alone))
        begun = with_masks(begun._replace(params=params), masks)
        (ended,) = population.train(alone, states=stack_members([begun]), epochs=1)
        trained = only(ended.states)
        return trained.params, trained.params

    found = pruning.k_starts(
        keys.candidates,
        population.initial_params(keys.init),
        train_fn,
        k=3,
        sparsity=0.9,
        fitness=pruning.weight_fitness,
        chunk_size=1,
    )
    np.testing.assert_allclose(found.fitness, expected, rtol=1e-5)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"sparsities": (0.5, 1.0)}, r"sparsities in \[0, 1\)"),
        ({"sparsities": (float("nan"),)}, r"sparsities in \[0, 1\)"),
        ({"sparsities": ()}, "at least one value of --sparsities"),
        ({"sparsities": (0.5, 0.5)}, "different --sparsities"),
        ({"k": 0}, "--k >= 1"),
        ({"chunk_size": 0}, "--chunk-size >= 1"),
        ({"devices_per_network": 0}, "--devices-per-network >= 1"),
        ({"lowering": "gpu"}, "unknown lowering 'gpu'.*accelerator"),
        ({"fractions": (-0.1,)}, "fractions >= 0"),
        ({"search_epochs": 20}, "--search-epochs < --dissipate-epochs <= --epochs"),
        ({"fractions": (0.1, 0.1)}, "different --fractions"),
        ({"model": "lenet"}, "unknown model 'lenet'.*lenet-300-100"),
        ({"recipe": "best"}, "unknown recipe 'best'"),
    ],
)
def test_bad_options(change, message):
    with pytest.raises(ValueError, match=message):
        Compare(**change)


def test_the_command_line_reports_errors_in_a_line(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["compare", "--dataset", "mnist", "--data-dir", str(tmp_path), "--out-dir", str(tmp_path / "out")])  # fmt: skip  # noqa: E501
    with pytest.raises(SystemExit, match=r"error: .*mnist"):
        compare.main()
    assert not (tmp_path / "out").exists()  # a misspelt name leaves no folder behind


def test_a_short_run_needs_no_other_option():
    assert Compare(epochs=3).resolved_dissipate_epochs() == 3
    assert Compare(epochs=4).resolved_dissipate_epochs() == 3
    assert Compare(epochs=10).resolved_dissipate_epochs() == 5


def test_a_folder_of_another_run_is_refused(finished):
    with pytest.raises(ValueError, match=r"other settings \(seeds: there 2, here 3\)"):
        compare.run(Compare(out_dir=finished, **SMALL | {"seeds": 3}))


def test_networks_that_diverge_are_reported_and_the_run_ends(tmp_path, monkeypatch):
    wild = dataclasses.replace(RECIPES["digits"], learning_rate=1e30)
    monkeypatch.setitem(RECIPES, "digits", wild)
    config = Compare(out_dir=tmp_path / "out", **SMALL | {"seeds": 1, "sparsities": (0.5,)})
    summary = (compare.run(config) / "summary.md").read_text()
    assert "**Diverged** (left out of the means): candidate/0.5/0/0, " in summary
    assert "| random | diverged |" in summary
    assert all(row["failed"] for row in table(tmp_path / "out"))


def test_fresh_starts_over(tmp_path):
    folder = RunFolder(tmp_path / "out", {"a": 1}, fresh=False)
    folder.save_part([{"member": "x", "epoch": 1}])
    folder.write("results.parquet", parquet(folder.rows()))
    folder.write("summary.md", "done")
    again = RunFolder(tmp_path / "out", {"a": 1}, fresh=False)
    assert again.done() == {"x"}
    assert is_finished(tmp_path / "out")
    fresh = RunFolder(tmp_path / "out", {"a": 1}, fresh=True)
    assert fresh.done() == set()
    assert not is_finished(tmp_path / "out")
