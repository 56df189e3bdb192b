"""The page of a run's results as a browser reads it: the numbers in it, and nothing from elsewhere."""

import base64
import gzip
import json
from html.parser import HTMLParser

import numpy as np
import pytest

from experiments.report.page import final_table, page
from experiments.report.table import Results, load
from tests.experiments.report import stored_runs

RUNS = (
    stored_runs.pruning_methods,
    stored_runs.missing_the_mark,
    stored_runs.layer_collapse,
    stored_runs.effective_sparsity,
    stored_runs.what_masks_buy,
)
SUMMARY = [
    "# the page has its own heading",
    "",
    "It **holds**.",
    "",
    "| a | b |",
    "|---|---|",
    "| 1 | 2 |",
]


class Page(HTMLParser):
    """What a browser makes of a page.

    Attributes:
        tags: Names and attributes, as they begin.
        models: Bokeh's, each a type and its attributes.
        text: What is between tags, scripts and styles apart.
    """

    def __init__(self, html):
        super().__init__()
        self.tags, self.models, self.text = [], [], ""
        self._inside = "", {}
        self.feed(html)
        self.close()

    def handle_starttag(self, tag, attrs):
        self._inside = tag, dict(attrs)
        self.tags.append(self._inside)

    def handle_endtag(self, tag):
        self._inside = "", {}

    def handle_data(self, data):
        tag, attributes = self._inside
        if attributes.get("type") == "application/json":
            self._find(json.loads(data))
        elif tag not in ("script", "style"):
            self.text += data

    def of(self, name):
        """The attributes of all models of a type."""
        return [attributes for found, attributes in self.models if found == name]

    def sources(self):
        """The columns of all tables of numbers."""
        for source in self.of("ColumnDataSource"):
            yield {name: _numbers(column) for name, column in source["data"]["entries"]}

    def _find(self, found):
        if isinstance(found, dict):
            if found.get("type") == "object" and "attributes" in found:
                self.models.append((found["name"], found["attributes"]))
            found = list(found.values())
        if isinstance(found, list):
            for part in found:
                self._find(part)


def _numbers(column):
    if isinstance(column, dict) and column["type"] == "ndarray":
        content = base64.b64decode(column["array"]["data"])
        content = gzip.decompress(content) if content[:2] == b"\x1f\x8b" else content
        return np.frombuffer(content, column["dtype"])
    return column


def page_of(made, tmp_path, summary=SUMMARY):
    results = Results(load(made(tmp_path / "run")))
    return Page(page(results, summary, {"accuracy.png": b"drawn"})), results


@pytest.mark.parametrize("made", RUNS, ids=lambda made: made.__name__)
def test_nothing_is_loaded_from_elsewhere(tmp_path, made):
    shown, _ = page_of(made, tmp_path)
    loading = {"src", "href", "srcset", "data", "poster", "action"}
    found = [(tag, has[name]) for tag, has in shown.tags for name in loading & has.keys()]
    assert found == [("img", "data:image/png;base64,ZHJhd24=")]  # The run's own figure is in the page.
    assert len([tag for tag, _ in shown.tags if tag == "script"]) > 1  # They are in the page.


@pytest.mark.parametrize("made", RUNS, ids=lambda made: made.__name__)
def test_every_method_is_in_the_legend_in_its_colour(tmp_path, made):
    shown, results = page_of(made, tmp_path)
    (legend,) = shown.of("Legend")
    assert legend["click_policy"] == "hide"
    labels = [item["attributes"]["label"]["value"] for item in legend["items"]]
    second = {"synflow": ("SynFlow", "#009E73"), "snip": ("SNIP", "#56B4E9")}[results.methods[1]]
    assert labels[-2:] == ["Random", second[0]]
    colours = {glyph["line_color"]["value"] for glyph in shown.of("Scatter")}
    assert {"#999999", second[1]} <= colours


def test_the_title_says_which_run_it_is(tmp_path):
    shown, _ = page_of(stored_runs.pruning_methods, tmp_path)
    assert "Pruning methods" in shown.text
    assert "lenet-300-100 on digits, 2 seeds, 2 epochs" in shown.text


def test_curves_have_means_and_deviations_of_the_last_epoch(tmp_path):
    shown, _ = page_of(stored_runs.pruning_methods, tmp_path)
    curves = {source["method"][0]: source for source in shown.sources() if "error" in source}
    assert curves.keys() == {"Dense", "Random", "SNIP"}
    snip = curves["SNIP"]
    np.testing.assert_allclose(snip["kept"], [50, 10])
    np.testing.assert_allclose(snip["error"], [7, 25])
    np.testing.assert_allclose(snip["accuracy"], [93, 75])
    np.testing.assert_allclose(snip["deviation"], [100 * 0.06 / 2**0.5, 0], atol=1e-12)
    np.testing.assert_allclose(snip["low"], [7 - 100 * 0.06 / 2**0.5, 25])
    np.testing.assert_allclose(snip["seeds"], [2, 2])
    np.testing.assert_allclose(curves["Dense"]["accuracy"], [97, 97])


