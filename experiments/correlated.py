"""Features that are active together become orthogonal, exclusive ones antipodal; three pairs in a plane lie side by side.

The exact loss is solved from many starts. A case is a number of sets of two features and how they are coupled.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import jax
import numpy as np
import xarray as xr
from plotly import graph_objects as go
from plotly.subplots import make_subplots

from superpose import features, results, solve, sweep, toy_model, train
from superpose.expected_loss import relu_output
from superpose.plot.template import TEMPLATE
from superpose.reproduction import Check

NAME = "correlated"
TITLE = "Correlated and anticorrelated features: orthogonal, antipodal, side by side"
PAPER = "Superposition and Correlated Features: Setup for Exploring Correlated and Anti-Correlated Features"
CASES = {
    "2 x 2 together": (2, features.Together),
    "2 x 2 exclusive": (2, features.Exclusive),
    "3 x 2 together": (3, features.Together),
}
HIDDEN, LARGEST = 2, 6


@dataclass(frozen=True)
class Config:
    """Density of a set (together) or of a feature (exclusive), restarts a case, and steps of the solver."""

    density: float = 0.05
    restarts: int = 64
    steps: int = 500
    seed: int = 0


QUICK = Config(restarts=4, steps=200)


def compute(config: Config, folder: Path | None = None, advance: Callable[[int], None] = lambda _: None) -> xr.Dataset:
    """Local minima over (case, restart): `W`, nan beyond a case's features; loss; certificates."""
    solved, axes = [], {"restart": np.arange(config.restarts)}
    for case in CASES:
        place = None if folder is None else folder / case.replace(" ", "-")
        how = {"dims": {"W": ("hidden", "feature")}, "settings": config, "folder": place, "advance": advance}
        found = sweep.over(partial(_solved, config, case), axes, **how)
        solved.append(found.pad(feature=(0, LARGEST - found.sizes["feature"])))
    return xr.concat(solved, xr.IndexVariable("case", list(CASES)))


def _solved(config: Config, case: str, point: dict) -> dict:
    """The minimum next to one start."""
    count, coupling = CASES[case]
    n, sets = 2 * count, tuple(np.repeat(np.arange(count), 2).tolist())
    distribution = coupling(features.SparseUniform(config.density), sets=sets)
    units = solve.natural_units(distribution, n=n)

    def loss(params: toy_model.Params) -> jax.Array:
        return relu_output(units.plain(params), distribution) / units.loss

    start = toy_model.init(train.model_key(jax.random.key(config.seed), n, point["restart"]), n=n, m=HIDDEN)
    found = solve.minimize(loss, start, steps=config.steps)
    certificate = {"gradient_norm": found.gradient_norm, "converged": found.converged}
    return {"W": found.params.W, "loss": found.loss * units.loss} | certificate


def best(dataset: xr.Dataset, case: str) -> np.ndarray:
    """`W` of the least loss in a case, shape `(2, n)`."""
    return results.best(dataset.sel(case=case))["W"].dropna("feature").values


def cosines(W: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Cosines between partners, one a set; and between each feature and those of other sets, `(n, n - 2)`."""
    unit = W / np.linalg.norm(W, axis=0)
    gram, mine = unit.T @ unit, np.arange(W.shape[1]) // 2
    other = mine[:, None] != mine[None, :]
    return np.diag(gram, 1)[::2], gram[other].reshape(len(mine), -1)


def findings(dataset: xr.Dataset) -> list[Check]:
    """The angles within sets, in the solution of least loss of each case."""
    together, exclusive, six = (best(dataset, case) for case in CASES)
    angle = ", ".join(f"{x:.1f}" for x in np.degrees(np.arccos(np.clip(cosines(six)[0], -1, 1))))
    note = f"{angle} degrees; {np.degrees(np.arccos(cosines(six)[1].max())):.1f} to the nearest of another pair"
    off, opposite = float(np.abs(cosines(together)[0]).max()), float(cosines(exclusive)[0].max())
    side, apart = "side by side, neighbours in a hexagon", "not side by side"
    found = side if _side_by_side(six) else apart
    return [
        Check("two pairs active together: orthogonal, largest |cos| within a pair", PAPER, 0.0, off, atol=0.1),
        Check("two exclusive pairs: antipodal, largest cos within a pair", PAPER, -1.0, opposite, atol=0.1),
        Check("three pairs active together: partners lie side by side", PAPER, side, found, note=note),
    ]


def _side_by_side(W: np.ndarray) -> bool:
    """Whether at most one other feature is nearer to each than its partner, and the partners' overlap is positive."""
    partners, others = cosines(W)
    mine = np.repeat(partners, 2)
    return bool(np.all(mine > 0) and np.all((others > mine[:, None]).sum(1) <= 1))


def figure(dataset: xr.Dataset) -> go.Figure:
    """The best solution of each case in its plane; features of a set share a colour, a symbol and a letter."""
    drawn = make_subplots(cols=len(CASES), subplot_titles=list(CASES))
    for column, case in enumerate(CASES, start=1):
        for i, (x, y) in enumerate(best(dataset, case).T):
            arm = "ABC"[i // 2]
            colour = TEMPLATE.layout.colorway[i // 2]
            marker = {"size": [0, 11], "symbol": ("circle", "square", "diamond")[i // 2], "color": colour}
            look = {
                "textposition": f"{'top' if y > 0 else 'bottom'} center",
                "mode": "lines+markers+text",
                "text": ["", arm],
                "showlegend": False,
            }
            drawn.add_trace(go.Scatter(x=[0, x], y=[0, y], marker=marker, line={"color": colour}, **look), 1, column)
        drawn.update_xaxes(range=[-1.5, 1.5], row=1, col=column)
        drawn.update_yaxes(range=[-1.5, 1.5], scaleanchor=f"x{column if column > 1 else ''}", row=1, col=column)
    return drawn.update_layout(template=TEMPLATE, width=1100, height=420)
