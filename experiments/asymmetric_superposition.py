"""Asymmetric superposition with inhibition: one neuron computes two halves of absolute values, another keeps them apart.

The motif: neuron a reads (r, -1/r) of features i and j and writes (1/r, r), with r = 2 in the paper. So `x_i > 0` and `x_j < 0`
each reach their own output with product 1. What `x_j` leaves in output i is 1/r^2 of it, little; what `x_i` leaves in output j
is r^2 of it, much, but positive; a second neuron that fires with `x_i` takes it away, and the output's ReLU forgives too much.
The ratio of what a neuron reads, over that of what it writes, is r^4 however the neuron is scaled: that gives its asymmetry r.
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

from superpose import features, hidden_layer, sweep, train
from superpose.findings import Finding
from superpose.plot.template import TEMPLATE

NAME = "asymmetric-superposition"
TITLE = "Asymmetric superposition: one neuron for two features, and another that inhibits"
PAPER = "Computation in Superposition: the asymmetric superposition motif"
LOSS = partial(hidden_layer.loss, target=jnp.abs)
RATIO = 2.0
"""The paper's r."""
SERVED, INHIBITED = 0.5, 0.5
"""A neuron computes a feature if the product of what it reads and writes is above this; and its leak is inhibited if
others take away this share of it."""


@dataclass(frozen=True)
class Config:
    """Features, neurons, density, ratio of neighbouring importances; restarts, and how they are trained; densities of the cost."""

    n: int = 10
    m: int = 14
    density: float = 0.05
    decay: float = 0.9
    restarts: int = 64
    steps: int = 20_000
    batch: int = 1024
    rate: float = 0.005
    densities: int = 41
    seed: int = 0


QUICK = Config(n=6, m=8, restarts=24, steps=4_000, batch=512, densities=21)


def compute(config: Config, folder: Path | None = None, advance: Callable[[int], None] = lambda _: None) -> xr.Dataset:
    """Trained models over restart; over (density, model) the loss of two features of each built by hand, by quadrature."""
    points = {"restart": np.arange(config.restarts)}
    arrays = sweep.run(_trained(config), points, settings=config, folder=folder, width=8, advance=advance)
    dims = {"W_in": ("hidden", "feature"), "W_out": ("feature", "hidden"), "b": ("feature",)}
    dataset = sweep.label(arrays, points, dims)
    density = np.geomspace(1, 0.001, config.densities)
    cost = np.stack([loss_of_pair(np.array(W_in), np.array(W_out), density) for W_in, W_out in BUILT.values()], 1)
    coords = {"density": density, "model": list(BUILT)}
    return dataset.merge(xr.Dataset({"cost": (("density", "model"), cost)}, coords))


def _trained(config: Config) -> Callable:
    """From the number of a restart to its model, trained in float32, and the loss divided by that of the output 0."""
    optimizer = optax.adam(optax.cosine_decay_schedule(config.rate, config.steps))
    start_key, batch_key, common_key = jax.random.split(jax.random.key(config.seed), 3)
    law = features.SparseSymmetric(jnp.float32(config.density))
    weights = jnp.asarray(config.decay ** np.arange(config.n), jnp.float32)
    settings = {"steps": config.steps, "batch": config.batch, "optimizer": optimizer, "loss": LOSS}

    def one(point: dict) -> dict:
        start = hidden_layer.init(train.model_key(start_key, point["restart"]), n=config.n, m=config.m)
        start = jax.tree.map(lambda x: x.astype(jnp.float32), start)
        params = train.fit(batch_key, start, law, weights, **settings).params
        mean, _ = train.sampled_loss(common_key, params, law, weights, draws=65_536, loss=LOSS)
        relative = mean * 3 / (config.density * weights.sum())
        return {"W_in": params.W_in, "W_out": params.W_out, "b": params.b, "loss": relative}

    return one


_OWN = ([[1, 0], [-1, 0], [0, 1]], [[1, 1, 0], [0, 0, 1]])  # i > 0, i < 0 and j > 0; nothing computes j < 0
_REST = ([[-1, 0], [0, 1], [1, 0]], [1, 0, 0], [0, 1])  # i < 0, j > 0, and one that fires with i > 0 as another feature's


def _shared(r: float) -> tuple:
    """Neuron a with the ratio r, one for i < 0, one for j > 0, and one that inhibits output j by what neuron a leaks."""
    W_in = [[r, -1 / r], *_REST[0]]
    return W_in, [[1 / r, *_REST[1]], [r, *_REST[2], -(r**2)]]


BUILT = {
    "j < 0 is not computed": _OWN,
    "shared, not inhibited": ([[1, -1], [-1, 0], [0, 1]], [[1, 1, 0], [1, 0, 1]]),
    "shared, inhibited": _shared(1.0),
    "the motif": _shared(RATIO),
}
"""Weights (W_in, W_out) that compute |x_i| and |x_j|: three neurons, and one that is there for others if it inhibits."""


def loss_of_pair(W_in: np.ndarray, W_out: np.ndarray, density: np.ndarray, points: int = 400) -> np.ndarray:
    """`sum E (|x| - r(W_out r(W_in x)))^2` of two features, U[-1, 1] if active, divided by `2 p / 3`; by Gauss's rule."""
    u, weight = np.polynomial.legendre.leggauss(points)
    u, weight = np.concatenate([(u - 1) / 2, (u + 1) / 2]), np.concatenate([weight, weight]) / 4

    def error(x: np.ndarray) -> np.ndarray:
        out = np.maximum(np.einsum("im,m...->i...", W_out, np.maximum(np.einsum("mi,i...->m...", W_in, x), 0)), 0)
        return ((np.abs(x) - out) ** 2).sum(0)

    zero = np.zeros_like(u)
    single = (error(np.stack([u, zero])) + error(np.stack([zero, u]))) @ weight
    both = weight @ error(np.stack(np.meshgrid(u, u, indexing="ij"))) @ weight
    return ((1 - density) * single + density * both) * 3 / 2


