"""Boundary lines of a phase diagram: those of the published theory and the exact one.

Curves are importances over ascending densities, with nan where there is none.
"""

import numpy as np
import xarray as xr
from plotly import graph_objects as go

from superpose.plot.template import BLACK

IGNORED, STORED, SUPERPOSED = 0, 1, 2
FIRST_ORDER, CONTINUOUS = 1, 2
TRICRITICAL = "tricritical point, to within the grid"
HOVER = "%{text}<br>density %{x:.4g}<br>importance %{y:.6g}<extra></extra>"


def published(data: xr.Dataset) -> list[go.Scatter]:
    """Dashed boundaries of the published theory: the dataset's curves, else steps in its label grid.

    Where the curves are nan, at high densities, nothing is superposed, and which of two features is ignored
    changes where they are equally important, at 1: the lower curve goes on there, the upper one joins it.
    """
    if "published_boundary_lower" in data and "published_boundary_upper" in data:
        lower, upper = (data[f"published_boundary_{side}"].values for side in ("lower", "upper"))
        joint = np.isnan(upper) & (np.cumsum(np.isnan(upper)) == 1)
        curves = [np.where(np.isnan(lower), 1.0, lower), np.where(joint, 1.0, upper)]
    else:
        sides = [(IGNORED, SUPERPOSED), (SUPERPOSED, STORED), (IGNORED, STORED)]
        curves = [_steps(data, below, above) for below, above in sides]
    curves = [curve for curve in curves if not np.isnan(curve).all()]
    line = {"color": BLACK, "width": 1.8, "dash": "8px,5px"}
    name = "published theory"
    return _lines(data["density"].values, curves, name, line, [name] * data.sizes["density"])


def _steps(data: xr.Dataset, below: int, above: int) -> np.ndarray:
    """Per density, the importance half way (in the logarithm) from the first `below` to an `above` on it."""
    curve = np.full(data.sizes["density"], np.nan)
    if "published_label" not in data or data.sizes["importance"] < 2:
        return curve
    label = data["published_label"].transpose("density", "importance").values
    importance = data["importance"].values
    change = (label[:, :-1] == below) & (label[:, 1:] == above)
    between = np.sqrt(importance[:-1] * importance[1:])
    found = change.any(1)
    curve[found] = between[change.argmax(1)[found]]
    return curve


def exact(data: xr.Dataset, *, mirrored: bool) -> list[go.Scatter]:
    """The exact boundary: solid where of first order, dotted where continuous, diamonds where that changes.

    With two features (`mirrored`), exchanging them turns importance I into 1/I, so that the boundary's
    mirror image bounds the region where the last feature is stored alone.
    """
    if "exact_boundary" not in data or "exact_order" not in data:
        return []
    known = ~np.isnan(data["exact_boundary"].values)
    p, height = data["density"].values[known], data["exact_boundary"].values[known]
    order = data["exact_order"].values[known]
    change = np.flatnonzero(np.diff(order))
    p_turn, turn = np.sqrt(p[change] * p[change + 1]), np.sqrt(height[change] * height[change + 1])
    p, height = np.insert(p, change + 1, p_turn), np.insert(height, change + 1, turn)
    traces = []
    styles = [(FIRST_ORDER, "exact, first order", "solid"), (CONTINUOUS, "exact, continuous", "2px,3px")]
    for which, name, dash in styles:
        if (order == which).any():
            curve = np.where(np.insert(order == which, change + 1, True), height, np.nan)
            curves = [curve, 1 / curve] if mirrored else [curve]
            says = np.insert(np.full(order.shape, name, object), change + 1, TRICRITICAL).tolist()
            traces += _lines(p, curves, name, {"color": BLACK, "width": 3, "dash": dash}, says)
    return traces + _tricritical(p_turn, turn, mirrored=mirrored)


def _tricritical(p: np.ndarray, height: np.ndarray, *, mirrored: bool) -> list[go.Scatter]:
    """Diamonds, half way between the two densities of the grid that bracket each tricritical point."""
    x, y = (np.tile(p, 2), np.concatenate([height, 1 / height])) if mirrored else (p, height)
    marker = {"symbol": "diamond", "size": 9, "color": "white", "line": {"color": BLACK, "width": 1.5}}
    look = {"mode": "markers", "marker": marker, "name": "tricritical point", "hoverinfo": "skip"}
    return [go.Scatter(x=x, y=y, **look)] if len(p) else []


def _lines(p: np.ndarray, curves: list[np.ndarray], name: str, line: dict, says: list) -> list[go.Scatter]:
    """Curves under one entry of the legend; `says` names each point on hovering."""
    look = {"mode": "lines", "line": line, "name": name, "legendgroup": name}
    look |= {"text": says, "hovertemplate": HOVER}
    return [go.Scatter(x=p, y=curve, showlegend=k == 0, **look) for k, curve in enumerate(curves)]
