"""What each neuron does: its features' weights stacked into a bar.

Reference: Elhage et al. 2022, "Toy Models of Superposition", "Superposition in a Privileged Basis", whose stacked bars these
are, with the features' numbers written into them.
"""

import numpy as np
from jaxtyping import Bool, Float
from plotly import graph_objects as go

from superpose.plot.template import BLACK, GREY, ORANGE, PALE, SKY, TEMPLATE

LOOKS = {1: (SKY, ""), 2: (ORANGE, "/")}  # one segment a bar, and several
REST = "all others together"
MOST_BARS = 40  # above it, bars have no labels of their own


def neurons_and_features(
    weights: Float[np.ndarray, "m n"],
    served: Bool[np.ndarray, "m n"],
    *,
    bar: str = "neuron",
    segment: str = "feature",
) -> go.Figure:
    """One bar a neuron, its served features' weights stacked away from 0, the largest nearest; each segment bears its number.

    Positive weights stand above 0, negative ones hang below. Plain blue bars are monosemantic (one feature), hatched orange
    ones polysemantic; weights that do not count as served are one grey segment at the end. Transposed arguments with `bar`
    and `segment` exchanged draw one bar a feature.

    Args:
        weights: shape `(m, n)`, row k of neuron k.
        served: shape `(m, n)`, which features count, from `superpose.neurons.serves`.
        bar: what a row is, in words.
        segment: what a column is.

    Raises:
        ValueError: `served` has another shape than `weights`.
    """
    weights, served = np.asarray(weights), np.asarray(served)
    if served.shape != weights.shape:
        raise ValueError(f"served has shape {served.shape}: needs that of weights, {weights.shape}")
    names = ("one " + segment, f"several {segment}s") if segment != "feature" else ("monosemantic", "polysemantic")
    count, traces = served.sum(1), []
    for sign in (1, -1):
        sized = np.where(sign * weights > 0, np.abs(weights), 0)
        ranks = np.argsort(-sized * served, axis=1, kind="stable")
        for which in ranks.T[: (served & (sized > 0)).sum(1).max(initial=0)]:
            height = (sized * served)[np.arange(len(which)), which]
            for kind, name in enumerate(names, start=1):
                rows = np.flatnonzero((height > 0) & (np.minimum(count, 2) == kind))
                traces.append(_segments(rows, which[rows], sign * height[rows], kind, name, bar, segment))
        traces.append(_rest(sign * (sized * ~served).sum(1), bar))
    traces = [trace for trace in traces if len(trace.x)]
    for k, trace in enumerate(traces):
        trace.showlegend = all(trace.name != earlier.name for earlier in traces[:k])
    return _frame(go.Figure(traces), count, bar, segment)


def _segments(
    rows: np.ndarray, which: np.ndarray, height: np.ndarray, kind: int, name: str, bar: str, segment: str
) -> go.Bar:
    """One segment in each of some bars."""
    colour, shape = LOOKS[kind]
    pattern = {"shape": shape, "fgcolor": BLACK, "bgcolor": colour, "fgopacity": 0.35, "size": 9, "solidity": 0.12}
    hover = f"{bar} %{{x}}, {segment} %{{customdata}}<br>weight %{{y:.4g}}<extra></extra>"
    return go.Bar(
        x=rows,
        y=height,
        name=name,
        legendgroup=name,
        legendrank=kind,
        customdata=which,
        text=[str(i) for i in which],
        textposition="inside",
        insidetextanchor="middle",
        textangle=0,
        textfont={"color": BLACK},
        marker={"color": colour, "pattern": pattern, "line": {"color": BLACK, "width": 1}},
        hovertemplate=hover,
    )


def _rest(height: np.ndarray, bar: str) -> go.Bar:
    hover = f"{bar} %{{x}}<br>{REST} %{{y:.4g}}<extra></extra>"
    look = {"color": PALE, "line": {"color": GREY, "width": 0.5}}
    rows = np.arange(len(height))
    return go.Bar(x=rows, y=height, name=REST, legendgroup=REST, legendrank=3, marker=look, hovertemplate=hover)


def _frame(figure: go.Figure, count: np.ndarray, bar: str, segment: str) -> go.Figure:
    """Stacked bars about a line at 0, labelled with the number of their segments."""
    rows = np.arange(len(count))
    labels = [f"{k}<br>({c})" for k, c in zip(rows, count, strict=True)] if len(rows) <= MOST_BARS else None
    figure.update_layout(template=TEMPLATE, barmode="relative", bargap=0.25)
    figure.update_layout(uniformtext={"minsize": 8, "mode": "hide"})
    figure.update_xaxes(title_text=f"{bar} (number of its {segment}s)" if labels else bar)
    if labels:
        figure.update_xaxes(tickvals=rows, ticktext=labels)
    figure.update_yaxes(title_text=f"weights of its {segment}s, stacked")
    return figure.add_hline(y=0, line={"color": BLACK, "width": 1})
