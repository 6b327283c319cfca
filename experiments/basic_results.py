"""Basic results: what linear and ReLU models of falling importances store, over the density, and with which biases.

Both models are brought to the best minimum known of their exact loss: by Adam with a falling rate from some random starts, and on
by quasi-Newton and Newton steps, with a certificate. The linear one's minimum is known in closed form as well, the m most important
features.

Adam leaves three kinds of ignored features. Some are still on their way: curvatures go with importance, which falls by thousands.
Some are dead, their output 0 for every input, which is flat but pays more than answering the mean; so between the two searches
each ignored feature is set to where it has no part, `W_i = 0` and `b_i = E x_i`, a stationary point. And some are stored a little:
at certified minima `|W_i|^2` may be 1e-4, where the others add 2 or 3 % of `E x_i` to the output; what is `E x_i` then is not the
bias but the mean output, `b_i + W_i . W E x`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import xarray as xr
from plotly import graph_objects as go
from plotly.subplots import make_subplots

from superpose import expected_loss, features, phase, results, solve, sweep, toy_model, train
from superpose.plot.template import TEMPLATE
from superpose.reproduction import Check

NAME = "basic-results"
TITLE = "Basic results: linear models keep the top m features, ReLU models superpose as features become rare"
PAPER = "Demonstrating Superposition: Basic Results"
CASES = {"n = 20, m = 5": (20, 5, 0.7), "n = 80, m = 20": (80, 20, 0.9)}
"""Features, dimensions, and the importance of a feature over that of the one before."""
OUTPUTS = {"linear": expected_loss.linear, "ReLU": expected_loss.relu_output}
TOLERANCE = 0.05
"""Squared length, and squared overlap, below which a column counts as nothing."""
UNSTORED = 1e-3
"""Squared length below which it is next to nothing: what is left of an ignored one."""


@dataclass(frozen=True)
class Config:
    """How many of the cases, densities, restarts, steps of Adam and its first rate, evaluations of the search after it at most."""

    cases: int = 2
    densities: tuple[float, ...] = (1.0, 0.3, 0.1, 0.03, 0.01, 0.003, 0.001)
    restarts: int = 6
    steps: int = 4_000
    rate: float = 0.02
    polish: int = 3_000
    seed: int = 0


QUICK = Config(cases=1, densities=(1.0, 0.1, 0.01, 0.001), restarts=4, steps=1_500, polish=1_000)


def compute(config: Config, folder: Path | None = None, advance: Callable[[int], None] = lambda _: None) -> xr.Dataset:
    """Over (case, output, density, restart): W, b, nan beyond a case's features; loss and its certificate; label."""
    axes: dict[str, Any] = {"density": np.asarray(config.densities), "restart": np.arange(config.restarts)}
    dims = {"W": ("hidden", "feature"), "b": ("feature",), "label": ("feature",)}
    names, parts = list(CASES)[: config.cases], []
    n, m, _ = np.max([CASES[name] for name in names], axis=0).astype(int)
    for k, name in enumerate(names):
        for output in OUTPUTS:
            place = None if folder is None else folder / f"{output}-{k}"
            how = {"dims": dims, "settings": config, "folder": place, "width": 1, "advance": advance}
            found = sweep.over(_solver(config, name, output), axes, **how)
            missing = {"feature": (0, n - found.sizes["feature"]), "hidden": (0, m - found.sizes["hidden"])}
            parts.append(found.assign(label=found["label"].astype(float)).pad(missing))
    rows = [xr.concat(parts[k : k + 2], xr.IndexVariable("output", list(OUTPUTS))) for k in range(0, len(parts), 2)]
    return xr.concat(rows, xr.IndexVariable("case", names))


def _solver(config: Config, case: str, output: str) -> Callable:
    """From a density and a restart to a minimum, searched for in natural units."""
    n, m, ratio = CASES[case]
    weights, optimizer = ratio ** jnp.arange(n), optax.adam(optax.cosine_decay_schedule(config.rate, config.steps))

    def solved(point: dict) -> dict:
        distribution = features.SparseUniform(point["density"])
        units = solve.natural_units(distribution, weights, n=n)

        def loss(params: toy_model.Params) -> jax.Array:
            return OUTPUTS[output](units.plain(params), distribution, weights) / units.loss

        def step(carry: tuple, _: None) -> tuple[tuple, None]:
            params, state = carry
            updates, state = optimizer.update(jax.grad(loss)(params), state, params)
            return (optax.apply_updates(params, updates), state), None

        start = toy_model.init(train.model_key(jax.random.key(config.seed), n, point["restart"]), n=n, m=m)
        (params, _), _ = jax.lax.scan(step, (start, optimizer.init(start)), None, length=config.steps)
        params = units.natural(without_ignored(units.plain(params), features.mean(distribution, n=n)))
        starts = jax.tree.map(lambda x: x[None], params)
        searched = solve.minimize_large(loss, starts, deflate=solve.without_rotations, steps=config.polish)
        found = jax.tree.map(lambda x: x[0], searched)
        plain = units.plain(found.params)
        label = phase.label(plain.W, tolerance=TOLERANCE)
        certificate = {"gradient_norm": found.gradient_norm, "gap": found.gap * units.loss, "converged": found.converged}
        return {"W": plain.W, "b": plain.b, "loss": found.loss * units.loss, "label": label} | certificate

    return solved


