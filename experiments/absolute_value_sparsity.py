"""Absolute values of many features through few neurons: monosemantic neurons where features are dense, polysemantic where rare.

Untied `x' = r(W_out r(W_in x) + b)`, target |x|, features U[-1, 1] with probability p; trained by sampling. What neuron k does
for feature i is `W_in[k, i] W_out[i, k]`, which no rescaling of the neuron changes: it is 1 in size where the neuron alone
computes one side of |x_i|, and near 0 for the weights of features so unimportant that training never moved them.

With dense features several neurons come to share one side of an important feature, all monosemantic: nothing in the loss frees
them again, so fewer than m/2 features are computed. The paper states neither optimiser nor start, on which this depends.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import xarray as xr
from plotly import graph_objects as go
from plotly.subplots import make_subplots

from superpose import features, hidden_layer, neurons, results, sweep, train
from superpose.plot import neurons_and_features
from superpose.plot.template import TEMPLATE
from superpose.reproduction import Check

NAME = "absolute-value-sparsity"
TITLE = "Absolute values through few neurons: monosemantic to polysemantic as features become rare"
PAPER = "Computation in Superposition: Basic Results"
LOSS = partial(hidden_layer.loss, target=jnp.abs)


@dataclass(frozen=True)
class Config:
    """n features through m neurons, importances `decay^i`; densities, from 1 down; restarts; Adam from `rate` down to 0."""

    n: int = 100
    m: int = 40
    decay: float = 0.8
    densities: tuple[float, ...] = (1.0, 0.3, 0.1, 0.03, 0.01, 0.003, 0.001)
    restarts: int = 3
    steps: int = 5000
    batch: int = 512
    rate: float = 5e-3
    draws: int = 100_000
    seed: int = 0


QUICK = Config(n=20, m=8, decay=0.7, densities=(1.0, 0.1, 0.01), restarts=2, steps=1500, batch=256, draws=10_000)


def compute(config: Config, folder: Path | None = None, advance: Callable[[int], None] = lambda _: None) -> xr.Dataset:
    """Over (density, restart): `W_in`, `W_out` and `b` in float32; the sampled loss and its standard error `sem`."""
    axes = {"density": np.array(config.densities), "restart": np.arange(config.restarts)}
    dims = {"W_in": ("neuron", "feature"), "W_out": ("feature", "neuron"), "b": ("feature",)}
    how = {"dims": dims, "settings": config, "folder": folder, "width": 1, "advance": advance}
    return sweep.over(partial(_trained, config), axes, **how)


def _trained(config: Config, point: dict) -> dict:
    """The model of one restart at one density; all densities of a restart begin alike."""
    key, distribution = jax.random.key(config.seed), features.SparseSymmetric(point["density"])
    start_key, data_key, test_key = (train.model_key(key, k, point["restart"]) for k in range(3))
    start = hidden_layer.init(start_key, n=config.n, m=config.m)
    start = jax.tree.map(lambda x: x.astype(jnp.float32), start)
    importance = features.geometric_importance(config.decay, n=config.n).astype(jnp.float32)
    static = {"steps": config.steps, "batch": config.batch, "optimizer": _optimizer(config.rate, config.steps)}
    fit = train.fit(data_key, start, distribution, importance, loss=LOSS, **static).params
    loss, sem = train.sampled_loss(test_key, fit, distribution, importance, draws=config.draws, loss=LOSS)
    return {"W_in": fit.W_in, "W_out": fit.W_out, "b": fit.b, "loss": loss, "sem": sem}


@cache
def _optimizer(rate: float, steps: int) -> optax.GradientTransformation:
    return optax.adam(optax.cosine_decay_schedule(rate, steps))


def contributions(model: xr.Dataset) -> np.ndarray:
    """`|W_in[k, i] W_out[i, k]|`, what neuron k does for feature i, shape `(m, n)`."""
    return np.abs(model["W_in"].values * model["W_out"].values.T)


def census(dataset: xr.Dataset) -> xr.Dataset:
    """Over (density, restart): share of the living neurons that are monosemantic; features served; features with two neurons."""
    dims = ("density", "restart")
    count = [_counted(dataset.isel(density=i, restart=j)) for i, j in np.ndindex(*(dataset.sizes[name] for name in dims))]
    kinds = np.array(count).reshape(*(dataset.sizes[name] for name in dims), 3)
    return xr.Dataset({name: (dims, kinds[..., k]) for k, name in enumerate(("monosemantic", "served", "two"))})


def _counted(model: xr.Dataset) -> tuple[float, int, int]:
    count = neurons.counts(neurons.serves(contributions(model)))
    return count["monosemantic"], int((count["neurons"] > 0).sum()), int((count["neurons"] == 2).sum())


def findings(dataset: xr.Dataset) -> list[Check]:
    """Shares of monosemantic neurons at both ends and between; how many features have neurons."""
    counted, half = census(dataset), float(dataset.sizes["neuron"] // 2)
    share, served, two = (counted[name].mean("restart").values for name in ("monosemantic", "served", "two"))
    rise, total = np.diff(share).max(), counted["served"].sum("restart").values
    shares = "shares at falling density: " + ", ".join(f"{x:.2f}" for x in share)
    note = f"all restarts together; {served[0]:.1f} to {served[-1]:.1f} a restart, on {dataset.sizes['neuron']} neurons"
    pairs = "dense features: two neurons for each of the m/2 most important, mean of restarts"
    more = "rarer features: more of them are computed at the lowest density than at the highest"
    return [
        Check("dense features: monosemantic share of neurons, mean of restarts", PAPER, 1.0, share[0], atol=0.1),
        Check(pairs, PAPER, half, two[0], rtol=0.2),
        Check("rarest features: monosemantic share of neurons, mean of restarts", PAPER, 0.0, share[-1], atol=0.1),
        Check("the monosemantic share falls with density: largest rise", PAPER, (None, 0.05), rise, note=shares),
        Check(more, PAPER, (total[0] + 1, None), total[-1], note=note),
    ]


def figure(dataset: xr.Dataset) -> go.Figure:
    """A row a density: the neurons of the restart of least loss as bars of what they do, by their most served feature."""
    counted, count = census(dataset)["monosemantic"].values, dataset.sizes["density"]
    titles = [
        f"p = {p:g}: monosemantic " + ", ".join(f"{x:.0%}" for x in row)
        for p, row in zip(dataset["density"].values, counted, strict=True)
    ]
    drawn = make_subplots(rows=count, subplot_titles=titles, vertical_spacing=0.28 / count, shared_xaxes=True)
    seen = set()
    best = results.best(dataset)
    for i in range(count):
        done = contributions(best.isel(density=i))
        done = done[np.argsort(done.argmax(1), kind="stable")]
        for trace in neurons_and_features(done, neurons.serves(done)).data:
            trace.showlegend = trace.name not in seen
            seen.add(trace.name)
            drawn.add_trace(trace, i + 1, 1)
    drawn.update_yaxes(title_text="in × out")
    drawn.update_xaxes(title_text="neuron, by the number of its main feature (restart of least loss)", row=count, col=1)
    drawn.update_layout(template=TEMPLATE, barmode="relative", bargap=0.2, width=1000, height=100 + 190 * count)
    return drawn.update_layout(legend={"y": 1 + 0.25 / count}, margin={"t": 90}, uniformtext={"minsize": 7, "mode": "hide"})
