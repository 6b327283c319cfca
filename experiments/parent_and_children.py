"""A parent feature with two children, in one and in two dimensions: who is stored with whom, as the children become rare.

A child can be active only if the parent is: with probability `given`, independently of the other. At each density of the parent
and of the children the exact loss is minimised from random starts, and the one of least loss is named by how the three
directions stand to each other. The children are alike, so a solution and the same with them exchanged have one name.

With the parent off all features are, and the model pays only for positive biases. So the rarer the parent is, the less its own
density matters: what is left depends on the children's conditional density alone.
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

from superpose import features, plot, solve, sweep
from superpose.plot.template import TEMPLATE
from superpose.reproduction import Check

NAME = "parent-and-children"
TITLE = "A parent with two children: between them, against them, or apart"
PAPER = "not in the paper"
PARENTS = (-1, 0, 0)
DIMENSIONS = (1, 2)
PRESENT, RELATED, ALIKE = 0.01, 0.3, 0.1
"""A feature counts from this squared length on, two of them stand to each other from this |cos| on.

And the children are alike while their squared lengths differ by less than this share of the larger one.
"""
KINDS = {
    ((1, 1, 1), (1, 1, 1)): "all in one direction",
    ((1, 1, 1), (1, 1, 0)): "parent between its children",
    ((1, 1, 1), (1, 1, -1)): "parent between its children",
    ((1, 1, 1), (0, 0, -1)): "parent apart, children opposite",
    ((1, 1, 1), (-1, -1, 1)): "parent against both children",
    ((1, 1, 0), (-1, 0, 0)): "parent against one child",
    ((1, 1, 1), (-1, 1, -1)): "parent with one child against the other",
    ((1, 0, 0), (0, 0, 0)): "parent alone",
    ((0, 1, 1), (0, 0, -1)): "children opposite, no parent",
}
"""By who is there, parent first, and the signs of cosines: parent and first child, parent and second, both children."""
UNLIKE = "all in one direction, one child ahead"
OTHER = "none of these"


@dataclass(frozen=True)
class Config:
    """Densities of the parent, in the logarithm, and of the children once it is active; restarts; how each is solved."""

    parent_min: float = 0.01
    parent_max: float = 0.95
    parents: int = 16
    given_min: float = 0.1
    given_max: float = 0.98
    givens: int = 23
    restarts: int = 12
    nodes: int = 256
    tolerance: float = 1e-6
    seed: int = 0


QUICK = Config(parents=3, givens=4, restarts=6, nodes=64)


def compute(config: Config, folder: Path | None = None, advance: Callable[[int], None] = lambda _: None) -> xr.Dataset:
    """Over (dimensions, parent, given): W, b, loss, gap, and how many starts are certified."""
    axes = {
        "parent": np.geomspace(config.parent_max, config.parent_min, config.parents),
        "given": np.linspace(config.given_min, config.given_max, config.givens),
    }
    dims = {"W": ("hidden", "feature"), "b": ("feature",)}
    found = []
    for m in DIMENSIONS:
        place = None if folder is None else folder / f"m{m}"
        how = {"dims": dims, "settings": config, "folder": place, "width": 1, "advance": advance}
        solved = sweep.over(partial(_solved, config, m), axes, **how)
        found.append(solved.pad(hidden=(0, max(DIMENSIONS) - m), constant_values=0))
    return xr.concat(found, xr.Variable("dimensions", list(DIMENSIONS)))


def distribution(parent: jax.Array | float, given: jax.Array | float) -> features.Tree:
    """The parent is feature 0."""
    return features.Tree(features.SparseUniform(jnp.stack([jnp.asarray(x, float) for x in (parent, given, given)])), PARENTS)


def _solved(config: Config, m: int, point: dict) -> dict:
    """The start of least loss, in plain units."""
    known = distribution(point["parent"], point["given"])
    how = {"restarts": config.restarts, "tolerance": config.tolerance, "nodes": config.nodes}
    found = solve.toy_minima(jax.random.key(config.seed), known, n=3, m=m, **how)
    chosen = {"W": found.params.W, "b": found.params.b, "loss": found.loss, "gap": found.gap, "converged": found.converged}
    return jax.tree.map(lambda x: x[found.best], chosen) | {"certified": found.converged.mean()}


def kind(W: np.ndarray) -> str:
    """The name of one solution, `(m, 3)`."""
    gram = W.T @ W
    length = np.diag(gram)
    there = length > PRESENT
    cosine = gram / np.sqrt(np.outer(np.maximum(length, PRESENT), np.maximum(length, PRESENT)))
    sign = np.where(np.abs(cosine) > RELATED, np.sign(cosine), 0) * np.outer(there, there)
    for first, second in ((1, 2), (2, 1)):
        key = (
            tuple(int(there[i]) for i in (0, first, second)),
            tuple(int(sign[i]) for i in ((0, first), (0, second), (1, 2))),
        )
        if key in KINDS:
            ahead = abs(length[1] - length[2]) > ALIKE * max(length[1:])
            return UNLIKE if ahead and KINDS[key] == "all in one direction" else KINDS[key]
    return OTHER


def kinds(dataset: xr.Dataset) -> xr.DataArray:
    """The name of each cell, over (dimensions, parent, given)."""
    W = dataset["W"].transpose("dimensions", "parent", "given", "hidden", "feature").values
    names = np.array([kind(x) for x in W.reshape(-1, *W.shape[-2:])]).reshape(W.shape[:3])
    return xr.DataArray(names, {d: dataset[d] for d in ("dimensions", "parent", "given")})


def leaves(names: xr.DataArray, name: str) -> np.ndarray:
    """The least conditional density at which each parent's density has this kind; nan where it has none."""
    return names["given"].where(names == name).min("given").values


