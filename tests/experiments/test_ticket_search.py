"""The ticket search: rewinding to initialization, empty searches, layers ranked by themselves."""

from dataclasses import replace

import numpy as np
import pytest

import pruning
from experiments.engine.experiment import run
from experiments.methods.point import Point
from experiments.options.knobs import GateKnobs, Knobs, RoundKnobs, ScheduleKnobs
from experiments.options.training import TrainingPlumbing
from experiments.report.table import as_rows, load
from experiments.ticket_search import EXPERIMENT, TicketSearch

KNOBS = Knobs(
    schedule=ScheduleKnobs(rewind_step=3),
    gates=GateKnobs(starts=(-5.0, 0.02)),
    rounds=RoundKnobs(rounds=1, sequential_rounds=2, sequential_start=-5.0),
)


def small(**changes):
    return TicketSearch(**{"seeds": 1, "epochs": 2, "plumbing": TrainingPlumbing(chunk_size=4)} | changes)


@pytest.mark.slow
def test_a_search_that_empties_the_network_ends_and_says_so(tmp_path):
    with pytest.warns(UserWarning, match="gates that begin at -5 and do not move shrink"):
        options = small(methods=("cs-parallel", "cs-sequential"), knobs=KNOBS, out_dir=tmp_path)
    run(EXPERIMENT, options)
    rows = as_rows(load(tmp_path))
    emptied = ", ".join(f"['dense{number}']['kernel']" for number in (1, 2, 3))
    emptied = f"the mask leaves nothing of {emptied}"
    search = Point("cs-search", setting=-5.0, round=2)
    parallel, *sequential = (
        search._replace(method=method, round=round)
        for method, round in (("cs-parallel", 1), ("cs-sequential", 1), ("cs-sequential", 2))
    )
    why = {row["member"]: row["untrained_because"] for row in rows if row["untrained_because"]}
    assert why == {
        search.name: emptied,
        parallel.name: emptied,
        sequential[0].name: emptied,
        sequential[1].name: "a network that it goes on from was not trained",
    }
    trained = {row["setting"] for row in rows if row["method"] == "cs-parallel" and row["epoch"] == 2}
    assert trained == {0.02}
    summary = (tmp_path / "summary.md").read_text()
    assert f"- {parallel.name}: the mask leaves nothing of" in summary
    # It goes on where it was, and trains none of them again.
    (tmp_path / "summary.md").unlink()
    run(EXPERIMENT, options)
    assert (tmp_path / "summary.md").read_text() == summary


@pytest.mark.slow
def test_tickets_may_be_rewound_to_initialization(tmp_path):
    knobs = replace(KNOBS, schedule=ScheduleKnobs(rewind_step=0), gates=GateKnobs(starts=(0.02,)))
    run(EXPERIMENT, small(methods=("imp", "cs-parallel"), knobs=knobs, out_dir=tmp_path))
    rows = as_rows(load(tmp_path))
    assert [row["epoch"] for row in rows if row["method"] == "imp"] == [1, 2]
    assert [row["epoch"] for row in rows if row["method"] == "cs-parallel"] == [1, 2]
    assert (tmp_path / "snapshots" / "dense-sparsity-0.0-seed-0-step-0.safetensors").exists()


@pytest.mark.slow
def test_layers_may_be_ranked_by_themselves_and_the_output_layer_less(tmp_path):
    rounds = RoundKnobs(rounds=1, by_layer=True, output_fraction=0.1, criterion="movement")
    run(EXPERIMENT, small(methods=("imp",), knobs=replace(KNOBS, rounds=rounds), out_dir=tmp_path))
    masks = pruning.load_masks(tmp_path / "tickets" / "imp-round-1-seed-0.safetensors")
    removed = [float(1 - np.mean(masks[layer]["kernel"])) for layer in ("dense1", "dense2", "dense3")]
    np.testing.assert_allclose(removed, [0.2, 0.2, 0.1], atol=1e-6)
    assert "by movement, in each layer (0.1 of the output layer)" in (tmp_path / "summary.md").read_text()
