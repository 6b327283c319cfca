"""The second, independent route: train cells of a diagram by sampling and hold them against their certified minima."""

from dataclasses import dataclass
from pathlib import Path

import jax
import numpy as np
import optax
import xarray as xr
from jaxtyping import Array

from superpose import features, processes, sweep, toy_model, train
from superpose.settings import Diagram

STEPS, DRAWS = 5_000, 1_000_000
OPTIMIZER = optax.adam(optax.exponential_decay(1e-2, STEPS, 1e-2))
"""Adam from 1e-2 down to 1e-4, no weight decay, batches of 1,024."""


@dataclass(frozen=True)
class _Check:
    diagram: Diagram
    cells: int
    steps: int
    draws: int


def check_cells(dataset: xr.Dataset, diagram: Diagram, cells: int, folder: Path | None = None) -> list[dict[str, float]]:
    """Train one model in each of `cells` cells, spread evenly over the grid, and estimate its loss on fresh draws.

    Args:
        dataset: of the diagram.
        diagram: its settings.
        cells: how many to train, or all if there are fewer.
        folder: for the chunks of this sweep while it goes on; None keeps them in memory.

    Returns:
        A record a cell: density, importance, the certified `minimum`, the `trained` loss with its standard error `sem`,
        `excess` (trained / minimum - 1), and `below`: by how many standard errors it lies below the minimum, if it does.
    """
    count = dataset["best"].size
    chosen = np.unique(np.linspace(0, count - 1, min(cells, count)).round().astype(int))
    row, column = np.unravel_index(chosen, dataset["best"].shape)
    density, importance = dataset["density"].values[row], dataset["importance"].values[column]
    best = dataset["loss"].isel(restart=dataset["best"]).values[row, column]
    points = {"row": row, "column": column, "density": density, "importance": importance}

    def trained(cell: dict[str, Array]) -> dict[str, Array]:
        mean, sem = _train(diagram, **cell)
        return {"mean": mean, "sem": sem}

    settings = _Check(diagram, cells, STEPS, DRAWS)
    found = sweep.run(trained, points, settings=settings, folder=folder)
    if folder is not None and processes.is_first():
        sweep.clear(folder)
    mean, sem = found["mean"], found["sem"]
    return [
        {
            "density": float(density[k]),
            "importance": float(importance[k]),
            "minimum": float(best[k]),
            "trained": float(mean[k]),
            "sem": float(sem[k]),
            "excess": float(mean[k] / best[k] - 1),
            "below": max(0.0, float((best[k] - mean[k]) / sem[k])),
        }
        for k in range(len(chosen))
    ]


def _train(diagram: Diagram, row: Array, column: Array, density: Array, importance: Array) -> tuple[Array, Array]:
    key = train.model_key(jax.random.key(diagram.seed + 1), row, column)
    start_key, fit_key, test_key = jax.random.split(key, 3)
    start = toy_model.init(start_key, n=diagram.n, m=diagram.m)
    distribution, weights = features.SparseUniform(density), features.last_importance(importance, n=diagram.n)
    fit = train.fit(fit_key, start, distribution, weights, steps=STEPS, optimizer=OPTIMIZER)
    return train.sampled_loss(test_key, fit.params, distribution, weights, draws=DRAWS)
