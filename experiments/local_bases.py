"""Two sets of ten features in ten dimensions: each set becomes nearly a basis of its own, and the two share the space.

The features of a set are active together, so interference within it is always paid, and interference between the sets only where
both are active. The exact loss is minimised by Adam from random starts, its rate falling to 0 along a cosine; no certificate,
so the least loss is the best one known and its gradient norm says how far it is from settled. The paper states no density. At
0.2 the best known solution has nine antipodal pairs across the sets, and the tenth feature of each leans on its own set, so that
the bases are no longer orthogonal; from a start near ten antipodal pairs Adam stops 6 % above it (at 0.05, 12 %).
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import xarray as xr
from jax.flatten_util import ravel_pytree
from plotly import graph_objects as go
from plotly.subplots import make_subplots

from superpose import features, results, solve, sweep, toy_model, train
from superpose.expected_loss import relu_output
from superpose.plot.template import COLOUR_BAR, DIVERGING, TEMPLATE
from superpose.reproduction import Check

NAME = "local-bases"
TITLE = "Two sets of features active together: local orthogonal bases"
PAPER = "Superposition and Correlated Features: Local Almost-Orthogonal Bases"
SETS = 2


@dataclass(frozen=True)
class Config:
    """Features a set, which is also the width; densities of a set; restarts each; Adam's steps and its first rate."""

    size: int = 10
    densities: tuple[float, ...] = (0.2, 0.05, 0.01)
    restarts: int = 8
    steps: int = 2500
    rate: float = 0.02
    seed: int = 0


QUICK = Config(size=5, densities=(0.05,), restarts=4, steps=1000)


def compute(config: Config, folder: Path | None = None, advance: Callable[[int], None] = lambda _: None) -> xr.Dataset:
    """Over (density, restart): W, b, loss; gradient norm in natural units."""
    axes = {"density": np.array(config.densities), "restart": np.arange(config.restarts)}
    how = {"settings": config, "folder": folder, "width": min(4, config.restarts), "advance": advance}
    return sweep.over(_solver(config), axes, dims={"W": ("hidden", "feature"), "b": ("feature",)}, **how)


def _solver(config: Config) -> Callable:
    """From a density and the number of a restart to where Adam stops."""
    n = SETS * config.size
    sets = tuple(np.repeat(np.arange(SETS), config.size).tolist())
    optimizer = optax.adam(optax.cosine_decay_schedule(config.rate, config.steps))

    def solved(point: dict) -> dict:
        distribution = features.Together(features.SparseUniform(point["density"]), sets=sets)
        units = solve.natural_units(distribution, n=n)

        def loss(params: toy_model.Params) -> jax.Array:
            return relu_output(units.plain(params), distribution) / units.loss

        def step(carry: tuple, _: None) -> tuple:
            params, state = carry
            updates, state = optimizer.update(jax.grad(loss)(params), state)
            return (optax.apply_updates(params, updates), state), None

        start = toy_model.init(train.model_key(jax.random.key(config.seed), point["restart"]), n=n, m=config.size)
        params = jax.lax.scan(step, (start, optimizer.init(start)), length=config.steps)[0][0]
        value, slope = jax.value_and_grad(loss)(params)
        plain, norm = units.plain(params), jnp.linalg.norm(ravel_pytree(slope)[0])
        return {"W": plain.W, "b": plain.b, "loss": value * units.loss, "gradient_norm": norm}

    return solved


def cosines(W: np.ndarray) -> np.ndarray:
    """Cosines between all columns of `W`, `(n, n)`; 0 with a column shorter than 0.1, whose direction says little."""
    length = np.linalg.norm(W, axis=0)
    unit = W * np.where(length < 0.1, 0, 1 / np.where(length < 0.1, 1, length))
    return unit.T @ unit


def within_and_across(W: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """|cos| of all pairs of features within a set, and of all pairs across the sets."""
    overlap, mine = np.abs(cosines(W)), np.arange(W.shape[1]) * SETS // W.shape[1]
    same, upper = mine[:, None] == mine[None, :], np.triu(np.ones_like(overlap, bool), 1)
    return overlap[same & upper], overlap[~same & upper]


def findings(dataset: xr.Dataset) -> list[Check]:
    """The angles within and across the sets in the best known solution of each density."""
    judged, best = [], results.best(dataset)
    for p, W, norm in zip(best["density"].values, best["W"].values, best["gradient_norm"].values, strict=True):
        within, across = within_and_across(W)
        stored = int((np.linalg.norm(W, axis=0) >= 0.5).sum())
        mean = f"root mean square {np.sqrt((within**2).mean()):.3f}"
        found = f"root mean square {np.sqrt((across**2).mean()):.3f}; {stored} of {W.shape[1]} features longer than 0.5; "
        orthogonal = f"p = {p:g}: nearly orthogonal within a set, largest |cos|"
        shared = f"p = {p:g}: superposition across the sets, largest |cos|, 0 if no more features are stored than dimensions"
        largest = across.max() if stored > W.shape[0] else 0.0
        judged.append(Check(orthogonal, PAPER, 0.0, within.max(), atol=0.1, note=mean))
        judged.append(Check(shared, PAPER, (0.3, None), largest, note=f"{found}gradient norm {norm:.1e}"))
    return judged


def figure(dataset: xr.Dataset) -> go.Figure:
    """The cosines between all features in the best known solution of each density; a line parts the sets."""
    best, densities = results.best(dataset), dataset["density"].values
    titles = [f"p = {p:g}, loss {loss:.4g}" for p, loss in zip(densities, best["loss"].values, strict=True)]
    drawn = make_subplots(cols=len(densities), subplot_titles=titles, horizontal_spacing=0.08)
    for column, gram in enumerate(map(cosines, best["W"].values), start=1):
        drawn.add_trace(go.Heatmap(z=gram, coloraxis="coloraxis"), 1, column)
        edge = {"line": {"width": 1.5}, "row": 1, "col": column}
        drawn.add_hline(y=len(gram) / SETS - 0.5, **edge)
        drawn.add_vline(x=len(gram) / SETS - 0.5, **edge)
        drawn.update_xaxes(title_text="feature", constrain="domain", row=1, col=column)
        axis = {"autorange": "reversed", "constrain": "domain", "scaleanchor": f"x{column if column > 1 else ''}"}
        drawn.update_yaxes(axis, row=1, col=column)
    bar = {**COLOUR_BAR, "title": {"text": "cosine", "side": "top", "font": {"size": 14}}}
    scale = {"colorscale": DIVERGING, "cmin": -1, "cmax": 1, "colorbar": bar}
    drawn.update_yaxes(title_text="feature", row=1, col=1)
    return drawn.update_layout(template=TEMPLATE, coloraxis=scale, width=150 + 320 * len(densities), height=420)
