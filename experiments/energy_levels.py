"""Feature dimensionalities during training jump between levels, and the loss drops as they do.

Exact gradient descent with momentum, from Xavier's starts, at a density where the solution is all digons: no noise of sampling, so
every drop of the loss is one. Ten dimensions instead of the paper's thirty: there all pairs form almost at once, and a jump of one
feature is lost among the others. A jump of `D_i`, and a drop of the log loss, are as in `superpose.dynamics.jumps`. Both are
crowded at the beginning, so jumps after it are matched on their own; chance is that of drops at shifted times.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import xarray as xr
from plotly import graph_objects as go
from plotly.subplots import make_subplots

from superpose import dynamics, interference, sweep, toy_model
from superpose.plot.template import BLACK, BLUE, PALE, TEMPLATE, VERMILION
from superpose.reproduction import Check

from .dimensions_per_feature import scaled_loss, xavier

NAME = "energy-levels"
TITLE = "Energy levels: feature dimensionalities jump in training as the loss drops"
PAPER = "Superposition and Learning Dynamics: Discrete Energy Level Jumps"
WINDOW, JUMP, DROP = 6, 0.15, 3e-4
BEGINNING, LEVELS = 0.1, (0.0, 0.5)


@dataclass(frozen=True)
class Config:
    """Features, dimensions, density, runs; step and momentum on the loss divided by `p / 3`; snapshots and steps between."""

    n: int = 100
    m: int = 10
    density: float = 0.3
    restarts: int = 24
    rate: float = 0.01
    momentum: float = 0.9
    snapshots: int = 300
    every: int = 10
    nodes: int = 32
    seed: int = 0


QUICK = Config(n=60, m=6, restarts=5, snapshots=200)


def compute(config: Config, folder: Path | None = None, advance: Callable[[int], None] = lambda _: None) -> xr.Dataset:
    """Over (restart, step): loss, and `D_i` of each feature."""
    axes = {"restart": np.arange(config.restarts)}
    how = {"settings": config, "folder": folder, "width": 1, "advance": advance}
    dims = {"loss": ("step",), "dimensionality": ("step", "feature")}
    found = sweep.over(partial(_run, config), axes, dims=dims, **how)
    return found.assign_coords(step=config.every * np.arange(1, config.snapshots + 1))


def _run(config: Config, point: dict) -> dict:
    """One run from its own start."""
    p = jnp.float32(config.density)
    descent = optax.sgd(config.rate, momentum=config.momentum)
    start = xavier(jax.random.fold_in(jax.random.key(config.seed), point["restart"]), n=config.n, m=config.m)

    def loss(params: toy_model.Params) -> jax.Array:
        return config.n * scaled_loss(params, p, nodes=config.nodes)

    def step(carry: tuple, _: None) -> tuple[tuple, jax.Array]:
        params, state = carry
        value, slope = jax.value_and_grad(loss)(params)
        change, state = descent.update(slope, state)
        return (optax.apply_updates(params, change), state), value

    def stretch(carry: tuple, _: None) -> tuple[tuple, tuple]:
        carry, values = jax.lax.scan(step, carry, length=config.every)
        return carry, (values[-1] * p / 3, interference.feature_dimensionality(carry[0].W))

    _, (losses, shares) = jax.lax.scan(stretch, (start, descent.init(start)), length=config.snapshots)
    return {"loss": losses, "dimensionality": shares}


def events(run: xr.Dataset) -> tuple[np.ndarray, np.ndarray]:
    """Snapshots of the jumps of all features of one run, ascending, and of the drops of its loss."""
    shares = run["dimensionality"].transpose("feature", "step").values
    found = [dynamics.jumps(x, least=JUMP, window=WINDOW, ratio=3.0).at for x in shares]
    drops = dynamics.jumps(np.log(run["loss"].values), least=DROP, window=WINDOW, ratio=1.5)
    return np.sort(np.concatenate(found)), drops.at[drops.size < 0]


def matched(dataset: xr.Dataset, *, after: float) -> tuple[int, int, float]:
    """Jumps near a drop, all jumps, and how many would be near by chance, over all runs, without the share `after` of steps."""
    length = dataset.sizes["step"]
    first = round(after * length)
    total = np.zeros(3)
    for r in range(dataset.sizes["restart"]):
        jumps, drops = (at[at >= first] - first for at in events(dataset.isel(restart=r)))
        found = dynamics.match(jumps, drops, length=length - first, within=WINDOW // 2)
        total += (found.matched, found.total, found.expected)
    return int(total[0]), int(total[1]), float(total[2])


def findings(dataset: xr.Dataset) -> list[Check]:
    """How many jumps coincide with drops, against chance; and whether the features rest on levels."""
    coincide = []
    for title, after in (("", 0.0), (f" after the first {BEGINNING:.0%} of steps", BEGINNING)):
        near, total, chance = matched(dataset, after=after)
        claim = f"jumps of D_i{title} coincide with drops of the loss: at least half of them, and 3 times chance"
        note = f"of {total} jumps, within {WINDOW // 2} snapshots of a drop; {chance:.1f} by chance"
        coincide.append(Check(claim, PAPER, (max(total / 2, 3 * chance), None), near if total else np.nan, note=note))
    shares = dataset["dimensionality"].transpose("restart", "step", "feature").values
    late = shares[:, shares.shape[1] // 2 :]
    resting = float(np.mean(np.min([np.abs(late - level) for level in LEVELS], axis=0) <= 0.05))
    kept = shares[:, -1][shares[:, -1] > 0.25]
    pairs = float(np.mean(np.abs(kept - 0.5) <= 0.02))
    levels = "D_i rest on levels: share within 0.05 of 0 and 1/2 in the second half"
    digons = "the runs end as digons: share of kept features with D_i = 1/2 within 0.02"
    return [*coincide, Check(levels, PAPER, (0.95, None), resting), Check(digons, PAPER, (0.95, None), pairs)]


def telling(dataset: xr.Dataset) -> int:
    """The run with the most jumps after the beginning."""
    first = round(BEGINNING * dataset.sizes["step"])
    return int(np.argmax([np.sum(events(dataset.isel(restart=r))[0] >= first) for r in range(dataset.sizes["restart"])]))


def figure(dataset: xr.Dataset) -> go.Figure:
    """`D_i` of every feature over the steps of one run, its jumps marked, above the loss, its drops shaded."""
    run = dataset.isel(restart=telling(dataset))
    step, loss = run["step"].values, run["loss"].values
    shares = run["dimensionality"].transpose("feature", "step").values
    _, drops = events(run)
    drawn = make_subplots(rows=2, shared_xaxes=True, vertical_spacing=0.06, row_heights=[0.6, 0.4])
    for share in shares[shares.max(1) > JUMP]:
        drawn.add_trace(go.Scatter(x=step, y=share, line={"width": 1, "color": BLUE}, showlegend=False), 1, 1)
    at = [(step[t], share[t]) for share in shares for t in dynamics.jumps(share, least=JUMP, window=WINDOW, ratio=3.0).at]
    x, y = np.array(at).reshape(-1, 2).T
    look = {"symbol": "circle-open", "color": VERMILION, "size": 8}
    drawn.add_trace(go.Scatter(x=x, y=y, mode="markers", name="jump of D<sub>i</sub>", marker=look), 1, 1)
    drawn.add_trace(go.Scatter(x=step, y=loss, line={"color": BLACK}, showlegend=False), 2, 1)
    for t in drops:
        low, high = step[max(0, t - WINDOW // 2)], step[min(len(step) - 1, t + WINDOW // 2)]
        drawn.add_vrect(x0=low, x1=high, fillcolor=PALE, line_width=0, layer="below")
    shaded = {"symbol": "square", "color": PALE, "size": 12, "line": {"color": BLACK, "width": 0.5}}
    drawn.add_trace(go.Scatter(x=[None], y=[None], mode="markers", name="drop of the loss", marker=shaded), 1, 1)
    drawn.update_xaxes(type="log", tickvals=[10, 30, 100, 300, 1000, 3000])
    drawn.update_xaxes(title_text="step of gradient descent", row=2, col=1)
    drawn.update_yaxes(title_text="D<sub>i</sub>", row=1, col=1).update_yaxes(title_text="loss", row=2, col=1)
    return drawn.update_layout(template=TEMPLATE, height=560)
