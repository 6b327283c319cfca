"""A phase diagram as a sweep over its rows, its labelled result, and its summary."""

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr
from jaxtyping import Array

from superpose import sweep
from superpose.labels import LABELS
from superpose.phase import boundary, scores
from superpose.phase.candidates import candidates
from superpose.phase.diagram import axes, solve_row
from superpose.settings import Diagram
from superpose.sweep import source

CELL = ("density", "importance")
AXES = {
    "W": (*CELL, "restart", "hidden", "feature"),
    "b": (*CELL, "restart", "feature"),
    **dict.fromkeys(("loss", "gradient_norm", "lowest_eigenvalue", "converged", "basin", "steps"), (*CELL, "restart")),
    "best": CELL,
    "label": (*CELL, "feature"),
    "loss_error": CELL,
    "candidate_loss": (*CELL, "candidate"),
}
MEANING = {
    "W": "weights; column i is the direction of feature i",
    "loss": "sum_i importance_i E (x_i - x'_i)^2",
    "gradient_norm": "of the loss divided by sum_i importance_i E x_i^2, biases in units of sqrt(density)",
    "lowest_eigenvalue": "of the Hessian of the loss scaled in the same way",
    "converged": "1: gradient norm at most 1e-9 and no clearly negative eigenvalue",
    "basin": "rank of the restart's loss among the cell's distinct ones, 0 the lowest; -1 not converged",
    "best": "restart of least loss",
    "label": "of the best restart: " + ", ".join(f"{k} {name}" for k, name in enumerate(LABELS)),
    "loss_error": "estimate of the error of the best restart's loss, from the series; 0 for closed forms",
    "published_label": "label of the last feature in the published theory's best candidate",
    "exact_boundary": "importance at which feature 2 stops being ignored",
    "exact_order": "1: the transition is of first order, 2: continuous",
}


def compute(diagram: Diagram, folder: Path, *, advance: Callable[[], None] = lambda: None) -> xr.Dataset:
    """Solve every row that `folder` does not hold yet, write `phase.nc` and return its dataset.

    Args:
        diagram: the settings.
        folder: where rows and result go; a result of the same settings and program is read instead of computed.
        advance: called after each row.

    Raises:
        ResultError: the folder is in use or cannot be written, or holds a result of other settings, of another program, or a
            damaged one.
        ValueError: without float64.
    """
    if jnp.zeros(()).dtype != jnp.float64:
        raise ValueError("phase diagrams need float64; set jax_enable_x64 to True")
    densities, importances = axes(diagram)
    count = len(densities)
    rows = {"row": np.arange(count), "density": densities, "importances": np.tile(importances, (count, 1))}

    def solve(row: dict[str, Array]) -> dict[str, Array]:
        return solve_row(diagram, row["row"], row["density"], row["importances"])

    def finished(more: int) -> None:
        for _ in range(more):
            advance()

    how = {"settings": diagram, "width": 1, "advance": finished, "code": source.library()}
    return sweep.result(folder / "phase.nc", solve, rows, partial(_dataset, diagram), **how)


def _dataset(diagram: Diagram, arrays: dict[str, np.ndarray]) -> xr.Dataset:
    """Label the arrays, and add published theory and exact boundary where there is one."""
    densities, importances = axes(diagram)
    fixed = candidates(n=diagram.n, m=diagram.m)
    dataset = xr.Dataset(
        {name: (AXES[name], value) for name, value in arrays.items() if fixed or name != "candidate_loss"},
        coords={"density": densities, "importance": importances},
        attrs={
            "n": diagram.n,
            "m": diagram.m,
            "starts": "; ".join([f"{diagram.restarts} random", *(f"near {c.name}" for c in fixed)]),
            "candidates": "; ".join(c.name for c in fixed),
        },
    )
    if fixed:
        published = [k for k, c in enumerate(fixed) if c.published]
        winner = arrays["candidate_loss"][..., published].argmin(-1)
        dataset["published_label"] = (CELL, np.array([fixed[k].label for k in published], np.int8)[winner])
        lower, upper = (np.asarray(x) for x in boundary.published_boundaries(jnp.asarray(densities)))
        dataset["published_boundary_lower"] = ("density", lower)
        dataset["published_boundary_upper"] = (
            "density",
            upper if diagram.n == 2 else np.where(np.isnan(lower), np.nan, 1.0),
        )
    if (diagram.n, diagram.m) == (2, 1) and densities.min() >= 0.001:
        transition = jax.jit(jax.vmap(boundary.critical_importance))(jnp.asarray(densities))
        dataset["exact_boundary"] = ("density", np.asarray(transition.importance))
        dataset["exact_order"] = ("density", np.asarray(transition.order, np.int8))
        dataset["exact_jump"] = ("density", np.asarray(transition.jump))
    for name, text in MEANING.items():
        if name in dataset:
            dataset[name].attrs["long_name"] = text
    return dataset


def summary(dataset: xr.Dataset) -> dict:
    """The diagram in numbers: convergence, and its agreement with published theory where there is one."""
    best = dataset[["loss", "gradient_norm", "converged"]].isel(restart=dataset["best"])
    last, basin = dataset["label"].isel(feature=-1).values, dataset["basin"].values
    random = json.loads(dataset.attrs["settings"])["restarts"]
    numbers = {
        "n": int(dataset.attrs["n"]),
        "m": int(dataset.attrs["m"]),
        "cells": int(last.size),
        "starts": dataset.attrs["starts"],
        "cells_certified": float(best["converged"].values.mean()),
        "restarts_certified": float(dataset["converged"].values.mean()),
        "random_starts_in_lowest_basin": float((basin[..., :random] == 0).mean()),
        "worst_gradient_norm": float(best["gradient_norm"].values.max()),
        "worst_loss_error": float(dataset["loss_error"].values.max()),
        "seconds": float(dataset.attrs["seconds"]),
    }
    if "published_label" in dataset:
        numbers |= _against_theory(dataset, last, best["loss"].values)
    return numbers


def _against_theory(dataset: xr.Dataset, last: np.ndarray, loss: np.ndarray) -> dict:
    importance = dataset["importance"].values
    found = scores.label_boundary(last, importance)
    published = dataset["published_boundary_lower"].values
    candidate = dataset["candidate_loss"].values.min(-1)
    numbers = {
        "agreement_with_published": scores.agreement(last, dataset["published_label"].values),
        "boundary_offset_decades": scores.boundary_offset(found, published),
        "largest_gap_of_candidates": scores.largest_gap(loss, candidate),
        "cells_above_a_candidate": int((loss > candidate * (1 + 1e-9)).sum()),
        "boundary": {
            "density": dataset["density"].values.tolist(),
            "in_diagram": found.tolist(),
            "published": published.tolist(),
        },
    }
    if "exact_boundary" in dataset:
        numbers["boundary"]["exact"] = dataset["exact_boundary"].values.tolist()
        numbers["diagram_offset_from_exact_decades"] = scores.boundary_offset(found, dataset["exact_boundary"].values)
    return numbers
