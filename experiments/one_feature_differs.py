"""Five features in a plane, one of them of another density: the pentagon gives way to two digons where it is sparser.

Two branches of local minima of the exact loss are followed in the density of the one feature, each point from its
neighbour's solution, from a regular pentagon and from two digons without the feature. Where the losses cross is the transition.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr
from plotly import graph_objects as go

from superpose import features, frames, interference, solve, sweep, toy_model
from superpose.plot.template import TEMPLATE, log_axis
from superpose.reproduction import Check

NAME = "one-feature-differs"
TITLE = "One feature's density varied: from a pentagon to two digons"
PAPER = "The Geometry of Superposition: Non-Uniform Superposition"
BRANCHES = ("pentagon", "digons")
N, M, NODES = 5, 2, 256


@dataclass(frozen=True)
class Config:
    """Density of four features; the fifth is `sparser` times sparser, on `points` logarithmic steps; steps of the solver."""

    density: float = 0.05
    sparser_min: float = 0.5
    sparser_max: float = 5.0
    points: int = 41
    steps: int = 300


QUICK = Config(points=11, steps=100)


def compute(config: Config, folder: Path | None = None, advance: Callable[[int], None] = lambda _: None) -> xr.Dataset:
    """Over (branch, sparser): W, b, loss, its certificate, and `D_i` of each feature."""
    ratio = np.geomspace(config.sparser_min, config.sparser_max, config.points)

    def follow(point: dict) -> dict:
        digons = point["branch"] == 1
        order = jnp.where(digons, ratio[::-1], ratio)
        one = jax.tree.map(lambda a, b: jnp.where(digons, b, a), _pentagon(), _digons())
        found = jax.lax.scan(lambda at, r: _solve(config, at, r), one, order)[1]
        return jax.tree.map(lambda x: jnp.where(digons, x[::-1], x), found)

    dims = dict.fromkeys(("loss", "gradient_norm", "converged"), ("sparser",))
    dims |= {"W": ["sparser", "hidden", "feature"]} | dict.fromkeys(("b", "dimensionality"), ("sparser", "feature"))
    how = {"dims": dims, "settings": config, "folder": folder, "width": 1, "advance": advance}
    found = sweep.over(follow, {"branch": np.arange(2)}, **how)
    return found.assign_coords(branch=list(BRANCHES), sparser=ratio)


def _pentagon() -> toy_model.Params:
    return toy_model.Params(W=jnp.asarray(frames.polygon(5), float), b=jnp.full(N, -0.1))


def _digons() -> toy_model.Params:
    """Feature 0 ignored, 1 against 2 and 3 against 4."""
    return toy_model.Params(W=jnp.array([[0, 1, -1, 0, 0], [0.01, 0, 0, 1, -1]], float), b=jnp.zeros(N))


def _solve(config: Config, start: toy_model.Params, ratio: jax.Array) -> tuple[toy_model.Params, dict]:
    """The minimum next to `start` when feature 0 is `ratio` times sparser."""
    distribution = features.SparseUniform(config.density / jnp.ones(N).at[0].set(ratio))
    how = {"starts": jax.tree.map(lambda x: x[None], start), "steps": config.steps, "nodes": NODES}
    found = jax.tree.map(lambda x: x[0] if x.ndim else x, solve.toy_minima(jax.random.key(0), distribution, n=N, m=M, **how))
    size = {"dimensionality": interference.feature_dimensionality(found.params.W), "loss": found.loss}
    certificate = {"gradient_norm": found.gradient_norm, "converged": found.converged}
    return found.params, {"W": found.params.W, "b": found.params.b} | size | certificate


def crossing(dataset: xr.Dataset) -> float:
    """How many times sparser the feature is where the digons become better for good, between points by a line; nan if never."""
    pentagon, digons = (dataset["loss"].sel(branch=name).values for name in BRANCHES)
    gap, ratio = digons - pentagon, np.log(dataset["sparser"].values)
    change = np.flatnonzero((gap[:-1] > 0) & (gap[1:] <= 0))
    if len(change) == 0:
        return float("nan")
    k = change[-1]
    return float(np.exp(ratio[k] + (ratio[k + 1] - ratio[k]) * gap[k] / (gap[k] - gap[k + 1])))


def findings(dataset: xr.Dataset) -> list[Check]:
    """Where the branches cross, and what they look like at equal density."""
    equal = dataset.sel(sparser=1, method="nearest")
    shares = equal["dimensionality"].sel(branch="pentagon").values
    note = f"{shares.min():.3f} to {shares.max():.3f} at {float(equal['sparser']):.2f} times sparser"
    farthest = shares[np.abs(shares - 0.4).argmax()]
    return [
        Check("pentagon to two digons, times sparser", PAPER, 2.5, crossing(dataset), rtol=0.2),
        Check("equal densities: a pentagon, D = 2/5", PAPER, 0.4, farthest, atol=0.05, note=note),
    ]


def figure(dataset: xr.Dataset) -> go.Figure:
    """Loss of both branches over how much sparser the feature is, and their crossing."""
    drawn = go.Figure()
    for name, dash, symbol in zip(BRANCHES, ("solid", "dash"), ("circle", "square"), strict=True):
        curve = dataset["loss"].sel(branch=name).values
        look = {"mode": "lines+markers", "line": {"dash": dash}, "marker": {"symbol": symbol}}
        drawn.add_trace(go.Scatter(x=dataset["sparser"].values, y=curve, name=f"from the {name}", **look))
    at = crossing(dataset)
    if not np.isnan(at):
        drawn.add_vline(x=at, line={"dash": "dot"})
    drawn.update_xaxes(**log_axis(1, 2, 5), title_text=f"times sparser than the other four; dotted: the crossing, {at:.2f}")
    return drawn.update_yaxes(title_text="loss").update_layout(template=TEMPLATE)
