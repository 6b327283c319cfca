"""Experiments run by name: each computed once for its settings, saved with its provenance, and scored from what is saved.

An experiment is a module, found by `catalogue`, with `NAME`, `TITLE`, `PAPER`, `Config`, `QUICK`, `compute`, `findings`
and `figure`. Its results of one configuration are in `<out>/<name>/<full or quick>-<digest of the settings>/`, so that no other
configuration overwrites them. A result is known by its settings; where `compute` has changed since it was made, a warning says so.
"""

import difflib
import hashlib
import importlib
import inspect
import logging
import os
import shutil
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from time import perf_counter
from typing import Any

import xarray as xr

from superpose import results, sweep
from superpose.reproduction import catalogue
from superpose.sweep import source

RESULT = "result.nc"
"""The file of a finished experiment."""

log = logging.getLogger(__name__)


def experiments() -> dict[str, Any]:
    """Every experiment's module by its name, in the paper's order; one that cannot be imported is its error instead.

    Raises:
        ResultError: there is no package of experiments, see `catalogue`.
    """
    try:
        return dict(map(_imported, catalogue.modules()))
    except ModuleNotFoundError as error:
        raise results.ResultError(str(error)) from None


def _imported(module: str) -> tuple[str, Any]:
    try:
        found = importlib.import_module(f"{catalogue.PACKAGE}.{module}")
        return found.NAME, found
    except Exception as error:  # whatever is wrong with one, the others run
        return module.replace("_", "-"), error


def chosen(names: Iterable[str], known: Mapping[str, Any]) -> dict[str, Any]:
    """Those of the known that are named, or all where none is.

    Raises:
        ValueError: a name that is not known; the message offers the nearest.
    """
    names = tuple(names) or tuple(known)
    for name in names:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1, cutoff=0.4)
            needs = f"the name of an experiment; perhaps {near[0]}" if near else f"one of {', '.join(known)}"
            raise ValueError(f"name = {name}: needs {needs}")
    return {name: known[name] for name in names}


def configuration(experiment: Any, *, quick: bool) -> Any:
    """The settings of a quick or a full run."""
    return experiment.QUICK if quick else experiment.Config()


def place(out: Path, experiment: Any, *, quick: bool) -> Path:
    """The folder of an experiment's results of one configuration."""
    text = results.settings_text(configuration(experiment, quick=quick))
    digest = hashlib.sha256(text.encode()).hexdigest()[:8]
    return out / experiment.NAME / f"{'quick' if quick else 'full'}-{digest}"


def saved(out: Path, experiment: Any, *, quick: bool) -> xr.Dataset:
    """The saved result of one configuration.

    Raises:
        ResultError: it is missing, damaged, or of other settings; the message names the command that makes it.
    """
    command = f"superpose reproduce {experiment.NAME}" + " --quick" * quick
    path = place(out, experiment, quick=quick) / RESULT
    if not os.path.lexists(path):
        raise results.ResultError(f"{path}: missing; `{command} --out {out}` makes it")
    try:
        dataset = results.load(path)
    except results.ResultError as error:
        raise results.ResultError(f"{error}; so does `{command} --again --out {out}`") from None
    if dataset.attrs.get("settings") != results.settings_text(configuration(experiment, quick=quick)):
        raise results.ResultError(f"{path}: holds a result of other settings; `{command} --again --out {out}` replaces it")
    if dataset.attrs.get("code_sha256", code := _code(experiment)) != code:
        log.warning("%s: made before `compute` was changed; `%s --again --out %s` computes it anew", path, command, out)
    return dataset


def _code(experiment: Any) -> str:
    """Digest of what computes an experiment: its `compute` and all that this refers to in its module."""
    return source.reached(inspect.getsource(experiment), "compute")


def computed(
    out: Path,
    experiment: Any,
    *,
    quick: bool,
    again: bool = False,
    advance: Callable[[int], None] = lambda _: None,
) -> xr.Dataset:
    """The result of one configuration: read if it is there, else computed, its finished chunks kept meanwhile.

    Args:
        out: folder of all results.
        experiment: its module.
        quick: `QUICK` instead of the full `Config()`.
        again: remove a result that is there, and compute it anew.
        advance: called with the number of points of each chunk that is finished.

    Raises:
        ResultError: the folder is in use or cannot be written; the saved result is damaged or of other settings.
    """
    folder = place(out, experiment, quick=quick)
    path, unfinished, config = folder / RESULT, folder / ".chunks", configuration(experiment, quick=quick)
    if os.path.lexists(path) and not again:
        dataset = saved(out, experiment, quick=quick)
        sweep.clear_leftovers(unfinished)
        return dataset
    with sweep.lock(unfinished):
        if os.path.lexists(path):
            path.unlink()
            shutil.rmtree(unfinished / "sweep", ignore_errors=True)
        start = perf_counter()
        dataset = experiment.compute(config, unfinished / "sweep", advance)
        results.remove_temporaries(path)
        dataset = dataset.assign_attrs(experiment=experiment.NAME, code_sha256=_code(experiment))
        results.save(path, dataset, config, seconds=perf_counter() - start)
        dataset = saved(out, experiment, quick=quick)
        sweep.clear(unfinished)
    return dataset


def rows(experiment: Any, dataset: xr.Dataset) -> list[dict[str, Any]]:
    """The checks of a saved result, as plain values that JSON has; see `Check.row`."""
    return [{"experiment": experiment.NAME} | check.row() for check in experiment.findings(dataset)]
