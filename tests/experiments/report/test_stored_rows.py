"""Rows in a file are those that were written, or an error; never others."""

import pytest

from experiments.report.stored_rows import parquet, read_results, read_rows
from tests.damage import cut, flipped

ROWS = [{"member": f"a/{i}", "epoch": i, "test_loss": 1.5 / (1 + i), "failed": False} for i in range(3)]


def test_rows_are_those_that_were_written_to_the_last_bit(tmp_path):
    rows = [{"a": 0.1 + 0.2, "b": None, "c": float("inf"), "d": True, "e": "ä", "f": 2**62}]
    (tmp_path / "rows").write_bytes(parquet([*rows, {"g": float("nan")}]))
    found = read_rows(tmp_path / "rows")
    assert found[0] == rows[0] | {"g": None}
    assert str(found[1]["g"]) == "nan"


def test_what_is_said_of_the_run_comes_back(tmp_path):
    (tmp_path / "rows").write_bytes(parquet(ROWS, {"settings": {"seeds": 2}}))
    assert read_results(tmp_path / "rows") == (ROWS, {"settings": {"seeds": 2}})
    (tmp_path / "rows").write_bytes(parquet(ROWS))
    assert read_results(tmp_path / "rows") == (ROWS, None)


@pytest.mark.slow
def test_every_flipped_bit_is_refused_or_harmless(tmp_path):
    run = {"settings": {"seeds": 2}}
    path, refused, content = tmp_path / "rows", 0, parquet(ROWS, run)
    for damaged in flipped(content):
        path.write_bytes(damaged)
        try:
            assert read_results(path) in ((ROWS, run), (ROWS, None))
        except ValueError as error:
            assert str(error).startswith("cannot be read")
            assert "\n" not in str(error)
            refused += 1
    assert refused > len(content) / 3


def test_every_cut_file_is_refused(tmp_path):
    for damaged in cut(parquet(ROWS)):
        (tmp_path / "rows").write_bytes(damaged)
        with pytest.raises(ValueError, match="cannot be read"):
            read_rows(tmp_path / "rows")
