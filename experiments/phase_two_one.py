"""The phase diagram of two features in one dimension: exact, against the published theory, and by the paper's own protocol.

The protocol trains ten models a cell with AdamW (1e-3, decay 0.01, fresh batches of 1,024), drops the worst and averages. It is
run in a few cells spread over the grid and held against their certified minima.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import jax
import numpy as np
import optax
import xarray as xr
from plotly import graph_objects as go

from superpose import expected_loss, features, phase, sweep, toy_model, train
from superpose.phase import scores
from superpose.phase.run import compute as solved
from superpose.plot import phase_diagram
from superpose.reproduction import Check
from superpose.settings import Diagram

NAME = "two-in-one"
TITLE = "Phase diagram of two features in one dimension"
PAPER = "Superposition as a Phase Change"
MODELS = 10
OPTIMIZER = optax.adamw(1e-3, weight_decay=0.01)


@dataclass(frozen=True)
class Config:
    """Features, dimensions, grid points along both axes, random starts, cells trained by sampling, and steps of each."""

    n: int = 2
    m: int = 1
    points: int = 50
    restarts: int = 10
    cells: int = 25
    steps: int = 10_000
    seed: int = 0


QUICK = Config(points=12, restarts=4, cells=4, steps=6_000)


def compute(config: Config, folder: Path | None = None, advance: Callable[[int], None] = lambda _: None) -> xr.Dataset:
    """The exact diagram (see `superpose.phase`), and over (cell, model) the exact loss and last label of trained models."""
    if folder is None:
        with TemporaryDirectory() as temporary:
            return compute(config, Path(temporary), advance)
    grid = {"densities": config.points, "importances": config.points, "restarts": config.restarts, "seed": config.seed}
    diagram = Diagram(n=config.n, m=config.m, **grid)
    dataset = solved(diagram, folder / "diagram", advance=lambda: advance(1)).load()
    chosen = np.unique(np.linspace(0, config.points**2 - 1, config.cells + 2)[1:-1].round().astype(int))
    row, column = np.divmod(chosen, config.points)
    points = {"density": dataset["density"].values[row], "importance": dataset["importance"].values[column], "cell": chosen}
    run = sweep.run(_trainer(config), points, settings=config, folder=folder / "trained", advance=advance)
    minimum = dataset["loss"].isel(restart=dataset["best"]).values[row, column]
    for name, values in {"cell_density": points["density"], "cell_importance": points["importance"]}.items():
        dataset[name] = ("cell", values)
    dataset["cell_minimum"] = ("cell", minimum)
    dataset["trained_loss"], dataset["trained_label"] = (("cell", "model"), run["loss"]), (("cell", "model"), run["label"])
    return dataset.drop_attrs(deep=False).assign_attrs(n=config.n, m=config.m, candidates=dataset.attrs["candidates"])


def _trainer(config: Config) -> Callable:
    """From a cell to the exact loss and the last feature's label of `MODELS` models trained by sampling."""

    def one(point: dict, model: jax.Array) -> tuple:
        distribution = features.SparseUniform(point["density"])
        weights = features.last_importance(point["importance"], n=config.n)
        start_key, key = jax.random.split(train.model_key(jax.random.key(config.seed), point["cell"], model))
        start = toy_model.init(start_key, n=config.n, m=config.m)
        params = train.fit(key, start, distribution, weights, steps=config.steps, optimizer=OPTIMIZER).params
        return expected_loss.relu_output(params, distribution, weights), phase.label(params.W)[-1]

    def trained(point: dict) -> dict:
        loss, label = jax.vmap(one, in_axes=(None, 0))(point, np.arange(MODELS))
        return {"loss": loss, "label": label}

    return trained


def _excess(dataset: xr.Dataset) -> np.ndarray:
    """How far each trained model lies above the certified minimum, relative, in ascending order; `(cell, model)`."""
    return np.sort(dataset["trained_loss"].values / dataset["cell_minimum"].values[:, None] - 1, axis=1)


def common(dataset: xr.Dataset) -> list[Check]:
    """What both diagrams have: three phases, published theory by cells and by its boundary, and the protocol's models."""
    last, importance = dataset["label"].isel(feature=-1).values, dataset["importance"].values
    shares = np.bincount(last.ravel(), minlength=3) / last.size
    agreement = scores.agreement(last, dataset["published_label"].values)
    found, theory = scores.label_boundary(last, importance), dataset["published_boundary_lower"].values
    offset = scores.boundary_offset(found, theory)
    excess = _excess(dataset)
    kept, worst = float(np.median(excess[:, :-1].mean(1))), float(np.median(excess[:, -1]))
    mixed = np.mean([len(set(row)) > 1 for row in dataset["trained_label"].values])
    above = kept if excess.min() > -1e-6 else float(excess.min())
    phases = ", ".join(f"{name} {share:.0%}" for name, share in zip(phase.LABELS, shares, strict=True))
    three = "three phases, ignored, stored alone, in superposition: share of cells of the rarest"
    border = "and where the last feature stops being ignored: distance from I = 2p / (4 - 5p) in decades, 0.021 being 5 %"
    adapt = "on average; fixed candidates do not adapt scale and bias, which makes superposition pay sooner"
    ten = "ten trained models, the worst dropped, show the minimum: how far above it, median over cells; no model is below"
    note = f"the worst {worst:.1%}; {mixed:.0%} of cells mix phases"
    return [
        Check(three, PAPER, (0.01, None), shares.min(), note=phases),
        Check("theory of fixed candidates predicts the phase: share of cells", PAPER, 1.0, agreement, atol=0.05),
        Check(border, PAPER, 0.0, offset, atol=0.021, note=adapt),
        Check(ten, PAPER, (-1e-6, 0.05), above, note=note),
    ]


def findings(dataset: xr.Dataset) -> list[Check]:
    """The phases, the published theory, and the order of the transition."""
    first, density = dataset["exact_order"].values == 1, dataset["density"].values
    changes = np.flatnonzero(np.diff(first.astype(int)))
    where = " and ".join(f"{density[k + 1]:.2f} to {density[k]:.2f}" for k in changes)
    claim = "the transition is discontinuous, of first order: share of densities"
    return [*common(dataset), Check(claim, PAPER, 1.0, first.mean(), note=f"changing at p = {where}" if where else "")]


figure: Callable[[xr.Dataset], go.Figure] = phase_diagram
