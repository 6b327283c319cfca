"""What an un-mixing found, from its saved dataset: directions, latents against features, scores against L0, the four answers."""

import numpy as np
import xarray as xr
from plotly import graph_objects as go
from plotly.subplots import make_subplots

from superpose.plot.gram import BELOW_TITLE
from superpose.plot.template import (
    BLACK,
    BLUE,
    COLOUR_BAR,
    DIVERGING,
    GREEN,
    GREY,
    ORANGE,
    PALE,
    PURPLE,
    SEQUENTIAL,
    SKY,
    TEMPLATE,
    VERMILION,
    log_axis,
)

COLOURS = (BLUE, VERMILION, GREEN, PURPLE, ORANGE, SKY, BLACK, GREY)
SYMBOLS = ("circle", "square", "diamond", "cross", "x", "triangle-up", "star", "hexagon")
TRUTH = ("the optimum", "a minimum,<br>not the lowest", "no minimum", "not decided", "nothing<br>is written")
REGIONS = (SKY, ORANGE, VERMILION, PALE, GREY)
"""What the true dictionary can be, in the order of the saved labels, and its colours."""
FLOOR = -1.0
"""Answers below are drawn here; their number is written beside the bar."""
QUESTIONS = {"read": "read", "traced": "traced", "edited": "edited", "verified": "absence verified"}


def scores_against_l0(dataset: xr.Dataset) -> go.Figure:
    """Calibrated cosine, F1 and unexplained variance of each variant against its mean number of active latents.

    The dotted line is at the mean number of active features.
    """
    panels = {
        "mcc_calibrated": "cosine with the truth, calibrated",
        "f1_matched": "F1 of matched latents",
        "fvu": "variance unexplained",
    }
    figure = make_subplots(rows=1, cols=3, horizontal_spacing=0.09)
    for k, name in enumerate(dataset["variant"].values):
        run = dataset[["l0", *panels]].isel(variant=k).mean("start").sortby("l0")
        look = {"line": {"color": COLOURS[k % 8], "width": 1.5}, "marker": {"symbol": SYMBOLS[k % 8], "size": 7}}
        for column, score in enumerate(panels, 1):
            hover = f"{name}<br>L0 %{{x:.3g}}<br>%{{y:.3g}}<extra></extra>"
            trace = go.Scatter(x=run["l0"], y=run[score], name=str(name), mode="lines+markers", hovertemplate=hover, **look)
            figure.add_trace(trace.update(showlegend=column == 1, legendgroup=str(name)), row=1, col=column)
    for column, title in enumerate(panels.values(), 1):
        figure.update_xaxes(title_text="active latents, L0", row=1, col=column)
        figure.update_yaxes(title_text=title, row=1, col=column, rangemode="tozero" if column > 1 else "normal")
    figure.add_vline(x=float(dataset["true_l0"]), line={"color": GREY, "dash": "dot", "width": 1})
    return figure.update_layout(template=TEMPLATE, width=1000, height=380, margin={"t": 60})


def latents_and_features(dataset: xr.Dataset) -> go.Figure:
    """Correlation with each feature of neurons, before, and of the best autoencoder's latents, after, in the order of the match."""
    run = _best(dataset)
    order = _in_order(run["latent_of"].values, run.sizes["latent"])
    before, after = dataset["correlation_of_neurons"].values, run["correlation"].values[order]
    titles = (
        f"neurons: {dataset['features_per_neuron'].mean().item():.1f} features each",
        f"latents ({run['variant'].item()}): {run['features_per_latent'].mean().item():.2f} each",
    )
    figure = make_subplots(rows=1, cols=2, subplot_titles=titles, horizontal_spacing=0.12)
    for column, (values, unit) in enumerate(((before, "neuron"), (after, "latent")), 1):
        hover = f"{unit} %{{y}}, feature %{{x}}<br>correlation %{{z:.3g}}<extra></extra>"
        rows = np.arange(len(values)) if unit == "neuron" else [str(i) for i in order]
        figure.add_trace(
            go.Heatmap(z=values, y=[str(r) for r in rows], coloraxis="coloraxis", hovertemplate=hover), row=1, col=column
        )
        figure.update_xaxes(title_text="feature", row=1, col=column)
        figure.update_yaxes(title_text=unit, autorange="reversed", type="category", nticks=12, row=1, col=column)
    scale = {
        "colorscale": DIVERGING,
        "cmin": -1,
        "cmax": 1,
        "colorbar": COLOUR_BAR | {"title": {"text": "correlation" + BELOW_TITLE}},
    }
    return figure.update_layout(template=TEMPLATE, coloraxis=scale, width=1000, height=430, margin={"t": 50})


