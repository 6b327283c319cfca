"""Results on disk: one labelled file with its provenance, NetCDF-3, readable by anything. Nothing here knows what it holds."""

import json
import os
import platform
import subprocess
from collections.abc import Callable
from dataclasses import asdict
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import xarray as xr

FORMAT = "superpose results 1"
"""Written into each result; a file with another one is refused."""


class ResultError(Exception):
    """A results folder or file that cannot be used; the message names it and says what to do."""


def settings_text(settings: Any) -> str:
    """A configuration as canonical JSON."""
    return json.dumps(asdict(settings), sort_keys=True, separators=(",", ":"))


def write_atomically(path: Path, write: Callable[[Path], object]) -> None:
    """Have `write` fill a temporary file beside `path`, sync it and rename it: `path` is then old or new, never half.

    A process killed here leaves its temporary file; `remove_temporaries` finds it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        write(temporary)
        with open(temporary, "rb+") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        error.filename = str(path)  # a write that fails does not say which
        raise
    finally:
        temporary.unlink(missing_ok=True)


def remove_temporaries(path: Path) -> None:
    """Remove what processes that were killed while they wrote `path` have left; call it while nobody writes."""
    for temporary in path.parent.glob(f".{path.name}.*"):
        temporary.unlink(missing_ok=True)


def save(path: Path, dataset: xr.Dataset, settings: Any, *, seconds: float) -> None:
    """Write a finished result with its settings, versions, device, commit and time as attributes."""
    labelled = dataset.assign_attrs(provenance() | {"settings": settings_text(settings), "seconds": seconds})
    write_atomically(path, lambda temporary: labelled.to_netcdf(temporary, engine="scipy"))


def load(path: Path) -> xr.Dataset:
    """Read a result.

    Raises:
        ResultError: no such file, one that is cut short or not a result at all, or one of another version's format.
    """
    try:
        with xr.open_dataset(path, engine="scipy") as file:
            dataset = file.load()
    except FileNotFoundError:
        raise ResultError(f"{path}: no such results file") from None
    except Exception as error:  # scipy raises whatever a damaged header leads it to
        reason = next(iter(str(error).splitlines()), type(error).__name__)  # xarray writes paragraphs
        raise ResultError(f"{path}: damaged or not a results file ({reason}); move it away to compute it again") from None
    if dataset.attrs.get("format") != FORMAT:
        raise ResultError(f"{path}: format {dataset.attrs.get('format')!r}, needs {FORMAT!r}; written by another version")
    return dataset


def provenance() -> dict[str, str]:
    """What made a result: format, versions, machine, device, commit of a source checkout, time."""
    import jax

    names = ("superpose", "jax", "jaxlib", "numpy")
    return {
        "format": FORMAT,
        "versions": json.dumps({name: package_version(name) for name in names} | {"python": platform.python_version()}),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "device": f"{jax.device_count()} x {jax.devices()[0].device_kind}",
        "commit": _commit(),
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def package_version(package: str) -> str:
    """Version of an installed package, or "unknown"."""
    try:
        return version(package)
    except PackageNotFoundError:
        return "unknown"


def _commit() -> str:
    """The commit of the checkout this file is in, with `+` if it has changes; empty if installed without one."""
    here = Path(__file__).parent

    def git(*arguments: str) -> str:
        done = subprocess.run(["git", "-C", str(here), *arguments], capture_output=True, text=True, timeout=10, check=True)
        return done.stdout.strip()

    try:
        if Path(git("rev-parse", "--show-toplevel")) != here.parent:
            return ""
        return git("rev-parse", "HEAD") + ("+" if git("status", "--porcelain", "-uno") else "")
    except (OSError, subprocess.SubprocessError):
        return ""
