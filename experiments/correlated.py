"""Features that are active together become orthogonal, exclusive ones antipodal; three pairs in a plane lie side by side.

The exact loss is solved from many starts. A case is a number of sets of two features and how they are coupled.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr
from plotly import graph_objects as go
from plotly.subplots import make_subplots

from superpose import features, solve, sweep, toy_model
from superpose.expected_loss import relu_output
from superpose.plot.template import TEMPLATE
from superpose.reproduction.findings import Finding

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
    """Local minima over (case, restart): `W`, nan beyond a case's features; loss, divided by `n p / 3`; certificates."""
    solved = []
    for case in CASES:
        place = None if folder is None else folder / case.replace(" ", "-")
        points = {"restart": np.arange(config.restarts)}
        arrays = sweep.run(_solver(config, case), points, settings=config, folder=place, advance=advance)
        missing = ((0, 0), (0, 0), (0, LARGEST - arrays["W"].shape[2]))
        arrays["W"] = np.pad(arrays["W"], missing, constant_values=np.nan)
        solved.append(sweep.label(arrays, points, {"W": ("hidden", "feature")}))
    return xr.concat(solved, xr.IndexVariable("case", list(CASES)))


def _solver(config: Config, case: str) -> Callable:
    """From the number of a restart to its minimum, biases in units of sqrt(p)."""
    count, coupling = CASES[case]
    n, p = 2 * count, config.density
    law = coupling(features.SparseUniform(p), sets=tuple(np.repeat(np.arange(count), 2).tolist()))

    def loss(params: toy_model.Params, _: None) -> jax.Array:
        return relu_output(toy_model.Params(W=params.W, b=params.b * p**0.5), law) * 3 / (n * p)

    def solved(point: dict) -> dict:
        key = jax.random.fold_in(jax.random.fold_in(jax.random.key(config.seed), n), point["restart"])
        start = jax.tree.map(lambda x: x[None], toy_model.init(key, n=n, m=HIDDEN))
        found = jax.tree.map(lambda x: x[0], solve.minimize(loss, start, steps=config.steps))
        certificate = {"gradient_norm": found.gradient_norm, "converged": found.converged.astype(jnp.int8)}
        return {"W": found.params.W, "loss": found.loss} | certificate

    return solved


def best(dataset: xr.Dataset, case: str) -> np.ndarray:
    """`W` of the least loss in a case, of equals a converged one, shape `(2, n)`."""
    here = dataset.sel(case=case)
    doubted = here["loss"].values * (1 + 1e-6 * (here["converged"].values == 0))
    return here["W"].isel(restart=int(np.argmin(doubted))).dropna("feature").values


def cosines(W: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Cosines between partners, one a set; and between each feature and those of other sets, `(n, n - 2)`."""
    unit = W / np.linalg.norm(W, axis=0)
    gram, mine = unit.T @ unit, np.arange(W.shape[1]) // 2
    other = mine[:, None] != mine[None, :]
    return np.diag(gram, 1)[::2], gram[other].reshape(len(mine), -1)


def findings(dataset: xr.Dataset) -> list[Finding]:
    """The angles within sets, in the solution of least loss of each case."""
    within = {case: cosines(best(dataset, case))[0] for case in CASES}
    together, exclusive, six = (within[case] for case in CASES)
    angle = np.degrees(np.arccos(np.clip(six, -1, 1)))
    nearest = np.degrees(np.arccos(cosines(best(dataset, "3 x 2 together"))[1].max()))
    off = float(np.abs(together).max())
    return [
        Finding("two pairs active together: orthogonal within a pair", 0.0, off, "largest |cos| at most 0.1", off <= 0.1),
        Finding(
            "two exclusive pairs: antipodal within a pair",
            -1.0,
            float(exclusive.max()),
            "largest cos at most -0.9",
            bool(exclusive.max() <= -0.9),
        ),
        Finding(
            "three pairs active together: partners lie side by side",
            "side by side, neighbours in a hexagon",
            ", ".join(f"{x:.1f}" for x in angle) + f" degrees; {nearest:.1f} to the nearest of another pair",
            "each partner is one of a feature's two neighbours in the plane",
            _side_by_side(best(dataset, "3 x 2 together")),
        ),
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
            look = {"mode": "lines+markers+text", "text": ["", arm], "textposition": "top center", "showlegend": False}
            drawn.add_trace(go.Scatter(x=[0, x], y=[0, y], marker=marker, line={"color": colour}, **look), 1, column)
        drawn.update_xaxes(range=[-1.5, 1.5], row=1, col=column)
        drawn.update_yaxes(range=[-1.5, 1.5], scaleanchor=f"x{column if column > 1 else ''}", row=1, col=column)
    return drawn.update_layout(template=TEMPLATE, width=1100, height=420)
