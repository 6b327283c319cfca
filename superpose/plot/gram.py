"""The Gram matrix `WᵀW` of a toy model: squared lengths on the diagonal, interference off it."""

import numpy as np
from jaxtyping import Float
from plotly import graph_objects as go

from superpose.plot.template import DIVERGING, GREY, SQUARE, TEMPLATE

BELOW_TITLE = '<br><span style="font-size:6px">\u00a0</span>'  # keeps the colour bar's top tick off its title
MOST_PRINTED, MOST_SPACED = 10, 30  # features above which cells print no number, and touch


def gram_matrix(W: Float[np.ndarray, "m n"], b: Float[np.ndarray, " k"] | None = None) -> go.Figure:
    """Heatmap of `G = WᵀW`, row i what output i takes from input j, with the bias as a strip beside it.

    One diverging scale, symmetric about 0, serves both; up to ten features, each cell also prints its value.

    Args:
        W: shape `(m, n)`; column i is the direction of feature i.
        b: biases, shape `(n,)`, or None for no strip.

    Raises:
        ValueError: `b` does not have one entry for each column of `W`.
    """
    G = np.asarray(W).T @ np.asarray(W)
    n = len(G)
    if b is not None and np.shape(b) != (n,):
        raise ValueError(f"b has shape {np.shape(b)}: needs ({n},), one bias for each column of W")
    figure = go.Figure(_cells(G, 0.0, "output %{y}, input %{x}<br>WᵀW = %{z:.4g}<extra></extra>"))
    title, largest = "WᵀW", np.abs(G).max()
    if b is not None:
        bias = np.asarray(b)[:, None]
        figure.add_trace(_cells(bias, n + 0.5, "output %{y}<br>b = %{z:.4g}<extra></extra>"))
        title, largest = "WᵀW, b", max(largest, np.abs(bias).max())
    limit = float(largest) or 1.0
    scale = {
        "colorscale": DIVERGING,
        "cmin": -limit,
        "cmax": limit,
        "colorbar": {"title": {"text": title + BELOW_TITLE}},
    }
    figure.update_layout(SQUARE, template=TEMPLATE, coloraxis=scale)
    return _square_axes(figure, n, has_bias=b is not None)


def _cells(z: np.ndarray, first: float, hover: str) -> go.Heatmap:
    """Cells one unit wide from `x = first`, on the shared colour axis."""
    n, columns = z.shape
    printed = {}
    if n <= MOST_PRINTED:
        text = [[f"{round(float(v), 2) + 0.0:.2f}".replace("-", "−") for v in row] for row in z]
        printed = {"text": text, "texttemplate": "%{text}", "textfont": {"size": 11}}
    edge_x, gap = first - 0.5 + np.arange(columns + 1), 1 if n <= MOST_SPACED else 0
    edge_y = np.arange(n + 1) - 0.5
    return go.Heatmap(z=z, x=edge_x, y=edge_y, xgap=gap, ygap=gap, coloraxis="coloraxis", hovertemplate=hover, **printed)


def _square_axes(figure: go.Figure, n: int, *, has_bias: bool) -> go.Figure:
    """Equal units on both axes, feature 0 at the top left, at most ten ticks, a frame around each block."""
    ticks = list(range(0, n, -(-n // 10)))
    places, names = ticks + [n + 0.5] * has_bias, [str(i) for i in ticks] + ["b"] * has_bias
    right = n + 1.0 if has_bias else n - 0.5
    blocks = [(-0.5, n - 0.5)] + [(float(n), n + 1.0)] * has_bias
    for left, end in blocks:
        figure.add_shape(x0=left, x1=end, y0=-0.5, y1=n - 0.5, line={"color": GREY, "width": 1})
    bare = {"showline": False, "constrain": "domain"}
    figure.update_xaxes(bare, title_text="input feature j", range=[-0.5, right])
    figure.update_xaxes(tickvals=places, ticktext=names)
    figure.update_yaxes(bare, title_text="output feature i", range=[n - 0.5, -0.5])
    figure.update_yaxes(tickvals=ticks, scaleanchor="x")
    return figure
