"""The phase diagram: what the best model does with a feature, over density and relative importance.

Each cell shows the label of the best of several solutions: 0 ignored, 1 stored alone, 2 in superposition.
Regions differ by colour, by a symbol and by their name, so that the figure reads without colour.

Reference: Elhage et al. 2022, "Toy Models of Superposition", section 3, "Superposition as a Phase Change".
"""

import numpy as np
import xarray as xr
from plotly import graph_objects as go

from superpose.plot import boundaries, regions
from superpose.plot.template import BLACK, ORANGE, PALE, SKY, TEMPLATE, VERMILION, log_axis

NAMES = ("ignored", "stored alone", "superposed")
COLOURS = (PALE, SKY, ORANGE)
SYMBOLS = ("circle", "square", "x")
PER_RESTART = ("loss", "gradient_norm", "converged", "W", "b")
CELL = ("importance", "density")
SYMBOLS_ALONG = 8


def phase_diagram(dataset: xr.Dataset, *, feature: int = -1) -> go.Figure:
    """Regions of `feature`'s label over density, falling to the right, and the last feature's importance.

    Over the last feature's regions lie the published theory's boundaries (dashed) and the exact one (solid
    where the transition is of first order, dotted where continuous), where the dataset has them. Both axes
    are logarithmic. Hovering over a cell tells its best restart.

    Args:
        dataset: a saved phase diagram. `label` (density, importance, feature), `best` (density, importance);
            per restart `loss`, `gradient_norm`, `converged`, `W` and `b`; if known `published_label`,
            `published_boundary_lower`, `published_boundary_upper`, `exact_boundary` and `exact_order`.
        feature: whose label to show, in -n .. n-1; titles count from 1.

    Raises:
        ValueError: a variable is missing, a label is none of 0, 1, 2, or `feature` is out of range.
    """
    _check(dataset, feature)
    data = dataset.sortby(["density", "importance"])
    n, m = data.sizes["feature"], data.sizes["hidden"]
    p, importance = (data[name].values.astype(float) for name in ("density", "importance"))
    label = data["label"].isel(feature=feature).transpose(*CELL).values
    best = data[list(PER_RESTART)].isel(restart=data["best"])
    figure = go.Figure(_cells(label, p, importance, _hover(data, best)))
    figure.add_traces([_symbols(label == k, k, p, importance) for k in range(3)])
    if feature % n == n - 1:
        figure.add_traces(boundaries.published(data) + boundaries.exact(data, mirrored=n == 2))
    figure.add_traces(_unconverged(best["converged"].transpose(*CELL).values == 0, p, importance))
    for k in range(3):
        _name(figure, label == k, k, p, importance)
    _axes(figure, p, importance, f"relative importance of feature {n} (log scale)")
    title = {"text": f"feature {feature % n + 1} of n = {n}, m = {m}:", "side": "top"}
    legend = {"title": title, "traceorder": "normal"}
    return figure.update_layout(template=TEMPLATE, legend=legend, hoverdistance=6)


def _check(dataset: xr.Dataset, feature: int) -> None:
    needed = ["density", "importance", "label", "best", *PER_RESTART]
    missing = [name for name in needed if name not in dataset]
    if missing:
        raise ValueError(f"dataset lacks {missing}: needs {needed}")
    if not dataset["label"].isin([0, 1, 2]).all():
        raise ValueError(f"label holds {np.unique(dataset['label'])}: needs 0, 1 or 2")
    n = dataset.sizes["feature"]
    if not -n <= feature < n:
        raise ValueError(f"feature = {feature}: needs to lie in -{n} .. {n - 1}")


def _cells(label: np.ndarray, p: np.ndarray, importance: np.ndarray, hover: np.ndarray) -> go.Heatmap:
    """One coloured cell a grid point, its edges half way (in the logarithm) to its neighbours."""
    scale = [[(k + side) / 3, COLOURS[k]] for k in range(3) for side in (0, 1)]
    look = {"zmin": -0.5, "zmax": 2.5, "colorscale": scale, "showscale": False, "name": "label"}
    return go.Heatmap(z=label, x=_edges(p), y=_edges(importance), hovertext=hover, hoverinfo="text", **look)


