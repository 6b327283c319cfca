"""Five features in a plane, each less important than the one before: from two of them to a pentagon as they get rarer.

The exact loss is solved from many starts at each density, and every solution is named by its orthogonal pieces.
"""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import jax
import numpy as np
import xarray as xr
from plotly import graph_objects as go
from plotly.subplots import make_subplots

from superpose import features, geometry, results, solve, sweep
from superpose.geometry import shapes
from superpose.plot import features_in_plane
from superpose.plot.template import TEMPLATE
from superpose.reproduction import Check

NAME = "five-features"
TITLE = "Five features in a plane: orthogonal, antipodal pairs, pentagon"
PAPER = "Background and Motivation; Demonstrating Superposition"
N, M, DECAY, RAREST, NODES = 5, 2, 0.9, 20, 256
TWO, PAIRS, PENTAGON = "2 x alone", "square", "pentagon"
PUBLISHED = {1.0: TWO, 0.2: PAIRS, 0.1: PENTAGON}
"""Density and what the paper draws there: at sparsities of 0, 80 and 90 %."""
NAMES = {TWO: "two orthogonal", PAIRS: "two antipodal pairs", PENTAGON: "pentagon", shapes.NONE: "no regular shape"}
COLUMNS, SHOWN = 4, 8


@dataclass(frozen=True)
class Config:
    """Densities `20^-t`, t evenly spaced in [0, 1]; restarts at each; steps of the solver."""

    densities: int = 41
    restarts: int = 64
    steps: int = 600
    seed: int = 0


QUICK = Config(densities=9, restarts=12, steps=400)


def compute(config: Config, folder: Path | None = None, advance: Callable[[int], None] = lambda _: None) -> xr.Dataset:
    """Local minima over (density, restart): W, b, loss, basin (0 the lowest), certificates."""
    dims = dict.fromkeys(("loss", "gradient_norm", "converged", "basin"), ("restart",))
    dims |= {"W": ["restart", "hidden", "feature"], "b": ["restart", "feature"]}
    axes = {"density": RAREST ** -np.linspace(0, 1, config.densities)}
    how = {"dims": dims, "settings": config, "folder": folder, "width": 1, "advance": advance}
    return sweep.over(partial(_solved, config), axes, **how).assign_coords(restart=np.arange(config.restarts))


def _solved(config: Config, point: dict) -> dict:
    """All restarts at one density; a start is the same at each density."""
    distribution, importance = features.SparseUniform(point["density"]), features.geometric_importance(DECAY, n=N)
    how = {"restarts": config.restarts, "steps": config.steps, "nodes": NODES}
    found = solve.toy_minima(jax.random.key(config.seed), distribution, importance, n=N, m=M, **how)
    certificate = {"gradient_norm": found.gradient_norm, "converged": found.converged, "basin": found.basin}
    return {"W": found.params.W, "b": found.params.b, "loss": found.loss} | certificate


def shape(W: np.ndarray) -> str:
    """Name of a solution by its pieces, such as "square" of two antipodal pairs."""
    return shapes.compound(piece.name for piece in geometry.pieces(W))


def reached(dataset: xr.Dataset) -> list[Counter]:
    """How many restarts ended in each shape, one counter a density; those that did not converge do not count."""
    counters = []
    for p in range(dataset.sizes["density"]):
        here = dataset.isel(density=p)
        counters.append(Counter(shape(W) for W in here["W"].values[here["converged"].values == 1]))
    return counters


def _shares(dataset: xr.Dataset, counters: list[Counter], k: int, name: str) -> str:
    """At density number k: the share of starts that ended in a shape, and of those in the basin of least loss."""
    lowest = float((dataset["basin"].isel(density=k) == 0).mean())
    return f"{counters[k][name] / dataset.sizes['restart']:.0%} of starts, {lowest:.0%} in the best basin"


def findings(dataset: xr.Dataset) -> list[Check]:
    """The shape of least loss at the paper's three densities, and the order in which shapes appear."""
    solution, counters = results.best(dataset), reached(dataset)
    densities = dataset["density"].values
    names = [shape(W) for W in solution["W"].values]
    found = []
    for p, published in PUBLISHED.items():
        at = int(np.argmin(np.abs(np.log(densities / p))))
        note = f"least loss at p = {densities[at]:.3g}, from {_shares(dataset, counters, at, names[at])}"
        name = NAMES.get(names[at], names[at])
        found.append(Check(f"density {p:g}: {NAMES[published]}", PAPER, NAMES[published], name, note=note))
    return [*found, _order(names, densities)]


def _order(names: list[str], densities: np.ndarray) -> Check:
    """The paper's shapes in the order in which they have the least loss, and from which density each has it."""
    distinct = [name for k, name in enumerate(names) if k == 0 or name != names[k - 1]]
    spans = [f"{NAMES.get(s, s)} p = {densities[names.index(s)]:.3g}" for s in dict.fromkeys(names)]
    published = ", ".join(NAMES[name] for name in PUBLISHED.values())
    known = ", ".join(NAMES[name] for name in distinct if name in PUBLISHED.values())
    return Check(f"as density falls: {published}", PAPER, published, known, note="from " + ", ".join(spans))


def figure(dataset: xr.Dataset) -> go.Figure:
    """The solution of least loss at eight densities, numbered by importance."""
    shown = np.unique(np.linspace(0, dataset.sizes["density"] - 1, SHOWN).round().astype(int))
    solution, counters = results.best(dataset), reached(dataset)
    importance, titles = DECAY ** np.arange(N), []
    for k in shown:
        at, name = solution.isel(density=k), shape(solution["W"].values[k])
        heading = f"p = {float(at['density']):.3f}: {NAMES.get(name, name)}, loss {float(at['loss']):.4g}"
        titles.append(f"{heading}<br>{_shares(dataset, counters, k, name)}")
    drawn = make_subplots(
        -(-len(shown) // COLUMNS), COLUMNS, subplot_titles=titles, vertical_spacing=0.14, horizontal_spacing=0.03
    )
    for place, k in enumerate(shown):
        row, column = divmod(place, COLUMNS)
        for trace in features_in_plane(solution["W"].values[k], importance).data:
            if trace.name != "importance" or place == 0:
                drawn.add_trace(trace, row + 1, column + 1)
    drawn.update_xaxes(range=[-1.6, 1.6], constrain="domain", showticklabels=False, ticks="")
    drawn.update_yaxes(range=[-1.6, 1.6], showticklabels=False, ticks="")
    for k, axis in enumerate(drawn.select_yaxes(), start=1):
        axis.update(scaleanchor=f"x{k if k > 1 else ''}")
    drawn.update_annotations(font_size=12)
    return drawn.update_layout(template=TEMPLATE, showlegend=False, width=1150, height=640, margin_t=70)
