"""Six neurons learn the absolute values of three features: `|x| = r(x) + r(-x)`, a positive and a negative neuron for each.

Weights are untied, `h = r(W_1 x)` and `y = r(W_2 h + b)`; the features lie in [-1, 1]. The product of what a neuron reads and
what it writes, `W_1 * W_2^T`, does not depend on how the neuron is scaled; it is 1 for a positive neuron and -1 for a negative
one, which reads with a negative weight. Models are trained on samples, in float32; the paper states no density, so it is an axis.

A rate that falls to 0 stops some restarts on their way, with a loss of 0.0001 to 0.001: 5 of 1,272 at full size, all at p = 0.03,
where a feature is seen in 8 inputs of a batch. These are trained once more from there; every restart below 0.0001 has the solution.
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
from superpose.plot.template import DIVERGING, TEMPLATE
from superpose.reproduction.findings import Finding

NAME = "absolute-value"
TITLE = "The absolute value: a positive and a negative neuron for each feature"
PAPER = "Computation in Superposition: Basic Results"
N, M = 3, 6
LOSS = partial(hidden_layer.loss, target=jnp.abs)
REACHED, ARRIVED, EXACT = 1e-3, 1e-4, 0.02
"""The loss, relative to that of the output 0, below which a restart got there, and is not on its way; how near to 0, 1, -1 products
are exact."""


@dataclass(frozen=True)
class Config:
    """Densities; `groups * together` restarts of each, `together` side by side; steps, batch, rate; draws of the judging batch.

    The rate is Adam's first; it falls to 0 by a cosine.
    """

    densities: tuple[float, ...] = (1.0, 0.3, 0.1, 0.03)
    groups: int = 10
    together: int = 50
    steps: int = 6000
    batch: int = 256
    rate: float = 0.01
    draws: int = 65_536
    seed: int = 0


QUICK = Config(densities=(1.0, 0.3, 0.1), groups=1, together=16, steps=2500, draws=16_384)


def compute(config: Config, folder: Path | None = None, advance: Callable[[int], None] = lambda _: None) -> xr.Dataset:
    """Trained models over (density, restart): W_in, W_out, b, and the loss divided by `n p / 3`, that of the output 0."""
    axes = {"density": np.asarray(config.densities), "group": np.arange(config.groups)}
    points = sweep.grid(axes)
    arrays = sweep.run(_trained(config), points, settings=config, folder=folder, width=1, advance=advance)
    arrays = {name: x.reshape(-1, *x.shape[2:]) for name, x in arrays.items()}
    axes = {"density": axes["density"], "restart": np.arange(config.groups * config.together)}
    arrays = _finished(config, arrays, np.repeat(axes["density"], len(axes["restart"])), folder)
    return sweep.label(arrays, axes, {"W_in": ["hidden", "feature"], "W_out": ["feature", "hidden"], "b": ["feature"]})


def _finished(config: Config, arrays: dict, density: np.ndarray, folder: Path | None) -> dict:
    """The same models, those that stopped on their way trained once more, on new draws."""
    on_their_way = np.flatnonzero((arrays["loss"] > ARRIVED) & (arrays["loss"] <= REACHED))
    if len(on_their_way) == 0:
        return arrays
    points = {name: x[on_their_way] for name, x in (arrays | {"density": density}).items() if name != "loss"}
    place = None if folder is None else folder / "again"
    arrays = {name: x.copy() for name, x in arrays.items()}
    for name, x in sweep.run(_again(config), points, settings=config, folder=place).items():
        arrays[name][on_their_way] = x
    return arrays


def _trained(config: Config) -> Callable:
    """From a density and the number of a group to the group's models; starts and random numbers are those of any density."""
    fitted = _fitted(config)

    def group(point: dict) -> dict:
        start_key, batch_key, common_key = jax.random.split(jax.random.key(config.seed), 3)

        def one(member: jax.Array) -> dict:
            start = hidden_layer.init(train.model_key(start_key, point["group"] * config.together + member), n=N, m=M)
            start = jax.tree.map(lambda x: x.astype(jnp.float32), start)
            return fitted(batch_key, common_key, start, point["density"])

        return jax.vmap(one)(jnp.arange(config.together))

    return group


def _again(config: Config) -> Callable:
    """From a model and its density to the model trained once more."""
    fitted = _fitted(config)

    def one(point: dict) -> dict:
        _, batch_key, common_key = jax.random.split(jax.random.key(config.seed), 3)
        start = hidden_layer.Untied(W_in=point["W_in"], W_out=point["W_out"], b=point["b"])
        return fitted(train.model_key(batch_key, config.steps), common_key, start, point["density"])

    return one


def _fitted(config: Config) -> Callable:
    """From keys of training and of judging, a start and a density to the trained model and its loss."""
    optimizer = optax.adam(optax.cosine_decay_schedule(config.rate, config.steps))
    settings = {"steps": config.steps, "batch": config.batch, "optimizer": optimizer, "loss": LOSS}

    def fitted(batch_key: jax.Array, common_key: jax.Array, start: hidden_layer.Untied, density: jax.Array) -> dict:
        law = features.SparseSymmetric(density)
        params = train.fit(batch_key, start, law, **settings).params
        mean, _ = train.sampled_loss(common_key, params, law, draws=config.draws, loss=LOSS)
        return {"W_in": params.W_in, "W_out": params.W_out, "b": params.b, "loss": mean * 3 / (N * density)}

    return fitted


