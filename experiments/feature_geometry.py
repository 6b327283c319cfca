"""Feature dimensionalities of the solutions of `dimensions_per_feature`, and the shapes that their features form.

A solution is an orthogonal sum (tegum product) of pieces, named by `superpose.geometry`; the features of a shape share one
`D_i`. Tetrahedra and triangles take more dimensions a feature than pairs, so they are looked for where `D*` falls from 1 to 1/2.
Only certified minima are read: where a search ran out of steps features are still on their way, and their `D_i` say nothing.
"""

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import xarray as xr
from plotly import graph_objects as go

from superpose import geometry
from superpose.geometry import shapes
from superpose.plot.template import GREY, TEMPLATE
from superpose.reproduction import Check

from . import dimensions_per_feature

NAME = "feature-geometry"
TITLE = "Feature dimensionalities and the shapes behind them"
PAPER = "The Geometry of Superposition: Uniform Superposition"
LEVELS = {"tetrahedron": 3 / 4, "triangle": 2 / 3, "digon": 1 / 2, "pentagon": 2 / 5, "square antiprism": 3 / 8}
TEGUM = {"triangular bipyramid, 3 × 2/3 + 2 × 1/2": "triangle", "pentagonal bipyramid, 5 × 2/5 + 2 × 1/2": "pentagon"}
WIDTH, LEAST = 0.01, 0.3


@dataclass(frozen=True)
class Config(dimensions_per_feature.Config):
    """As there; densities where the levels lie."""

    densest: float = 1.5
    sparsest: float = 8.0
    points: int = 16
    restarts: int = 1


QUICK = Config(n=60, m=6, sparsest=6.0, points=6, restarts=1)


def compute(config: Config, folder: Path | None = None, advance: Callable[[int], None] = lambda _: None) -> xr.Dataset:
    """Solutions over (density, restart), as `dimensions_per_feature.compute` gives them."""
    return dimensions_per_feature.compute(config, folder, advance)


def certified(dataset: xr.Dataset) -> xr.Dataset:
    """The certified minima of all densities and restarts, over `run`."""
    flat = dataset.stack(run=("density", "restart"))
    return flat.isel(run=np.flatnonzero(flat["converged"].values))


