"""What the loss is made of: its parts with no, one, two, ... features active, at the exact solutions over the density.

Five features in a plane. With all five told apart the parts are the whole loss. The part with one active feature is a
generalised Thomson problem: features are points that repel each other, `sum_{j != i} E r(w_i . w_j u + b_j)^2`, against the
cost of a length other than 1. Overlaps below 0 cost nothing in it.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr
from plotly import graph_objects as go

from superpose import features, results, solve, sweep, toy_model
from superpose.expected_loss import loss_by_active
from superpose.plot.template import TEMPLATE, log_axis
from superpose.reproduction import Check

NAME = "loss-parts"
TITLE = "What the loss is made of: by the number of active features"
PAPER = "Superposition as a Phase Change: the loss by the number of active features; Uniform Superposition: Thomson problem"
FEATURES, HIDDEN, NODES = 5, 2, 256
SPARSEST = 1e-3
"""Stands for the limit of no density, in which the part with one active feature is all."""


@dataclass(frozen=True)
class Config:
    """Densities from 1 to `lowest`, restarts each, steps of the solver, and inputs drawn for each number of active features."""

    densities: int = 25
    lowest: float = 0.003
    restarts: int = 24
    steps: int = 500
    draws: int = 100_000
    seed: int = 0


QUICK = Config(densities=5, restarts=4, steps=250, draws=5_000)


def compute(config: Config, folder: Path | None = None, advance: Callable[[int], None] = lambda _: None) -> xr.Dataset:
    """Local minima over (density, restart), the last density `SPARSEST`; parts of the best one's loss over (density, active)."""
    densities = np.append(np.geomspace(1, config.lowest, config.densities), SPARSEST)
    dims = dict.fromkeys(("loss", "gradient_norm", "converged"), ("restart",))
    dims |= {"W": ["restart", "hidden", "feature"], "b": ["restart", "feature"]}
    how = {"dims": dims, "settings": config, "folder": folder, "width": 1, "advance": advance}
    dataset = sweep.over(partial(_solved, config), {"density": densities}, **how)
    dataset = dataset.assign_coords(restart=np.arange(config.restarts))
    best = results.best(dataset)
    split = jax.jit(jax.vmap(lambda k, W, b, p: _parts(config, k, W, b, p)))
    keys = jax.random.split(jax.random.key(config.seed), len(densities))
    parts = split(keys, jnp.asarray(best["W"].values), jnp.asarray(best["b"].values), jnp.asarray(densities))
    for name in ("probability", "loss", "sem"):
        dataset[f"part_{name}"] = (("density", "active"), np.asarray(getattr(parts, name)))
    return dataset


def _parts(config: Config, key: jax.Array, W: jax.Array, b: jax.Array, p: jax.Array) -> tuple:
    params, distribution = toy_model.Params(W=W, b=b), features.SparseUniform(p)
    return loss_by_active(key, params, distribution, most=FEATURES, draws=config.draws)


def _solved(config: Config, point: dict) -> dict:
    """The minima of all restarts at one density; a start is the same at each density."""
    how = {"n": FEATURES, "m": HIDDEN, "restarts": config.restarts, "steps": config.steps, "nodes": NODES}
    found = solve.toy_minima(jax.random.key(config.seed), features.SparseUniform(point["density"]), **how)
    certificate = {"gradient_norm": found.gradient_norm, "converged": found.converged}
    return {"W": found.params.W, "b": found.params.b, "loss": found.loss} | certificate


def shares(dataset: xr.Dataset) -> np.ndarray:
    """Share of each number of active features in the loss, shape `(density, active)`."""
    parts = dataset["part_loss"].values
    return parts / parts.sum(1, keepdims=True)


def gaps(W: np.ndarray) -> np.ndarray:
    """Angles in degrees between neighbours in the plane, shape `(n,)`; they add up to 360."""
    angle = np.sort(np.degrees(np.arctan2(W[1], W[0])))
    return np.diff(np.append(angle, angle[0] + 360))


def interference(W: np.ndarray, b: np.ndarray) -> tuple[float, float]:
    """`sum_{j != i} E r(w_i . w_j u + b_j)^2` over pairs with a negative overlap, and over those with a positive one."""
    u, weight = np.polynomial.legendre.leggauss(64)
    gram = W.T @ W
    values = np.maximum(gram[:, :, None] * (u + 1) / 2 + b[None, :, None], 0) ** 2 @ (weight / 2)
    np.fill_diagonal(values, 0)
    return float(values[gram < 0].sum()), float(values[gram > 0].sum())


def findings(dataset: xr.Dataset) -> list[Check]:
    """Which part prevails where; the shape that the part with one active feature asks for; what negative overlaps cost."""
    part, density = shares(dataset), dataset["density"].values
    best = results.best(dataset)
    angles = gaps(best["W"].isel(density=-1).values)
    kept = [interference(best["W"].values[k], best["b"].values[k]) for k in range(len(density)) if density[k] <= 0.05]
    free = max(negative / positive for negative, positive in kept)
    exact, spread = best["loss"].values, np.sqrt((dataset["part_sem"].values ** 2).sum(1))
    off = np.abs(dataset["part_loss"].values.sum(1) - exact) / np.maximum(spread, 1e-12 * exact)
    most = "sparse: inputs with one active feature make up more than half of the loss"
    which = f"at p = {density[-2]:.3g}; with all active {part[0, FEATURES]:.1%} at p = 1"
    thomson = "the part with one active feature is a Thomson problem: five points keep apart, by 72 degrees in a pentagon"
    between = f"degrees, the farthest of {angles.min():.2f} to {angles.max():.2f}, in the limit of no density"
    share = "of the positive interference with one active feature, p up to 0.05"
    return [
        Check(most, PAPER, (0.5, None), part[-2, 1], note=which),
        Check(thomson, PAPER, 72.0, angles[np.abs(angles - 72).argmax()], atol=1, note=between),
        Check("negative interference is free", PAPER, 0.0, free, atol=0.01, note=share),
        Check("the parts are the whole loss", PAPER, 0.0, off.max(), atol=5, note="standard errors from the exact loss"),
    ]


def figure(dataset: xr.Dataset) -> go.Figure:
    """The share of each number of active features in the loss of the best solution, against density."""
    part, density = 100 * shares(dataset)[:-1], dataset["density"].values[:-1]
    drawn, looks = go.Figure(), ("solid", "dash", "dot", "dashdot", "longdash", "solid")
    for k in range(FEATURES + 1):
        name = ("none active", "one active", *(f"{j} active" for j in range(2, FEATURES + 1)))[k]
        marker = {"symbol": ("x", "circle", "square", "diamond", "triangle-up", "star")[k], "size": 7}
        drawn.add_scatter(x=density, y=part[:, k], name=name, mode="lines+markers", line={"dash": looks[k]}, marker=marker)
    drawn.update_xaxes(**log_axis(1, 3), title="density p", autorange="reversed")
    drawn.update_yaxes(title="share of the loss, %", range=[-2, 102])
    return drawn.update_layout(template=TEMPLATE, width=700, height=420)
