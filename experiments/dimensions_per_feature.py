"""How many dimensions a learned feature takes, `D* = m / |W|_F^2`, against 1/p: it sticks at 1 and at 1/2.

At each density the exact loss is minimised from the same random starts, Xavier's for one model, until it can be at most a
millionth above a minimum; the one of least loss, the best known solution, goes on to 1e-8. The solver works
in `solve.natural_units`.
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

from superpose import features, interference, results, solve, sweep, toy_model, train
from superpose.expected_loss import relu_output
from superpose.plot.template import GREY, TEMPLATE
from superpose.reproduction import Check

NAME = "dimensions-per-feature"
TITLE = "Dimensions per feature against sparsity: plateaus at 1 and at 1/2"
PAPER = "The Geometry of Superposition: Uniform Superposition"
PLATEAUS = (1.0, 0.5)
NEAR = 0.05
TICKS = (1, 1.5, 2, 3, 4, 5, 7, 10, 20, 50, 100)


@dataclass(frozen=True)
class Config:
    """Features, dimensions, `points` values of 1/p from `densest` to `sparsest` in log, restarts, and how each is solved.

    `rough` and `tolerance`: largest gap of every start, and of the best one at each density, as a share of the loss.
    """

    n: int = 400
    m: int = 30
    densest: float = 1.0
    sparsest: float = 100.0
    points: int = 20
    restarts: int = 4
    steps: int = 10_000
    nodes: int = 32
    rough: float = 1e-6
    tolerance: float = 1e-8
    seed: int = 0


QUICK = Config(n=60, m=6, densest=1.25, sparsest=5.0, points=7, restarts=1)


def compute(config: Config, folder: Path | None = None, advance: Callable[[int], None] = lambda _: None) -> xr.Dataset:
    """Over (density, restart): W, b, loss, its certificate, evaluations, `D*`, and `D_i` of each feature."""
    density = 1 / np.geomspace(config.densest, config.sparsest, config.points)
    dims = {"W": ("hidden", "feature"), "b": ("feature",), "dimensionality": ("feature",)}
    places = [None if folder is None else folder / name for name in ("starts", "best")]
    axes, how = {"density": density, "restart": np.arange(config.restarts)}, {"settings": config, "width": 1}
    found = sweep.over(partial(roughly, config), axes, dims=dims, folder=places[0], advance=advance, **how)
    least = results.best(found)
    points = {"density": density, "W": least["W"].values, "b": least["b"].values}
    fine = sweep.run(partial(solution, config), points, folder=places[1], **how)
    fine["steps"] = fine["steps"] + least["steps"].values
    for name, array in fine.items():
        found[name].values[np.arange(config.points), least["restart"].values] = array
    return found


def scaled_loss(params: toy_model.Params, p: jax.Array, *, nodes: int) -> jax.Array:
    """The exact loss in natural units, of parameters in natural units; of the precision of the parameters."""
    distribution = features.SparseUniform(p)
    units = jax.tree.map(lambda x: x.astype(params.b.dtype), solve.natural_units(distribution, n=params.b.shape[0]))
    return relu_output(units.plain(params), distribution, nodes=nodes) / units.loss


def xavier(key: jax.Array, *, n: int, m: int) -> toy_model.Params:
    """`W_ij ~ N(0, 2 / (n + m))`, `b = 0`, in float32."""
    start = toy_model.init(key, n=n, m=m, scale=(2 * m / (n + m)) ** 0.5)
    return jax.tree.map(lambda x: x.astype(jnp.float32), start)


def roughly(config: Config, point: dict) -> dict:
    """What one start comes to at one density, to `config.rough`; fewer nodes do for the beginning.

    The start of a restart is the same at each density.
    """
    start = xavier(train.model_key(jax.random.key(config.seed), point["restart"]), n=config.n, m=config.m)
    point = {"density": point["density"], "W": start.W.astype(float), "b": start.b.astype(float)}
    return solution(config, point, tolerance=config.rough, coarser=partial(scaled_loss, nodes=config.nodes // 2))


def solution(config: Config, point: dict, *, tolerance: float | None = None, coarser: Callable | None = None) -> dict:
    """What one start comes to at one density, in plain units, to `config.tolerance` or another."""
    p, loss = point["density"], partial(scaled_loss, nodes=config.nodes)
    units = solve.natural_units(features.SparseUniform(p), n=config.n)
    start = units.natural(toy_model.Params(W=point["W"], b=point["b"]))
    how = {"deflate": solve.without_rotations, "steps": config.steps, "tolerance": tolerance or config.tolerance}
    found = solve.minimize_large(loss, start, p, coarser=coarser, **how)
    plain = units.plain(found.params)
    size = {
        "dimensions": interference.dimensions_per_feature(plain.W),
        "dimensionality": interference.feature_dimensionality(plain.W),
    }
    certificate = {"gap": found.gap * units.loss, "gradient_norm": found.gradient_norm, "converged": found.converged}
    lowest = {"lowest_eigenvalue": found.eigenvalues[0], "eigenvalue_error": found.eigenvalue_error, "steps": found.steps}
    return {"W": plain.W, "b": plain.b, "loss": found.loss * units.loss} | certificate | lowest | size


def best(dataset: xr.Dataset) -> xr.Dataset:
    """The restart of least loss at each density, densest first."""
    return results.best(dataset).sortby("density", ascending=False)


def longest_run(near: np.ndarray) -> tuple[int, int]:
    """First and one past the last of the longest run of True; (0, 0) without one."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], near, [False]]).astype(int))).reshape(-1, 2)
    return (0, 0) if len(edges) == 0 else tuple(int(x) for x in edges[np.argmax(edges[:, 1] - edges[:, 0])])


