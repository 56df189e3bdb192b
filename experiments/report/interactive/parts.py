"""What all plots of a results page share: axes, a legend that switches methods off, hovering."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from bokeh.models import FixedTicker, HoverTool, Legend, LegendItem, NumeralTickFormatter, Range1d
from bokeh.plotting import figure

from experiments.methods.registry import find_method
from experiments.report.ablations import VARIANTS
from experiments.report.table import label

Renderers = list[Any]
"""Of one method: its points, by which buttons know whether it is switched off, and all else of it."""
HEIGHT = 560
GREY = "#999999"
HINT = "Click a method in the legend to switch it off or on, drag a box to zoom in, hover to read."
# Of K-starts, by what has chosen the candidate.
_FITNESSES = {"weight": "by weight fitness", "gradient": "by gradient fitness"}
# Bokeh's markers for Matplotlib's.
_MARKERS = {
    "o": "circle",
    "s": "square",
    "^": "triangle",
    "v": "inverted_triangle",
    "<": "triangle_dot",
    ">": "triangle_pin",
    "D": "diamond",
    "d": "diamond_cross",
    "P": "cross",
    "p": "square_pin",
    "X": "square_x",
    "x": "x",
    "*": "star",
    "h": "hex",
    "H": "hex_dot",
    "8": "circle_dot",
    "1": "y",
    "2": "circle_y",
    "3": "square_dot",
    "4": "circle_cross",
}


class Plot(NamedTuple):
    """A plot of a page.

    Attributes:
        model: What Bokeh shows.
        heading: What stands above the plot on the page.
        hint: What it shows, and what its reader can do.
    """

    model: Any
    heading: str
    hint: str


def variant_label(variant: str) -> str:
    """What a variant of a method is called, in words where figures have some for it."""
    return VARIANTS[variant].label if variant in VARIANTS else _FITNESSES.get(variant, variant)


def log_figure(**options: Any) -> Any:
    """An empty plot with a log axis of y, as wide as the page.

    Args:
        options: Of ``bokeh.plotting.figure``.
    """
    plot = figure(
        height=HEIGHT,
        sizing_mode="stretch_width",
        y_axis_type="log",
        tools="box_zoom,pan,wheel_zoom,reset,save",
        active_drag="box_zoom",
        **options,
    )
    plot.toolbar.logo = None
    plot.outline_line_color = None
    plot.grid.grid_line_alpha = 0.6
    plot.axis.axis_label_text_font_style = "normal"
    plot.axis.minor_tick_line_color = None
    return plot


def set_ticks(axis: Any, shown: Any) -> None:
    """Ticks of a log axis with numbers written out, many between two powers of ten where there is room.

    Args:
        axis: The horizontal or the vertical one.
        shown: The range that it shows at first, of at most four powers of ten.
    """
    ends = np.log10([shown.start, shown.end])
    mantissas = (1, 2, 5) if np.ptp(ends) > 2 else (1, 1.5, 2, 2.5, 3, 4, 5, 6, 8)
    powers = 10.0 ** np.arange(np.floor(ends.min()), np.ceil(ends.max()))
    ticks = [mantissa * power for power in powers for mantissa in mantissas]
    axis.ticker = FixedTicker(ticks=[float(f"{tick:.3g}") for tick in ticks])
    axis.formatter = NumeralTickFormatter(format="0,0.[00000]")


def marker(method: str) -> dict[str, Any]:
    """How a method's points look."""
    look = find_method(method).look
    return {"marker": _MARKERS.get(look.marker, "circle"), "color": look.colour, "size": 8}


def falling(values: Sequence[Any], margin: float = 1.12) -> Range1d:
    """The range of a log axis that shows all values, the largest first."""
    known = np.concatenate([np.empty(0), *(np.asarray(some, float) for some in values)])
    known = known[np.isfinite(known) & (known > 0)]
    low, high = (known.min(), known.max()) if known.size else (1.0, 100.0)
    return Range1d(start=high * margin, end=low / margin)


def add_legend(plot: Any, drawn: Mapping[str, Renderers], others: Mapping[str, Renderers]) -> None:
    """A legend beside the plot, whose entries switch off what they name.

    Args:
        plot: To which it is added.
        drawn: By method.
        others: By what they are called: what no method has drawn.
    """
    named = {**others, **{label(method): renderers for method, renderers in drawn.items()}}
    items = [LegendItem(label=name, renderers=renderers) for name, renderers in named.items()]
    legend = Legend(items=items, click_policy="hide", label_text_font_size="12px", spacing=2)
    legend.border_line_color = None
    plot.add_layout(legend, "right")


def add_hover(plot: Any, renderers: Renderers, fields: Mapping[str, str]) -> None:
    """Says what a point is when the pointer is over it.

    Args:
        plot: Where the points are drawn.
        renderers: The points; their sources have the columns ``method`` and ``variant``.
        fields: What else is said, in Bokeh's spelling, by its heading.
    """
    told = {"method": "@method", "variant": "@variant", **fields}
    plot.add_tools(HoverTool(renderers=renderers, tooltips=[*told.items()], mode="mouse"))