def shared_neurons(W_in: np.ndarray, W_out: np.ndarray) -> np.ndarray:
    """Neurons that compute halves of two features: rows of (asymmetry, leak, share of the leak that others take away).

    Feature i is the one with the larger weight in; the leak is what `x_i` leaves in output j, `W_out[j, k] |W_in[k, i]|`.
    """
    served, rows = np.abs(W_in * W_out.T) > SERVED, []
    for k in np.flatnonzero(served.sum(1) == 2):
        i, j = sorted(np.flatnonzero(served[k]), key=lambda f: -abs(W_in[k, f]))
        asymmetry = (abs(W_in[k, i] / W_in[k, j]) / abs(W_out[i, k] / W_out[j, k])) ** 0.25
        fires = np.maximum(np.sign(W_in[k, i]) * W_in[:, i], 0)
        leak, total = fires[k] * W_out[j, k], fires @ W_out[j]
        rows.append((asymmetry, leak, (leak - total) / leak))
    return np.array(rows).reshape(-1, 3)


def _found(dataset: xr.Dataset) -> np.ndarray:
    pairs = zip(dataset["W_in"].values, dataset["W_out"].values, strict=True)
    return np.concatenate([shared_neurons(*pair) for pair in pairs])


def _crossing(density: np.ndarray, one: np.ndarray, other: np.ndarray) -> float:
    """The largest density below which `one` is the lower; nan if nowhere."""
    below = np.flatnonzero(one < other)
    return float(density[below[0]]) if len(below) else float("nan")


def findings(dataset: xr.Dataset) -> list[Finding]:
    """Whether shared neurons are asymmetric and inhibited; what the motif saves, and where."""
    found = _found(dataset)
    ratio = float(np.median(found[:, 0])) if len(found) else float("nan")
    inhibited = float(np.mean(found[:, 2] >= INHIBITED)) if len(found) else float("nan")
    density = dataset["density"].values
    dropped, _, even, motif = (dataset["cost"].sel(model=name).values for name in BUILT)
    saved = float((motif / dropped)[-1])
    where = _crossing(density, motif, dropped)
    return [
        Finding(
            "neurons that compute two features read one strongly and write the other strongly",
            RATIO,
            f"{ratio:.2f}, median of {len(found)} shared neurons in {dataset.sizes['restart']} models",
            "median asymmetry within a factor of 1.5 of the paper's r",
            bool(RATIO / 1.5 <= ratio <= RATIO * 1.5),
        ),
        Finding(
            "and others inhibit what leaks",
            "an inhibiting neuron",
            f"{inhibited:.0%} of shared neurons",
            "half of the leak or more taken away, in most",
            bool(inhibited > 0.5),
        ),
        Finding(
            "the motif leaves 1/r^4 of the cost of not computing the half, where features are sparse",
            RATIO**-4,
            saved,
            f"within 5 % at p = {density[-1]:.3g}; sharing evenly saves nothing there: {float((even / dropped)[-1]):.2f}",
            bool(abs(saved * RATIO**4 - 1) < 0.05),
        ),
        Finding(
            "superposition is for sparse features: dense ones are better computed one by one",
            "a density above which it does not pay",
            f"at p = 1 {float((motif / dropped)[0]):.2f} of that cost"
            + ("" if where == density[0] else f"; pays below {where:.2f}"),
            "the motif is the dearer at p = 1; it is not, but the neuron that inhibits is not counted as a cost",
            bool(motif[0] > dropped[0]),
        ),
    ]


def figure(dataset: xr.Dataset) -> go.Figure:
    """Left: asymmetry of shared neurons and how far they are inhibited. Right: cost of the models built by hand."""
    found = _found(dataset)
    drawn = make_subplots(
        cols=2, horizontal_spacing=0.14, subplot_titles=["shared neurons of trained models", "two features"]
    )
    drawn.add_scatter(x=found[:, 0], y=100 * np.clip(found[:, 2], 0, 2), mode="markers", showlegend=False, row=1, col=1)
    drawn.add_vline(x=RATIO, line_dash="dot", row=1, col=1)
    looks = zip(BUILT, ("dash", "dot", "dashdot", "solid"), ("square", "x", "diamond", "circle"), strict=True)
    for name, dash, symbol in looks:
        values, at = dataset["cost"].sel(model=name).values, slice(None, None, 4)
        drawn.add_scatter(
            x=dataset["density"].values[at],
            y=values[at],
            name=name,
            mode="lines+markers",
            line={"dash": dash},
            marker={"symbol": symbol},
            row=1,
            col=2,
        )
    drawn.update_xaxes(type="log", range=[-0.3, 1], title="asymmetry r; dotted: the paper's", row=1, col=1)
    drawn.update_yaxes(title="leak taken away, %", row=1, col=1)
    drawn.update_xaxes(type="log", title="density p", autorange="reversed", row=1, col=2)
    drawn.update_yaxes(title="loss / loss of the output 0", rangemode="tozero", row=1, col=2)
    return drawn.update_layout(template=TEMPLATE, width=1000, height=450, legend_y=1.18, margin_t=80)