def products(W_in: np.ndarray, W_out: np.ndarray) -> np.ndarray:
    """What each neuron reads times what it writes, feature by feature: `W_1 * W_2^T`, `(m, n)`."""
    return W_in * W_out.T


def deviation(P: np.ndarray) -> float:
    """How far products are from one 1 and one -1 in each column, 0 elsewhere, and one feature a neuron: the largest error."""
    ideal = np.zeros(P.shape[0])
    ideal[0], ideal[-1] = -1, 1
    columns = np.abs(np.sort(P, axis=0) - ideal[:, None]).max()
    return float(max(columns, np.abs(np.abs(P).sum(1) - 1).max()))


def best(dataset: xr.Dataset, density: float) -> np.ndarray:
    """Products of the model of least loss at a density."""
    here = dataset.sel(density=density, method="nearest")
    at = here.isel(restart=int(np.argmin(here["loss"].values)))
    return products(at["W_in"].values, at["W_out"].values)


def findings(dataset: xr.Dataset) -> list[Finding]:
    """Products and loss of the best model at each density, and what the restarts that got there have in common."""
    densities = [float(p) for p in dataset["density"].values]
    off, least = [deviation(best(dataset, p)) for p in densities], dataset["loss"].min("restart").values
    there = dataset["loss"].values <= REACHED
    shares = "; ".join(f"p = {p:.3g}: {share:.0%}" for p, share in zip(densities, there.mean(1), strict=True))
    W_in, W_out = dataset["W_in"].values[there], dataset["W_out"].values[there]
    split = sum(deviation(products(*pair)) <= 0.1 for pair in zip(W_in, W_out, strict=True))
    return [
        Finding(
            "each feature has one neuron of product 1 and one of product \N{MINUS SIGN}1, all others 0: largest error",
            0.0,
            max(off),
            f"at most {EXACT} in the best model of each density",
            max(off) <= EXACT,
        ),
        Finding(
            "the loss is near 0, relative to the output 0",
            0.0,
            float(least.max()),
            f"at most {REACHED} in the best model of each density",
            bool(least.max() <= REACHED),
        ),
        Finding(
            "training gets there: loss at most 0.001, from how many restarts",
            "the solution is found",
            shares,
            "more than half of the restarts at the best density",
            bool(there.mean(1).max() > 0.5),
        ),
        Finding(
            "|x| = r(x) + r(\N{MINUS SIGN}x) is the one solution",
            "the only one shown",
            f"{split} of {int(there.sum())} restarts that got there",
            "all of them, products within 0.1",
            0 < split == int(there.sum()),
        ),
    ]


def figure(dataset: xr.Dataset) -> go.Figure:
    """Products of the best model at the sparsest density, and the loss of every restart, in order, at each density."""
    densities = [float(p) for p in dataset["density"].values]
    P = best(dataset, densities[-1])
    P = P[np.lexsort((-P.sum(1), np.abs(P).argmax(1)))]
    titles = (f"W<sub>1</sub> * W<sub>2</sub>ᵀ of the best model, p = {densities[-1]:.3g}", "loss of each restart")
    drawn = make_subplots(cols=2, subplot_titles=titles, horizontal_spacing=0.14, column_widths=[0.4, 0.6])
    text = [[f"{x:.2f}".replace("-0.00", "0.00").replace("-", "\N{MINUS SIGN}") for x in row] for row in P]
    heat = {"text": text, "texttemplate": "%{text}", "colorscale": DIVERGING, "zmin": -1.5, "zmax": 1.5, "showscale": False}
    drawn.add_trace(go.Heatmap(z=P, **heat), 1, 1)
    for k, (p, loss) in enumerate(zip(densities, dataset["loss"].values, strict=True)):
        share, dash = (np.arange(loss.size) + 1) / loss.size, ("solid", "dash", "dot", "dashdot")[k % 4]
        look = {"name": f"p = {p:.3g}", "line": {"dash": dash}, "mode": "lines"}
        drawn.add_trace(go.Scatter(x=share, y=np.maximum(np.sort(loss), 1e-12), **look), 1, 2)
    drawn.add_hline(y=REACHED, line={"dash": "dot", "width": 1}, row=1, col=2)
    drawn.update_xaxes(title_text="feature", dtick=1, row=1, col=1)
    drawn.update_xaxes(title_text="share of restarts, best first", range=[0, 1], row=1, col=2)
    drawn.update_yaxes(title_text="neuron", dtick=1, autorange="reversed", row=1, col=1)
    drawn.update_yaxes(title_text="loss / (n p / 3)", type="log", exponentformat="power", row=1, col=2)
    side = {"orientation": "v", "x": 1.01, "y": 0.5, "xanchor": "left", "yanchor": "middle"}
    return drawn.update_layout(template=TEMPLATE, width=1000, height=430, legend=side, margin={"t": 50})
