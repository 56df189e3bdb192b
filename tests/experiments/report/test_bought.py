"""The table of what masks buy, and from which sparsity on networks are faster, of a run made by hand."""

import pytest

from experiments.report.bought import bought_figure, bought_table, first_gains
from experiments.report.table import Results, load
from tests.experiments.report import stored_runs


@pytest.fixture
def results(tmp_path):
    return Results(load(stored_runs.what_masks_buy(tmp_path)))


def cells(line):
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_shares_and_speeds_leave_out_what_is_cut_in_two(results):
    rows = {tuple(cells(line)[:2]): cells(line) for line in bought_table(results)[2:]}
    random = rows["Random", "0.9"]
    assert random[4:12] == [
        "10 %",
        "2 %",
        "25 %",
        "100 %",
        "100 %",
        "50 %",
        "25 %",
        "3.00 (2.70 to 3.30)",
    ]
    assert rows["SNIP", "0.5"][11] == "1.20 (0.90 to 1.54)"


def test_what_diverged_has_no_accuracy(results):
    table = results.table
    table["test_accuracy"] = [0.9, 0.1] * 4
    table["failed"] = table["test_accuracy"] < 0.5
    assert {cells(line)[2] for line in bought_table(Results(table))[2:]} == {"90.00"}


def test_faster_from_the_sparsity_from_which_on_every_pair_of_every_seed_is(results):
    """Random: at 0.9 a network is cut in two. SNIP: at 0.5 a pair is slower."""
    found = {cells(line)[0]: cells(line)[1] for line in first_gains(results)[2:]}
    assert found == {"Random": "none of these", "SNIP": "0.9"}


def test_a_method_that_finds_its_own_sparsity_has_a_line_a_setting(results):
    table = results.table
    snip = table["method"] == "snip"
    table.loc[snip, "setting"] = table.loc[snip, "sparsity_target"].map({0.5: 0.4, 0.9: 0.1})
    table.loc[snip, "sparsity_target"] = None
    table.loc[snip, "method"] = "dissipating-band"
    table.attrs["settings"]["methods"] = ["random", "dissipating-band"]
    found, name = Results(table), "Dissipating gradients, band"
    rows = {tuple(cells(line)[:2]): cells(line) for line in bought_table(found)[2:]}
    assert rows[name, "0.500 (setting 0.4)"][11] == "1.20 (0.90 to 1.54)"
    assert {cells(line)[0]: cells(line)[1] for line in first_gains(found)[2:]} == {
        "Random": "none of these",
        name: "0.900 (setting 0.1)",
    }
    (line,) = [line for line in bought_figure(found).axes[0].lines if line.get_label() == name]
    assert line.get_xdata() == pytest.approx([0.5, 0.1])


def test_the_figure_has_a_panel_a_question_and_a_line_a_method(results):
    panels = [axes for axes in bought_figure(results).axes if axes.get_title()]
    assert [axes.get_title().splitlines()[0] for axes in panels] == [
        "bytes on disk, of the dense ones",
        "weights after compaction, of all",
        "times as fast: compacted, batch of 128",
        "times as fast: compacted, one example",
        "times as fast: compressed rows, one example,",
    ]
    labels = {line.get_label() for line in panels[0].lines}
    assert {"Random", "SNIP"} <= labels