def test_variants_are_hidden_until_their_button_is_pressed(tmp_path):
    shown, _ = page_of(stored_runs.missing_the_mark, tmp_path)
    (buttons,) = shown.of("CheckboxButtonGroup")
    assert buttons["labels"] == ["shuffled in layers"]
    assert buttons.get("active", []) == []
    hidden = [renderer for renderer in shown.of("GlyphRenderer") if renderer.get("visible") is False]
    assert len(hidden) == 3  # The points, their line and the deviations of one curve.
    variants = [source for source in shown.sources() if source.get("variant") == ["shuffled in layers"]]
    (curve,) = (source for source in variants if "error" in source)
    np.testing.assert_allclose(curve["accuracy"], [65])


def test_a_layer_that_is_emptied_has_a_cross_and_no_point(tmp_path):
    shown, _ = page_of(stored_runs.layer_collapse, tmp_path)
    random, synflow = (source for source in shown.sources() if "kept1" in source)
    assert synflow["layer"] == ["a", "b"]
    np.testing.assert_allclose(random["kept1"], [0.11, 0.09])
    np.testing.assert_allclose(synflow["kept0"], [1, 1])
    np.testing.assert_allclose(synflow["kept1"], [0.19, np.nan])
    assert list(np.isfinite(synflow["cross1"])) == [False, True]
    assert not np.isfinite(random["cross1"]).any()
    assert list(synflow["emptied1"]) == [0, 2]
    # At first the page shows the lowest compression that empties a layer.
    np.testing.assert_allclose(synflow["kept"], synflow["kept1"])
    (slider,) = shown.of("Slider")
    assert (slider["value"], slider["end"]) == (1, 1)


def test_a_network_that_is_cut_in_two_has_no_effective_compression(tmp_path):
    shown, _ = page_of(stored_runs.effective_sparsity, tmp_path)
    random, _ = (source for source in shown.sources() if "effective" in source and "seed" in source)
    np.testing.assert_allclose(random["direct"], [2, 2, 10, 10])
    np.testing.assert_allclose(random["effective"], [2, 2.5, 20, np.nan])


def test_a_network_that_is_cut_in_two_has_no_speed(tmp_path):
    shown, _ = page_of(stored_runs.what_masks_buy, tmp_path)
    random, snip = (source for source in shown.sources() if "speed" in source)
    np.testing.assert_allclose(random["speed"], [1.5, 2, 3, np.nan])
    np.testing.assert_allclose(snip["speed"], [1, 1.4, 2, 4])
    np.testing.assert_allclose(snip["direct"], [2, 2, 10, 10])


def test_the_table_has_the_means_of_what_is_alike(tmp_path):
    results = Results(load(stored_runs.missing_the_mark(tmp_path)))
    table = final_table(results)
    assert list(table) == [
        "method",
        "variant",
        "pruned_at_step",
        "sparsity",
        "accuracy",
        "deviation",
        "seeds",
    ]
    found = {
        (row.method, row.variant, row.pruned_at_step, row.sparsity): (row.accuracy, row.seeds)
        for row in table.itertuples()
    }
    expected = {
        ("Random", "unmodified", 0, 0.5): (85, 2),
        ("Random", "unmodified", 0, 0.9): (60, 2),
        ("SNIP", "unmodified", 0, 0.5): (93, 2),
        ("SNIP", "unmodified", 0, 0.9): (75, 2),
        ("SNIP", "shuffled in layers", 0, 0.5): (65, 2),
        ("SNIP", "unmodified", 23, 0.9): (90, 2),
        ("Dense", "unmodified", 0, 0.0): (97, 2),
    }
    assert found.keys() == expected.keys()
    for key, numbers in expected.items():
        np.testing.assert_allclose(found[key], numbers)


def test_the_page_has_the_table(tmp_path):
    shown, results = page_of(stored_runs.missing_the_mark, tmp_path)
    (table,) = (source for source in shown.sources() if "deviation" in source and "low" not in source)
    np.testing.assert_allclose(table["accuracy"], final_table(results)["accuracy"])
    assert table["method"] == final_table(results)["method"].to_list()
    assert [column["title"] for column in shown.of("TableColumn")][:3] == [
        "Method",
        "Variant",
        "Pruned at step",
    ]


def test_networks_that_diverged_are_counted_and_left_out_of_means(tmp_path):
    rows = stored_runs.trained(stored_runs.BY_SEED)
    for row in rows:
        row["failed"] = row["member"] == "snip/sparsity-0.5/seed-1"
    options = stored_runs.PruningMethods(
        methods=("random", "snip"), sparsities=(0.5, 0.9), seeds=2, epochs=2
    )
    table = final_table(Results(load(stored_runs.store(tmp_path, options, rows))))
    (row,) = table[(table["method"] == "SNIP") & (table["sparsity"] == 0.5)].itertuples()
    assert (row.accuracy, row.diverged) == (pytest.approx(90), 1)
    assert table["diverged"].sum() == 1


def test_the_summary_is_shown_with_its_tables(tmp_path):
    shown, _ = page_of(stored_runs.pruning_methods, tmp_path, [*SUMMARY, "", "<script>alert(1)</script>"])
    tags = [tag for tag, _ in shown.tags]
    assert tags.count("table") == 1
    assert tags.count("td") == 2
    assert tags.count("strong") == 1
    assert "<script>alert(1)</script>" in shown.text  # As text: it runs nowhere.
    assert "its own heading" not in shown.text
