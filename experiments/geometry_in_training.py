"""Six features in two correlated sets of three move to an octahedron in stages, gradient descent on the exact loss.

From a start near the origin the loss falls in drops with rests between them: each set becomes one direction, the sets open
into three dimensions, and turn against each other until each feature has one of the other set as its antipode. The paper
states neither density nor start: a set is active with probability 0.1 here, where the octahedron is the minimum; at 0.2
another solution has a smaller loss. Snapshots are spaced evenly in the logarithm of the step.
"""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr
from plotly import graph_objects as go
from plotly.subplots import make_subplots

from superpose import dynamics, features, geometry, interference, results, solve, sweep, toy_model, train
from superpose.expected_loss import relu_output
from superpose.plot.template import BLUE, GREY, TEMPLATE, VERMILION, log_axis
from superpose.reproduction import Check

NAME = "geometry-in-training"
TITLE = "Geometry in training: two sets of three features become an octahedron in stages"
PAPER = "Superposition and Learning Dynamics: Learning as Geometric Transformations"
N, M, SETS = 6, 3, (0, 0, 0, 1, 1, 1)
WINDOW = 5
"""Snapshots over which a drop is abrupt: about a quarter of an e-fold of steps."""


@dataclass(frozen=True)
class Config:
    """Density of a set; restarts; gradient steps of a restart, their rate, snapshots of them; size of the start.

    `certify` solves for the minimum next to each end and finds the Hessian's spectrum at the first rest.
    """

    density: float = 0.1
    restarts: int = 32
    steps: int = 30_000
    rate: float = 0.2
    snapshots: int = 200
    scale: float = 0.001
    certify: bool = True
    seed: int = 0


QUICK = Config(restarts=4, steps=5000, snapshots=160, certify=False)


def compute(config: Config, folder: Path | None = None, advance: Callable[[int], None] = lambda _: None) -> xr.Dataset:
    """Over (restart, step): W, b, loss, gradient norm in natural units; and certificates."""
    units, loss = _problem(config)
    taken = np.unique(np.geomspace(1, config.steps, config.snapshots).round().astype(int))
    dims = {"W": ["step", "hidden", "feature"], "b": ["step", "feature"], "loss": ["step"], "gradient_norm": ["step"]}
    how = {"dims": dims, "settings": config, "folder": folder, "width": min(config.restarts, 4), "advance": advance}
    run = sweep.over(_descent(config, units, loss, taken), {"restart": np.arange(config.restarts)}, **how)
    run = run.assign_coords(step=taken)
    return run.assign(_certificates(units, loss, run)) if config.certify else run


def _problem(config: Config) -> tuple[solve.Units, Callable[[toy_model.Params], jax.Array]]:
    """Natural units, and the loss in them."""
    distribution = features.Together(features.SparseUniform(config.density), sets=SETS)
    units = solve.natural_units(distribution, n=N)
    return units, lambda params: relu_output(units.plain(params), distribution) / units.loss


def _descent(config: Config, units: solve.Units, loss: Callable, taken: np.ndarray) -> Callable:
    """From the number of a restart to its run: a snapshot, in plain units, before each of the steps `taken`."""

    def step(_: jax.Array, carry: tuple) -> tuple:
        _, params, gradient, _ = carry
        params = jax.tree.map(lambda x, g: x - config.rate * g, params, gradient)
        value, gradient = jax.value_and_grad(loss)(params)
        norm = jnp.sqrt(jnp.sum(gradient.W**2) + jnp.sum(gradient.b**2))
        return value, params, gradient, norm

    def stretch(carry: tuple, length: jax.Array) -> tuple[tuple, dict]:
        carry = jax.lax.fori_loop(0, length, step, carry)
        value, params, _, norm = carry
        plain = units.plain(params)
        return carry, {"W": plain.W, "b": plain.b, "loss": value * units.loss, "gradient_norm": norm}

    def run(point: dict) -> dict:
        key = train.model_key(jax.random.key(config.seed), point["restart"])
        start = toy_model.init(key, n=N, m=M, scale=config.scale)
        zero = jnp.zeros(())
        carry = (zero, start, jax.tree.map(jnp.zeros_like, start), zero)
        return jax.lax.scan(stretch, carry, jnp.asarray(np.diff(taken, prepend=0)))[1]

    return run


