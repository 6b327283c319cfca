"""The look that all figures share: one plotly template and its colours.

Colours are Okabe and Ito's, told apart by colour-blind readers; the sequential scale, cividis, grows in lightness as
well. Text is Unicode (p, WᵀW, D*), never LaTeX, which would need MathJax from the network.

Reference: Okabe and Ito 2008, "Color Universal Design".
"""

from plotly import graph_objects as go

BLACK, GREY, PALE = "#222222", "#767676", "#E4E4E4"
BLUE, SKY, VERMILION, ORANGE = "#0072B2", "#56B4E9", "#D55E00", "#F0B54A"
GREEN, PURPLE, YELLOW = "#009E73", "#CC79A7", "#F0E442"
SEQUENTIAL = "Cividis"
DIVERGING = [[0, BLUE], [0.25, "#8DBBDB"], [0.5, "#FFFFFF"], [0.75, "#F0B48C"], [1, VERMILION]]

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
        "font": {"family": "Arial, Helvetica, Liberation Sans, DejaVu Sans, sans-serif", "size": 13, "color": BLACK},
        "colorway": [BLUE, VERMILION, GREEN, PURPLE, ORANGE, SKY, BLACK],
        "paper_bgcolor": "white",
        "plot_bgcolor": "white",
        "margin": {"l": 60, "r": 20, "t": 30, "b": 55},
        "xaxis": _AXIS,
        "yaxis": _AXIS,
        "legend": _LEGEND,
        "coloraxis": {"colorbar": {"thickness": 14, "outlinewidth": 0, "ticks": "outside", "title": {"side": "right"}}},
        "hoverlabel": {"align": "left", "bgcolor": "white", "font": {"size": 12, "color": BLACK}},
    }
)