def without_ignored(params: toy_model.Params, mean: jax.Array) -> toy_model.Params:
    """The model whose ignored features have no part in it and answer their mean; stationary in these where the others are."""
    ignored = jnp.sum(params.W**2, axis=0) <= UNSTORED
    return toy_model.Params(W=jnp.where(ignored, 0, params.W), b=jnp.where(ignored, mean, params.b))


def mean_output(W: np.ndarray, b: np.ndarray, p: float) -> np.ndarray:
    """`b_i + W_i . W E x`, what the linear model answers on average, and the ReLU model where an output is never negative."""
    return b + W.T @ W.sum(1) * p / 2


def best(dataset: xr.Dataset, output: str) -> list[list[xr.Dataset]]:
    """By case and density, the restart of least loss, its features alone."""
    chosen = results.best(dataset.sel(output=output))
    rows = [[chosen.isel(case=c, density=k) for k in range(chosen.sizes["density"])] for c in range(chosen.sizes["case"])]
    return [[x.dropna("feature", how="all") for x in row] for row in rows]


def findings(dataset: xr.Dataset) -> list[Check]:
    """What linear models keep; which features are superposed first; biases of ignored, kept and very sparse features."""
    off = 0.0
    for case, row in zip(dataset["case"].values, best(dataset, "linear"), strict=True):
        top = (np.arange(CASES[case][0]) < CASES[case][1]).astype(float)
        off = max([off, *(float(np.abs(np.nansum(x["W"].values ** 2, 0) - top).max()) for x in row)])
    first, ignored, kept, sparse = [], [], [], []
    for row in best(dataset, "ReLU"):
        for x in row:
            label, b, p = x["label"].values, x["b"].values, float(x["density"])
            W = np.nan_to_num(x["W"].values)
            small = (W**2).sum(0) <= UNSTORED
            ignored += list(zip(mean_output(W, b, p)[small] / (p / 2), b[small] / (p / 2), strict=True))
            kept += list(b[label == 1])
            if (label == 2).any() and (label == 1).any():
                place = np.arange(len(label)) / (len(label) - 1)
                first.append((p, float(place[label == 2].mean()), float(place[label == 1].mean())))
        sparse += list(row[-1]["b"].values[row[-1]["label"].values == 2])
    below = float(np.mean(np.array(sparse) < 0)) if sparse else float("nan")
    near, alone = (np.abs(np.array(ignored).reshape(-1, 2) - 1) <= 0.02).T
    dead = sum(bias <= 0 for _, bias in ignored)
    certified = int(dataset["converged"].sel(output="ReLU").sum())
    which = "mean rank (0 first, 1 last) of superposed against stored alone: " + "; ".join(
        f"p = {p:g}: {shared:.2f} against {alone:.2f}" for p, shared, alone in first
    )
    later = min((shared - alone for _, shared, alone in first), default=np.nan)
    share, largest = float(near.mean()) if len(near) else np.nan, float(np.abs(kept).max()) if kept else np.nan
    added = f"{near.sum()} of {len(ignored)} with what the others add, {alone.sum()} by itself, {dead} dead; {certified} of "
    note = f"{added}{dataset['loss'].sel(output='ReLU').size} solutions certified"
    alike = f"the largest of {len(kept)} such features"
    linear = "linear models keep the m most important features, like PCA: squared lengths 1 and 0, largest error"
    less = "superposition starts among the less important features: least difference of mean ranks, at densities with both"
    mean = "the bias of an ignored feature is its mean, p / 2: share within 2 % of it, with what the others add on average"
    negative = "very sparse features in superposition have negative biases: share at the sparsest density"
    return [
        Check(linear, PAPER, 0.0, off, atol=0.01),
        Check(less, PAPER, (0, None), later, note=which),
        Check(mean, PAPER, (0.9, None), share, note=note),
        Check("that of a feature kept on its own is near 0", PAPER, 0.0, largest, atol=0.05, note=alike),
        Check(negative, PAPER, (0.95, None), below, note=f"of {len(sparse)}"),
    ]


def figure(dataset: xr.Dataset) -> go.Figure:
    """Lengths of the ReLU models' columns by feature, for each case and density; colour and symbol say how it is stored."""
    rows, densities = best(dataset, "ReLU"), dataset["density"].values
    titles = [f"p = {p:g}" for p in densities]
    drawn = make_subplots(
        rows=len(rows), cols=len(densities), shared_yaxes=True, subplot_titles=titles, vertical_spacing=0.2
    )
    shown = [False] * len(phase.LABELS)
    for r, row in enumerate(rows, start=1):
        for c, x in enumerate(row, start=1):
            length, label = np.sqrt(np.nansum(x["W"].values ** 2, 0)), x["label"].values
            for k, name in enumerate(phase.LABELS):
                at = np.flatnonzero(label == k)
                marker = {"symbol": ("x", "square", "circle-open")[k], "size": 6, "color": TEMPLATE.layout.colorway[k]}
                look = {"name": name, "legendgroup": name, "showlegend": not shown[k] and len(at) > 0, "mode": "markers"}
                shown[k] = shown[k] or len(at) > 0
                drawn.add_scatter(x=at + 1, y=length[at], marker=marker, **look, row=r, col=c)
            drawn.update_xaxes(title="feature" if r == len(rows) else None, range=[0, len(length) + 1], row=r, col=c)
        drawn.update_yaxes(range=[-0.1, 1.5], row=r)
        drawn.update_yaxes(title=f"length; {dataset['case'].values[r - 1]}", row=r, col=1)
    size = {"width": 1200, "height": 200 + 230 * len(rows), "margin_t": 90}
    return drawn.update_layout(template=TEMPLATE, legend_y=1 + 0.16 / len(rows), **size)
