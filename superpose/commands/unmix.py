"""`superpose unmix`: features in superposition are found again, scored against the truth, steered and ablated."""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from superpose.commands import run
from superpose.settings import Processes, Recovery, Unmixing

if TYPE_CHECKING:
    import xarray as xr

TITLES = {
    "directions_found": "True against recovered directions",
    "latents_and_features": "Before and after: what neurons and latents stand for",
    "scores_against_l0": "Scores against the number of active latents",
    "answers": "Can a concept be read, its computation traced, be edited alone, its absence verified?",
}


@dataclass(frozen=True)
class Unmix:
    """Un-mix a toy model: sparse autoencoders find its features in its activations, and are scored, steered and ablated.

    Writes unmix.nc, unmix.html and summary.json. With --phase instead a map, without samples, of where the true dictionary is the
    optimum of a sparse autoencoder; it writes recovery.nc, recovery.html and summary.json. Stop it at any time; the same command
    goes on.
    """

    settings: Annotated[Unmixing, tyro.conf.arg(name="")] = field(default_factory=Unmixing)
    """of the model and the autoencoders"""
    phase: bool = False
    """draw the phase diagram of recovery instead"""
    recovery: Recovery = field(default_factory=Recovery)
    """settings of the phase diagram"""
    out: run.Folder = Path("results/unmix")
    """folder for the results"""
    json: bool = False
    """print the summary as JSON instead of tables"""


def unmix(command: Unmix) -> int:
    """Compute, score, draw and report; returns the exit code."""
    run.prepare(Processes())
    return _recovery(command) if command.phase else _unmixed(command)


def _unmixed(command: Unmix) -> int:
    from superpose.commands.unmix_report import report
    from superpose.results import ResultError
    from superpose.unmix import compute, summary

    try:
        with run.Progress("un-mixing", total=len(command.settings.variants) + 2, unit="parts") as advance:
            dataset = compute(command.settings, command.out, advance=lambda _: advance())
    except ResultError as error:
        return run.told(error, 1)
    numbers = run.no_nan(summary(dataset) | {"settings": asdict(command.settings), "folder": str(command.out)})
    if command.json:
        print(json.dumps(numbers, indent=2))
    else:
        report(numbers)
    try:
        _publish(numbers, dataset, command.out)
    except OSError as error:
        return run.told(run.unwritten(error), 1)
    return 0


def _recovery(command: Unmix) -> int:
    from superpose import plot
    from superpose.commands.unmix_report import report_recovery
    from superpose.results import ResultError, write_atomically
    from superpose.unmix import recovery_summary, solve_recovery

    how, cells = command.recovery, command.recovery.densities * command.recovery.penalties
    try:
        with run.Progress(how.shape, total=cells, unit="cells") as advance:
            dataset = solve_recovery(how, command.out / "recovery.nc", advance=advance)
    except ResultError as error:
        return run.told(error, 1)
    numbers = run.no_nan(recovery_summary(dataset) | {"settings": asdict(how), "folder": str(command.out)})
    if command.json:
        print(json.dumps(numbers, indent=2))
    else:
        report_recovery(numbers)
    try:
        figure = plot.recovery(dataset)
        write_atomically(
            command.out / "recovery.html", lambda path: figure.write_html(path, include_plotlyjs=True, div_id="recovery")
        )
        run.write_json(command.out / "summary.json", numbers)
    except OSError as error:
        return run.told(run.unwritten(error), 1)
    return 0


def _publish(numbers: dict[str, Any], dataset: "xr.Dataset", folder: Path) -> None:
    from superpose import plot
    from superpose.results import write_atomically

    parts = []
    for k, (name, title) in enumerate(TITLES.items()):
        figure = getattr(plot, name)(dataset)
        parts.append(f"<h2>{title}</h2>" + figure.to_html(full_html=False, include_plotlyjs=k == 0, div_id=name))
    page = f"<!DOCTYPE html><html lang='en'><head><meta charset='utf-8'><title>superpose unmix</title>{STYLE}</head><body>"
    write_atomically(folder / "unmix.html", lambda path: path.write_text(page + "".join(parts) + "</body></html>"))
    run.write_json(folder / "summary.json", numbers)


STYLE = (
    "<style>body{font-family:Arial,Helvetica,sans-serif;margin:2em auto;max-width:1040px}"
    "h2{font-size:1.1em;margin:2em 0 0}</style>"
)
