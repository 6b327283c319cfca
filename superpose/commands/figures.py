"""`superpose figures`: every figure redrawn from saved results."""

import os
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import tyro

from superpose.commands import phase, run
from superpose.settings import Processes


@dataclass(frozen=True)
class Figures:
    """Figures of experiments and phase diagrams, from what `superpose reproduce` and `superpose phase` have saved.

    Nothing is computed. Writes OUT/NAME.FORMAT.
    """

    names: tyro.conf.Positional[tuple[str, ...]] = ()
    """experiments, phase-n2-m1, phase-n3-m2; all where none is named"""
    format: Literal["html", "pdf", "svg", "png"] = "html"
    """all but html need the extra `figures` and Chrome or chromium"""
    columns: Literal[1, 2] | None = None
    """make it as wide as one or two columns of a journal; otherwise as each figure is"""
    quick: bool = False
    """the results of `superpose reproduce --quick`"""
    results: run.Folder = Path("results")
    """folder that holds reproduce/ and phase/"""
    out: run.Folder = Path("results/figures")
    """folder for the figures"""


def figures(command: Figures) -> int:
    """Draw what there is; a missing result is told and loses no other figure. Returns the exit code."""
    run.prepare(Processes())
    from superpose.plot import export
    from superpose.plot.template import sized
    from superpose.reproduction import runs
    from superpose.results import ResultError

    drawn, failures = {}, []
    try:
        chosen = runs.chosen(command.names, _drawers(command))
    except ResultError as error:
        return run.told(error, 1)
    for name, draw in chosen.items():
        try:
            figure = draw()
        except ResultError as error:
            failures.append(str(error))
        except Exception as error:  # of a figure's own code
            failures.append(f"{name}: {run.first_line(error)}")
        else:
            drawn[command.out / f"{name}.{command.format}"] = sized(figure, command.columns) if command.columns else figure
    try:
        export.write(drawn)
    except export.ExportError as error:
        return run.told(error, 1)
    print(*drawn, sep="\n", end="\n" if drawn else "")
    for failure in failures:
        run.told(failure, 1)
    return 1 if failures else 0


def _drawers(command: Figures) -> dict[str, Any]:
    """What draws each figure, by its name."""
    from superpose.reproduction import runs

    sizes = [f"n{n}-m{m}" for n, m in phase.PUBLISHED]
    phases = {f"phase-{size}": partial(_phase, command.results / "phase", size) for size in sizes}
    known = runs.experiments()
    return phases | {name: partial(_experiment, command, experiment) for name, experiment in known.items()}


def _phase(folder: Path, size: str) -> Any:
    from superpose.plot import phase_diagram
    from superpose.results import ResultError, load

    path = folder / size / "phase.nc"
    if not os.path.lexists(path):
        raise ResultError(f"{path}: missing; `superpose phase --out {folder}` makes it")
    return phase_diagram(load(path))


def _experiment(command: Figures, experiment: Any) -> Any:
    from superpose.reproduction import runs

    if isinstance(experiment, Exception):
        raise experiment
    return experiment.figure(runs.saved(command.results / "reproduce", experiment, quick=command.quick))
