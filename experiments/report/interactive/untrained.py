"""Masks of untrained networks: what is kept of each layer, and what of a mask is connected."""

from typing import Any

import numpy as np
from bokeh.layouts import column
from bokeh.models import (
    ColumnDataSource,
    CustomJS,
    CustomJSTickFormatter,
    NumeralTickFormatter,
    Range1d,
    Slider,
)

from experiments.methods.registry import find_method
from experiments.report.bought import MEASURED
from experiments.report.effective import compression
from experiments.report.interactive.parts import (
    GREY,
    HINT,
    Plot,
    add_hover,
    add_legend,
    log_figure,
    marker,
    variant_label,
)
from experiments.report.layers import at_power, densities, layers_of, powers
from experiments.report.table import KEPT, SIZE, Results, counted, label, layer_name

_SLIDING = "kept", "cross", "emptied"
_SLIDE = """
for (const source of sources) {
    for (const name of names)
        source.data[name] = source.data[name + slider.value]
    source.change.emit()
}
"""


def compression_plot(results: Results) -> Plot:
    """Effective against direct compression: a point a seed, a method's medians joined."""
    plot = log_figure(
        x_axis_type="log",
        x_axis_label="compression by the masks",
        y_axis_label="compression by what is connected",
    )
    direct = np.unique(compression(results.table["sparsity"]))
    ideal = plot.line(direct, direct, color=GREY, line_dash="dotted", line_width=1.5)
    drawn = {}
    for method in results.methods:
        rows = results.of(method)
        source = ColumnDataSource(
            {
                "direct": compression(rows["sparsity"]),
                "effective": compression(rows["effective_sparsity"]),
                "method": [label(method)] * len(rows),
                "variant": [variant_label("none")] * len(rows),
            }
            | {
                name: rows[name].to_numpy(float)
                for name in ("sparsity", "effective_sparsity", "dead_units")
            }
            | {"seed": rows["seed"].to_numpy(int)}
        )
        points = plot.scatter("direct", "effective", source=source, **marker(method))
        medians = rows.groupby("sparsity_target")[["sparsity", "effective_sparsity"]].median()
        joined = [compression(medians[name]) for name in ("sparsity", "effective_sparsity")]
        drawn[method] = [points, plot.line(*joined, color=find_method(method).look.colour, line_width=2)]
    for axis in (plot.xaxis, plot.yaxis):
        axis.formatter = NumeralTickFormatter(format="0,0")
    add_legend(plot, drawn, {"all kept weights connected": [ideal]})
    add_hover(
        plot,
        [points for points, _ in drawn.values()],
        {
            "sparsity": "@sparsity{0.0000[00]}",
            "effective": "@effective_sparsity{0.0000[00]}",
            "dead units": "@dead_units{0,0}",
            "seed": "@seed",
        },
    )
    hint = f"Every seed is a point, lines join medians; a network that is cut in two has no point. {HINT}"
    return Plot(plot, "What of a mask is connected", hint)


def bought_plot(results: Results) -> Plot:
    """How often faster the compacted networks are, against what masks keep, a point a network."""
    plot = log_figure(x_axis_label="compression by the masks", y_axis_label="times as fast, batch of 128")
    drawn: dict[str, list[Any]] = {}
    for method in results.methods:
        rows = results.of(method).sort_values("sparsity")
        source = ColumnDataSource(
            {
                "direct": compression(rows["sparsity"]),
                "speed": rows[MEASURED].to_numpy(float),
                "sparsity": rows["sparsity"].to_numpy(float),
                "left": (rows["weights_compacted"] / rows["weights"]).to_numpy(float),
                "seed": rows["seed"].to_numpy(int),
            }
        )
        drawn[method] = [plot.scatter("direct", "speed", source=source, **marker(method))]
    add_legend(plot, drawn, {})
    add_hover(
        plot,
        [points for (points,) in drawn.values()],
        {
            "sparsity": "@sparsity{0.000[000]}",
            "left": "@left{0.000}",
            "times": "@speed{0.00}",
            "seed": "@seed",
        },
    )
    return Plot(
        plot, "What masks buy", f"Every network is a point; one that is cut in two has none. {HINT}"
    )


