"""`superpose phase`: exact phase diagrams, computed, drawn and reported."""

import json
import os
from collections.abc import Callable, Set
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from superpose import processes
from superpose.commands import run
from superpose.settings import Diagram, Processes

if TYPE_CHECKING:
    import xarray as xr

PUBLISHED = ((2, 1), (3, 2))
"""(n, m) of the two phase diagrams in "Toy Models of Superposition"."""


@dataclass(frozen=True)
class Phase:
    """Exact phase diagrams: is a feature ignored, stored on its own, or in superposition?

    Without --n and --m, both published diagrams: n=2, m=1 and n=3, m=2; otherwise give both. Writes phase.nc, phase.html and
    summary.json. Stop it at any time; the same command goes on.
    """

    diagram: Annotated[Diagram, tyro.conf.arg(name="")] = field(default_factory=Diagram)
    """settings of the diagram"""
    out: run.Folder = Path("results/phase")
    """folder for the results; two diagrams get a folder each in it"""
    check: int = 0
    """also train so many cells by sampling, and hold them against their certified minima"""
    json: bool = False
    """print the summary as JSON instead of a table"""
    processes: Annotated[Processes, tyro.conf.arg(name="")] = field(default_factory=Processes)
    """several processes, on this machine or many, that share the work"""


def phase(command: Phase, *, sizes: Set[str]) -> int:
    """Compute, check, draw and report, for the sizes of the settings or both published ones; returns the exit code.

    Args:
        command: what to do.
        sizes: which of --n and --m were given.

    Raises:
        ValueError: only one of them was, the number of cells to check is negative, or the machine has too little memory.
    """
    if command.check < 0:
        raise ValueError(f"check = {command.check}: needs a number of cells, 0 or more")
    n, m, published = command.diagram.n, command.diagram.m, not sizes
    if sizes == {"--n"}:
        raise ValueError(f"m = not given: needs --m beside --n {n}, the hidden dimensions, from 1 to {n}")
    if sizes == {"--m"}:
        raise ValueError(f"n = not given: needs --n beside --m {m}, the features, at least {m}")
    diagrams = [replace(command.diagram, n=n, m=m) for n, m in PUBLISHED] if published else [command.diagram]
    for diagram in diagrams:
        _check_memory(diagram)
    run.prepare(command.processes)
    from superpose.results import ResultError

    unwritten: list[OSError] = []
    try:
        summaries = [_one(d, command, _folder(command.out, d) if published else command.out, unwritten) for d in diagrams]
    except ResultError as error:
        return run.told(error, 1)
    except (MemoryError, RuntimeError) as error:
        if isinstance(error, RuntimeError) and "RESOURCE_EXHAUSTED" not in str(error):
            raise
        return run.told("memory: not enough here for the models of a row; needs a smaller n or m, or fewer importances", 1)
    if processes.is_first():
        if command.json:
            print(json.dumps(run.no_nan(summaries), indent=2))
        if published:
            _write(unwritten, lambda: run.write_json(command.out / "summary.json", summaries))
    for error in unwritten:
        run.told(run.unwritten(error), 1)
    failed = [cell for s in summaries for cell in s.get("check", []) if cell["below"] > 5]
    return 1 if failed or unwritten else 0


def _write(unwritten: list[OSError], write: Callable[[], object]) -> None:
    """Write; what cannot be written joins the list, and keeps nothing else from being told."""
    try:
        write()
    except OSError as error:
        unwritten.append(error)


def _check_memory(diagram: Diagram) -> None:
    """Raise ValueError if what must be held at least, one model's overlaps and all models' parameters, is more than there is."""
    d, here = diagram, os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    overlaps, models = 8 * d.n**2, 8 * d.n * (d.m + 1) * d.densities * d.importances * d.restarts
    if overlaps > here:
        raise ValueError(f"n = {d.n}: needs {_gib(overlaps)} for the overlaps of one model, and here are {_gib(here)}")
    if models > here:
        counts = f"densities = {d.densities}, importances = {d.importances}, restarts = {d.restarts}"
        raise ValueError(f"{counts}: needs {_gib(models)} for the models, and here are {_gib(here)}; take fewer")


def _gib(size: int) -> str:
    return f"{size / 2**30:,.0f} GiB"


def _folder(out: Path, diagram: Diagram) -> Path:
    return out / f"n{diagram.n}-m{diagram.m}"


def _one(diagram: Diagram, command: Phase, folder: Path, unwritten: list[OSError]) -> dict[str, Any]:
    from superpose.commands.phase_report import report
    from superpose.phase.run import compute, summary

    with run.Progress(f"n={diagram.n}, m={diagram.m}", total=diagram.densities, unit="rows") as advance:
        dataset = compute(diagram, folder, advance=advance)
    numbers = summary(dataset) | {"settings": asdict(diagram), "folder": str(folder)}
    if command.check:
        from superpose.phase.sampled import check_cells

        numbers["check"] = check_cells(dataset, diagram, command.check, folder / ".check.chunks")
    if processes.is_first():
        if not command.json:
            report(numbers, dataset)
        _write(unwritten, lambda: _publish(numbers, dataset, folder))
    return numbers


def _publish(numbers: dict[str, Any], dataset: "xr.Dataset", folder: Path) -> None:
    from superpose.plot import phase_diagram
    from superpose.results import write_atomically

    figure = phase_diagram(dataset)
    write_atomically(folder / "phase.html", lambda path: figure.write_html(path, include_plotlyjs=True))
    run.write_json(folder / "summary.json", numbers)
