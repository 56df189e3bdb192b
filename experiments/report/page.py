"""One page of a run's results: curves to hover over, a table to sort, and the summary.

The page is a single HTML file with all scripts in it, so it opens without a network.
"""

from base64 import b64encode
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from bokeh.embed import file_html
from bokeh.models import ColumnDataSource, DataTable, NumberFormatter, StringFormatter, TableColumn
from bokeh.resources import Resources
from markdown_it import MarkdownIt

from experiments.methods.point import DENSE, Point
from experiments.report.bought import MEASURED
from experiments.report.effective import compression
from experiments.report.interactive.accuracy import accuracy_plot
from experiments.report.interactive.parts import Plot, variant_label
from experiments.report.interactive.untrained import bought_plot, compression_plot, layers_plot
from experiments.report.table import KEPT, Results, Table, label

TEMPLATE = Path(__file__).with_name("interactive") / "template.html"
TABLE_HEIGHT, ROW_HEIGHT = 460, 25


class Column(NamedTuple):
    """A column of the page's table.

    Attributes:
        title: The heading that the table shows.
        digits: How its numbers are shown; None for text.
        width: In pixels.
    """

    title: str
    digits: str | None
    width: int


COLUMNS = {
    "method": Column("Method", None, 210),
    "variant": Column("Variant", None, 160),
    "pruned_at_step": Column("Pruned at step", "0", 105),
    "setting": Column("Setting", "0.[0000]", 75),
    "round": Column("Round", "0", 70),
    "learning_rate": Column("Learning rate", "0.[000000]", 100),
    "weight_decay": Column("Weight decay", "0.[000000]", 100),
    "sparsity": Column("Sparsity", "0.0000", 90),
    "compression": Column("Compression", "0,0.0", 110),
    "accuracy": Column("Accuracy, mean (%)", "0.00", 135),
    "deviation": Column("Accuracy, std (points)", "0.00", 145),
    "effective": Column("Effective sparsity", "0.0000", 125),
    "dead": Column("Dead units", "0.0", 90),
    "emptied": Column("Emptied layers", "0.[00]", 110),
    "seeds": Column("Seeds", "0", 60),
    "diverged": Column("Diverged", "0", 75),
}


def page(results: Results, summary: Sequence[str], figures: Mapping[str, bytes]) -> str:
    """The page as HTML.

    Args:
        results: The table of a run.
        summary: The lines of its summary, in Markdown; the first is the heading that the page has too.
        figures: The run's own figures as PNG, by the name of their files.
    """
    plot, table = _plot(results), final_table(results)
    shown = _data_table(table)
    plot.model.name, shown.name = "plot", "table"
    name = results.settings["experiment"].replace("_", " ").capitalize()
    return file_html(
        [plot.model, shown],
        resources=Resources(mode="inline"),
        title=f"{name}: {results.title}",
        template=TEMPLATE.read_text(encoding="utf-8"),
        template_variables={
            "experiment": name,
            "run": results.title,
            "heading": plot.heading,
            "hint": plot.hint,
            "rows": len(table),
            "summary": _html(summary[1:]),
            "figures": {name: b64encode(image).decode() for name, image in figures.items()},
        },
        suppress_callback_warning=True,
    )


def final_table(results: Results) -> Table:
    """The networks that methods are judged by, at the end: means over seeds, a row each.

    Accuracies are in percent, and leave out the networks whose training has failed. Columns that say
    nothing of this run are left out.
    """
    rows = results.final
    rows = rows[rows["method"].isin([*results.methods, DENSE])].copy()
    rows["diverged"] = rows.get("failed", False)  # Older runs that trained nothing do not say so.
    rows["diverged"] = rows["diverged"].astype(bool)
    rows["accuracy"] = 100 * rows["test_accuracy"].astype(float).mask(rows["diverged"])
    rows["compression"] = compression(rows["sparsity"])
    measures = {
        "sparsity": ("sparsity", "mean"),
        "accuracy": ("accuracy", "mean"),
        "deviation": ("accuracy", "std"),
        "seeds": ("seed", "nunique"),
        "diverged": ("diverged", "sum"),
    }
    if not _is_trained(results):
        measures["compression"] = "compression", "mean"
    if "effective_sparsity" in rows:
        measures |= {"effective": ("effective_sparsity", "mean"), "dead": ("dead_units", "mean")}
    if layers := [name for name in rows if name.startswith(KEPT)]:
        rows["emptied"] = (rows[layers] == 0).sum(axis=1)
        measures["emptied"] = "emptied", "mean"
    by = [name for name in Point._fields if name not in ("seed", "candidate")]
    table = rows.groupby(by, dropna=False, sort=False).agg(**measures).reset_index()
    table["method"] = table["method"].map(label)
    table["variant"] = table["variant"].map(variant_label)
    told = [name for name in COLUMNS if name in table and table[name].notna().any()]
    # These say something only where they are not the same for all networks.
    some = ("variant", "pruned_at_step", "emptied", "diverged")
    return table[[name for name in told if name not in some or table[name].nunique() > 1]]


def _plot(results: Results) -> Plot:
    """What shows the run at a glance."""
    if _is_trained(results):
        return accuracy_plot(results)
    if "effective_sparsity" in results.table:
        return compression_plot(results)
    if MEASURED in results.table:
        return bought_plot(results)
    return layers_plot(results)


def _is_trained(results: Results) -> bool:
    """Whether the run's networks were trained, not only looked at."""
    return results.table["epoch"].max() > 0


def _data_table(table: Table) -> DataTable:
    """A table whose columns are sorted by a click on their heads."""
    data: dict[str, Any] = {}
    columns = []
    for name in table:
        title, digits, width = COLUMNS[name]
        is_text = digits is None
        data[name] = table[name].to_list() if is_text else table[name].to_numpy(float)
        formatter = StringFormatter() if is_text else _number(digits)
        columns.append(TableColumn(field=name, title=title, width=width, formatter=formatter))
    return DataTable(
        source=ColumnDataSource(data),
        columns=columns,
        index_position=None,
        height=min(TABLE_HEIGHT, ROW_HEIGHT * (len(table) + 2)),
        sizing_mode="stretch_width",
        autosize_mode="force_fit",
    )


def _number(digits: str) -> NumberFormatter:
    return NumberFormatter(format=digits, text_align="right", nan_format="")


def _html(lines: Sequence[str]) -> str:
    """Markdown as HTML; what looks like HTML in it is shown as it stands."""
    return MarkdownIt("commonmark", {"html": False}).enable("table").render("\n".join(lines))
