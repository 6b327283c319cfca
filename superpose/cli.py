"""The command. `superpose phase` computes phase diagrams; heavy imports wait until a command needs them."""

import json
import logging
import os
import sys
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from superpose import processes
from superpose.settings import Diagram, Processes

if TYPE_CHECKING:
    import xarray as xr

PUBLISHED = ((2, 1), (3, 2))
"""(n, m) of the two phase diagrams in "Toy Models of Superposition"."""


@dataclass(frozen=True)
class Phase:
    """Exact phase diagrams: is a feature ignored, stored on its own, or in superposition?

    Without --n and --m, both published diagrams: n=2, m=1 and n=3, m=2. Writes phase.nc, phase.html and summary.json. Stop
    it at any time; the same command goes on.
    """

    diagram: Annotated[Diagram, tyro.conf.arg(name="")] = field(default_factory=Diagram)
    """settings of the diagram"""
    out: Path = Path("results/phase")
    """folder for the results; two diagrams get a folder each in it"""
    check: int = 0
    """also train so many cells by sampling, and hold them against their certified minima"""
    json: bool = False
    """print the summary as JSON instead of a table"""
    processes: Annotated[Processes, tyro.conf.arg(name="")] = field(default_factory=Processes)
    """several processes, on this machine or many, that share the work"""


def main() -> None:
    """Run the command; one line and exit code 2 for a wrong argument, 1 for anything else that a user can cause."""
    try:
        command = tyro.extras.subcommand_cli_from_dict(
            {"phase": Phase},
            prog="superpose",
            description="The mathematics of superposition, computed exactly.",
        )
        given = {argument.split("=")[0] for argument in sys.argv[2:]}
        code = phase(command, published=not given & {"--n", "--m"})
    except ValueError as error:
        code = _told(error, 2)
    except processes.Lost as error:
        code = _told(error, 1)
    except KeyboardInterrupt:
        code = _told("stopped; finished chunks are kept, the same command goes on", 130)
    except OSError as error:
        code = _told(f"{error.filename or 'out'}: {error.strerror}", 1)
    processes.leave(code)


def _told(error: object, code: int) -> int:
    print(f"superpose: {error}", file=sys.stderr, flush=True)
    return code


def _prepare(command: Processes) -> None:
    """Float64, compiled code kept between runs, warnings in one line; and the other processes."""
    processes.begin(command)
    import jax

    logging.basicConfig(format="superpose: %(message)s", level=logging.WARNING)
    jax.config.update("jax_enable_x64", True)
    if not os.environ.get("JAX_COMPILATION_CACHE_DIR"):
        cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "superpose" / "jax"
        jax.config.update("jax_compilation_cache_dir", str(cache))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.1)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", 0)
    processes.connect(command)


def phase(command: Phase, *, published: bool) -> int:
    """Compute, check, draw and report, for both `published` sizes or the one of the settings; returns the exit code."""
    if command.check < 0:
        raise ValueError(f"check = {command.check}: needs a number of cells, 0 or more")
    diagrams = [replace(command.diagram, n=n, m=m) for n, m in PUBLISHED] if published else [command.diagram]
    _prepare(command.processes)
    from superpose.results import ResultError

    try:
        summaries = [_one(d, command, _folder(command.out, d) if published else command.out) for d in diagrams]
    except ResultError as error:
        return _told(error, 1)
    if processes.is_first():
        if published:
            _write_json(command.out / "summary.json", summaries)
        if command.json:
            print(json.dumps(_no_nan(summaries), indent=2))
    failed = [cell for s in summaries for cell in s.get("check", []) if cell["below"] > 5]
    return 1 if failed else 0


def _folder(out: Path, diagram: Diagram) -> Path:
    return out / f"n{diagram.n}-m{diagram.m}"


def _one(diagram: Diagram, command: Phase, folder: Path) -> dict[str, Any]:
    from superpose.phase.run import compute, summary

    with _progress(diagram) as advance:
        dataset = compute(diagram, folder, advance=advance)
    numbers = summary(dataset) | {"settings": asdict(diagram), "folder": str(folder)}
    if command.check:
        from superpose.phase.sampled import check_cells

        numbers["check"] = check_cells(dataset, diagram, command.check, folder / ".check.chunks")
    if processes.is_first():
        _publish(numbers, dataset, folder)
        if not command.json:
            _report(numbers, dataset)
    return numbers


def _publish(numbers: dict[str, Any], dataset: "xr.Dataset", folder: Path) -> None:
    from superpose.plot import phase_diagram
    from superpose.results import write_atomically

    figure = phase_diagram(dataset)
    write_atomically(folder / "phase.html", lambda path: figure.write_html(path, include_plotlyjs=True))
    _write_json(folder / "summary.json", numbers)


