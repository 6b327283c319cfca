"""Results on disk: finished rows while a run goes on, then one labelled file with its provenance.

A row is an `.npz` named by the hash of the settings and its number, written under a temporary name, synced and renamed, so a
row that is there is whole. The finished result is a NetCDF-3 file, readable by anything. Nothing here knows what it holds.
"""

import hashlib
import json
import os
import platform
import shutil
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

FORMAT = "superpose results 1"
"""Written into each result; a file with another one is refused."""


class ResultError(Exception):
    """A results folder or file that cannot be used; the message names it and says what to do."""


def settings_text(settings: Any) -> str:
    """A configuration as canonical JSON."""
    return json.dumps(asdict(settings), sort_keys=True, separators=(",", ":"))


def settings_hash(settings: Any) -> str:
    """The first 16 hexadecimal digits of the SHA-256 of format, version and settings."""
    text = "\n".join([FORMAT, _version("superpose"), settings_text(settings)])
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def write_atomically(path: Path, write: Callable[[Path], object]) -> None:
    """Have `write` fill a temporary file beside `path`, sync it and rename it: `path` is then old or new, never half."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        write(temporary)
        with open(temporary, "rb+") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def check_writable(folder: Path) -> None:
    """Raise ResultError unless files can be made in `folder`, which is created."""
    probe = folder / f".writable.{os.getpid()}"
    try:
        write_atomically(probe, lambda path: path.write_bytes(b""))
        probe.unlink()
    except OSError as error:
        raise ResultError(f"out = {folder}: needs a folder that can be written ({error.strerror})") from None


def _row_path(folder: Path, settings: Any, row: int) -> Path:
    return folder / f".rows-{settings_hash(settings)}" / f"row-{row:05d}.npz"


def save_row(folder: Path, settings: Any, row: int, arrays: Mapping[str, np.ndarray]) -> None:
    """Keep a finished row of the run with these settings."""

    def write(path: Path) -> None:
        with open(path, "wb") as file:
            np.savez(file, allow_pickle=False, **arrays)

    write_atomically(_row_path(folder, settings, row), write)


def load_row(folder: Path, settings: Any, row: int) -> dict[str, np.ndarray] | None:
    """A finished row of the run with these settings; None if it is missing or damaged, and so has to be computed."""
    try:
        with open(_row_path(folder, settings, row), "rb") as file, np.load(file, allow_pickle=False) as data:
            return {name: data[name] for name in data.files}
    except Exception:  # zipfile and NumPy raise whatever damaged bytes lead them to
        return None


def clear_rows(folder: Path, settings: Any) -> None:
    """Remove the rows of a run whose result is written."""
    shutil.rmtree(_row_path(folder, settings, 0).parent, ignore_errors=True)


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
        "versions": json.dumps({name: _version(name) for name in names} | {"python": platform.python_version()}),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "device": f"{jax.device_count()} x {jax.devices()[0].device_kind}",
        "commit": _commit(),
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def _version(package: str) -> str:
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
