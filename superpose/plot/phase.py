"""The phase diagram: what the best model does with a feature, over density and relative importance.

Each cell shows the label of the best of several solutions: 0 ignored, 1 stored alone, 2 in superposition.
Regions differ by colour, by a symbol and by their name, so that the figure reads without colour.

Reference: Elhage et al. 2022, "Toy Models of Superposition", section 3, "Superposition as a Phase Change".
"""

import numpy as np
import xarray as xr
from plotly import graph_objects as go

from superpose.plot import boundaries
from superpose.plot.label_regions import Axis, draw
from superpose.plot.template import VERMILION

NAMES = ("ignored", "stored alone", "superposed")
PER_RESTART = ("loss", "gradient_norm", "converged", "W", "b")
CELL = ("importance", "density")


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
    across, up = Axis("density", p, log=True, backwards=True), Axis("importance", importance, log=True, backwards=False)
    figure = draw(label.astype(int), NAMES, across, up)
    figure.update_xaxes(title_text="density p = 1 − S (log scale), sparser to the right")
    figure.update_yaxes(title_text=f"relative importance of feature {n} (log scale)")
    figure.update_traces(hovertext=_hover(data, best), selector={"type": "heatmap"})
    if feature % n == n - 1:
        figure.add_traces(boundaries.published(data) + boundaries.exact(data, mirrored=n == 2))
    figure.add_traces(_unconverged(best["converged"].transpose(*CELL).values == 0, p, importance))
    title = {"text": f"feature {feature % n + 1} of n = {n}, m = {m}:", "side": "top"}
    return figure.update_layout(legend_title=title)


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


def _unconverged(where: np.ndarray, p: np.ndarray, importance: np.ndarray) -> list[go.Scatter]:
    """Dots on the cells whose best restart did not converge; no trace if all did."""
    i, j = np.nonzero(where)
    look = {"marker": {"size": 4, "color": VERMILION}, "name": "not converged", "hoverinfo": "skip"}
    return [go.Scatter(x=p[j], y=importance[i], mode="markers", **look)] if len(i) else []