def _certificates(units: solve.Units, loss: Callable, run: xr.Dataset) -> dict:
    """Loss of the minimum next to each end, whether it is certified; eigenvalues of the Hessian at the first rest."""
    W, b, restarts = run["W"].values, run["b"].values, np.arange(run.sizes["restart"])

    def models(snapshot: np.ndarray | int) -> toy_model.Params:
        plain = toy_model.Params(W=jnp.asarray(W[restarts, snapshot]), b=jnp.asarray(b[restarts, snapshot]))
        return jax.vmap(units.natural)(plain)

    found = solve.minimize(loss, models(-1))
    rests = models(np.array([first_rest(x) for x in run["loss"].values]))
    values = np.stack(
        [dynamics.spectrum(loss, toy_model.Params(W=w, b=c))[0] for w, c in zip(rests.W, rests.b, strict=True)]
    )
    certificate = {"minimum": np.asarray(found.loss * units.loss), "converged": np.asarray(found.converged)}
    return {name: ("restart", x) for name, x in certificate.items()} | {"eigenvalues": (("restart", "direction"), values)}


def drops(loss: np.ndarray) -> np.ndarray:
    """Snapshots of the abrupt drops of one run: a tenth or more within a window, half as fast again as usual."""
    found = dynamics.jumps(np.log(loss), least=0.1, window=WINDOW, ratio=1.5)
    return found.at[found.size < 0]