def answers(dataset: xr.Dataset) -> go.Figure:
    """The four answers, 1 at best, for true directions, neurons, and the best latents: the mean over features and each feature."""
    run = _best(dataset)
    kinds = {str(h): {q: dataset[f"{q}_by"].sel(handle=h).values for q in QUESTIONS} for h in dataset["handle"].values}
    kinds[f"latents ({run['variant'].item()})"] = {q: run[q].values for q in QUESTIONS}
    figure = go.Figure()
    for (name, values), colour in zip(kinds.items(), (BLUE, GREY, VERMILION), strict=True):
        means = [np.nanmean(values[q]) for q in QUESTIONS]
        text = [f"{m:.2f}".replace("-", "\N{MINUS SIGN}") for m in means]
        bar = go.Bar(x=list(QUESTIONS.values()), y=np.maximum(means, FLOOR), name=name, marker_color=colour, text=text)
        figure.add_trace(bar.update(textposition="outside", hovertemplate=name + "<br>%{x}: %{text}<extra></extra>"))
    figure.add_hline(y=0, line={"color": BLACK, "width": 1})
    figure.update_yaxes(title_text="answer, 1 at best", range=[FLOOR - 0.15, 1.2])
    return figure.update_layout(template=TEMPLATE, width=760, height=420, barmode="group", margin={"t": 50})


def directions_found(dataset: xr.Dataset) -> go.Figure:
    """Cosines of the best autoencoder's directions with the true ones, in the order of the match: the identity at best."""
    run = _best(dataset)
    order = _in_order(run["latent_of"].values, run.sizes["latent"])
    W, D = dataset["W"].values, run["W_dec"].values[:, order]
    cosines = _unit(D).T @ _unit(W)
    figure = go.Figure(
        go.Heatmap(
            z=cosines,
            y=[str(i) for i in order],
            zmin=-1,
            zmax=1,
            colorscale=DIVERGING,
            colorbar=COLOUR_BAR | {"title": {"text": "cosine" + BELOW_TITLE}},
            hovertemplate="latent %{y}, feature %{x}<br>cosine %{z:.4f}<extra></extra>",
        )
    )
    figure.update_xaxes(title_text="true direction of feature")
    figure.update_yaxes(title_text="direction of latent", autorange="reversed", type="category", nticks=12)
    return figure.update_layout(template=TEMPLATE, width=560, height=460)


def recovery(dataset: xr.Dataset) -> go.Figure:
    """Over penalty and density: what the true dictionary is, and the worst cosine of the best."""
    figure = make_subplots(
        rows=1, cols=2, horizontal_spacing=0.24, subplot_titles=("the true dictionary is", "worst cosine of the best")
    )
    x, y = dataset["penalty"].values, dataset["density"].values
    label = dataset["label"].transpose("density", "penalty").values
    k = len(TRUTH)
    scale = [[edge, colour] for i, colour in enumerate(REGIONS) for edge in (i / k, (i + 1) / k)]
    bar = COLOUR_BAR | {"x": 0.385, "tickvals": list(range(k)), "ticktext": list(TRUTH), "ticks": ""}
    hover = "penalty %{x:.3g}, density %{y:.3g}<br>%{text}<extra></extra>"
    text = np.array(TRUTH)[label]
    cells = go.Heatmap(
        z=label, x=x, y=y, colorscale=scale, zmin=-0.5, zmax=k - 0.5, colorbar=bar, text=text, hovertemplate=hover
    )
    figure.add_trace(cells.update(xgap=1, ygap=1), row=1, col=1)
    best = dataset["worst_cosine"].isel(start=dataset["best"]).transpose("density", "penalty").values
    hover = "penalty %{x:.3g}, density %{y:.3g}<br>cosine %{z:.5f}<extra></extra>"
    cosines = go.Heatmap(z=best, x=x, y=y, colorscale=SEQUENTIAL, zmin=0, zmax=1, colorbar=COLOUR_BAR, hovertemplate=hover)
    figure.add_trace(cosines.update(xgap=1, ygap=1), row=1, col=2)
    figure.update_xaxes(log_axis(1, 3), title_text="penalty")
    figure.update_yaxes(log_axis(1, 3))
    figure.update_yaxes(title_text="density", row=1, col=1)
    return figure.update_layout(template=TEMPLATE, width=1120, height=420, margin={"t": 50})


def _best(dataset: xr.Dataset) -> xr.Dataset:
    k = int(dataset["best_variant"])
    return dataset.isel(variant=k, value=int(dataset["best_value"][k]), start=int(dataset["best_start"][k]))


def _in_order(latent_of: np.ndarray, latents: int) -> np.ndarray:
    """Latents in the order of their features, those without one last."""
    matched = latent_of[latent_of >= 0]
    return np.concatenate([matched, np.setdiff1d(np.arange(latents), matched)]).astype(int)


def _unit(W: np.ndarray) -> np.ndarray:
    lengths = np.linalg.norm(W, axis=0)
    return W / np.where(lengths > 0, lengths, 1)
