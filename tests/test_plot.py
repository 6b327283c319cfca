"""Figures from synthetic arrays: what they show, what they say on hovering, and what they refuse."""

import json

import numpy as np
import pytest
import xarray as xr
from plotly import graph_objects as go

from superpose.plot import features_in_plane, gram_matrix, norm_and_interference, phase_diagram

GRID = ("density", "importance")
PENTAGON = np.stack([np.cos(0.4 * np.pi * np.arange(5)), np.sin(0.4 * np.pi * np.arange(5))])
INTERFERENCE = 2 * (np.cos(0.4 * np.pi) ** 2 + np.cos(0.8 * np.pi) ** 2)  # of each of the pentagon's features


def exact_boundary(p):
    """Roughly the exact boundary for n=2, m=1: theory.md section 2's I_sp, moved down below the tricritical point."""
    c = p / 2 + 2 * (1 - p) ** 2
    B = np.where(p < 1, (-c + np.sqrt(c**2 + (1 - p) * p**3)) / np.where(p < 1, 2 * (1 - p) * p, 1), p / 2)
    f = p * ((B - p / 2) ** 2 / 4 + p / 3 - p**2 / 4) + (1 - p) * ((1 - p) * B**2 + p * B**3 / 3)
    return f / (p / 3 - p**2 / 4) * np.where(p < 0.52, 1 - 0.52 * (1 - p / 0.52), 1)


def published_boundaries(p, *, n):
    """The published theory's curves: `2p/(4-5p)` below p = 4/7 and 1 above; and the upper, nan above 4/7."""
    shared = p < 4 / 7
    low = np.where(shared, 2 * p / np.where(shared, 4 - 5 * p, 1), 1)
    return low, np.where(shared, 1 / low if n == 2 else 1.0, np.nan)


def saved(*, n=2, m=1, cells=12, restarts=3, theory=True, seed=0):
    """A phase diagram as a run saves it, of random numbers but for its labels and boundaries."""
    p, importance = np.logspace(0, -2, cells), np.logspace(-1, 1, cells + 1)
    low, high = published_boundaries(p, n=n)
    grid = np.where(importance < low[:, None], 0, np.where(importance > np.nan_to_num(high, nan=0)[:, None], 1, 2))
    data = xr.Dataset(coords={"density": p, "importance": importance}, attrs={"n": n, "m": m, "settings": "{}"})
    rng, shape = np.random.default_rng(seed), (len(p), len(importance), restarts)
    each = (*GRID, "restart")
    data["W"] = (*each, "hidden", "feature"), rng.normal(size=(*shape, m, n))
    data["b"] = (*each, "feature"), rng.normal(size=(*shape, n))
    data["loss"] = each, rng.uniform(size=shape)
    data["gradient_norm"] = each, 1e-13 * rng.uniform(1, 9, size=shape)
    data["lowest_eigenvalue"] = each, rng.uniform(size=shape)
    data["converged"] = each, np.ones(shape, np.int8)
    data["basin"] = each, np.zeros(shape, np.int32)
    data["best"] = GRID, data["loss"].values.argmin(-1).astype(np.int32)
    data["candidate_loss"] = (*GRID, "candidate"), rng.uniform(size=(*shape[:2], 4))
    label = np.stack([np.ones_like(grid)] * (n - 1) + [grid], axis=-1)
    label[..., 0] = np.where(grid == 2, 2, np.where(grid == 1, 0, 1))
    data["label"] = (*GRID, "feature"), label.astype(np.int8)
    if theory:
        data["published_label"] = GRID, grid.astype(np.int8)
    if theory and n == 2:
        data["published_boundary_lower"], data["published_boundary_upper"] = ("density", low), ("density", high)
        data["exact_boundary"] = "density", exact_boundary(p)
        data["exact_order"] = "density", np.where((p > 0.5202) & (p < 0.8373), 2, 1).astype(np.int8)
        exact = exact_boundary(p)[:, None]
        data["label"][..., -1] = np.where(importance < exact, 0, np.where(importance > 1 / exact, 1, 2)).astype(np.int8)
    return data