def _change(loss: np.ndarray) -> np.ndarray:
    """How much the logarithm of the loss changes over the window centred on each snapshot; 0 at the ends."""
    size = np.abs(np.log(loss)[WINDOW:] - np.log(loss)[:-WINDOW])
    return np.pad(size, (WINDOW // 2, WINDOW - WINDOW // 2))


def first_rest(loss: np.ndarray) -> int:
    """The snapshot where the loss changes least between the first drop and the second, or the end."""
    first, last, *_ = (*drops(loss), len(loss) - WINDOW, len(loss) - WINDOW + 1)
    return int(first + np.argmin(_change(loss)[first:last]))


def in_stages(loss: np.ndarray) -> bool:
    """Whether there are two drops or more, and between them rests: changes below a quarter of the smaller drop."""
    at, change = drops(loss), _change(loss)
    gaps = [change[a:b].min() < min(change[a], change[b]) / 4 for a, b in pairwise(at)]
    return len(at) >= 2 and all(gaps)


def digons(W: np.ndarray) -> list[tuple[int, int]]:
    """The three antipodal pairs if a solution is an octahedron, their tegum product; none otherwise."""
    found = geometry.pieces(W)
    octahedron = len(found) == 3 and all(piece.name == "digon" for piece in found)
    return [tuple(sorted(piece.features.tolist())) for piece in found] if octahedron else []


def findings(dataset: xr.Dataset) -> list[Check]:
    """Stages of each run, its end, and the end against the certified minimum."""
    losses, ends = dataset["loss"].values, dataset["W"].values[:, -1]
    count, staged = len(losses), sum(in_stages(loss) for loss in losses)
    pairs = [found for found in map(digons, ends) if found]
    across = sum(all(SETS[i] != SETS[j] for i, j in found) for found in pairs)
    number = [len(drops(loss)) for loss in losses]
    saw = f"of {count} restarts, {min(number)} to {max(number)} drops"
    if "eigenvalues" in dataset:
        down = (dataset["eigenvalues"].values < -1e-3).sum(1)
        saw += f"; the first rest is a saddle with {down.min()} to {down.max()} ways down"
    most, share = (count // 2 + 1, None), across / len(pairs) if pairs else np.nan
    told = [
        Check("training moves in distinct stages: in more than half of the restarts", PAPER, most, staged, note=saw),
        Check("it ends as an octahedron: in more than half of the restarts", PAPER, most, len(pairs), note=f"of {count}"),
        Check("antipodes are of different sets: share of octahedra", PAPER, 1.0, share, note=f"{across} of {len(pairs)}"),
    ]
    return told + ([_against_minimum(dataset)] if "minimum" in dataset else [])


def _against_minimum(dataset: xr.Dataset) -> Check:
    best = results.best(dataset, by="minimum").isel(step=-1)
    above, certified = float(best["loss"] / best["minimum"] - 1), best["converged"] and digons(best["W"].values)
    claim = "the octahedron is a certified minimum, the lowest found: share of the loss by which training ends above it"
    note = "" if certified else "the lowest is no certified octahedron"
    return Check(claim, PAPER, 0.0, above if certified else np.nan, atol=1e-4, note=note)


def figure(dataset: xr.Dataset) -> go.Figure:
    """The losses of all restarts; of the one of least loss, the dimensionalities and the cosines, over the step."""
    best = int(np.argmin(dataset["loss"].values[:, -1]))
    titles = ("loss, every restart (dots: drops of the best)", "dimensionality, best restart", "cosines, best restart")
    drawn = make_subplots(rows=3, shared_xaxes=True, subplot_titles=titles, vertical_spacing=0.07)
    step = dataset["step"].values
    for k, loss in enumerate(dataset["loss"].values):
        line = {"color": BLUE if k == best else GREY, "width": 2.5 if k == best else 0.7}
        drawn.add_trace(go.Scatter(x=step, y=loss, line=line, mode="lines", showlegend=False), 1, 1)
    loss, W = dataset["loss"].values[best], dataset["W"].values[best]
    at = drops(loss)
    drawn.add_trace(go.Scatter(x=step[at], y=loss[at], mode="markers", marker={"size": 9}, showlegend=False), 1, 1)
    shares = np.asarray(jax.vmap(interference.feature_dimensionality)(jnp.asarray(W)))
    for i in range(N):
        look = {"color": (BLUE, VERMILION)[SETS[i]], "dash": ("solid", "dash")[SETS[i]]}
        _line(drawn, 2, step, shares[:, i], look, f"set {'AB'[SETS[i]]}", i % 3 == 0, "legend")
    _cosines(drawn, step, W)
    drawn.update_xaxes(**log_axis(1)).update_xaxes(title_text="gradient steps", row=3, col=1)
    drawn.update_yaxes(**log_axis(1, 2, 5), title_text="loss", row=1, col=1)
    drawn.update_yaxes(title_text="D<sub>i</sub>", row=2, col=1)
    drawn.update_yaxes(title_text="cos", range=[-1.08, 1.08], row=3, col=1)
    legends = {"legend": {"x": 1.01, "y": 0.5}, "legend2": {"x": 1.01, "y": 0.15}}
    sides = {name: {"orientation": "v", "xanchor": "left", "yanchor": "middle"} | where for name, where in legends.items()}
    return drawn.update_layout(template=TEMPLATE, width=900, height=900, margin={"t": 40}, **sides)


def _cosines(drawn: go.Figure, step: np.ndarray, W: np.ndarray) -> None:
    """A line for each pair of features, in its looks by where it ends: antipodes, other pairs across sets, within a set."""
    unit = W / np.linalg.norm(W, axis=1, keepdims=True)
    cosine, seen = np.einsum("tki,tkj->tij", unit, unit), set()
    for i, j in zip(*np.triu_indices(N, 1), strict=True):
        within, antipodes = SETS[i] == SETS[j], cosine[-1, i, j] < -0.7
        name = "within a set" if within else "antipodes at the end" if antipodes else "others across sets"
        look = {"color": BLUE if within else VERMILION if antipodes else GREY}
        look |= {"dash": "solid" if within else "dash" if antipodes else "dot"}
        _line(drawn, 3, step, cosine[:, i, j], look, name, name not in seen, "legend2")
        seen.add(name)


def _line(drawn: go.Figure, row: int, x: np.ndarray, y: np.ndarray, line: dict, name: str, first: bool, legend: str) -> None:
    group = {"legendgroup": name, "showlegend": first, "legend": legend, "mode": "lines"}
    drawn.add_trace(go.Scatter(x=x, y=y, line=line | {"width": 1.8}, name=name, **group), row, 1)
