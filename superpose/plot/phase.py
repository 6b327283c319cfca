"""The phase diagram: what the best model does with a feature, over density and relative importance.

Each cell shows the label of the best of several exact solutions: 0 ignored, 1 stored on its own, 2 in superposition.
Regions differ by colour, by a symbol and by their name, so that the figure reads without colour.

Reference: Elhage et al. 2022, "Toy Models of Superposition", section 3, "Superposition as a Phase Change".
"""

import numpy as np
import xarray as xr
from plotly import graph_objects as go

from superpose.plot import boundaries
from superpose.plot.template import BLACK, ORANGE, PALE, SKY, TEMPLATE

NAMES = ("ignored", "stored alone", "superposed")
COLOURS = (PALE, SKY, ORANGE)
SYMBOLS = ("circle", "square", "x")
NEEDED = ("label", "best", "loss", "W", "b", "gradient_norm", "converged")
MARKS = 8  # symbols along each axis
LEAST_NAMED = 3  # a region is named where this many cells of a 25 x 25 grid lie between the name and its edge


def phase_diagram(dataset: xr.Dataset, *, feature: int = -1) -> go.Figure:
    """Regions of `feature`'s label over density (falling to the right) and the last feature's importance, both logarithmic.

    Over the last feature's regions lie the boundaries of the published theory (dashed) and the exact one (solid where
    the transition is of first order, dotted where continuous), where the dataset has them.

    Args:
        dataset: a saved phase diagram: `label` (density, importance, feature), `best` (density, importance), and per restart
            `loss`, `W`, `b`, `gradient_norm`, `converged`; if known `published_label`, `published_boundary_lower`,
            `published_boundary_upper`, `exact_boundary` and `exact_order`.
        feature: whose label to show, in -n .. n-1.

    Raises:
        ValueError: a variable is missing, a label is none of 0, 1, 2, or `feature` is out of range.
    """
    n, index = _check(dataset, feature)
    data = dataset.sortby(["density", "importance"])
    label = data["label"].isel(feature=index).transpose("importance", "density").values
    x, y = data["density"].values.astype(float), data["importance"].values.astype(float)
    best = data[list(NEEDED[2:])].isel(restart=data["best"])
    figure = go.Figure(_cells(label, x, y, _hover(data, best)))
    figure.add_traces(_marks(label, x, y))
    if index == n - 1:
        figure.add_traces(boundaries.published(data) + boundaries.exact(data, mirrored=n == 2))
    figure.add_traces(_unconverged(best["converged"].transpose("importance", "density").values == 0, x, y))
    for k, name in enumerate(NAMES):
        _name_region(figure, label == k, x, y, name, COLOURS[k])
    return _frame(figure, x, y, f"feature {index} of n = {n}, m = {data.sizes['hidden']}:", n)


def _check(dataset: xr.Dataset, feature: int) -> tuple[int, int]:
    missing = [name for name in NEEDED if name not in dataset]
    if missing:
        raise ValueError(f"dataset lacks {missing}: needs {list(NEEDED)}")
    if not dataset["label"].isin([0, 1, 2]).all():
        raise ValueError(f"dataset's label holds {np.unique(dataset['label'])}: needs 0, 1 or 2")
    n = dataset.sizes["feature"]
    if not -n <= feature < n:
        raise ValueError(f"feature = {feature}: needs to lie in -{n} .. {n - 1}")
    return n, feature % n


def _cells(label: np.ndarray, x: np.ndarray, y: np.ndarray, hover: np.ndarray) -> go.Heatmap:
    """One coloured cell a grid point, its edges half way (in the logarithm) to its neighbours."""
    scale = [[(k + side) / 3, COLOURS[k]] for k in range(3) for side in (0, 1)]
    return go.Heatmap(
        z=label, x=_edges(x), y=_edges(y), zmin=-0.5, zmax=2.5, colorscale=scale, showscale=False, hovertext=hover,
        hoverinfo="text", name="label",
    )  # fmt: skip


def _edges(centre: np.ndarray) -> np.ndarray:
    """Edges of cells around ascending centres on a log axis, one more than the centres."""
    log = np.log10(centre)
    if len(log) == 1:
        return 10.0 ** np.array([log[0] - 0.1, log[0] + 0.1])
    middle = (log[1:] + log[:-1]) / 2
    return 10.0 ** np.concatenate([[1.5 * log[0] - 0.5 * log[1]], middle, [1.5 * log[-1] - 0.5 * log[-2]]])