def layers_plot(results: Results) -> Plot:
    """The kept fraction of each layer, mean over seeds, a line a method; a slider compresses."""
    grid, layers = powers(results), [layer_name(path) for path in layers_of(results.table)]
    fractions = {
        method: [densities(at_power(results, method, power)) for power in grid]
        for method in results.methods
    }
    kept = np.array(list(fractions.values()))
    lowest = kept[kept > 0].min()
    # What is emptied has a cross below everything that is kept, at a height for each method.
    heights = {method: 0.6 * lowest / 1.5**place for place, method in enumerate(fractions)}
    some_empty = (kept == 0).any(axis=(0, 2))
    first = int(some_empty.argmax()) if some_empty.any() else len(grid) - 1

    plot = log_figure(x_range=layers, y_axis_label="fraction of the layer kept")
    plot.y_range = Range1d(start=min(heights.values()) / 1.5, end=1.5)
    plot.xaxis.major_label_orientation = 0.9
    drawn, sources = {}, []
    for method, of_method in fractions.items():
        source = _layer_source(results, method, of_method, heights[method], first)
        points = plot.scatter("layer", "kept", source=source, **marker(method))
        line = plot.line(
            "layer", "kept", source=source, color=find_method(method).look.colour, line_width=2
        )
        cross = marker(method) | {"marker": "x", "line_width": 2, "size": 10}
        drawn[method] = [points, line, plot.scatter("layer", "cross", source=source, **cross)]
        sources.append(source)
    add_legend(plot, drawn, {})
    add_hover(
        plot,
        [part for points, _, cross in drawn.values() for part in (points, cross)],
        {
            "layer": "@layer, @size{0,0} weights",
            "kept": "@kept{0.000000}",
            "emptied": f"in @emptied of {counted(results.seeds, 'seed')}",
        },
    )
    both = column(_slider(grid, first, sources), plot, sizing_mode="stretch_width")
    hint = (
        f"The slider compresses; crosses at the bottom are layers of which no seed keeps a weight. {HINT}"
    )
    return Plot(both, "What is left of each layer", hint)


def _layer_source(
    results: Results, method: str, fractions: list[np.ndarray], height: float, first: int
) -> ColumnDataSource:
    """A method's layers: what slides, at every compression and at the first that is shown."""
    paths = layers_of(results.table)
    sizes = results.of(method)[[SIZE + path for path in paths]]
    data: dict[str, Any] = {
        "layer": [layer_name(path) for path in paths],
        "size": sizes.iloc[0].to_numpy(float),
        "method": [label(method)] * len(paths),
        "variant": [variant_label("none")] * len(paths),
    }
    for place, (power, kept) in enumerate(zip(powers(results), fractions, strict=True)):
        rows = at_power(results, method, power)
        data[f"kept{place}"] = np.where(kept > 0, kept, np.nan)
        data[f"cross{place}"] = np.where(kept > 0, np.nan, height)
        data[f"emptied{place}"] = (rows[[KEPT + path for path in paths]] == 0).sum().to_numpy(float)
    return ColumnDataSource(data | {name: data[f"{name}{first}"] for name in _SLIDING})


def _slider(grid: list[float], first: int, sources: list[ColumnDataSource]) -> Slider:
    """Chooses a compression of the grid."""
    slider = Slider(
        start=0,
        end=len(grid) - 1,
        value=first,
        step=1,
        title="log10 of the compression",
        format=CustomJSTickFormatter(args={"grid": grid}, code="return grid[tick].toFixed(2)"),
        sizing_mode="stretch_width",
    )
    args = {"sources": sources, "names": _SLIDING, "slider": slider}
    slider.js_on_change("value", CustomJS(args=args, code=_SLIDE))
    return slider
