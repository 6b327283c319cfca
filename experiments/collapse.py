"""Three pairs of correlated features in a plane: as density grows, pair after pair collapses to its principal component.

The features of a pair are active together, each with a magnitude of its own. A pair (a, b) is told apart by its difference;
it has collapsed where that is hardly represented: `|W_a - W_b|^2 / 2 <= COLLAPSED`, which is 1 for orthogonal unit columns.
At density 1 nothing is correlated any more, so the findings leave it out. The loss of linear PCA is a closed form: with
`v = p/3 - p^2/4` and `c = p (1 - p)/4` the sum of a pair has variance `v + c`, the difference `v - c`, and two sums are kept.

Solutions with one pair more or fewer collapsed are local minima over wide ranges around each transition, a few per cent above
the least loss: at p = 0.05 most random starts end with one pair collapsed though none is better. So where a trained model
changes depends on which minimum it falls into, and the transitions of least loss need not lie where the paper saw them.
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
from plotly.subplots import make_subplots

from superpose import features, results, solve, sweep, toy_model
from superpose.expected_loss import relu_output
from superpose.plot.template import BLACK, GREY, TEMPLATE
from superpose.reproduction import Check

NAME = "collapse"
TITLE = "Three correlated pairs in a plane: collapse to principal components"
PAPER = "Superposition and Correlated Features: Collapsing of Correlated Features"
SETS, M = (0, 0, 1, 1, 2, 2), 2
N, PAIRS = len(SETS), len(SETS) // 2
COLLAPSED = 0.1
PUBLISHED = {3: (0.2, 0.25), 2: (0.15, 0.15), 1: (0.05, 0.05)}
"""Between which densities the paper's models stop having so many collapsed pairs."""
SHOWN = (0.7, 0.3, 0.1, 0.02)


@dataclass(frozen=True)
class Config:
    """Densities of a pair, `points` of them evenly in the logarithm; restarts a density; steps of the solver."""

    density_min: float = 0.01
    density_max: float = 1.0
    points: int = 61
    restarts: int = 32
    steps: int = 500
    seed: int = 0


QUICK = Config(points=9, restarts=16, steps=300)


def compute(config: Config, folder: Path | None = None, advance: Callable[[int], None] = lambda _: None) -> xr.Dataset:
    """Local minima over (density, restart): W, b, loss, certificates; and the loss of linear PCA."""
    densities = np.geomspace(config.density_max, config.density_min, config.points)
    points = {"row": np.arange(config.points), "density": densities}
    arrays = sweep.run(partial(_solved, config), points, settings=config, folder=folder, width=1, advance=advance)
    dims = {name: ["restart"] for name in arrays} | {"W": ["restart", "hidden", "feature"], "b": ["restart", "feature"]}
    dataset = sweep.label(arrays, {"density": densities}, dims)
    return dataset.assign(pca_loss=("density", pca_loss(densities)))


def pca_loss(p: np.ndarray) -> np.ndarray:
    """`(v + c) + 3 (v - c)`: what linear PCA leaves, one sum and three differences."""
    v, c = p / 3 - p**2 / 4, p * (1 - p) / 4
    return (v + c) + PAIRS * (v - c)


def _solved(config: Config, point: dict) -> dict:
    """The minima of all restarts at one density; each row of the densities has starts of its own."""
    distribution = features.Together(features.SparseUniform(point["density"]), sets=SETS)
    units = solve.natural_units(distribution, n=N)

    def loss(params: toy_model.Params) -> jax.Array:
        return relu_output(units.plain(params), distribution) / units.loss

    key = jax.random.fold_in(jax.random.key(config.seed), point["row"])
    keys = jax.vmap(jax.random.fold_in, in_axes=(None, 0))(key, jnp.arange(config.restarts))
    found = solve.minimize(loss, jax.vmap(lambda k: toy_model.init(k, n=N, m=M))(keys), steps=config.steps)
    plain = jax.vmap(units.plain)(found.params)
    certificate = {"gradient_norm": found.gradient_norm, "converged": found.converged}
    return {"W": plain.W, "b": plain.b, "loss": found.loss * units.loss} | certificate


def collapsed(W: np.ndarray) -> np.ndarray:
    """How many pairs have collapsed, of `W` with shape `(..., 2, 6)`."""
    apart = ((W[..., ::2] - W[..., 1::2]) ** 2).sum(-2) / 2
    return (apart <= COLLAPSED).sum(-1)


def best(dataset: xr.Dataset) -> xr.Dataset:
    """The restart of least loss at each density, densities ascending."""
    return results.best(dataset).sortby("density")


