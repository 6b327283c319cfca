"""Basic results: what linear and ReLU models of falling importances store, over the density, and with which biases.

Both models are brought to the best minimum known of their exact loss, by Adam with a falling rate from some random starts; the
linear one's minimum is known in closed form as well, the m most important features.
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
from jax.flatten_util import ravel_pytree
from plotly import graph_objects as go
from plotly.subplots import make_subplots

from superpose import expected_loss, features, phase, sweep, toy_model, train
from superpose.findings import Finding
from superpose.plot.template import TEMPLATE

NAME = "basic-results"
TITLE = "Basic results: linear models keep the top m features, ReLU models superpose as features become rare"
PAPER = "Demonstrating Superposition: Basic Results"
CASES = {"n = 20, m = 5": (20, 5, 0.7), "n = 80, m = 20": (80, 20, 0.9)}
"""Features, dimensions, and the importance of a feature over that of the one before."""
OUTPUTS = {"linear": expected_loss.linear, "ReLU": expected_loss.relu_output}
TOLERANCE = 0.05
"""Squared length, and squared overlap, below which a column counts as nothing."""
UNSTORED = 1e-3
"""Squared length below which it is nothing indeed: what Adam leaves of an ignored one."""


@dataclass(frozen=True)
class Config:
    """How many of the cases, densities, restarts, steps of Adam and its first rate."""

    cases: int = 2
    densities: tuple[float, ...] = (1.0, 0.3, 0.1, 0.03, 0.01, 0.003, 0.001)
    restarts: int = 6
    steps: int = 4_000
    rate: float = 0.02
    seed: int = 0


QUICK = Config(cases=1, densities=(1.0, 0.1, 0.01, 0.001), restarts=8, steps=1_500)


def compute(config: Config, folder: Path | None = None, advance: Callable[[int], None] = lambda _: None) -> xr.Dataset:
    """Solutions over (case, output, density, restart): W, b, nan beyond a case's features; loss, relative; gradient norm; label."""
    axes: dict[str, Any] = {"density": np.asarray(config.densities), "restart": np.arange(config.restarts)}
    dims = {"W": ("hidden", "feature"), "b": ("feature",), "label": ("feature",)}
    points, names, parts = sweep.grid(axes), list(CASES)[: config.cases], []
    n, m, _ = np.max([CASES[name] for name in names], axis=0).astype(int)
    for k, name in enumerate(names):
        for output in OUTPUTS:
            place = None if folder is None else folder / f"{output}-{k}"
            solve = _solver(config, name, output)
            arrays = sweep.run(solve, points, settings=config, folder=place, width=len(points["density"]), advance=advance)
            arrays["label"] = arrays["label"].astype(float)
            for key, shape in {"W": (m, n), "b": (n,), "label": (n,)}.items():
                missing = [(0, 0), *((0, full - had) for full, had in zip(shape, arrays[key].shape[1:], strict=True))]
                arrays[key] = np.pad(arrays[key], missing, constant_values=np.nan)
            parts.append(sweep.label(arrays, axes, dims))
    rows = [xr.concat(parts[k : k + 2], xr.IndexVariable("output", list(OUTPUTS))) for k in range(0, len(parts), 2)]
    return xr.concat(rows, xr.IndexVariable("case", names))


