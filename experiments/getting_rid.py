"""Getting rid of superposition: an L1 penalty on the hidden layer and its price; and the width that superposition needs.

Penalty: `x' = r(W^T W x + b)` trained on loss + lambda |W x|_1, importances falling; the losses reported are exact and without
the penalty. A feature alone on an axis, sparse and without bias, pays lambda w p/2 to save `I p (1 - (1 - w^2)^2)/3`, so it
is worth its while above `I = (3/4) sqrt(3/2) 3/2 lambda = 1.378 lambda`.

Random starts leave antipodal pairs on one axis: where both are active they cancel, and `|w x_1 - w x_2|` costs less than two axes
do, by `lambda w p^2 2/3`. From `I` of 1.378 to 1.67 lambda such a pair is the lower minimum, by up to 0.5 % at p = 0.05
(`pair_against_apart`); above, features apart pay less, but a pair has no way there. So one more start has the features that are
worth it, m at most, on an axis each, and of all starts at a penalty the one that pays least, the penalty included, is read.

Width: for equal importances, the least m at which the exact loss is at most a fraction f of that of constant outputs, held against
the compressed-sensing bound -n p log p. The minima are the best known, by Adam on the exact gradient. The bound is for n to
infinity and a vanishing error. A random code in many dimensions needs `m/n = 1/(1 + 2 f/(p log(1/p)))` for small p, in proportion
to n, but to the bound only where `p log(1/p)` is far below 2 f: over the densities here its slope against the bound is 0.67, not 1.
And at the smallest p less than one feature is active, where the width is what n directions of small overlaps need, whatever p is:
7 dimensions for 32 features at p = 0.005, twice what a random code's formula says.

Reference: Cowsik et al. 2024, arXiv:2410.12101, for random codes.
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
from jax.flatten_util import ravel_pytree
from plotly import graph_objects as go
from plotly.subplots import make_subplots

from superpose import features, hidden_layer, results, sweep, toy_model, train
from superpose.expected_loss import relu_output
from superpose.plot.template import BLACK, TEMPLATE, log_axis
from superpose.reproduction import Check

NAME = "getting-rid"
TITLE = "Getting rid of superposition: a penalty on the hidden layer, and the width that the bound asks for"
PAPER = "The Strategic Picture of Superposition: Creating Models Without Superposition; The Number of Dimensions Needed"
THRESHOLD = 1.5 / (2 / 3) ** 0.5 / (4 / 3)
"""Importance over lambda below which a sparse feature is not worth its penalty: `1/(2 max_w w (2 - w^2)/3)`."""

SMALLEST = 1e-5
"""Relative error of the exact loss at 64 nodes: below it an error counts as this."""


@dataclass(frozen=True)
class Config:
    """Penalised models of n features in m dimensions, importances `decay^i`; then widths of models of `sizes` features."""

    n: int = 20
    m: int = 10
    decay: float = 0.85
    density: float = 0.05
    penalties: tuple[float, ...] = (0.0, 0.003, 0.01, 0.03, 0.05, 0.07, 0.1, 0.14, 0.2, 0.3, 0.5)
    restarts: int = 4
    steps: int = 6000
    batch: int = 1024
    draws: int = 2**18
    sizes: tuple[int, ...] = (32, 64)
    densities: tuple[float, ...] = (0.2, 0.1, 0.05, 0.02, 0.01, 0.005)
    widths: int = 12
    exact_steps: int = 400
    fraction: float = 0.1
    seed: int = 0


QUICK = Config(
    penalties=(0.0, 0.03, 0.2, 0.5),
    restarts=1,
    steps=1500,
    batch=256,
    sizes=(8, 16),
    densities=(0.1, 0.03, 0.01),
    widths=5,
    exact_steps=100,
)


def compute(config: Config, folder: Path | None = None, advance: Callable[[int], None] = lambda _: None) -> xr.Dataset:
    """Over (penalty, restart): `W`, exact `loss`, `paid` with the penalty, the last restart from features apart.

    Over (n, density, width): exact `error` and gradient norm.
    """
    axes = {"penalty": np.array(config.penalties), "restart": np.arange(config.restarts + 1)}
    place = None if folder is None else folder / "penalty"
    how = {"dims": {"W": ("hidden", "feature")}, "settings": config, "folder": place, "width": 1, "advance": advance}
    found = sweep.over(partial(_penalised, config), axes, **how)
    sized = []
    for n in config.sizes:
        axes = {"density": np.array(config.densities), "width": np.arange(config.widths)}
        place = None if folder is None else folder / f"width-{n}"
        sized.append(sweep.over(partial(_solved, config, n), axes, settings=config, folder=place, advance=advance))
    return found.merge(xr.concat(sized, xr.IndexVariable("n", list(config.sizes)))).assign_attrs(
        fraction=config.fraction, decay=config.decay
    )


def _loss(params: toy_model.Params, x: jax.Array, data: tuple) -> jax.Array:
    importance, l1 = data
    return hidden_layer.loss(params, x, importance, activation=hidden_layer.identity, l1=l1)


@cache
def _optimizer(steps: int, rate: float) -> optax.GradientTransformation:
    return optax.adam(optax.cosine_decay_schedule(rate, steps))


def _penalised(config: Config, point: dict) -> dict:
    """One model trained with its penalty, in float32; its exact loss without; a sampled one with, on the same draws for all."""
    start_key, data_key = (train.model_key(jax.random.key(config.seed), k, point["restart"]) for k in range(2))
    distribution = features.SparseUniform(config.density)
    importance = features.geometric_importance(config.decay, n=config.n)
    random = toy_model.init(start_key, n=config.n, m=config.m)
    worth = importance > THRESHOLD * point["penalty"]
    apart = toy_model.Params(W=jnp.eye(config.m, config.n) * worth[None], b=jnp.zeros(config.n))
    last = point["restart"] == config.restarts
    start = jax.tree.map(lambda x, y: jnp.where(last, x, y).astype(jnp.float32), apart, random)
    data = (importance.astype(jnp.float32), jnp.asarray(point["penalty"], jnp.float32))
    static = {"steps": config.steps, "batch": config.batch, "optimizer": _optimizer(config.steps, 1e-2)}
    fit = train.fit(data_key, start, distribution, data, loss=_loss, **static).params
    exact = relu_output(jax.tree.map(lambda x: x.astype(float), fit), distribution, importance)
    paid, _ = train.sampled_loss(jax.random.key(config.seed), fit, distribution, data, draws=config.draws, loss=_loss)
    return {"W": fit.W, "loss": exact, "paid": paid}


def _solved(config: Config, n: int, point: dict) -> dict:
    """The best loss found with m dimensions, over that of constant outputs; rows of W beyond m are masked out."""
    distribution = features.SparseUniform(point["density"])
    m = jnp.asarray(np.maximum(1, np.round(np.geomspace(1.5 / n, 1, config.widths) * n)))[point["width"]]
    rows = (jnp.arange(n) < m).astype(float)[:, None]
    W = jax.random.normal(train.model_key(jax.random.key(config.seed), n), (n, n)) * rows
    start = toy_model.Params(W=W / jnp.linalg.norm(W, axis=0, keepdims=True), b=jnp.full(n, -0.2))

    def error(params: toy_model.Params) -> jax.Array:
        masked = toy_model.Params(W=params.W * rows, b=params.b)
        return relu_output(masked, distribution) / features.variance(distribution, n=n).sum()

    def step(_: int, carry: tuple) -> tuple:
        params, state = carry
        updates, state = optimizer.update(jax.grad(error)(params), state, params)
        return optax.apply_updates(params, updates), state

    optimizer = _optimizer(config.exact_steps, 0.03)
    params, _ = jax.lax.fori_loop(0, config.exact_steps, step, (start, optimizer.init(start)))
    value, gradient = jax.value_and_grad(error)(params)
    return {"m": m, "error": value, "gradient": jnp.linalg.norm(ravel_pytree(gradient)[0])}


def pair_against_apart(importance: float, density: float, nodes: int = 200) -> tuple[float, float]:
    """What two features of one importance pay for each p of density, lambda = 1: on one axis and apart, each at its best.

    Biases are 0. One active: `I [(1 - w^2)^2/3] + w/2` either way. Both active, on one axis: `E |x_1 - x_2| = 1/3` in place of
    `E x_1 + x_2 = 1`, and `E (x_1 - w^2 r(x_1 - x_2))^2 = 1/3 - w^2/4 + w^4/12`.
    """
    w = np.linspace(0, 1.2, nodes + 1)
    single = importance * (1 - w**2) ** 2 / 3 + w / 2
    both = 2 * importance * (1 / 3 - w**2 / 4 + w**4 / 12) + w / 3
    return float((2 * (1 - density) * single + density * both).min()), float((2 * single).min())


def represented(W: np.ndarray) -> np.ndarray:
    """Which features have `|W_i| > 1/2`, over the columns of `(..., m, n)`."""
    return np.linalg.norm(W, axis=-2) > 0.5


def interference_share(W: np.ndarray) -> np.ndarray:
    """`sum_{i != j} G_ij^2 / sum_ij G_ij^2` of `G = W^T W`, in [0, 1); 0 for W = 0."""
    square = np.square(np.swapaxes(W, -1, -2) @ W)
    total = square.sum((-1, -2))
    return 1 - np.trace(square, axis1=-2, axis2=-1) / np.where(total > 0, total, 1) - (total == 0)


def least_width(error: np.ndarray, m: np.ndarray, fraction: float) -> float:
    """Where the error falls to `fraction` for the first time, by a line in log m and log error; nan if nowhere or at once."""
    k = int(np.argmax(error <= fraction))
    if k == 0:
        return float("nan")
    (x, y), level = (np.log(a[k - 1 : k + 1]) for a in (m, np.maximum(error, SMALLEST))), np.log(fraction)
    return float(np.exp(x[0] + (x[1] - x[0]) * (level - y[0]) / (y[1] - y[0])))


def widths(dataset: xr.Dataset) -> tuple[np.ndarray, np.ndarray]:
    """Bound `-n p log p` and least width, each of shape (n, density)."""
    error, m, p = dataset["error"].values, dataset["m"].values, dataset["density"].values
    least = [
        [least_width(e, k, dataset.attrs["fraction"]) for e, k in zip(*row, strict=True)]
        for row in zip(error, m, strict=True)
    ]
    return -dataset["n"].values[:, None] * p * np.log(p), np.array(least)


def least_paid(dataset: xr.Dataset) -> xr.Dataset:
    """Of all restarts at each penalty the one that pays least, its penalty included."""
    return results.best(dataset, by="paid")


def slopes(dataset: xr.Dataset) -> tuple[float, float, np.ndarray]:
    """Log-log slopes: of the least width over the bound, of a random code's; and of the least width over n at each density."""
    bound, least = widths(dataset)
    known, n, p = np.isfinite(least), dataset["n"].values, dataset["density"].values
    code = n[:, None] / (1 + 2 * dataset.attrs["fraction"] / (p * np.log(1 / p)))
    over_bound = [_slope(bound[known], width[known]) for width in (least, code)]
    return *over_bound, np.array([_slope(n[k], w[k]) for k, w in zip(known.T, least.T, strict=True)])