def ends(p: np.ndarray, count: np.ndarray) -> dict[int, float]:
    """Density at which fewer than k pairs begin to be collapsed going down from the densest, between points; nan if never."""
    found = {}
    for k in PUBLISHED:
        below = np.flatnonzero(count < k)
        inside = len(below) and below[-1] + 1 < len(p)
        found[k] = float(np.sqrt(p[below[-1]] * p[below[-1] + 1])) if inside else float("nan")
    return found


def findings(dataset: xr.Dataset) -> list[Check]:
    """PCA where dense, the order of collapses, and the density of each, in the solutions of least loss."""
    chosen = best(dataset.sel(density=dataset["density"] < 1))
    p, count = chosen["density"].values, collapsed(chosen["W"].values)
    dense = p >= 0.5
    ratio = (chosen["loss"] / chosen["pca_loss"]).values[dense]
    order = ", ".join(str(k) for k in count[np.insert(np.diff(count) != 0, 0, True)])
    pca = "PCA at densities of at least 0.5: the loss over linear PCA's, 0 where a pair is not collapsed"
    note = f"{count[dense].min()} to {count[dense].max()} collapsed, loss up to {ratio.max():.3f} of linear PCA's"
    return [
        Check(pca, PAPER, (0.9, None), np.where(count[dense] == PAIRS, ratio, 0).min(), note=note),
        Check("pairs collapsed, from sparse to dense", PAPER, "0, 1, 2, 3", order),
        *(
            Check(f"density below which fewer than {k} are collapsed", PAPER, PUBLISHED[k], at, rtol=0.2)
            for k, at in ends(p, count).items()
        ),
    ]


def figure(dataset: xr.Dataset) -> go.Figure:
    """The number of collapsed pairs over density, the paper's dashed; below, the solutions at typical densities."""
    chosen = best(dataset)
    p, W = chosen["density"].values, chosen["W"].values
    shown = [int(np.abs(np.log(p / at)).argmin()) for at in SHOWN]
    titles = ["", *(f"p = {p[k]:.2g}: {collapsed(W[k])} collapsed" for k in shown)]
    grid = [[{"colspan": len(SHOWN)}, *[None] * (len(SHOWN) - 1)], [{}] * len(SHOWN)]
    drawn = make_subplots(rows=2, cols=len(SHOWN), specs=grid, subplot_titles=titles, vertical_spacing=0.2)
    look = {"mode": "lines+markers", "line": {"color": BLACK, "shape": "hvh"}, "marker": {"size": 5}}
    drawn.add_trace(go.Scatter(x=p, y=collapsed(W), name="least loss found here", **look), 1, 1)
    steps = sorted(np.sqrt(low * high) for low, high in PUBLISHED.values())
    dashed = {"mode": "lines", "line": {"color": GREY, "dash": "dash", "shape": "hv"}}
    drawn.add_trace(go.Scatter(x=[p.min(), *steps, p.max()], y=[0, 1, 2, 3, 3], name="the paper", **dashed), 1, 1)
    drawn.update_xaxes(type="log", title_text="density p of a pair", tickvals=[0.01, 0.03, 0.1, 0.3, 1], row=1, col=1)
    drawn.update_yaxes(title_text="collapsed pairs", tickvals=[0, 1, 2, 3], range=[-0.2, 3.2], row=1, col=1)
    for column, k in enumerate(shown, start=1):
        drawn.add_traces(_arrows(W[k]), rows=2, cols=column)
        drawn.update_xaxes(range=[-1.2, 1.2], title_text="hidden 0", row=2, col=column)
        drawn.update_yaxes(range=[-1.2, 1.2], scaleanchor=f"x{column + 1}", constrain="domain", row=2, col=column)
    drawn.update_yaxes(title_text="hidden 1", row=2, col=1)
    return drawn.update_layout(template=TEMPLATE, width=1000, height=640, legend={"y": 1.03})


def _arrows(W: np.ndarray) -> list[go.Scatter]:
    """A line a feature from the origin; the features of a pair share colour, symbol and dash, the second's symbol is open."""
    lines = []
    for i, (x, y) in enumerate(W.T):
        pair = i // 2
        symbol = ("circle", "square", "diamond")[pair] + ("-open" if i % 2 else "")
        colour, dash = TEMPLATE.layout.colorway[pair], ("solid", "dash", "dot")[pair]
        marker = {"size": [0, 13 if i % 2 else 8], "symbol": symbol, "color": colour}
        line = {"color": colour, "dash": dash}
        lines.append(go.Scatter(x=[0, x], y=[0, y], mode="lines+markers", marker=marker, line=line, showlegend=False))
    return lines
