"""`superpose reproduce`: the experiments of "Toy Models of Superposition", run, scored and drawn."""

import json
import traceback
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

import tyro

from superpose.commands import run
from superpose.reproduction import catalogue, cells
from superpose.settings import Processes


@dataclass(frozen=True)
class Reproduce:
    """Experiments of "Toy Models of Superposition": run, and each finding held against the published value.

    Each writes result.nc, findings.json and figure.html to OUT/NAME/full-DIGEST (or quick-DIGEST), the digest that of its
    settings. A finished one is read instead of computed; stop it at any time, the same command goes on.
    """

    names: tyro.conf.Positional[tuple[str, ...]] = ()
    """which experiments; all where none is named"""
    quick: bool = False
    """small sizes, all in a few minutes, instead of the full ones"""
    out: run.Folder = Path("results/reproduce")
    """folder for the results"""
    again: bool = False
    """remove what is saved of these, and compute it anew"""
    json: bool = False
    """print the findings as JSON instead of a table"""
    list: bool = False
    """print the names and titles of all experiments, and run none"""


def reproduce(command: Reproduce) -> int:
    """Run the experiments, one after another; a failure loses no other. Returns the exit code."""
    if command.list:
        return _list()
    run.prepare(Processes())
    from superpose.reproduction import runs
    from superpose.results import ResultError

    try:
        chosen = runs.chosen(command.names, runs.experiments())
    except ResultError as error:
        return run.told(error, 1)
    start = perf_counter()
    try:
        rows, failures = _all(command, chosen)
    except KeyboardInterrupt:
        if not command.again:
            raise
        return run.told("stopped; finished chunks are kept, the same command without --again goes on", 130)
    if command.json:
        print(json.dumps(run.no_nan(rows), indent=2))
    elif rows:
        _table(rows, perf_counter() - start)
    for name, failure in failures.items():
        run.told(f"{name}: {failure}", 1)
    return 1 if failures else 0


def _list() -> int:
    try:
        titles = catalogue.titles()
    except ModuleNotFoundError as error:
        return run.told(error, 1)
    width = max(map(len, titles))
    print(*(f"{name:{width}}  {title}" for name, title in titles.items()), sep="\n")
    return 0


def _all(command: Reproduce, chosen: dict[str, Any]) -> tuple[list[dict[str, Any]], dict[str, str]]:
    """All findings, and by its name what went wrong with an experiment."""
    rows, failures = [], {}
    with _progress(len(chosen)) as bar:
        for name, experiment in chosen.items():
            bar.begin(name)
            try:
                _one(command, experiment, rows, bar)
            except Exception as error:  # one that fails loses no other
                failures[name] = _told(command, experiment, error)
    return rows, failures


def _one(command: Reproduce, experiment: Any, rows: list[dict[str, Any]], bar: "_progress") -> None:
    """Compute or read one experiment, score it (`rows` grows), and draw it."""
    from superpose.reproduction import runs
    from superpose.results import write_atomically

    if isinstance(experiment, Exception):
        raise experiment
    how, folder = {"quick": command.quick}, runs.place(command.out, experiment, quick=command.quick)
    dataset = runs.computed(command.out, experiment, **how, again=command.again, advance=bar.advance)
    found = runs.rows(experiment, dataset)
    rows += found
    run.write_json(folder / "findings.json", found)
    figure = experiment.figure(dataset)
    write_atomically(folder / "figure.html", lambda path: figure.write_html(path, include_plotlyjs=True))
    (folder / "error.txt").unlink(missing_ok=True)
    bar.end(found, float(dataset.attrs["seconds"]))


def _told(command: Reproduce, experiment: Any, error: Exception) -> str:
    """An error in one line; the traceback of one that nobody foresaw goes to a file."""
    from superpose.reproduction import runs
    from superpose.results import ResultError

    if isinstance(error, ResultError):
        return str(error)
    if isinstance(error, OSError) and error.filename:
        return f"{error.filename}: {error.strerror}"
    line = run.first_line(error)
    if experiment is not error:
        file = runs.place(command.out, experiment, quick=command.quick) / "error.txt"
        with suppress(OSError):
            file.write_text("".join(traceback.format_exception(error)))
            line += f" (traceback in {file})"
    return line


def _table(rows: list[dict[str, Any]], seconds: float) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(show_lines=True)
    for name in ("experiment", "claim", "expected", "found", "holds"):
        table.add_column(name)
    for row in rows:
        table.add_row(row["experiment"], *cells(row))
    console = Console()
    if not console.is_terminal:
        console = Console(width=140)
    console.print(table)
    console.print(f"{sum(row['holds'] for row in rows)} of {len(rows)} findings hold; {seconds:.0f} s")


class _progress:
    """On standard error, which experiment runs and how far it is, where somebody looks; and a line for each that is finished."""

    def __init__(self, count: int):
        from rich.console import Console
        from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

        self.console = Console(stderr=True, highlight=False, soft_wrap=True, markup=False)
        columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
        self.bar, self.seen = Progress(*columns, console=self.console, transient=True), self.console.is_terminal
        self.count, self.index, self.name, self.points = count, 0, "", 0
        self.task = self.bar.add_task("")

    def begin(self, name: str) -> None:
        """The next experiment."""
        self.index, self.name, self.points = self.index + 1, name, 0
        self.bar.reset(self.task)
        self.advance(0)

    def advance(self, more: int) -> None:
        """So many more points are done."""
        self.points += more
        done = f", {self.points:,} points" if self.points else ""
        self.bar.update(self.task, description=f"{self.index} of {self.count}: {self.name}{done}")

    def end(self, found: list[dict[str, Any]], seconds: float) -> None:
        """The experiment is finished."""
        hold = sum(row["holds"] for row in found)
        self.console.print(f"{self.index} of {self.count}: {self.name}: {hold} of {len(found)} hold; {seconds:.1f} s")

    def __enter__(self) -> "_progress":
        if self.seen:
            self.bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self.seen:
            self.bar.stop()
