"""Final test error against the weights kept, both on log axes, a line a method."""

from typing import Any

import numpy as np
from bokeh.layouts import column
from bokeh.models import CheckboxButtonGroup, ColumnDataSource, CustomJS

from experiments.methods.point import DENSE
from experiments.methods.registry import find_method
from experiments.report.accuracy import DENSE_COLOUR, curve
from experiments.report.interactive.parts import (
    HINT,
    Plot,
    Renderers,
    add_hover,
    add_legend,
    falling,
    log_figure,
    marker,
    set_ticks,
    variant_label,
)
from experiments.report.table import Results, Table, label

HEADING = "Accuracy against sparsity"
# Of the variants, in the order of their buttons.
_DASHES = "dashed", "dotted", "dotdash", "dashdot"
_SWITCH = """
for (const [method, place, renderers] of variants)
    for (const renderer of renderers)
        renderer.visible = method.visible && shown.active.includes(place)
"""
_EVERYWHERE = np.array([1e-6, 100.0])  # percent kept


def accuracy_plot(results: Results) -> Plot:
    """A line a method; their variants are hidden until they are asked for."""
    curves = {
        (method, variant): points
        for method in (DENSE, *results.methods)
        for variant in results.final.loc[results.final["method"] == method, "variant"].unique()
        if len(points := curve(results.of(method, variant)))
    }
    pruned = [points for (method, _), points in curves.items() if method != DENSE]
    plot = log_figure(
        x_axis_type="log",
        x_axis_label="weights kept (%)",
        y_axis_label="final test error (%, better is up)",
        x_range=falling([100 * (1 - points["sparsity"]) for points in pruned]),
        y_range=falling([100 * (1 - points["accuracy"]) for points in curves.values()]),
    )
    set_ticks(plot.xaxis, plot.x_range)
    set_ticks(plot.yaxis, plot.y_range)
    dense = [_dense_line(plot, curves[DENSE, "none"])] if (DENSE, "none") in curves else []
    lines = {
        (method, variant): _line(plot, points, method, variant)
        for (method, variant), points in curves.items()
        if method != DENSE
    }
    main = {method: renderers for (method, variant), renderers in lines.items() if variant == "none"}
    add_legend(plot, main, {label(DENSE): dense} if dense else {})
    add_hover(
        plot,
        [*dense, *(points for points, *_ in lines.values())],
        {
            "sparsity": "@sparsity{0.0000[00]}@place",
            "accuracy": "@accuracy{0.00} ± @deviation{0.00} % (mean, standard deviation)",
            "seeds": "@seeds",
        },
    )
    others = {key: renderers for key, renderers in lines.items() if key[1] != "none" and key[0] in main}
    if not others:
        return Plot(plot, HEADING, HINT)
    both = column(_variant_buttons(main, others), plot, sizing_mode="stretch_width")
    return Plot(both, HEADING, f"{HINT} The buttons show the methods' variants as broken lines.")


def _line(plot: Any, points: Table, method: str, variant: str) -> Renderers:
    """A method's points, the line that joins them, and their standard deviations."""
    source, colour = _source(points, method, variant), find_method(method).look.colour
    line = plot.line("kept", "error", source=source, color=colour, line_width=2)
    bars = plot.segment("kept", "low", "kept", "high", source=source, color=colour, line_alpha=0.6)
    return [plot.scatter("kept", "error", source=source, **marker(method)), line, bars]


def _source(points: Table, method: str, variant: str) -> ColumnDataSource:
    points = points.reset_index()
    error, deviation = 100 * (1 - points["accuracy"]), 100 * points["deviation"]
    columns = {
        "kept": 100 * (1 - points["sparsity"]),
        "error": error,
        "low": error - np.minimum(deviation, 0.9 * error),  # On a log axis a bar must end above 0.
        "high": error + deviation,
        "sparsity": points["sparsity"],
        "accuracy": 100 * points["accuracy"],
        "deviation": deviation,
        "seeds": points["seeds"],
    }
    data: dict[str, Any] = {name: values.to_numpy(float) for name, values in columns.items()}
    data["method"] = [label(method)] * len(points)
    data["variant"] = [variant_label(variant)] * len(points)
    data["place"] = _places(points)
    return ColumnDataSource(data)


def _places(points: Table) -> list[str]:
    """What tells a method's points apart besides their sparsity."""
    told = {name: points[name] for name in ("setting", "round") if points[name].notna().any()}
    return ["".join(f", {name} {values[i]:g}" for name, values in told.items()) for i in points.index]


def _dense_line(plot: Any, points: Table) -> Any:
    """The dense network's error, all along the axis."""
    source = _source(points.iloc[[0, 0]], DENSE, "none")
    source.update(data=dict(source.data) | {"kept": _EVERYWHERE})
    return plot.line(
        "kept", "error", source=source, color=DENSE_COLOUR, line_dash="dotdash", line_width=1.5
    )


def _variant_buttons(main: dict[str, Renderers], others: dict[tuple[str, str], Renderers]) -> Any:
    """Buttons that show variants, of the methods that the legend has not switched off."""
    names = list(dict.fromkeys(variant for _, variant in others))
    buttons = CheckboxButtonGroup(labels=[variant_label(name) for name in names], active=[])
    variants = []
    for (method, variant), renderers in others.items():
        place = names.index(variant)
        for renderer in renderers:
            renderer.visible = False
        renderers[1].glyph.line_dash = _DASHES[place % len(_DASHES)]
        variants.append([main[method][0], place, renderers])
    switch = CustomJS(args={"variants": variants, "shown": buttons}, code=_SWITCH)
    buttons.js_on_change("active", switch)
    for points, *_ in main.values():
        points.js_on_change("visible", switch)
    return buttons