def _slope(x: np.ndarray, y: np.ndarray) -> float:
    return float(np.polyfit(np.log(x), np.log(y), 1)[0]) if len(x) > 1 else float("nan")


def findings(dataset: xr.Dataset) -> list[Check]:
    """Superposition without and with a penalty, its price, the threshold; the scaling of the least width."""
    known, penalty = least_paid(dataset), dataset["penalty"].values
    W, loss = known["W"].values, known["loss"].values
    count, share = represented(W).sum(-1), np.maximum(interference_share(W), 0)  # or rounding gives a part below 0
    random = dataset["W"].values[:, :-1]
    gone = np.flatnonzero((share <= 0.01) & (count <= W.shape[-2]))
    first = int(gone[0]) if len(gone) else -1
    worth, learned = dataset.attrs["decay"] ** np.arange(W.shape[-1]), represented(random).sum(-1).mean(1)
    few = learned <= W.shape[-2]
    expected = (worth[None] > THRESHOLD * penalty[few, None]).sum(1)
    price = (
        f"never gone: {share[-1]:.1%} left at {count[-1]} features, loss {loss[-1] / loss[0]:.1f} times"
        if first < 0
        else f"lambda {penalty[first]:g}: loss {loss[first] / loss[0]:.2f} times, {count[first]} features, "
        f"{share[first]:.1%} left, from random starts {interference_share(random).mean(1)[first]:.1%}"
    )
    off = float(np.abs(learned[few] - expected).max(initial=0))
    bound, least = widths(dataset)
    factor = (least / bound)[np.isfinite(least)]
    slope, code, over_n = slopes(dataset)
    fit = f"a random code's {code:.2f}; m/bound {factor.min(initial=np.inf):.2f} to {factor.max(initial=0):.2f}"
    with_n = ", ".join(f"p = {p:g}: {x:.2f}" for p, x in zip(dataset["density"].values, over_n, strict=True))
    m, ratio = W.shape[-2], loss[first] / loss[0] if len(gone) else np.nan
    rid = "a penalty removes superposition, at a higher loss: times the loss without, interference at most 1 % of |G|^2"
    kills = "the penalty kills features below a threshold of importance, 1.378 lambda for one alone: features off"
    where = "mean of random starts, where at most m are left"
    bounded = "no width below the bound -n p log p, its constant not stated: least m over the bound"
    active = over_n[dataset["density"].values * dataset["n"].values.min() >= 1]
    farthest = active[np.abs(active - 1).argmax()] if len(active) else np.nan
    grows = "at a density it grows as n: log-log slope, the farthest from 1 where at least one feature is active"
    return [
        Check("no penalty: superposition, more than m features", PAPER, (m + 1, None), count[0], note="pays least"),
        Check(rid, PAPER, (1, None), ratio, note=price),
        Check(kills, PAPER, 0.0, off if few.any() else np.nan, atol=1, note=where),
        Check(bounded, PAPER, (1, None), factor.min() if len(factor) else np.nan),
        Check("least width grows as -n p log p: log-log slope", PAPER, 1.0, slope, rtol=0.2, note=fit),
        Check(grows, PAPER, 1.0, farthest, rtol=0.2, note=with_n),
    ]


