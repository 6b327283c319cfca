"""The phase diagram of recovery: where the true dictionary is the optimum of a sparse autoencoder, and where it is not.

Each cell solves the population loss from random starts and from the truth, which stays where it is even on a saddle. The truth
counts as found where each feature has a latent in its very direction; latents may be smaller than features.
"""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr
from jaxtyping import Array

from superpose import features, frames, sae, solve, sweep
from superpose.settings import Recovery

LABELS = ("the optimum", "a minimum, but not the lowest", "no minimum", "not decided", "nothing is written")
"""What the true dictionary is; the last where the best autoencoder's latents are all dead."""
SAME = 1e-4
"""Cosines within this of 1 are those of the truth; losses within this share of each other are equal."""
SILENT = 1e-6
"""A latent whose mean is below this share of the mean feature is dead."""
FOUND = {
    "loss": ["start"],
    "reason": ["start"],
    "worst_cosine": ["start"],
    "living": ["start"],
    "W_enc": ["start", "latent", "hidden"],
    "b_enc": ["start", "latent"],
    "W_dec": ["start", "hidden", "latent"],
    "b_dec": ["start", "hidden"],
    "cosine": ["start", "latent", "feature"],
}
MEANING = {
    "label": "the true dictionary is",
    "loss": "population loss E |h - h'|^2 + penalty sum_l E z_l of each start's end; the last start is the truth",
    "reason": "of each start: " + ", ".join(f"{k} {name}" for k, name in enumerate(solve.REASONS)),
    "worst_cosine": "of the feature that no latent is near to, with the nearest",
    "living": "number of latents that are ever active",
    "excess": "loss of the truth's end above the least loss, as a share of it",
    "density": "density of the features",
    "penalty": "weight of the L1 penalty",
}


def directions(settings: Recovery) -> np.ndarray:
    """The arrangement's unit columns."""
    angle = np.deg2rad(settings.angle)
    return np.asarray(
        {
            "digon": lambda: frames.antipodal_pairs(1),
            "pair": lambda: jnp.array([[1.0, np.cos(angle)], [0.0, np.sin(angle)]]),
            "triangle": lambda: frames.polygon(3),
            "square": lambda: frames.polygon(4),
            "pentagon": lambda: frames.polygon(5),
            "antiprism": lambda: frames.square_antiprism(),
            "family": lambda: jnp.eye(2),
        }[settings.shape]()
    )


def law(settings: Recovery, density: Array) -> features.Distribution:
    """Uniform magnitudes; of a family, a child that needs its parent."""
    if settings.shape == "family":
        return features.Tree(features.SparseUniform(jnp.stack([density, jnp.full_like(density, settings.child)])), (-1, 0))
    return features.SparseUniform(density)


def solve_recovery(settings: Recovery, path: Path, *, advance: Callable[[], None] = lambda: None) -> xr.Dataset:
    """Solve every cell that is not kept yet, write the result and return it.

    Args:
        settings: of the map.
        path: of the result, a NetCDF file; one of the same settings and program is read instead.
        advance: called after each cell.

    Raises:
        ResultError: the file's folder is in use or cannot be written, or it holds something else.
    """
    W = directions(settings)
    axes = {
        "density": np.geomspace(settings.density_min, settings.density_max, settings.densities),
        "penalty": np.geomspace(settings.penalty_min, settings.penalty_max, settings.penalties),
    }

    def cell(point: dict[str, Array]) -> dict[str, Array]:
        distribution = law(settings, point["density"])
        how = {"restarts": settings.restarts, "nodes": settings.nodes, "tolerance": settings.gap, "escapes": 0}
        found = sae.solve(
            jax.random.key(0), jnp.asarray(W), distribution, latents=W.shape[1], penalty=point["penalty"], **how
        )
        mean = features.mean(distribution, n=W.shape[1]).mean()
        alive = found.activity > SILENT * mean
        cosine = found.cosine * alive[..., None]
        return {
            "loss": found.loss,
            "reason": found.reason,
            "worst_cosine": cosine.max(1).min(1),
            "living": alive.sum(1),
            "cosine": cosine,
            **vars(found.params),
        }

    def finished(more: int) -> None:
        for _ in range(more):
            advance()

    labelled: Any = partial(_labelled, axes=axes)
    return sweep.result(path, cell, sweep.grid(axes), labelled, settings=settings, width=1, advance=finished)


def _labelled(arrays: dict[str, np.ndarray], axes: dict[str, np.ndarray]) -> xr.Dataset:
    dataset = sweep.label(arrays, axes, FOUND)
    truth = dataset.isel(start=-1)
    least = dataset["loss"].min("start")
    best = dataset.isel(start=dataset["loss"].argmin("start"))
    dataset["best"] = dataset["loss"].argmin("start")
    dataset["excess"] = truth["loss"] / least - 1
    there, lowest = truth["worst_cosine"] > 1 - SAME, dataset["excess"] <= SAME
    certified = truth["reason"] == solve.REASONS.index("certified")
    moved = (truth["reason"] == solve.REASONS.index("saddle")) | (certified & ~there)
    decided = xr.where(moved, 2, xr.where(certified & there, xr.where(lowest, 0, 1), 3))
    dataset["label"] = xr.where(best["living"] == 0, 4, decided).astype(np.int8)
    for name, text in MEANING.items():
        dataset[name].attrs["long_name"] = text
    return dataset


def summary(dataset: xr.Dataset) -> dict[str, Any]:
    """Shares of the cells by what the truth is there, and how many best points are certified."""
    best = dataset.isel(start=dataset["best"])
    label = dataset["label"].values
    return {
        "cells": int(label.size),
        "truth": {name: int((label == k).sum()) for k, name in enumerate(LABELS)},
        "best_certified": float((best["reason"] == 0).mean()),
        "largest_excess": float(dataset["excess"].max()),
        "worst_cosine_of_the_best": float(best["worst_cosine"].where(best["living"] > 0).min()),
        "seconds": float(dataset.attrs["seconds"]),
    }