def named(W: np.ndarray) -> list[geometry.Piece]:
    """The pieces of a solution, without a warning where many features hang together: here that is an answer."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        return geometry.pieces(W)


def solutions(dataset: xr.Dataset) -> list[tuple[np.ndarray, np.ndarray]]:
    """`W` and `D_i` of every certified minimum."""
    flat = certified(dataset)
    weights, shares = flat["W"].transpose("run", "hidden", "feature"), flat["dimensionality"].transpose("run", "feature")
    return list(zip(weights.values, shares.values, strict=True))


def on_level(shares: np.ndarray) -> np.ndarray:
    """Whether each `D_i` is within 0.01 of a level."""
    return np.min([np.abs(shares - level) for level in LEVELS.values()], axis=0) <= WIDTH


def by_shape(dataset: xr.Dataset) -> dict[str, list[np.ndarray]]:
    """`D_i` of the features of each named piece that shares no direction with more, all solutions together."""
    found: dict[str, list[np.ndarray]] = {name: [] for name in LEVELS}
    for W, shares in solutions(dataset):
        for piece in named(W):
            if piece.name in found and len(piece.duplicates) == 0:
                found[piece.name].append(shares[piece.features])
    return found


def products(dataset: xr.Dataset) -> dict[str, int]:
    """In how many solutions a digon stands orthogonally beside each base of a bipyramid."""
    names = [{piece.name for piece in named(W)} for W, _ in solutions(dataset)]
    return {title: sum({base, shapes.DIGON} <= here for here in names) for title, base in TEGUM.items()}


def findings(dataset: xr.Dataset) -> list[Check]:
    """Clusters of `D_i`, the shapes that they belong to, their sum, and products of shapes; all of certified minima."""
    shares = certified(dataset)["dimensionality"].transpose("run", "feature").values
    kept = shares[shares > LEAST]
    clustered, even = float(on_level(kept).mean()) if len(kept) else 0.0, 2 * WIDTH * len(LEVELS) / (1 - LEAST)
    m, total = dataset.sizes["hidden"], shares.sum(1)
    read = f"{len(shares)} of {dataset['loss'].size} solutions are certified, the others not read"
    named = by_shape(dataset)
    counts = ", ".join(f"{name} {len(found)}" for name, found in named.items())
    off = {name: float(np.abs(np.concatenate(x) - LEVELS[name]).max()) for name, x in named.items() if x}
    errors = ", ".join(f"{name} {x:.3f}" for name, x in off.items())
    clusters = f"D_i above 0.3 cluster at 3/4, 2/3, 1/2, 2/5, 3/8: share within {WIDTH}, at least twice an even spread's"
    each = "each level is a shape that occurs: how often the rarest"
    error = "features of a named shape have its D_i: largest error"
    farthest = total[np.abs(total - m).argmax()] if len(total) else np.nan
    spread = f"the farthest of {total.min():.2f} to {total.max():.2f}" if len(total) else "no certified solution"
    solutions = f"of {len(shares)} solutions"
    return [
        Check(clusters, PAPER, (2 * even, None), clustered, note=read),
        Check(each, PAPER, (1, None), min(map(len, named.values())), note=counts),
        Check(error, PAPER, 0.0, max(off.values(), default=np.nan), atol=0.02, note=errors),
        Check("sum of D_i is near m", PAPER, float(m), farthest, rtol=0.05, note=spread),
        *(
            Check(f"tegum product: {title}", PAPER, (1, None), count, note=solutions)
            for title, count in products(dataset).items()
        ),
    ]


def figure(dataset: xr.Dataset) -> go.Figure:
    """`D_i` of each kept feature of the certified minima over 1/p, with a symbol for the piece that it is part of."""
    known = certified(dataset)
    symbols = {"digon": "circle", "pentagon": "star", "square antiprism": "square", "triangle": "triangle-up"}
    symbols |= {"tetrahedron": "diamond", "other": "x-thin-open"}
    at: dict[str, list[tuple[float, float]]] = {name: [] for name in symbols}
    shake = np.random.default_rng(0)
    for k, p in enumerate(known["density"].values):
        here = known.isel(run=k)
        for piece in named(here["W"].transpose("hidden", "feature").values):
            name = piece.name if piece.name in LEVELS else "other"
            for share in here["dimensionality"].values[piece.features]:
                at[name].append((np.exp(shake.normal(0, 0.012)) / p, share))
    drawn = go.Figure()
    for (name, symbol), colour in zip(symbols.items(), TEMPLATE.layout.colorway, strict=False):
        if at[name]:
            x, y = np.array(at[name]).T
            marker = {"symbol": symbol, "size": 6, "color": colour, "opacity": 0.7}
            drawn.add_trace(go.Scatter(x=x, y=y, mode="markers", name=name, marker=marker))
    for level, name in zip(LEVELS.values(), ("3/4", "2/3", "1/2", "2/5", "3/8"), strict=True):
        side = "bottom right" if name == "3/8" else "top right"  # it lies just below 2/5
        look = {"annotation_text": name, "annotation_position": side, "annotation_font_size": 11}
        drawn.add_hline(y=level, line={"dash": "dot", "color": GREY, "width": 1}, **look)
    ticks = [t for t in dimensions_per_feature.TICKS if t < 1.2 / dataset["density"].values.min()]
    drawn.update_xaxes(type="log", tickvals=ticks, title_text="1/p = 1/(1 − S)")
    return drawn.update_yaxes(title_text="D<sub>i</sub>", range=[-0.02, 1.05]).update_layout(template=TEMPLATE)
