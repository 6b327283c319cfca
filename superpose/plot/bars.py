"""How long each feature's direction is, and how much the others interfere with it.

Reference: Elhage et al. 2022, "Toy Models of Superposition", section 2, "Basic Results".
"""

import numpy as np
from jaxtyping import Float
from plotly import graph_objects as go
from plotly.subplots import make_subplots

from superpose.plot.template import BLACK, SEQUENTIAL, TEMPLATE

INTERFERENCE = "Σ<sub>j≠i</sub> (Ŵ<sub>i</sub>·W<sub>j</sub>)²"


def norm_and_interference(W: Float[np.ndarray, "m n"]) -> go.Figure:
    """Bars of `|W_i|` above bars of `sum_{j != i} (W_hat_i . W_j)^2`, both coloured by the latter.

    A norm of 1 is a feature represented in full; an interference of 0 one that shares its direction with
    none, of 1 or more one in superposition. A zero column has no direction: its interference is drawn as 0.

    Args:
        W: shape `(m, n)`; column i is the direction of feature i.
    """
    W = np.asarray(W)
    norm = np.linalg.norm(W, axis=0)
    overlap = ((W / np.where(norm > 0, norm, 1)).T @ W) ** 2
    interference = overlap.sum(1) - np.diag(overlap)
    figure = make_subplots(rows=2, cols=1, shared_xaxes=True, vertical_spacing=0.08)
    figure.add_trace(_bars(norm, norm, interference), row=1, col=1)
    figure.add_trace(_bars(interference, norm, interference), row=2, col=1)
    top = max(1.0, float(interference.max(initial=0)))
    bar = {"title": {"text": "interference " + INTERFERENCE, "side": "right"}}
    scale = {"colorscale": SEQUENTIAL, "cmin": 0, "cmax": top, "colorbar": bar}
    figure.update_layout(template=TEMPLATE, showlegend=False, coloraxis=scale, bargap=0.15)
    figure.update_xaxes(title_text="feature i", row=2, col=1)
    figure.update_yaxes(title_text="norm |W<sub>i</sub>|", row=1, col=1, rangemode="tozero")
    figure.update_yaxes(title_text=INTERFERENCE, row=2, col=1, range=[0, 1.05 * top])
    return figure


def _bars(height: np.ndarray, norm: np.ndarray, interference: np.ndarray) -> go.Bar:
    """One bar a feature, coloured by its interference."""
    line = {"color": BLACK, "width": 0.5 if len(norm) <= 100 else 0}
    hover = "feature %{x}<br>|W| = %{customdata[0]:.4g}<br>interference %{customdata[1]:.4g}<extra></extra>"
    return go.Bar(
        x=np.arange(len(height)),
        y=height,
        marker={"color": interference, "coloraxis": "coloraxis", "line": line},
        customdata=np.stack([norm, interference], axis=1),
        hovertemplate=hover,
    )
