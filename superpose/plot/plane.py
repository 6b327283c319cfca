"""Features as directions in a plane: the columns of W for a model with two hidden dimensions."""

import numpy as np
from jaxtyping import Float
from plotly import graph_objects as go
from plotly.colors import sample_colorscale

from superpose.plot.template import BLUE, GREY, SEQUENTIAL, TEMPLATE

LABEL_GAP, LABEL_SIZE = 0.09, 0.12  # from an arrow's tip to its label, and a label's size, as parts of the axis


def features_in_plane(W: Float[np.ndarray, "m n"], importance: Float[np.ndarray, " k"] | None = None) -> go.Figure:
    """One arrow `W_i` a feature from the origin, numbered, beside the unit circle, on equal axes.

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
        raise ValueError(f"importance has shape {np.shape(importance)}: needs ({n},), one for each column of W")
    half = 1.25 * max(1.0, float(np.linalg.norm(W, axis=0).max(initial=0)))
    figure = go.Figure(_unit_circle())
    figure.add_traces([_arrow(W[:, i], i, hover, colour) for i, (hover, colour) in enumerate(_look(n, importance))])
    figure.add_trace(_labels(W, half))
    if importance is not None:
        figure.add_trace(_colour_bar(np.asarray(importance)))
    figure.update_layout(template=TEMPLATE, showlegend=False)
    figure.update_xaxes(title_text="hidden dimension 0", range=[-half, half], constrain="domain")
    figure.update_yaxes(title_text="hidden dimension 1", range=[-half, half], constrain="domain", scaleanchor="x")
    return figure


def _look(n: int, importance: np.ndarray | None) -> list[tuple[str, str]]:
    """Hover line and colour of each arrow."""
    if importance is None:
        return [("", BLUE)] * n
    low, high = np.min(importance), np.max(importance)
    scaled = (np.asarray(importance) - low) / (high - low) if high > low else np.ones(n)
    colours = sample_colorscale(SEQUENTIAL, [0.9 * float(s) for s in scaled])
    return [(f"<br>importance {value:.4g}", colour) for value, colour in zip(importance, colours, strict=True)]


def _unit_circle() -> go.Scatter:
    angle = np.linspace(0, 2 * np.pi, 181)
    line = {"color": GREY, "width": 1, "dash": "dot"}
    return go.Scatter(x=np.cos(angle), y=np.sin(angle), mode="lines", line=line, name="unit circle", hoverinfo="skip")


def _arrow(w: np.ndarray, i: int, hover: str, colour: str) -> go.Scatter:
    """From the origin to w, its head turned along it."""
    marker = {"symbol": "arrow", "angleref": "previous", "size": [0, 13], "color": colour, "opacity": 1}
    text = f"feature {i}<br>W = ({w[0]:.4g}, {w[1]:.4g})<br>|W| = {np.hypot(*w):.4g}{hover}<extra></extra>"
    line = {"color": colour, "width": 2.5}
    return go.Scatter(
        x=[0, w[0]], y=[0, w[1]], mode="lines+markers", line=line, marker=marker, name=f"feature {i}", hovertemplate=text
    )


def _labels(W: np.ndarray, half: float) -> go.Scatter:
    """Feature numbers a little beyond the tips; numbers that would overlap share one label."""
    length = np.linalg.norm(W, axis=0)
    place = W + LABEL_GAP * half * W / np.where(length > 0, length, 1)
    groups: list[list[int]] = []
    for i in np.argsort(-length, kind="stable"):
        near = (g for g in groups if np.linalg.norm(place[:, g[0]] - place[:, i]) < LABEL_SIZE * half)
        found = next(near, None)
        if found is None:
            groups.append([int(i)])
        else:
            found.append(int(i))
    x, y = place[:, [g[0] for g in groups]]
    text = [", ".join(map(str, sorted(g))) for g in groups]
    return go.Scatter(x=x, y=y, mode="text", text=text, textfont={"size": 14}, name="labels", hoverinfo="skip")


def _colour_bar(importance: np.ndarray) -> go.Scatter:
    """An unseen point that brings the scale of `_look`."""
    low, high = float(importance.min()), float(importance.max())
    bar = {"title": {"text": "importance", "side": "right"}, "thickness": 14, "outlinewidth": 0}
    scale = [[t, c] for t, c in zip([0, 0.5, 1], sample_colorscale(SEQUENTIAL, [0, 0.45, 0.9]), strict=True)]
    marker = {"color": [low], "cmin": low, "cmax": high, "colorscale": scale, "colorbar": bar, "showscale": high > low}
    return go.Scatter(x=[None], y=[None], mode="markers", marker=marker, name="importance", hoverinfo="skip")