def _write_json(path: Path, content: Any) -> None:
    from superpose.results import write_atomically

    write_atomically(path, lambda temporary: temporary.write_text(json.dumps(_no_nan(content), indent=2) + "\n"))


def _no_nan(content: Any) -> Any:
    """The same with null for NaN and infinity, which JSON does not have."""
    return json.loads(json.dumps(content), parse_constant=lambda _: None)


class _progress:
    """A bar over rows on standard error, drawn only where somebody looks."""

    def __init__(self, diagram: Diagram):
        from rich.console import Console
        from rich.progress import MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        columns = (
            *Progress.get_default_columns()[:2],
            MofNCompleteColumn(),
            TextColumn("rows"),
            TimeRemainingColumn(),
        )
        console = Console(stderr=True)
        self.bar, self.seen = (
            Progress(*columns, console=console, transient=True),
            console.is_terminal and processes.is_first(),
        )
        self.task = self.bar.add_task(f"n={diagram.n}, m={diagram.m}", total=diagram.densities)

    def __enter__(self) -> Any:
        if self.seen:
            self.bar.start()
        return lambda: self.bar.advance(self.task)

    def __exit__(self, *_: object) -> None:
        if self.seen:
            self.bar.stop()


def _report(numbers: dict[str, Any], dataset: "xr.Dataset") -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console()
    table = Table(title=f"n = {numbers['n']}, m = {numbers['m']}: {numbers['cells']:,} cells", show_header=False)
    for name, value in _lines(numbers):
        table.add_row(name, value)
    console.print(table)
    if "boundary" in numbers:
        console.print(_boundary_table(numbers["boundary"], "exact_order" in dataset and dataset["exact_order"].values))
    if "check" in numbers:
        console.print(_check_table(numbers["check"]))
    console.print(f"Results in {numbers['folder']}: phase.nc, phase.html, summary.json")


def _lines(numbers: dict[str, Any]) -> list[tuple[str, str]]:
    lines = [
        ("cells with a certified minimum", f"{numbers['cells_certified']:.2%}"),
        ("starts certified", f"{numbers['restarts_certified']:.2%}"),
        ("random starts that end in the lowest basin", f"{numbers['random_starts_in_lowest_basin']:.2%}"),
        ("worst gradient norm of a cell", f"{numbers['worst_gradient_norm']:.1e}"),
        ("worst error of a loss", f"{numbers['worst_loss_error']:.1e}"),
    ]
    if "agreement_with_published" in numbers:
        lines += [
            ("cells that agree with published theory", f"{numbers['agreement_with_published']:.2%}"),
            (
                "boundary against published theory",
                f"{numbers['boundary_offset_decades']:.4f} decades off on average",
            ),
            (
                "published candidates cost up to",
                f"{numbers['largest_gap_of_candidates']:.1%} more than the minimum",
            ),
            ("cells above a fixed candidate", str(numbers["cells_above_a_candidate"])),
        ]
    if "diagram_offset_from_exact_decades" in numbers:
        offset = numbers["diagram_offset_from_exact_decades"]
        lines.append(("boundary against its exact curve", f"{offset:.4f} decades off on average"))
    return [*lines, ("seconds", f"{numbers['seconds']:.1f}")]


def _boundary_table(boundary: dict[str, list[float]], order: Any) -> Any:
    from rich.table import Table

    table = Table(title="importance at which the last feature stops being ignored")
    names = [name for name in ("in_diagram", "exact", "published") if name in boundary]
    for name in (
        "density",
        *(name.replace("_", " ") for name in names),
        *(["transition"] if "exact" in names else []),
    ):
        table.add_column(name, justify="right")
    count = len(boundary["density"])
    for k in sorted({round(j * (count - 1) / 7) for j in range(8)}):
        cells = [f"{boundary['density'][k]:.4f}"]
        cells += ["none" if boundary[name][k] != boundary[name][k] else f"{boundary[name][k]:.6f}" for name in names]
        if "exact" in names:
            cells.append("first order" if order[k] == 1 else "continuous")
        table.add_row(*cells)
    return table


def _check_table(cells: list[dict[str, float]]) -> Any:
    from rich.table import Table

    worst = max(cell["below"] for cell in cells)
    verdict = "none below" if worst == 0 else f"lowest {worst:.1f} standard errors below (5 allowed)"
    table = Table(title=f"trained by sampling against the certified minimum: {verdict}")
    for name in ("density", "importance", "minimum", "trained", "standard error", "above by"):
        table.add_column(name, justify="right")
    for c in cells:
        numbers = (
            f"{c['density']:.4f}",
            f"{c['importance']:.4f}",
            f"{c['minimum']:.6e}",
            f"{c['trained']:.6e}",
        )
        table.add_row(*numbers, f"{c['sem']:.1e}", f"{c['excess']:+.2%}")
    return table
