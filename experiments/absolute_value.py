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

from superpose import features, hidden_layer, results, sweep, train
from superpose.plot.template import DIVERGING, TEMPLATE
from superpose.reproduction import Check

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
    """Trained models over (density, restart): W_in, W_out, b, loss."""
    axes = {"density": np.asarray(config.densities), "group": np.arange(config.groups)}
    dims = {"W_in": ["member", "hidden", "feature"], "W_out": ["member", "feature", "hidden"]}
    dims |= {"b": ["member", "feature"], "loss": ["member"]}
    how = {"dims": dims, "settings": config, "folder": folder, "width": 1, "advance": advance}
    found = sweep.over(_trained(config), axes, **how).drop_vars("group")
    found = found.stack(restart=("group", "member"), create_index=False).transpose("density", "restart", ...)
    return _finished(config, found, folder)


def _finished(config: Config, found: xr.Dataset, folder: Path | None) -> xr.Dataset:
    """The same models, those that stopped on their way trained once more, on new draws."""
    loss = relative(found).values
    at = np.nonzero((loss > ARRIVED) & (loss <= REACHED))
    if len(at[0]):
        points = {name: found[name].values[at] for name in ("W_in", "W_out", "b")} | {
            "density": found["density"].values[at[0]]
        }
        place = None if folder is None else folder / "again"
        for name, x in sweep.run(_again(config), points, settings=config, folder=place).items():
            found[name].values[at] = x
    return found


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
        distribution = features.SparseSymmetric(density)
        params = train.fit(batch_key, start, distribution, **settings).params
        mean, _ = train.sampled_loss(common_key, params, distribution, draws=config.draws, loss=LOSS)
        return {"W_in": params.W_in, "W_out": params.W_out, "b": params.b, "loss": mean}

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


def relative(dataset: xr.Dataset) -> xr.DataArray:
    """The loss divided by that of the output 0, `n p / 3`."""
    return dataset["loss"] * 3 / (N * dataset["density"])


def findings(dataset: xr.Dataset) -> list[Check]:
    """Products and loss of the best model at each density, and what the restarts that got there have in common."""
    best, loss = results.best(dataset), relative(dataset)
    off = max(deviation(products(*pair)) for pair in zip(best["W_in"].values, best["W_out"].values, strict=True))
    there, total = loss.values <= REACHED, dataset.sizes["restart"]
    shares = zip(dataset["density"].values, there.mean(1), strict=True)
    arrived = f"of {total} restarts; " + "; ".join(f"p = {p:.3g}: {share:.0%}" for p, share in shares)
    W_in, W_out, count = dataset["W_in"].values[there], dataset["W_out"].values[there], int(there.sum())
    split = sum(deviation(products(*pair)) <= 0.1 for pair in zip(W_in, W_out, strict=True))
    pair = "each feature has one neuron of product 1 and one of product −1, all others 0: largest error at any density"
    least = "the loss is near 0, relative to the output 0: largest of any density"
    gets = "training gets there: loss at most 0.001, from more than half of the restarts at the best density"
    only = "|x| = r(x) + r(−x) is the one solution: share of restarts that got there whose products are within 0.1"
    one = split / count if count else np.nan
    return [
        Check(pair, PAPER, 0.0, off, atol=EXACT, note="best models"),
        Check(least, PAPER, 0.0, relative(best).values.max(), atol=REACHED, note="best models"),
        Check(gets, PAPER, (total // 2 + 1, None), there.sum(1).max(), note=arrived),
        Check(only, PAPER, 1.0, one, note=f"{split} of {count}"),
    ]


def figure(dataset: xr.Dataset) -> go.Figure:
    """Products of the best model at the sparsest density, and the loss of every restart, in order, at each density."""
    densities = [float(p) for p in dataset["density"].values]
    sparsest = results.best(dataset.isel(density=-1))
    P = products(sparsest["W_in"].values, sparsest["W_out"].values)
    P = P[np.lexsort((-P.sum(1), np.abs(P).argmax(1)))]
    titles = (f"W<sub>1</sub> * W<sub>2</sub>ᵀ of the best model, p = {densities[-1]:.3g}", "loss of each restart")
    drawn = make_subplots(cols=2, subplot_titles=titles, horizontal_spacing=0.14, column_widths=[0.4, 0.6])
    text = [[f"{x:.2f}".replace("-0.00", "0.00").replace("-", "\N{MINUS SIGN}") for x in row] for row in P]
    heat = {"text": text, "texttemplate": "%{text}", "colorscale": DIVERGING, "zmin": -1.5, "zmax": 1.5, "showscale": False}
    drawn.add_trace(go.Heatmap(z=P, **heat), 1, 1)
    for k, (p, loss) in enumerate(zip(densities, relative(dataset).values, strict=True)):
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