def _hover(data: xr.Dataset, best: xr.Dataset) -> np.ndarray:
    """What a cell says of its best restart, shape (importance, density)."""
    order = ("importance", "density")
    loss, gradient, converged = (best[k].transpose(*order).values for k in ("loss", "gradient_norm", "converged"))
    W = best["W"].transpose(*order, "hidden", "feature").values
    b = best["b"].transpose(*order, "feature").values
    label = data["label"].transpose(*order, "feature").values
    text = np.empty(loss.shape, object)
    for i, j in np.ndindex(*loss.shape):
        labels = ", ".join(f"{k} {NAMES[v]}" for k, v in enumerate(label[i, j]))
        rows = "<br>".join(f"W{r} = {_numbers(row)}" for r, row in enumerate(W[i, j]))
        state = "converged" if converged[i, j] else "not converged"
        text[i, j] = (
            f"density {data['density'].values[j]:.4g}, importance {data['importance'].values[i]:.4g}<br>"
            f"loss {loss[i, j]:.6g}<br>features: {labels}<br>{rows}<br>b = {_numbers(b[i, j])}<br>"
            f"gradient norm {gradient[i, j]:.1e} ({state})"
        )
    return text


def _numbers(values: np.ndarray) -> str:
    return "(" + ", ".join(f"{round(float(v), 3) + 0.0:.3f}" for v in values) + ")"


def _marks(label: np.ndarray, x: np.ndarray, y: np.ndarray) -> list[go.Scatter]:
    """A sparse grid of symbols, one kind a region; they carry the legend."""
    sparse = np.zeros(label.shape, bool)
    rows, columns = (_spread(size) for size in label.shape)
    sparse[np.ix_(rows, columns)] = True
    traces = []
    for k, name in enumerate(NAMES):
        here = sparse & (label == k)
        if not here.any() and (label == k).any():
            here = np.zeros_like(here)
            here[_deepest(label == k)[0]] = True
        i, j = np.nonzero(here)
        marker = {"symbol": SYMBOLS[k], "size": 8, "color": COLOURS[k], "line": {"color": BLACK, "width": 1}}
        at = {"x": x[j], "y": y[i]} if len(i) else {"x": [None], "y": [None]}
        traces.append(go.Scatter(**at, mode="markers", marker=marker, name=name, hoverinfo="skip"))
    return traces


def _spread(size: int) -> np.ndarray:
    """At most `MARKS` indices spread evenly over 0 .. size-1."""
    count = min(MARKS, size)
    return ((np.arange(count) + 0.5) * size / count).astype(int)


def _deepest(region: np.ndarray) -> tuple[tuple[int, int], int]:
    """The cell of a region farthest from its edge, and how many steps of erosion it survives."""
    depth, left = 0, region
    while left.any():
        inner, depth = left, depth + 1
        padded = np.pad(left, 1)
        left = left & padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]
    i, j = np.argwhere(inner)[len(np.argwhere(inner)) // 2]
    return (int(i), int(j)), depth


def _name_region(figure: go.Figure, region: np.ndarray, x: np.ndarray, y: np.ndarray, name: str, colour: str) -> None:
    """Write the name inside the region, where it is widest, if it has room."""
    if not region.any():
        return
    (i, j), depth = _deepest(region)
    if depth * 25 >= LEAST_NAMED * min(region.shape):
        at = {"x": np.log10(x[j]), "y": np.log10(y[i])}
        figure.add_annotation(
            **at, text=f"<b>{name}</b>", showarrow=False, bgcolor=colour, borderpad=3, font={"size": 14}
        )


def _unconverged(where: np.ndarray, x: np.ndarray, y: np.ndarray) -> list[go.Scatter]:
    """Dots on the cells whose best restart did not converge; nothing if all did."""
    i, j = np.nonzero(where)
    marker = {"symbol": "circle", "size": 4, "color": "#D55E00"}
    trace = go.Scatter(x=x[j], y=y[i], mode="markers", marker=marker, name="not converged", hoverinfo="skip")
    return [trace] if len(i) else []


def _frame(figure: go.Figure, x: np.ndarray, y: np.ndarray, title: str, n: int) -> go.Figure:
    """Axes, ticks at 1 and 3 of each decade, legend."""
    (left, right), (bottom, top) = (np.log10(_edges(v))[[0, -1]] for v in (x, y))
    figure.update_layout(template=TEMPLATE, legend={"title": {"text": title, "side": "top"}, "traceorder": "normal"})
    figure.update_xaxes(
        type="log", range=[right, left], title_text="density p = 1 − S (log scale), sparser to the right", **_ticks(left, right)
    )
    figure.update_yaxes(
        type="log", range=[bottom, top], title_text=f"relative importance of feature {n - 1} (log scale)", **_ticks(bottom, top)
    )
    return figure


def _ticks(low: float, high: float) -> dict:
    """Ticks at 1 and 3 times powers of ten; plotly's own where fewer than two fall in the range."""
    values = [d * 10.0**k for k in range(int(low) - 2, int(high) + 2) for d in (1, 3)]
    values = [v for v in values if low <= np.log10(v) <= high]
    return {"tickvals": values, "ticktext": [f"{v:g}" for v in values]} if len(values) > 1 else {}
