"""Asymmetric superposition with inhibition: a neuron that serves two features unequally, its larger interference held down.

Three absolute values |x_i| through four ReLU neurons, where six would be exact. A neuron reads [2, -1/2] from two features and
writes [1/2, 2] to them: the first leaks 4 x_0 into the second, the second only |x_1|/4 into the first. A second neuron that
reads the first feature too and writes a negative weight cancels the leak of 4. Built by hand, two such neurons inhibit each
other, serve one side of all three features, and need no further neuron; their mirror images serve the other side.

One feature has an atom at 0 and two halves of U[-1, 1], so the loss is a sum over Gauss-Legendre nodes of all three.
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

from superpose import features, hidden_layer, results, solve, sweep, train
from superpose.plot.template import TEMPLATE, log_axis
from superpose.reproduction import Check

NAME = "asymmetric-superposition"
TITLE = "Asymmetric superposition with inhibition: found in minima, what it costs and saves"
PAPER = "Computation in Superposition: The Asymmetric Superposition Motif"
N, M = 3, 4
FEWEST_OWN, FEWEST_RATIO, FEWEST_CANCELLED = 0.25, 4.0, 0.5
MODELS = ("dedicated, one feature dropped", "motif", "motif without inhibition", "symmetric, inhibited")


@dataclass(frozen=True)
class Config:
    """Densities; random starts and steps of the solver; nodes a side while solving, and of the losses reported."""

    densities: tuple[float, ...] = (0.5, 0.3, 0.2, 0.1, 0.05, 0.03, 0.02, 0.01)
    restarts: int = 24
    steps: int = 400
    solving: int = 6
    nodes: int = 12
    seed: int = 0


QUICK = Config(densities=(0.3, 0.03), restarts=4, steps=150, solving=4, nodes=8)


def compute(config: Config, folder: Path | None = None, advance: Callable[[int], None] = lambda _: None) -> xr.Dataset:
    """Minima over (density, restart), and `built`, the losses of models made by hand.

    `coarse` is `built` with half the nodes: how far the quadrature can be trusted.
    """
    axes = {"density": np.array(config.densities), "restart": np.arange(config.restarts)}
    dims = {"W_in": ("neuron", "feature"), "W_out": ("feature", "neuron"), "b": ("feature",)}
    found = sweep.over(partial(_solved, config), axes, dims=dims, settings=config, folder=folder, advance=advance)
    for name, nodes in {"built": config.nodes, "coarse": config.nodes // 2}.items():
        exact = jax.jit(jax.vmap(partial(loss, nodes=nodes), in_axes=(None, 0)))
        found[name] = (("model", "density"), np.array([exact(model, jnp.array(config.densities)) for model in built()]))
    return found.assign_coords(model=list(MODELS))


def _solved(config: Config, point: dict) -> dict:
    """The minimum from one random start, solved for in natural units; its loss with the finer rule."""
    p, key = point["density"], train.model_key(jax.random.key(config.seed), point["restart"])
    units = solve.natural_units(features.SparseSymmetric(p), n=N)

    def scaled(params: hidden_layer.Untied) -> jax.Array:
        return loss(params.replace(b=params.b * units.bias), p, nodes=config.solving) / units.loss

    found = solve.minimize(scaled, hidden_layer.init(key, n=N, m=M), steps=config.steps)
    best = found.params.replace(b=found.params.b * units.bias)
    weights = {"W_in": best.W_in, "W_out": best.W_out, "b": best.b}
    return weights | {"loss": loss(best, p, nodes=config.nodes), "gradient_norm": found.gradient_norm}


def loss(params: hidden_layer.Untied, p: jax.Array, *, nodes: int) -> jax.Array:
    """Population loss, by `nodes` Gauss-Legendre nodes on each side of 0 for each feature."""
    t, w = np.polynomial.legendre.leggauss(nodes)
    one = np.concatenate([[0], (t + 1) / 2, -(t + 1) / 2])
    weight = jnp.concatenate([jnp.array([1 - p]), jnp.tile(p * jnp.array(w) / 4, 2)])
    x = jnp.array(np.stack(np.meshgrid(one, one, one, indexing="ij"), -1).reshape(-1, N))
    joint = (weight[:, None, None] * weight[None, :, None] * weight[None, None, :]).ravel()
    errors = jax.vmap(lambda x: hidden_layer.loss(params, x, target=jnp.abs))(x)
    return joint @ errors


def built() -> list[hidden_layer.Untied]:
    """The models by hand, in the order of MODELS."""
    apart = hidden_layer.absolute_value(N)
    dedicated = hidden_layer.Untied(W_in=apart.W_in[:M], W_out=apart.W_out[:, :M], b=apart.b)
    row, out = jnp.array([2.0, -0.5, 0.0]), jnp.array([0.5, 2.0, 0.0])
    last = jnp.array([0.0, 0.0, 1.0])
    alone = hidden_layer.Untied(
        W_in=jnp.stack([row, -row, last, -last]), W_out=jnp.stack([out, out, last, last], 1), b=apart.b
    )
    return [dedicated, motif(2.0), alone, motif(1.0)]


def motif(q: float) -> hidden_layer.Untied:
    """`r(q x_0 - x_1/q)` and `r(q x_0 - x_2/q)`, written [1/2q, q, -q] and [1/2q, -q, q]; and their mirror images."""
    rows = jnp.array([[q, -1 / q, 0], [q, 0, -1 / q]])
    out = jnp.array([[0.5 / q, q, -q], [0.5 / q, -q, q]]).T
    return hidden_layer.Untied(W_in=jnp.concatenate([rows, -rows]), W_out=jnp.concatenate([out, out], 1), b=jnp.zeros(N))


def score(W_in: np.ndarray, W_out: np.ndarray) -> tuple[float, float]:
    """The most asymmetric inhibited pair of features on one neuron: ratio of its interferences, and the share cancelled.

    Neuron k serves i and j if `|W_in[k, i]| W_out[i, k]` is at least 1/4 for each. Signs of W_in do not count: with target |x|
    a feature may be turned round, so [2, -1/2] and [2, 1/2] are one motif.
    The ratio is `|W_in[k, i] W_out[j, k]| / |W_in[k, j] W_out[i, k]|`, 16 for [2, -1/2] and [1/2, 2] and 1 for equal weights.
    Cancelled is what the other neurons write to j when i alone drives neuron k, as a share of what k writes; (0, 0) if no pair
    has at least half cancelled.
    """
    best = (0.0, 0.0)
    own = np.abs(W_in) * W_out.T
    for k, i, j in np.ndindex(len(W_in), N, N):
        if i == j or min(own[k, i], own[k, j]) < FEWEST_OWN:
            continue
        driven = np.maximum(np.sign(W_in[k, i]) * W_in[:, i], 0)
        leak = W_out[j, k] * driven[k]
        cancelled = 1 - W_out[j] @ driven / leak
        ratio = leak / abs(W_in[k, j] * W_out[i, k])
        if cancelled >= FEWEST_CANCELLED and ratio > best[0]:
            best = (float(ratio), float(cancelled))
    return best


def scores(dataset: xr.Dataset) -> np.ndarray:
    """`score` of each minimum, shape (density, restart, 2)."""
    models = zip(dataset["W_in"].values.reshape(-1, M, N), dataset["W_out"].values.reshape(-1, N, M), strict=True)
    return np.array([score(*model) for model in models]).reshape(*dataset["loss"].shape, 2)


def findings(dataset: xr.Dataset) -> list[Check]:
    """Whether minima show the motif, and what it saves at the lowest density; losses over that of the output 0."""
    shown, rarest = scores(dataset)[..., 0] >= FEWEST_RATIO, int(np.argmin(dataset["density"].values))
    best = results.best(dataset.isel(density=rarest))
    ratio, cancelled = score(best["W_in"].values, best["W_out"].values)
    drop, ours, alone, equal = dataset["built"].values[:, rarest] * 3 / (N * float(best["density"]))
    shares = ", ".join(f"{p:g}: {x:.0%}" for p, x in zip(dataset["density"].values, shown.mean(1), strict=True))
    found = "the motif is found in minima: how many have interferences of at least 4 : 1, half cancelled"
    least = "the least loss at the lowest density has it: ratio of interferences, half cancelled"
    note = f"{cancelled:.0%} cancelled; the paper shows one model of ratio 16 and no loss"
    return [
        Check(found, PAPER, (1, None), shown.sum(), note=shares),
        Check(least, PAPER, (FEWEST_RATIO, None), ratio, note=note),
        Check("it saves: loss against dedicated neurons, lowest density", PAPER, (None, drop), ours),
        Check("without inhibition it does not: loss against dedicated neurons", PAPER, (drop, None), alone),
        Check("asymmetry pays: loss against equal weights, lowest density", PAPER, (None, equal), ours),
    ]


def figure(dataset: xr.Dataset) -> go.Figure:
    """Loss over density of the models by hand and of the best minima."""
    drawn, p = go.Figure(), dataset["density"].values
    unit = N * p / 3
    looks = zip(MODELS, ("circle", "square", "x", "diamond"), ("solid", "solid", "dot", "dash"), strict=True)
    for name, symbol, dash in looks:
        look = {"mode": "lines+markers", "marker": {"symbol": symbol, "size": 9}, "line": {"dash": dash}}
        drawn.add_trace(go.Scatter(x=p, y=dataset["built"].sel(model=name).values / unit, name=name, **look))
    least = {"symbol": "star", "size": 11}
    lowest = results.best(dataset)["loss"].values / unit
    drawn.add_trace(go.Scatter(x=p, y=lowest, name="best minimum", mode="markers", marker=least))
    drawn.update_xaxes(**log_axis(1, 2, 5), title_text="density p").update_yaxes(
        **log_axis(1, 3), title_text="loss / (n p/3)"
    )
    return drawn.update_layout(template=TEMPLATE, width=860, height=520)
