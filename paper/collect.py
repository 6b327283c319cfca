"""The small results that the paper cites, taken from `results/` into `paper/results/`, each with the commit that made it.

`python -m paper.collect` takes what is there, and names the command that makes what is not.
"""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
import xarray as xr

from superpose import results
from superpose.commands.run import write_json
from superpose.phase import boundary, run
from superpose.reproduction import runs
from superpose.settings import Diagram

HERE = Path(__file__).parent / "results"
SIZES = {"phase-n2-m1": Diagram(n=2, m=1), "phase-n3-m2": Diagram(n=3, m=2)}
MADE = ("commit", "created", "machine", "versions", "settings", "seconds")
"""Attributes of a saved result that go with its numbers."""
AT = (0.001, 0.1, 0.5)
"""Densities at which the exact boundary is cited."""


def main(source: Path = Path("results"), here: Path = HERE) -> None:
    """Write one JSON file a result; exit with 1 if any is missing."""
    jax.config.update("jax_enable_x64", True)
    known = runs.experiments()
    makers: dict[str, Callable[[], dict[str, Any]]] = {
        name: lambda name=name: phase(source / "phase", name) for name in SIZES
    }
    makers |= {"boundary": exact_boundary}
    makers |= {name: lambda name=name: experiment(source / "reproduce", known[name]) for name in known}
    missing = []
    for name, make in makers.items():
        try:
            write_json(here / f"{name}.json", make())
        except results.ResultError as error:
            missing.append(str(error))
    sys.exit("\n".join(missing) or None)


def phase(folder: Path, name: str) -> dict[str, Any]:
    """Summary of a phase diagram, and what its restarts found."""
    path = folder / name.removeprefix("phase-") / "phase.nc"
    command = f"`superpose phase --out {folder}` makes it"
    if not path.exists():
        raise results.ResultError(f"{path}: missing; {command}")
    dataset = results.load(path)
    if dataset.attrs["settings"] != results.settings_text(SIZES[name]):
        raise results.ResultError(f"{path}: of other settings; {command} once it is moved away")
    numbers = {key: value for key, value in run.summary(dataset).items() if key != "boundary"}
    return {name: dataset.attrs[name] for name in MADE} | {"numbers": numbers | basins(dataset)}


def basins(dataset: xr.Dataset) -> dict[str, float]:
    """What random restarts that converged say of a cell, and what the average of all but the worst would."""
    random = slice(0, json.loads(dataset.attrs["settings"])["restarts"])
    here = dataset.isel(restart=random)
    loss = here["loss"].where(here["converged"] == 1)
    lowest = dataset["loss"].min("restart")
    rank = dataset["basin"].values
    kept = (here["W"].isel(feature=-1) ** 2).sum("hidden").where(here["converged"] == 1)
    stored = (kept > 0.01).where(kept.notnull())
    worst = (loss.max("restart") / lowest - 1).values
    others = (loss.sum("restart") - loss.max("restart")) / (loss.notnull().sum("restart") - 1)
    return {
        "cells_with_several_minima": float((rank.max(-1) > 0).mean()),
        "most_minima": int(rank.max()) + 1,
        "cells_whose_restarts_disagree": float((stored.max("restart") > stored.min("restart")).values.mean()),
        "worst_minimum_above_lowest": float(np.nanmax(worst)),
        "average_above_lowest": float((others / lowest - 1).mean()),
        "cells_missed_by_random_starts": float((loss.min("restart") > lowest * (1 + 1e-6)).values.mean()),
    }


def exact_boundary() -> dict[str, Any]:
    """Tricritical points, and the boundary at the densities that the text cites."""
    points = {str(p): jax.jit(boundary.critical_importance)(p) for p in AT}
    lower = boundary.published_boundaries(np.array(AT))[0]
    numbers = {
        "tricritical": boundary.tricritical_points(),
        "importance": {p: float(t.importance) for p, t in points.items()},
        "jump": {p: float(t.jump) for p, t in points.items()},
        "published": {p: float(value) for p, value in zip(points, lower, strict=True)},
    }
    made = results.provenance() | {"settings": json.dumps({"at": AT}), "seconds": 0.0}
    return {name: made[name] for name in MADE} | {"numbers": numbers}


def experiment(folder: Path, module: Any) -> dict[str, Any]:
    """The findings of a full run."""
    if isinstance(module, Exception):
        raise results.ResultError(f"an experiment cannot be imported: {module}")
    dataset = runs.saved(folder, module, quick=False)
    return {name: dataset.attrs[name] for name in MADE} | {"findings": runs.rows(module, dataset)}


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:2]))
