"""Superposition makes a model easier to attack: the worst change of an input of a tenth of the mean input's length.

The solutions of `dimensions_per_feature` are attacked by projected gradient ascent from the worst attack on the linearised
model, and so is a model without superposition, on the same inputs: m features with a dimension each, the others answered by their
mean. "Vulnerability" can be read as the rise of the loss under attack, or as the attacked loss itself; both are relative to that
model. The second is mostly the error of the features that neither model stores, attacked or not, and so it hardly changes.
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

from superpose import adversarial, features, sweep, toy_model
from superpose.plot.template import TEMPLATE
from superpose.reproduction import Check

from . import dimensions_per_feature

NAME = "adversarial"
TITLE = "Adversarial examples: vulnerability against sparsity"
PAPER = "Superposition and Adversarial Robustness"


@dataclass(frozen=True)
class Config(dimensions_per_feature.Config):
    """As there; how many inputs are attacked, and random starts and steps of an attack."""

    points: int = 10
    restarts: int = 1
    inputs: int = 48
    starts: int = 2
    ascent: int = 20


QUICK = Config(n=60, m=6, densest=1.25, sparsest=40.0, points=5, inputs=24)


def compute(config: Config, folder: Path | None = None, advance: Callable[[int], None] = lambda _: None) -> xr.Dataset:
    """Over (density, restart): `dimensions`, the loss; size of the attack; `rise` and `attacked`, relative, with `_error`."""
    sparsity = np.geomspace(config.densest, config.sparsest, config.points)
    axes = {"density": 1 / sparsity, "restart": np.arange(config.restarts)}
    return sweep.over(partial(_attacked, config), axes, settings=config, folder=folder, width=1, advance=advance)


def without_superposition(n: int, m: int, p: jax.Array) -> toy_model.Params:
    """The first m features alone, the rest answered by their mean, `p / 2`."""
    return toy_model.Params(W=jnp.eye(m, n, dtype=p.dtype), b=jnp.where(jnp.arange(n) < m, 0, p / 2))


def _attacked(config: Config, point: dict) -> dict:
    """Solve for a model, attack it and the reference at the same inputs."""
    found = dimensions_per_feature.roughly(config, point)
    p = jnp.asarray(point["density"], float)
    distribution = features.SparseUniform(p)
    for_size, for_inputs, for_attack = jax.random.split(jax.random.key(config.seed), 3)
    size = adversarial.attack_size(for_size, distribution, n=config.n)

    def losses(params: toy_model.Params, number: jax.Array) -> tuple[jax.Array, jax.Array]:
        x = features.sample(jax.random.fold_in(for_inputs, number), distribution, n=config.n)
        key = jax.random.fold_in(for_attack, number)
        change = adversarial.projected_attack(key, params, x, size, steps=config.ascent, starts=config.starts)
        clean = adversarial.attacked_loss(params, x, jnp.zeros_like(x))
        return adversarial.attacked_loss(params, x, change), clean

    models = toy_model.Params(W=found["W"], b=found["b"]), without_superposition(config.n, config.m, p)
    numbers = jnp.arange(config.inputs)
    (worst, clean), (reference, untouched) = (jax.lax.map(partial(losses, params), numbers) for params in models)
    rise, rise_error = adversarial.vulnerability(worst - clean, reference - untouched)
    attacked, attacked_error = adversarial.vulnerability(worst, reference)
    relative = {"rise": rise, "rise_error": rise_error, "attacked": attacked, "attacked_error": attacked_error}
    return {"dimensions": found["dimensions"], "loss": found["loss"], "size": size} | relative


def findings(dataset: xr.Dataset) -> list[Check]:
    """How far both readings of vulnerability grow, and how they go with `|W|_F^2 / m`."""
    known = dimensions_per_feature.best(dataset)
    norm = 1 / known["dimensions"].values
    found = []
    for name, title in (("rise", "rise of the loss under attack"), ("attacked", "attacked loss")):
        value = known[name].values
        growth, r = float(value.max() / value[0]), float(np.corrcoef(value, norm)[0, 1])
        grows = f"{title}, relative to no superposition, grows as 1/p does: largest over densest"
        note = f"{value[0]:.2f} to {value.max():.2f} (± {known[name + '_error'].values.max():.2f})"
        found.append(Check(grows, PAPER, (3, None), growth, note=note))
        found.append(Check(f"{title} tracks ‖W‖²/m: correlation", PAPER, (0.9, None), r))
    return found


def figure(dataset: xr.Dataset) -> go.Figure:
    """Both readings of vulnerability, and `|W|_F^2 / m`, over 1/p."""
    known = dimensions_per_feature.best(dataset)
    sparsity = 1 / known["density"].values
    drawn = go.Figure()
    names = {"rise": "rise of the loss under attack", "attacked": "attacked loss"}
    for (name, title), symbol in zip(names.items(), ("circle", "square"), strict=True):
        error = {"array": known[name + "_error"].values}
        look = {"mode": "lines+markers", "marker": {"symbol": symbol, "size": 8}, "error_y": error}
        drawn.add_trace(go.Scatter(x=sparsity, y=known[name].values, name=f"{title}, relative", **look))
    norm = {"mode": "lines+markers", "line": {"dash": "dash"}, "marker": {"symbol": "diamond-open", "size": 8}}
    drawn.add_trace(go.Scatter(x=sparsity, y=1 / known["dimensions"].values, name="‖W‖²/m", **norm))
    drawn.update_xaxes(type="log", tickvals=dimensions_per_feature.TICKS, title_text="1/p = 1/(1 − S)")
    ticks = [0.2, 0.5, 1, 2, 5, 10, 20, 50, 100]
    drawn.update_yaxes(type="log", tickvals=ticks, title_text="relative to a model without superposition; ‖W‖²/m")
    return drawn.update_layout(template=TEMPLATE)
