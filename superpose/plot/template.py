"""The look that all figures share: one plotly template and its colours.

Colours are Okabe and Ito's, told apart by colour-blind readers; the sequential scale, cividis, grows in
lightness as well. Text is Unicode (p, WᵀW, D*), never LaTeX, which would need MathJax from the network.

Font sizes hold for a figure as wide as `WIDTH` says and printed as wide as its column: 13 pixels come out as 7.5 points.

Reference: Okabe and Ito 2008, "Color Universal Design".
"""

from typing import Any

import numpy as np
from plotly import graph_objects as go

BLACK, GREY, PALE = "#222222", "#767676", "#E4E4E4"
BLUE, SKY, VERMILION, ORANGE = "#0072B2", "#56B4E9", "#D55E00", "#F0B54A"
GREEN, PURPLE = "#009E73", "#CC79A7"
SEQUENTIAL = "Cividis"
DIVERGING = [[0, BLUE], [0.25, "#8DBBDB"], [0.5, "#FFFFFF"], [0.75, "#F0B48C"], [1, VERMILION]]
WIDTH = {1: 420, 2: 860}
"""Pixels across a figure for one column of a journal (86 mm) and for both (178 mm)."""
OWN, LOWEST = (700, 450), {1: 400, 2: 300}
"""Width and height of a figure that states none, and the least height of a figure made to fit."""
PLOTLYS_SIZE = 12
"""Pixels of text where neither figure nor template states them."""
SQUARE = {"width": 540, "height": 450}  # a figure of equal axes would leave a wide page empty
COLOUR_BAR = {"thickness": 14, "outlinewidth": 0, "ticks": "outside", "title": {"font": {"size": 14}}}

_AXIS = {
    "showline": True,
    "linecolor": BLACK,
    "linewidth": 1,
    "mirror": True,
    "ticks": "outside",
    "ticklen": 4,
    "tickcolor": BLACK,
    "showgrid": False,
    "zeroline": False,
    "automargin": True,
    "title": {"font": {"size": 14}, "standoff": 8},
}
_LEGEND = {
    "orientation": "h",
    "yanchor": "bottom",
    "y": 1.02,
    "xanchor": "left",
    "x": 0,
    "font": {"size": 12},
    "itemsizing": "trace",
}

TEMPLATE = go.layout.Template(
    layout={
        "font": {"family": "Arial, Helvetica, Liberation Sans, DejaVu Sans, sans-serif", "size": 13},
        "font_color": BLACK,
        "colorway": [BLUE, VERMILION, GREEN, PURPLE, ORANGE, SKY, BLACK],
        "paper_bgcolor": "white",
        "plot_bgcolor": "white",
        "margin": {"l": 60, "r": 20, "t": 30, "b": 55},
        "xaxis": _AXIS,
        "yaxis": _AXIS,
        "legend": _LEGEND,
        "coloraxis": {"colorbar": COLOUR_BAR},
        "hoverlabel": {"align": "left", "bgcolor": "white", "font": {"size": 12, "color": BLACK}},
    }
)


def log_axis(*digits: int) -> dict:
    """A logarithmic axis with ticks at these digits times powers of ten, written out: plotly puts 5 for 0.5 and for 50."""
    values = [digit * 10.0**power for power in range(-9, 10) for digit in digits]
    return {"type": "log", "tickvals": values, "ticktext": [f"{value:g}" for value in values]}


def restyle(figure: go.Figure, *, font_size: float | int | None = None, template: Any = None) -> go.Figure:
    """The figure in another look: with another template, and with all its text larger or smaller, notes and titles too.

    Args:
        figure: any figure; it stays as it is.
        font_size: of the text, in pixels; above 0. Every size that differs from it now, a title's for one, keeps its proportion.
        template: one of plotly's, or its name; it changes what the figure does not state itself. None keeps the figure's own.

    Raises:
        ValueError: a font size that is not positive; plotly's own message for no template.
    """
    drawn: Any = go.Figure(figure)
    if template is not None:
        drawn.update_layout(template=template)
    if font_size is None:
        return drawn
    if not font_size > 0:
        raise ValueError(f"font_size = {font_size}: needs to be positive")
    own = drawn.layout.font.size or drawn.layout.template.layout.font.size or PLOTLYS_SIZE
    drawn.update_layout(_fonts(drawn.layout.to_plotly_json(), font_size / own))
    for trace in drawn.data:
        trace.update(_fonts(trace.to_plotly_json(), font_size / own))
    return drawn.update_layout(font_size=font_size)


def _fonts(part: Any, ratio: float) -> Any:
    """Of a part of a figure all stated font sizes, times `ratio`, where they stand, and nothing else."""
    if isinstance(part, list | tuple):
        items = [_fonts(item, ratio) for item in part]
        return items if any(items) else {}
    if not isinstance(part, dict):
        return {}
    found = {name: _fonts(item, ratio) for name, item in part.items()}
    for name, item in part.items():
        if name.endswith("font") and "size" in item:
            found[name] |= {"size": (ratio * np.asarray(item["size"])).tolist()}
    return {name: item for name, item in found.items() if item}


def sized(figure: go.Figure, columns: int) -> go.Figure:
    """The figure as wide as so many columns (1 or 2), its proportions kept, unless it became too low to read.

    Raises:
        ValueError: another number of columns.
    """
    if columns not in WIDTH:
        raise ValueError(f"columns = {columns}: needs 1 or 2")
    own = figure.layout.width or OWN[0], figure.layout.height or OWN[1]
    height = max(LOWEST[columns], round(own[1] * WIDTH[columns] / own[0]))
    return go.Figure(figure).update_layout(width=WIDTH[columns], height=height)