def findings(dataset: xr.Dataset) -> list[Check]:
    """How much is certified, and what a rare parent's phases are."""
    names, converged = kinds(dataset), dataset["converged"].astype(bool)
    share = float(converged.mean())
    named = float((names != OTHER).mean())
    rare = names.isel(parent=int(np.argmin(names["parent"].values)))
    half = names.sel(parent=0.3, method="nearest")
    between = leaves(names.sel(dimensions=2), "parent between its children")
    agree = float((rare == half).mean())
    step = float(np.diff(names["given"].values).max())

    def order(m: int) -> str:
        row = rare.sel(dimensions=m).values
        change = np.flatnonzero(np.r_[True, row[1:] != row[:-1]])
        return ", ".join(f"{row[k]} from {rare['given'].values[k]:.2f}" for k in change)

    where = between[np.isfinite(between)]
    found = f"from {where.min():.2f} to {where.max():.2f}, at {where.size} of {between.size}" if where.size else "nowhere"
    spread = np.ptp(where) if where.size == between.size else np.nan
    stands = "in two dimensions the parent stands between its children once they are likely: spread of their density"
    rarely = "a rare parent's own density does not matter: share of cells where the least one and 0.3 agree"
    orders = f"in one dimension {order(1)}; in two {order(2)}"
    return [
        Check("the best known solution is certified: share of cells", PAPER, (0.9, None), share),
        Check("each phase has a name: share of cells", PAPER, (0.95, None), named),
        Check(stands, PAPER, (0.0, 0.2), spread, atol=step, note=found),
        Check(rarely, PAPER, (0.9, None), agree, note=orders),
    ]


def figure(dataset: xr.Dataset) -> go.Figure:
    """Regions of each kind over both densities, a panel for each number of dimensions."""
    names = kinds(dataset)
    shown = {name: name for name in [*KINDS.values(), UNLIKE, OTHER] if bool((names == name).any())}
    panels = [
        plot.regions(
            xr.Dataset({"phase": names.sel(dimensions=m, drop=True)}), x="given", y="parent", label="phase", names=shown
        )
        for m in DIMENSIONS
    ]
    titles = ["one dimension", "two dimensions"]
    drawn = make_subplots(cols=len(panels), subplot_titles=titles, shared_yaxes=True, horizontal_spacing=0.04)
    seen = set()
    for col, panel in enumerate(panels, 1):
        for trace in panel.data:
            trace.showlegend = bool(trace.showlegend) and trace.name not in seen
            seen |= {trace.name} if trace.showlegend else set()
            drawn.add_trace(trace, 1, col)
        axis = panel.layout.xaxis.to_plotly_json() | {"title": {"text": "children's density once the parent is active"}}
        drawn.update_xaxes(axis, row=1, col=col)
        drawn.update_yaxes(panel.layout.yaxis.to_plotly_json() | {"title": None}, row=1, col=col)
        for note in panel.layout.annotations:
            drawn.add_annotation(note.update(font_size=10), row=1, col=col)
    drawn.update_yaxes(title_text="parent's density", row=1, col=1)
    drawn.update_layout(template=TEMPLATE, width=1300, height=560, margin={"b": 150, "t": 60})
    return drawn.update_layout(legend={"orientation": "h", "y": -0.2, "x": 0, "yanchor": "top"})
