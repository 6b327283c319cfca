"""Getting rid of superposition: a penalty on the hidden layer, and how much width compressed sensing says it takes.

The penalty is `l1 sum_k |h_k|` on the hidden layer `h = W x` of toy models trained on samples: it makes the neurons a basis, and
kills features below a threshold of importance. The bound of compressed sensing, `m = Omega(-n p log p)`, is held against models without a penalty: the least m at which the exact loss, of the best of some restarts, falls to a stated share of the loss of the output E[x].
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import xarray as xr
from plotly import graph_objects as go
from plotly.subplots import make_subplots

from superpose import features, hidden_layer, sweep, toy_model, train
from superpose.expected_loss import relu_output
from superpose.findings import Finding
from superpose.plot.template import TEMPLATE

NAME = "getting-rid"
TITLE = "Getting rid of superposition: a penalty on activity, and the bound of compressed sensing"
PAPER = "The Strategic Picture of Superposition; Is Neural Network Superposition Like Compressed Sensing?"
PENALTIES = np.append(0, np.geomspace(0.005, 1, 12))
"""L1 weights; a penalty of I makes a feature of importance I as dear to store as to ignore, see `_penalised`."""
REPRESENTED = 0.5
"""A feature is represented if its column is at least this long."""
SHARE = 0.1
"""The stated share of the loss of the output E[x]."""


@dataclass(frozen=True)
class Config:
    """Of the penalty: features, neurons, density, ratio of importances, restarts, steps. Of the bound: sizes, densities, restarts, steps."""

    n: int = 20
    m: int = 10
    density: float = 0.05
    decay: float = 0.8
    restarts: int = 8
    steps: int = 10_000
    sizes: tuple[int, ...] = (32, 64, 128)
    densities: tuple[float, ...] = (0.1, 0.03, 0.01, 0.003)
    widths: int = 12
    bound_restarts: int = 2
    bound_steps: int = 1_500
    seed: int = 0


QUICK = Config(restarts=2, steps=1_500, sizes=(32,), densities=(0.1, 0.01), widths=6, bound_restarts=1, bound_steps=300)


def compute(config: Config, folder: Path | None = None, advance: Callable[[int], None] = lambda _: None) -> xr.Dataset:
    """Trained models over (penalty, restart); over (size, density, share, start) the exact loss, relative to that of E[x]."""
    axes: dict[str, Any] = {"penalty": PENALTIES, "restart": np.arange(config.restarts)}
    place = None if folder is None else folder / "penalty"
    width = config.restarts
    arrays = sweep.run(_penalised(config), sweep.grid(axes), settings=config, folder=place, width=width, advance=advance)
    dataset = sweep.label(arrays, axes, {"W": ("hidden", "feature"), "b": ("feature",)})
    found = [_bound(config, n, folder, advance) for n in config.sizes]
    return dataset.merge(xr.concat(found, xr.IndexVariable("size", list(config.sizes))))


def _penalised(config: Config) -> Callable:
    """From a penalty and a restart to a model, its loss without the penalty and the whole, relative to the output 0.

    The penalty has the weight `2 l1 / 3`, so that a feature stored alone with length 1 costs `l1 p / 3` and saves `I p / 3`.
    """
    start_key, batch_key, common_key = jax.random.split(jax.random.key(config.seed), 3)
    optimizer = optax.adam(optax.cosine_decay_schedule(0.01, config.steps))
    law = features.SparseUniform(jnp.float32(config.density))

    importance = jnp.asarray(config.decay ** np.arange(config.n), jnp.float32)

    def penalised(params: toy_model.Params, x: jax.Array, weight: jax.Array) -> jax.Array:
        return hidden_layer.loss(params, x, importance, activation=hidden_layer.identity, l1=weight * 2 / 3)

    def one(point: dict) -> dict:
        start = toy_model.init(train.model_key(start_key, point["restart"]), n=config.n, m=config.m)
        start = jax.tree.map(lambda x: x.astype(jnp.float32), start)
        weight = point["penalty"].astype(jnp.float32)
        settings = {"steps": config.steps, "batch": 512, "optimizer": optimizer, "loss": penalised}
        params = train.fit(batch_key, start, law, weight, **settings).params
        judged = {"draws": 65_536, "loss": penalised}
        scale = 3 / (config.density * importance.sum())
        whole, _ = train.sampled_loss(common_key, params, law, weight, **judged)
        plain, _ = train.sampled_loss(common_key, params, law, jnp.zeros_like(weight), **judged)
        return {"W": params.W, "b": params.b, "whole": whole * scale, "loss": plain * scale}

    return one


def _bound(config: Config, n: int, folder: Path | None, advance: Callable[[int], None]) -> xr.Dataset:
    """For one number of features: relative exact losses over (density, share, start), m the `share` of n."""
    densities, starts = np.asarray(config.densities), np.arange(config.bound_restarts)
    axes: dict[str, Any] = {"density": densities, "share": shares(config), "start": starts}
    place = None if folder is None else folder / f"bound-{n}"
    solve, width = partial(_best_known, config, n), len(starts) * config.widths
    arrays = sweep.run(solve, sweep.grid(axes), settings=config, folder=place, width=width, advance=advance)
    return sweep.label(arrays, axes, {})


def shares(config: Config) -> np.ndarray:
    """Widths as shares m / n, before rounding."""
    return np.geomspace(0.03, 1, config.widths)


def _best_known(config: Config, n: int, point: dict) -> dict:
    """Adam on the exact loss from a random start, the rate falling to 0; rows of W beyond m stay 0, so all m compile once."""
    p, m = point["density"].astype(jnp.float32), jnp.maximum(1, jnp.round(point["share"] * n))
    law, scale = features.SparseUniform(p), 3 / (n * p)
    optimizer = optax.adam(optax.cosine_decay_schedule(0.02, config.bound_steps))
    start = toy_model.init(train.model_key(jax.random.key(config.seed), n, point["start"]), n=n, m=n)
    used = (jnp.arange(n) < m)[:, None]
    start = toy_model.Params(W=start.W * jnp.sqrt(n / m) * used, b=start.b)
    start = jax.tree.map(lambda x: x.astype(jnp.float32), start)

    def loss(params: toy_model.Params) -> jax.Array:
        return relu_output(toy_model.Params(W=params.W * used, b=params.b), law, nodes=32) * scale

    def step(carry: tuple, _: None) -> tuple[tuple, None]:
        params, state = carry
        updates, state = optimizer.update(jax.grad(loss)(params), state, params)
        return (optax.apply_updates(params, updates), state), None

    (params, _), _ = jax.lax.scan(step, (start, optimizer.init(start)), None, length=config.bound_steps)
    return {"relative_loss": loss(params) / (1 - 3 * p / 4)}


def least_width(dataset: xr.Dataset, share: float = SHARE) -> np.ndarray:
    """The least m at which the best relative loss falls to `share`, by log-linear interpolation; `(size, density)`, nan if none."""
    best = dataset["relative_loss"].min("start").transpose("size", "density", "share").values
    found = np.full(best.shape[:2], np.nan)
    for i, n in enumerate(dataset["size"].values):
        log_m = np.log(np.maximum(1, np.round(dataset["share"].values * n)))
        for k, row in enumerate(np.minimum.accumulate(best[i], axis=1)):
            after = int(np.argmax(row <= share))
            if after and row[after] <= share:
                part = np.log(row[after - 1] / share) / np.log(row[after - 1] / row[after])
                found[i, k] = np.exp(log_m[after - 1] + part * (log_m[after] - log_m[after - 1]))
    return found


def bound(dataset: xr.Dataset) -> np.ndarray:
    """`-n p log p`, `(size, density)`."""
    p = dataset["density"].values
    return -dataset["size"].values[:, None] * (p * np.log(p))[None, :]


def superposition(dataset: xr.Dataset) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """By penalty, of the restart of least penalised loss: features represented, their mean interference, relative loss.

    The interference of a represented feature is `sum_{j != i} (w_hat_i . w_j)^2`.
    """
    counts, overlaps, losses = [], [], []
    for k in range(dataset.sizes["penalty"]):
        here = dataset.isel(penalty=k)
        at = here.isel(restart=int(np.argmin(here["whole"].values)))
        W = at["W"].values
        length = np.linalg.norm(W, axis=0)
        kept = length >= REPRESENTED
        gram = (W[:, kept] / length[kept]).T @ W
        gram[np.arange(kept.sum()), np.flatnonzero(kept)] = 0
        counts.append(int(kept.sum()))
        overlaps.append(float((gram**2).sum(1).mean()) if kept.any() else np.nan)
        losses.append(float(at["loss"]))
    return np.array(counts), np.array(overlaps), np.array(losses)


def findings(dataset: xr.Dataset) -> list[Finding]:
    """Whether the penalty removes superposition and at what loss; how the width that is needed grows."""
    counts, overlaps, losses = superposition(dataset)
    penalty, m = dataset["penalty"].values, dataset.sizes["hidden"]
    free = np.flatnonzero((overlaps < 0.1 * overlaps[0]) & (counts > 0))
    at = int(free[0]) if len(free) else int(np.nanargmin(overlaps))
    needed, scale = least_width(dataset).ravel(), bound(dataset).ravel()
    known = np.isfinite(needed)
    line = np.polyfit(np.log(scale[known]), np.log(needed[known]), 1) if known.sum() > 1 else np.full(2, np.nan)
    fit = float(np.corrcoef(np.log(scale[known]), np.log(needed[known]))[0, 1]) if known.sum() > 1 else np.nan
    return [
        Finding(
            "a penalty on the hidden layer's activity removes superposition",
            "no superposition",
            f"{counts[0]} of {dataset.sizes['feature']} features in {m} neurons with interference {overlaps[0]:.2f}; "
            f"with penalty {penalty[at]:.3g} {counts[at]} with {overlaps[at]:.3f}",
            "a tenth of the interference, features left, no more than neurons",
            bool(len(free) and counts[at] <= m),
        ),
        Finding(
            "at a loss",
            "a higher loss",
            f"{losses[at] / losses[0]:.1f} times the loss, {losses[0]:.3f} to {losses[at]:.3f} of that of the output 0",
            "higher",
            bool(losses[at] > losses[0]),
        ),
        Finding(
            "width grows as compressed sensing has it, m = Omega(\N{MINUS SIGN}n p log p)",
            1.0,
            float(line[0]),
            f"exponent within 0.25 of 1 over sizes and densities; correlation of logarithms {fit:.3f}, {known.sum()} points, "
            f"m = {np.exp(line[1]):.1f} (\N{MINUS SIGN}n p log p)^{line[0]:.2f}",
            bool(abs(line[0] - 1) <= 0.25),
        ),
    ]


def figure(dataset: xr.Dataset) -> go.Figure:
    """Left: features represented and loss against the penalty. Right: the least width against the bound."""
    counts, overlaps, losses = superposition(dataset)
    titles = ["penalty on activity", f"width for {SHARE:.0%} of the loss of E[x]"]
    drawn = make_subplots(cols=2, horizontal_spacing=0.16, subplot_titles=titles)
    share, x = 100 * counts / dataset.sizes["feature"], dataset["penalty"].values[1:]
    for values, name, dash, symbol in (
        (share[1:], "features represented, %", "solid", "circle"),
        (100 * overlaps[1:], "interference, %", "dash", "square"),
        (100 * losses[1:], "loss / loss of the output 0, %", "dot", "diamond"),
    ):
        drawn.add_scatter(x=x, y=values, name=name, line_dash=dash, marker_symbol=symbol, mode="lines+markers", row=1, col=1)
    needed, scale = least_width(dataset), bound(dataset)
    for i, n in enumerate(dataset["size"].values):
        symbol = ("circle", "square", "diamond", "x")[i % 4]
        drawn.add_scatter(x=scale[i], y=needed[i], name=f"n = {n}", mode="markers", marker_symbol=symbol, row=1, col=2)
    drawn.update_xaxes(type="log", title="penalty l1", row=1, col=1)
    drawn.update_xaxes(type="log", title="\N{MINUS SIGN}n p log p", row=1, col=2)
    drawn.update_yaxes(title="%", row=1, col=1)
    drawn.update_yaxes(type="log", title="least m", row=1, col=2)
    return drawn.update_layout(template=TEMPLATE, width=1000, height=450, legend_y=1.18, margin_t=80)
