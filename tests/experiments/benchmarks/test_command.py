"""What the command prints, stores and refuses; its rows are made up here."""

import json
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from experiments.benchmarks import __main__ as command
from experiments.benchmarks.__main__ import Benchmarks
from experiments.benchmarks.measuring import Ceilings, Row, Unavailable, WrongNumbers
from experiments.benchmarks.rows import ACCELERATOR, CPU, Entry
from experiments.engine.timing import Pair

GOOD = Row(lambda _: [Pair(2, 6)] * 2, "the first", "runs", flops=5e8, facts={"MB held": 0.52})


@pytest.fixture
def run(monkeypatch, capsys):
    """Runs the command on rows that are made or fail as given; returns what it prints."""

    def make(_, found):
        if isinstance(found, Exception):
            raise found
        return found

    def run(rows, *options, platforms=CPU):
        entries = {name: Entry(make, (found,), platforms) for name, found in rows.items()}
        monkeypatch.setattr(command, "ROWS", entries)
        monkeypatch.setattr(command, "measure_ceilings", lambda _: Ceilings(1e9, 1e9, 1e9, 1e9))
        monkeypatch.setattr(sys, "argv", ["benchmarks", *options])
        command.main()
        return capsys.readouterr().out

    return run


def test_rows_are_printed_and_stored_one_by_one(run, tmp_path):
    out, stored = tmp_path / "out.json", []

    def pairs(_):
        stored.extend(json.loads(out.read_text())["rows"])
        return [Pair(2, 6)] * 2

    printed = run(
        {"good": GOOD, "missing": Unavailable("no data"), "last": replace(GOOD, pairs=pairs)},
        "--json",
        str(out),
    )
    assert stored == ["good", "missing"]
    found = json.loads(out.read_text())
    assert found["ceilings"]["flops"] == 1e9
    assert (found["rows"]["last"]["ratio"], found["rows"]["last"]["facts"]) == (3, {"MB held": 0.52})
    assert (
        "| good (runs, against the first) | 0.5 | 0.1667 | 3.00 (3.00 to 3.00) | 0.5 GFLOP each"
        in printed
    )
    assert "25% of the ceiling | seconds of the first call: 2; MB held: 0.52 |" in printed
    assert "| missing | skipped: no data |" in printed


@pytest.mark.parametrize(
    ("error", "outcome", "message"),
    [
        (WrongNumbers("off by 0.1"), "wrong", "THE NUMBERS ARE WRONG HERE, trust no result: amiss$"),
        (MemoryError("out of\nmemory " + "x" * 1000), "failed", "could not be measured: amiss$"),
    ],
)
def test_the_rows_after_one_that_is_amiss_are_measured_and_the_command_fails(
    run, tmp_path, error, outcome, message
):
    out = tmp_path / "out.json"
    with pytest.raises(SystemExit, match=message):
        run({"amiss": error, "good": GOOD}, "--json", str(out))
    found = json.loads(out.read_text())["rows"]
    assert str(error)[:20] in found["amiss"][outcome]
    assert len(found["amiss"][outcome]) < 400
    assert found["good"]["ratio"] == 3


@pytest.mark.slow
def test_no_row_begins_on_another_platform_or_when_the_time_is_up(run, monkeypatch):
    assert "| good |" not in run({"good": GOOD}, platforms=ACCELERATOR)
    elsewhere = run({"good": GOOD}, "--only", "good", platforms=ACCELERATOR)
    assert "| good | skipped: it is for the platform 'accelerator'" in elsewhere
    clock = iter([0.0, 1.0, 6.0, 6.0, 7.0])  # The start; each row's begin and end.
    monkeypatch.setattr(command.time, "perf_counter", lambda: next(clock))
    late = run({"good": GOOD, "late": GOOD}, "--seconds", "5")
    assert "| good (runs" in late
    assert "| late | skipped: the time is up |" in late


def test_an_unknown_row():
    with pytest.raises(ValueError, match=r"unknown row 'speed'; the valid names are: .*train-lenet-5"):
        Benchmarks(only=("speed",))


def test_where_the_measurements_cannot_go_nothing_is_measured(tmp_path, monkeypatch):
    monkeypatch.setattr(command, "measure_ceilings", lambda _: pytest.fail("measured"))
    (tmp_path / "file").touch()
    for place in (tmp_path, tmp_path / "file" / "out.json", Path("/dev/null")):
        with pytest.raises(ValueError, match=r"cannot write .*choose another file with --json"):
            command.run(Benchmarks(json=place))
