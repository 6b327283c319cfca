"""The phase diagram of three features in two dimensions: exact, against the published theory, and by the paper's own protocol.

The published theory compares W orthogonal to 001, 100, 011 and 110. The triangle, orthogonal to 111, is compared here as well.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import xarray as xr
from plotly import graph_objects as go

from superpose.plot import phase_diagram
from superpose.reproduction import Check

from . import phase_two_one

NAME = "three-in-two"
TITLE = "Phase diagram of three features in two dimensions"
PAPER = "Superposition as a Phase Change"
POCKET = (0.57, 0.91)
"""Densities between which all three features share the plane at importances above 1, found with the exact diagram."""


@dataclass(frozen=True)
class Config(phase_two_one.Config):
    """As for two features."""

    n: int = 3
    m: int = 2


QUICK = Config(points=8, restarts=3, cells=4, steps=6_000)


def compute(config: Config, folder: Path | None = None, advance: Callable[[int], None] = lambda _: None) -> xr.Dataset:
    """As for two features."""
    return phase_two_one.compute(config, folder, advance)


def findings(dataset: xr.Dataset) -> list[Check]:
    """The phases and the published theory; whether its four candidates are enough."""
    names = dataset.attrs["candidates"].split("; ")
    triangle = next(k for k, name in enumerate(names) if name.startswith("111"))
    losses = dataset["candidate_loss"].values
    wins = float(np.mean(losses.argmin(-1) == triangle))
    label = dataset["label"].values
    density, importance = dataset["density"].values, dataset["importance"].values
    middle = (density[:, None] > POCKET[0]) & (density[:, None] < POCKET[1]) & (importance[None, :] > 1)
    shared = int(np.sum(np.all(label == 2, axis=-1) & middle))
    none = "no superposition where theory has none, dense, last feature the most important: cells with all three in superposition"
    return [
        *phase_two_one.common(dataset),
        Check("four candidates are enough, 001, 100, 011, 110: share of cells where 111 is lower", PAPER, 0.0, wins),
        Check(none, PAPER, 0.0, shared, note="p from 0.57 to 0.91, I above 1"),
    ]


figure: Callable[[xr.Dataset], go.Figure] = phase_diagram