def _solver(config: Config, case: str, output: str) -> Callable:
    """From a density and a restart to the point Adam ends in, biases in units of sqrt(p), loss in units of `sum_i I_i p / 3`."""
    n, m, ratio = CASES[case]
    weights, optimizer = ratio ** jnp.arange(n), optax.adam(optax.cosine_decay_schedule(config.rate, config.steps))

    def solved(point: dict) -> dict:
        p, scale = point["density"], 3 / (weights.sum() * point["density"])

        def plain(params: toy_model.Params) -> toy_model.Params:
            return toy_model.Params(W=params.W, b=params.b * p**0.5)

        def loss(params: toy_model.Params) -> jax.Array:
            return OUTPUTS[output](plain(params), features.SparseUniform(p), weights) * scale

        def step(carry: tuple, _: None) -> tuple[tuple, None]:
            params, state = carry
            updates, state = optimizer.update(jax.grad(loss)(params), state, params)
            return (optax.apply_updates(params, updates), state), None

        start = toy_model.init(train.model_key(jax.random.key(config.seed), n, point["restart"]), n=n, m=m)
        (params, _), _ = jax.lax.scan(step, (start, optimizer.init(start)), None, length=config.steps)
        value, gradient = jax.value_and_grad(loss)(params)
        found = plain(params)
        label = phase.label(found.W, tolerance=TOLERANCE)
        return {
            "W": found.W,
            "b": found.b,
            "loss": value,
            "gradient_norm": jnp.linalg.norm(ravel_pytree(gradient)[0]),
            "label": label,
        }

    return solved


def best(dataset: xr.Dataset, output: str) -> list[list[xr.Dataset]]:
    """By case and density, the restart of least loss, its features alone."""
    found = []
    for case in dataset["case"].values:
        here = dataset.sel(case=case, output=output)
        chosen = [here.isel(density=k) for k in range(here.sizes["density"])]
        found.append([x.isel(restart=int(np.argmin(x["loss"].values))).dropna("feature", how="all") for x in chosen])
    return found


def findings(dataset: xr.Dataset) -> list[Finding]:
    """What linear models keep; which features are superposed first; biases of ignored, kept and very sparse features."""
    off = 0.0
    for case, row in zip(dataset["case"].values, best(dataset, "linear"), strict=True):
        top = (np.arange(CASES[case][0]) < CASES[case][1]).astype(float)
        off = max([off, *(float(np.abs(np.nansum(x["W"].values ** 2, 0) - top).max()) for x in row)])
    first, ignored, kept, sparse = [], [], [], []
    for row in best(dataset, "ReLU"):
        for x in row:
            label, b, p = x["label"].values, x["b"].values, float(x["density"])
            ignored += list(b[np.nansum(x["W"].values ** 2, 0) <= UNSTORED] / (p / 2) - 1)
            kept += list(b[label == 1])
            if (label == 2).any() and (label == 1).any():
                place = np.arange(len(label)) / (len(label) - 1)
                first.append((p, float(place[label == 2].mean()), float(place[label == 1].mean())))
        sparse += list(row[-1]["b"].values[row[-1]["label"].values == 2])
    below = float(np.mean(np.array(sparse) < 0)) if sparse else float("nan")
    mean = float(np.mean(np.abs(ignored) <= 0.02)) if ignored else float("nan")
    which = "; ".join(f"p = {p:g}: {shared:.2f} against {alone:.2f}" for p, shared, alone in first)
    return [
        Finding(
            "linear models keep the m most important features, like PCA",
            "squared lengths 1 and 0",
            f"off by {off:.1e} at most",
            "within 0.01 at every density",
            off < 0.01,
        ),
        Finding(
            "superposition starts among the less important features",
            "the less important",
            f"mean rank (0 first, 1 last) of superposed against stored alone: {which}",
            "later on average, at each density that has both",
            bool(first) and all(shared > alone for _, shared, alone in first),
        ),
        Finding(
            "the bias of an ignored feature is its mean, p / 2",
            1.0,
            mean,
            f"share of {len(ignored)} ignored features within 2 % of it, at least 90 %; others are dead, or stored a little",
            bool(mean >= 0.9),
        ),
        Finding(
            "that of a feature kept on its own is near 0",
            0.0,
            float(np.abs(kept).max()) if kept else float("nan"),
            f"at most 0.05 in size; {len(kept)} such features",
            bool(kept) and bool(np.abs(kept).max() <= 0.05),
        ),
        Finding(
            "very sparse features in superposition have negative biases",
            "negative",
            f"{below:.0%} of {len(sparse)} at the sparsest density",
            "at least 95 %",
            below >= 0.95,
        ),
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
    return drawn.update_layout(template=TEMPLATE, width=1200, height=200 + 230 * len(rows), legend_y=1.22, margin_t=90)