def plateau(dataset: xr.Dataset, level: float) -> tuple[int, str]:
    """How many neighbouring densities have `D*` within 5 % of `level`, at most in a row; and where they lie, in words."""
    known = best(dataset)
    star = known["dimensions"].values
    first, last = longest_run(np.abs(star / level - 1) <= NEAR)
    if first == last:
        return 0, f"none; nearest {star[np.argmin(np.abs(star - level))]:.3f}"
    within, sparsity = star[first:last], 1 / known["density"].values[first:last]
    where = f"1/p from {sparsity[0]:.2f} to {sparsity[-1]:.2f}"
    return last - first, f"{where}, {within.min():.3f} to {within.max():.3f}, {last - first} of {len(star)} densities"


def counted(dataset: xr.Dataset) -> np.ndarray:
    """`|W|_F^2` over the number of columns longer than half the longest, at each density, densest first."""
    length = np.linalg.norm(best(dataset)["W"].values, axis=1)
    return (length**2).sum(1) / (length > length.max(1, keepdims=True) / 2).sum(1)


def findings(dataset: xr.Dataset) -> list[Check]:
    """Plateaus of the best known solutions, how many densities they hold, and what `|W|_F^2` counts."""
    known, ratio = best(dataset), counted(dataset)
    star = known["dimensions"].values
    in_a_row = [
        Check(f"D* sticks at {name}: densities in a row within 5 %", PAPER, (2, None), count, note=where)
        for level, name in zip(PLATEAUS, ("1", "1/2"), strict=True)
        for count, where in [plateau(dataset, level)]
    ]
    share = float(np.mean([np.abs(star / level - 1) <= NEAR for level in PLATEAUS], axis=1).sum())
    even = 2 * np.log((1 + NEAR) / (1 - NEAR)) / np.log(star.max() / star.min())
    certified, gap = int(known["converged"].sum()), float((known["gap"] / known["loss"]).max())
    special = "these two values are special: share of densities near them, twice that of an even fall in log D* or more"
    found = f"{certified} of {len(star)} best known certified, gaps up to {gap:.1e} of the loss"
    columns = "‖W‖² is about the number of features learned (columns above half the longest): median ratio"
    return [
        *in_a_row,
        Check(special, PAPER, (2 * even, None), share, note=found),
        Check(columns, PAPER, 1.0, np.median(ratio), rtol=0.1, note=f"{ratio.min():.2f} to {ratio.max():.2f}"),
    ]


def figure(dataset: xr.Dataset) -> go.Figure:
    """`D*` over 1/p: the best known solutions as a line, all restarts as open circles."""
    known = best(dataset)
    drawn = go.Figure()
    sparsity = np.repeat(1 / dataset["density"].values, dataset.sizes["restart"])
    every = dataset["dimensions"].transpose("density", "restart").values.ravel()
    drawn.add_trace(
        go.Scatter(x=sparsity, y=every, mode="markers", name="each start", marker={"symbol": "circle-open", "color": GREY})
    )
    least = {"mode": "lines+markers", "name": "least loss", "marker": {"symbol": "diamond", "size": 8}}
    drawn.add_trace(go.Scatter(x=1 / known["density"].values, y=known["dimensions"].values, **least))
    for level, name in zip(PLATEAUS, ("1: a dimension each", "1/2: antipodal pairs"), strict=True):
        line = {"dash": "dot", "color": GREY, "width": 1}
        drawn.add_hline(y=level, line=line, annotation_text=name, annotation_position="top right")
    drawn.update_xaxes(type="log", tickvals=TICKS, title_text="1/p = 1/(1 − S)")
    return drawn.update_yaxes(title_text="D* = m / ‖W‖²", rangemode="tozero").update_layout(template=TEMPLATE)
