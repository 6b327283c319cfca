"""Boundary lines of a phase diagram: those of the published theory and the exact one.

Curves are importances over ascending densities, with nan where there is none.
"""

import numpy as np
import xarray as xr
from plotly import graph_objects as go

from superpose.plot.template import BLACK

IGNORED, STORED, SUPERPOSED = 0, 1, 2
HOVER = "density %{x:.4g}<br>importance %{y:.6g}"


def published(data: xr.Dataset) -> list[go.Scatter]:
    """Dashed boundaries of the published theory; the dataset's own curves first, the steps of its label grid for the rest."""
    lower, upper, direct = (
        _steps(data, below, above)
        for below, above in [(IGNORED, SUPERPOSED), (SUPERPOSED, STORED), (IGNORED, STORED)]
    )
    if "published_boundary_lower" in data and "published_boundary_upper" in data:
        lower, upper = data["published_boundary_lower"].values, data["published_boundary_upper"].values
        direct = np.where(np.isnan(lower) & np.isnan(upper), direct, np.nan)
    curves = [curve for curve in (lower, upper, direct) if not np.isnan(curve).all()]
    line = {"color": BLACK, "width": 1.8, "dash": "8px,5px"}
    return _lines(data["density"].values, curves, "published theory", line)


def _steps(data: xr.Dataset, below: int, above: int) -> np.ndarray:
    """For each density, the importance half way (in the logarithm) between the first `below` cell with `above` over it."""
    curve = np.full(data.sizes["density"], np.nan)
    if "published_label" not in data:
        return curve
    label = data["published_label"].transpose("density", "importance").values
    importance = data["importance"].values
    change = (label[:, :-1] == below) & (label[:, 1:] == above)
    between = np.sqrt(importance[:-1] * importance[1:])
    found = change.any(1)
    curve[found] = between[change.argmax(1)[found]]
    return curve


def exact(data: xr.Dataset, *, mirrored: bool) -> list[go.Scatter]:
    """The exact boundary: solid where of first order, dotted where continuous, a star where one turns into the other.

    With two features (`mirrored`), exchanging them turns importance I into 1/I: the boundary's mirror image bounds the
    region where the last feature is stored alone.
    """
    if "exact_boundary" not in data or "exact_order" not in data:
        return []
    known = ~np.isnan(data["exact_boundary"].values)
    p, I = data["density"].values[known], data["exact_boundary"].values[known]
    order = data["exact_order"].values[known]
    change = np.flatnonzero(np.diff(order))
    tricritical = np.sqrt(p[change] * p[change + 1]), np.sqrt(I[change] * I[change + 1])
    p, I = np.insert(p, change + 1, tricritical[0]), np.insert(I, change + 1, tricritical[1])
    traces = []
    for which, name, dash in [(1, "exact, first order", "solid"), (2, "exact, continuous", "2px,3px")]:
        curve = np.where(np.insert(order == which, change + 1, True), I, np.nan)
        curves = [curve, 1 / curve] if mirrored else [curve]
        traces += _lines(p, curves, name, {"color": BLACK, "width": 3, "dash": dash}) if (order == which).any() else []
    return traces + _stars(*tricritical, mirrored=mirrored)


def _stars(p: np.ndarray, I: np.ndarray, *, mirrored: bool) -> list[go.Scatter]:
    x, y = (np.tile(p, 2), np.concatenate([I, 1 / I])) if mirrored else (p, I)
    marker = {"symbol": "star", "size": 14, "color": "white", "line": {"color": BLACK, "width": 1.2}}
    hover = f"tricritical point, to within the grid<br>{HOVER}<extra></extra>"
    star = go.Scatter(x=x, y=y, mode="markers", marker=marker, name="tricritical point", hovertemplate=hover)
    return [star] if len(p) else []


def _lines(p: np.ndarray, curves: list[np.ndarray], name: str, line: dict) -> list[go.Scatter]:
    """Curves under one entry of the legend."""
    hover = f"{name}<br>{HOVER}<extra></extra>"
    common = {"mode": "lines", "line": line, "name": name, "legendgroup": name, "hovertemplate": hover}
    return [go.Scatter(x=p, y=curve, showlegend=k == 0, **common) for k, curve in enumerate(curves)]
