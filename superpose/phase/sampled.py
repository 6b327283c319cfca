"""The second, independent route: train cells of a diagram by sampling and hold them against their certified minima."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import xarray as xr
from jaxtyping import Array

from superpose import features, toy_model, train
from superpose.settings import Diagram

STEPS, DRAWS = 5_000, 1_000_000
OPTIMIZER = optax.adam(optax.exponential_decay(1e-2, STEPS, 1e-2))
"""Adam from 1e-2 down to 1e-4, no weight decay, batches of 1,024."""


def check_cells(dataset: xr.Dataset, diagram: Diagram, cells: int) -> list[dict[str, float]]:
    """Train one model in each of `cells` cells, spread evenly over the grid, and estimate its loss on fresh draws.

    Returns:
        A record a cell: density, importance, the certified `minimum`, the `trained` loss with its standard error `sem`,
        `excess` (trained / minimum - 1), and `below`: by how many standard errors it lies below the minimum, if it does.
    """
    count = dataset["best"].size
    chosen = np.unique(np.linspace(0, count - 1, min(cells, count)).round().astype(int))
    row, column = np.unravel_index(chosen, dataset["best"].shape)
    density, importance = dataset["density"].values[row], dataset["importance"].values[column]
    best = dataset["loss"].isel(restart=dataset["best"]).values[row, column]
    run = jax.jit(jax.vmap(partial(_train, diagram), in_axes=0))
    mean, sem = (np.asarray(x) for x in run(*map(jnp.asarray, (row, column, density, importance))))
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
    law, weights = features.SparseUniform(density), features.last_importance(importance, n=diagram.n)
    fit = train.fit(fit_key, start, law, weights, steps=STEPS, optimizer=OPTIMIZER)
    return train.sampled_loss(test_key, fit.params, law, weights, draws=DRAWS)