def figure(dataset: xr.Dataset) -> go.Figure:
    """Features, interference and loss over the penalty; least width over the bound."""
    titles = ("features represented", "share of interference, and loss", "least width for the stated loss")
    drawn = make_subplots(cols=3, subplot_titles=titles)
    known, penalty = least_paid(dataset), dataset["penalty"].values
    W, value = known["W"].values, known["loss"].values / known["loss"].values[0]
    random = interference_share(dataset["W"].values[:, :-1]).mean(1)
    names = [f"{x:g}" for x in penalty]
    drawn.add_scatter(x=names, y=represented(W).sum(-1), mode="lines+markers", name="features", row=1, col=1)
    drawn.add_hline(y=W.shape[-2], line={"dash": "dot", "color": BLACK}, annotation_text="m", row=1, col=1)
    square = {"symbol": "square"}
    drawn.add_scatter(
        x=names, y=interference_share(W), mode="lines+markers", name="interference", marker=square, row=1, col=2
    )
    look = {"mode": "lines+markers", "name": "the same, random starts", "marker": {"symbol": "square-open"}}
    drawn.add_scatter(x=names, y=random, **look, row=1, col=2)
    drawn.add_scatter(
        x=names,
        y=value,
        mode="lines+markers",
        name="loss / loss without penalty",
        marker={"symbol": "diamond"},
        row=1,
        col=2,
    )
    bound, least = widths(dataset)
    for n, x, y, symbol in zip(dataset["n"].values, bound, least, ("circle", "x", "cross", "star"), strict=False):
        drawn.add_scatter(x=x, y=y, mode="markers", name=f"n = {n}", marker={"symbol": symbol, "size": 9}, row=1, col=3)
    ends = np.array([np.nanmin(bound), np.nanmax(bound)])
    drawn.add_scatter(
        x=ends, y=ends, mode="lines", name="m = −n p log p", line={"dash": "dot", "color": BLACK}, row=1, col=3
    )
    for column in (1, 2):
        drawn.update_xaxes(type="category", title_text="penalty λ", row=1, col=column)
    drawn.update_xaxes(**log_axis(1, 2, 5), title_text="−n p log p", row=1, col=3)
    drawn.update_yaxes(**log_axis(1, 2, 5), title_text="least m", row=1, col=3)
    return drawn.update_layout(template=TEMPLATE, width=1250, height=470, legend={"y": 1.1}, margin={"t": 90})