def _edges(centre: np.ndarray) -> np.ndarray:
    """Edges of cells around ascending centres on a log axis, one more than the centres."""
    log = np.log10(centre)
    if len(log) == 1:
        return 10.0 ** (log[0] + np.array([-0.1, 0.1]))
    ends = [1.5 * log[0] - 0.5 * log[1]], [1.5 * log[-1] - 0.5 * log[-2]]
    return 10.0 ** np.concatenate([ends[0], (log[1:] + log[:-1]) / 2, ends[1]])


def _hover(data: xr.Dataset, best: xr.Dataset) -> np.ndarray:
    """What each cell tells of its best restart, shape (importance, density)."""
    W, b = (
        best["W"].transpose(*CELL, "hidden", "feature").values,
        best["b"].transpose(*CELL, "feature").values,
    )
    label = data["label"].transpose(*CELL, "feature").values
    loss, gradient, converged = (best[name].transpose(*CELL).values for name in PER_RESTART[:3])
    text = np.empty(loss.shape, object)
    for i, j in np.ndindex(*loss.shape):
        labels = ", ".join(f"{k} {NAMES[v]}" for k, v in enumerate(label[i, j]))
        rows = "<br>".join(f"W, row {r}: {_numbers(row)}" for r, row in enumerate(W[i, j]))
        state = "converged" if converged[i, j] else "not converged"
        text[i, j] = (
            f"density {data['density'].values[j]:.4g}, importance {data['importance'].values[i]:.4g}<br>"
            f"loss {loss[i, j]:.6g}<br>features: {labels}<br>{rows}<br>b: {_numbers(b[i, j])}<br>"
            f"gradient norm {gradient[i, j]:.1e} ({state})"
        )
    return text


def _numbers(values: np.ndarray) -> str:
    return ", ".join(f"{round(float(v), 3) + 0.0:.3f}".replace("-", "−") for v in values)


def _symbols(region: np.ndarray, k: int, p: np.ndarray, importance: np.ndarray) -> go.Scatter:
    """A sparse grid of symbols over the region of label k; it carries the legend, even of no region."""
    i, j = regions.symbol_cells(region, count=min(SYMBOLS_ALONG, *region.shape)).T
    at = {"x": p[j], "y": importance[i]} if len(i) else {"x": [None], "y": [None]}
    marker = {"symbol": SYMBOLS[k], "size": 7, "color": COLOURS[k], "line": {"color": BLACK, "width": 1}}
    return go.Scatter(at, mode="markers", marker=marker, name=NAMES[k], hoverinfo="skip")


def _name(figure: go.Figure, region: np.ndarray, k: int, p: np.ndarray, importance: np.ndarray) -> None:
    """Write the name of label k inside its region, if there is room."""
    cell = regions.name_cell(region)
    if cell is not None:
        at = {"x": np.log10(p[cell[1]]), "y": np.log10(importance[cell[0]])}
        look = {"showarrow": False, "bgcolor": COLOURS[k], "borderpad": 2, "font": {"size": 14}}
        figure.add_annotation(at, text=f"<b>{NAMES[k]}</b>", **look)


def _unconverged(where: np.ndarray, p: np.ndarray, importance: np.ndarray) -> list[go.Scatter]:
    """Dots on the cells whose best restart did not converge; no trace if all did."""
    i, j = np.nonzero(where)
    look = {"marker": {"size": 4, "color": VERMILION}, "name": "not converged", "hoverinfo": "skip"}
    return [go.Scatter(x=p[j], y=importance[i], mode="markers", **look)] if len(i) else []


def _axes(figure: go.Figure, p: np.ndarray, importance: np.ndarray, title: str) -> None:
    """Logarithmic axes, density falling to the right, with ticks at 1 and 3 of each decade."""
    low, high = np.log10(_edges(p)[[0, -1]])
    figure.update_xaxes(_axis(low, high), range=[high, low])
    figure.update_xaxes(title_text="density p = 1 − S (log scale), sparser to the right")
    low, high = np.log10(_edges(importance)[[0, -1]])
    figure.update_yaxes(_axis(low, high), range=[low, high], title_text=title)


def _axis(low: float, high: float) -> dict:
    """Ticks at 1 and 3 times powers of ten; plotly's own where fewer than two lie in the range."""
    axis = log_axis(1, 3)
    shown = [value for value in axis["tickvals"] if low <= np.log10(value) <= high]
    return axis if len(shown) > 1 else {"type": "log"}
