"""Features as directions in a plane: the columns of W for a model with two hidden dimensions."""

import numpy as np
from jaxtyping import Float
from plotly import graph_objects as go
from plotly.colors import sample_colorscale

from superpose.plot.template import BLUE, COLOUR_BAR, GREY, SEQUENTIAL, SQUARE, TEMPLATE

GAP, ROOM, SHORT = 0.09, 0.13, 0.06  # tip to label, label to label, no arrow: as parts of half an axis


def features_in_plane(W: Float[np.ndarray, "m n"], importance: Float[np.ndarray, " k"] | None = None) -> go.Figure:
    """One numbered arrow `W_i` a feature from the origin, and the unit circle, on equal axes.

    Columns too short for an arrow are dots, and a line of text names them. Darker means more important.

    Args:
        W: shape `(2, n)`; column i is the direction of feature i.
        importance: shape `(n,)`; colours the arrows. None draws all alike.

    Raises:
        ValueError: W has other than two rows, or `importance` not one entry a column.
    """
    W = np.asarray(W)
    m, n = W.shape
    if m != 2:
        raise ValueError(f"W has m = {m} rows (hidden dimensions): a plane needs m = 2")
    if importance is not None and np.shape(importance) != (n,):
        raise ValueError(f"importance has shape {np.shape(importance)}: needs ({n},), one a column of W")
    half = 1.25 * max(1.0, float(np.linalg.norm(W, axis=0).max(initial=0)))
    short = np.linalg.norm(W, axis=0) < SHORT * half
    figure = go.Figure(_unit_circle())
    for i, (hover, colour) in enumerate(_look(n, importance)):
        figure.add_trace(_arrow(W[:, i], i, hover, colour, short=bool(short[i])))
    figure.add_trace(_labels(W, np.flatnonzero(~short), half))
    if importance is not None:
        figure.add_trace(_colour_bar(np.asarray(importance)))
    return _frame(figure, half, np.flatnonzero(short))


def _look(n: int, importance: np.ndarray | None) -> list[tuple[str, str]]:
    """Hover line and colour of each arrow."""
    if importance is None:
        return [("", BLUE)] * n
    low, high = np.min(importance), np.max(importance)
    scaled = (np.asarray(importance) - low) / (high - low) if high > low else np.ones(n)
    colours = sample_colorscale(SEQUENTIAL, [0.9 * (1 - float(s)) for s in scaled])
    return [(f"<br>importance {v:.4g}", str(c)) for v, c in zip(importance, colours, strict=True)]


def _unit_circle() -> go.Scatter:
    angle = np.linspace(0, 2 * np.pi, 181)
    line = {"color": GREY, "width": 1, "dash": "dot"}
    x, y = np.cos(angle), np.sin(angle)
    return go.Scatter(x=x, y=y, mode="lines", line=line, name="unit circle", hoverinfo="skip")


def _arrow(w: np.ndarray, i: int, hover: str, colour: str, *, short: bool) -> go.Scatter:
    """From the origin to w, its head turned along it; a dot if too short for a head."""
    head = {"symbol": "circle", "size": [0, 6]} if short else {"symbol": "arrow", "size": [0, 13]}
    marker = {**head, "angleref": "previous", "color": colour, "opacity": 1, "line": {"width": 0}}
    text = f"feature {i}<br>W = ({w[0]:.4g}, {w[1]:.4g})<br>|W| = {np.hypot(*w):.4g}{hover}<extra></extra>"
    look = {"mode": "lines+markers", "line": {"color": colour, "width": 2.5}, "marker": marker}
    return go.Scatter(x=[0, w[0]], y=[0, w[1]], name=f"feature {i}", hovertemplate=text, **look)


def _labels(W: np.ndarray, which: np.ndarray, half: float) -> go.Scatter:
    """Feature numbers a little beyond the tips; numbers that would overlap share one label."""
    length = np.linalg.norm(W, axis=0)
    place = W * (1 + GAP * half / np.where(length > 0, length, 1))
    groups: list[list[int]] = []
    for i in which[np.argsort(-length[which], kind="stable")]:
        near = (g for g in groups if np.linalg.norm(place[:, g[0]] - place[:, i]) < ROOM * half)
        found = next(near, None)
        if found is None:
            groups.append([int(i)])
        else:
            found.append(int(i))
    x, y = place[:, [g[0] for g in groups]]
    text = [", ".join(map(str, sorted(g))) for g in groups]
    return go.Scatter(x=x, y=y, mode="text", text=text, name="labels", hoverinfo="skip")


def _colour_bar(importance: np.ndarray) -> go.Scatter:
    """An unseen point that brings the scale of `_look`."""
    low, high = float(importance.min()), float(importance.max())
    bar = {**COLOUR_BAR, "title": {**COLOUR_BAR["title"], "text": "importance", "side": "right"}}
    t = np.linspace(0, 1, 11)
    colours = sample_colorscale(SEQUENTIAL, list(0.9 * (1 - t)))
    marker = {"color": [low], "cmin": low, "cmax": high, "colorbar": bar, "showscale": high > low}
    marker["colorscale"] = [[float(s), c] for s, c in zip(t, colours, strict=True)]
    return go.Scatter(x=[None], y=[None], mode="markers", marker=marker, name="importance", hoverinfo="skip")


def _frame(figure: go.Figure, half: float, short: np.ndarray) -> go.Figure:
    """Equal axes, and a line that names the columns without an arrow."""
    figure.update_layout(SQUARE, template=TEMPLATE, showlegend=False)
    equal = {"range": [-half, half], "constrain": "domain"}
    figure.update_xaxes(equal, title_text="hidden dimension 0")
    figure.update_yaxes(equal, title_text="hidden dimension 1", scaleanchor="x")
    if len(short):
        names = ", ".join(map(str, short[:8])) + (f", … ({len(short)})" if len(short) > 8 else "")
        at = {"x": -0.97 * half, "y": -0.97 * half, "xanchor": "left", "yanchor": "bottom"}
        figure.add_annotation(at, text=f"near 0: {names}", showarrow=False)
    return figure
