"""The Gram matrix `WᵀW` of a toy model: features' squared lengths on the diagonal, their interference off it."""

import numpy as np
from jaxtyping import Float
from plotly import graph_objects as go

from superpose.plot.template import DIVERGING, TEMPLATE

MOST_PRINTED = 10  # cells of more features than this are too small for a printed number


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
    figure = go.Figure(_cells(G, np.arange(n), "output %{y}, input %{x}<br>WᵀW = %{z:.4g}<extra></extra>"))
    largest = np.abs(G).max()
    if b is not None:
        bias = np.asarray(b)[:, None]
        figure.add_trace(_cells(bias, np.array([n + 0.5]), "output %{y}<br>b = %{z:.4g}<extra></extra>"))
        largest = max(largest, np.abs(bias).max())
    limit = float(largest) or 1.0
    title = "WᵀW" if b is None else "WᵀW and b"
    coloraxis = {"colorscale": DIVERGING, "cmin": -limit, "cmax": limit, "colorbar": {"title": {"text": title}}}
    figure.update_layout(template=TEMPLATE, coloraxis=coloraxis)
    return _square_axes(figure, n, has_bias=b is not None)


def _cells(z: np.ndarray, x: np.ndarray, hover: str) -> go.Heatmap:
    """Cells one unit wide, on the shared colour axis."""
    printed = "%{z:.2f}" if len(z) <= MOST_PRINTED else None
    return go.Heatmap(
        z=z, x=x, y=np.arange(len(z)), dx=1, xgap=1, ygap=1, coloraxis="coloraxis", texttemplate=printed, hovertemplate=hover
    )


def _square_axes(figure: go.Figure, n: int, *, has_bias: bool) -> go.Figure:
    """Equal units on both axes, feature 0 at the top left, at most about ten ticks."""
    ticks = list(range(0, n, -(-n // 10)))
    right = n + 1.0 if has_bias else n - 0.5
    labels = [str(i) for i in ticks] + ["b"] * has_bias
    frame = {"showline": False, "constrain": "domain"}
    figure.update_xaxes(
        frame, title_text="input feature j", range=[-0.5, right], tickvals=ticks + [n + 0.5] * has_bias, ticktext=labels
    )
    figure.update_yaxes(frame, title_text="output feature i", range=[n - 0.5, -0.5], tickvals=ticks, scaleanchor="x")
    return figure
