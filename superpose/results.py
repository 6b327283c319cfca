"""Results on disk: one labelled file with its provenance, NetCDF-3, readable by anything; and the best restart of a dataset.

The attribute `file_sha256` is the SHA-256 of the whole file, with its own 64 digits replaced by zeros: a wrong byte anywhere, in
the header too, is found.
"""

import errno
import hashlib
import io
import json
import os
import platform
import stat
import subprocess
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, is_dataclass
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

FORMAT = "superpose results 2"
"""Written into each result; a file with another one is refused."""
UNSEALED = "superpose results 1"
"""Format of older files, which have no checksum and are read as well."""
EQUAL = 1e-6
"""The share of a loss by which another has to be lower to be better, if it is not certified."""
ZEROS = b"0" * 64
SEAL = b"\0\0\0\x0bfile_sha256\0" + b"\0\0\0\x02" + b"\0\0\0\x40"
"""What stands before the digits of the checksum in a NetCDF-3 file: length and name of the attribute, type, length."""


class ResultError(Exception):
    """A results folder or file that cannot be used; the message names it and says what to do."""


def settings_text(settings: Any) -> str:
    """A configuration, an instance of a dataclass, as canonical JSON; ValueError if it is none."""
    if not is_dataclass(settings) or isinstance(settings, type):
        raise ValueError(f"settings = {settings!r}: needs an instance of a dataclass")
    return json.dumps(asdict(settings), sort_keys=True, separators=(",", ":"))


def write_atomically(path: Path, write: Callable[[Path], object]) -> None:
    """Have `write` fill a temporary file beside `path`, sync it and rename it: `path` is then old or new, never half.

    A process killed here leaves its temporary file; `remove_temporaries` finds it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = _temporary(path)
    try:
        write(temporary)
        with open(temporary, "rb+") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        error.filename = str(path)  # a write that fails does not say which
        raise
    finally:
        with suppress(OSError):  # of a file system that cannot be written
            temporary.unlink(missing_ok=True)


def _temporary(path: Path) -> Path:
    """A name beside `path` for this process to write to; what stands there and is a folder stays."""
    names = (path.with_name(f".{path.name}.{number}") for number in count(os.getpid()))
    free = next(name for name in names if not os.path.isdir(name))
    with suppress(OSError):  # then writing fails too, and says why
        free.unlink(missing_ok=True)
    return free


def remove_temporaries(path: Path) -> None:
    """Remove what processes that were killed while they wrote `path` have left; call it while nobody writes."""
    for temporary in path.parent.glob(f".{path.name}.*"):
        if not temporary.is_dir():
            temporary.unlink(missing_ok=True)


def save(path: Path, dataset: xr.Dataset, settings: Any, *, seconds: float) -> None:
    """Write a finished result with its settings, versions, device, commit, time and checksum as attributes."""
    made = provenance() | {"settings": settings_text(settings), "seconds": seconds, "file_sha256": ZEROS.decode()}
    content = bytes(dataset.assign_attrs(made).to_netcdf(engine="scipy"))
    before, _, after = _parted(content)
    write_atomically(path, lambda temporary: temporary.write_bytes(before + _checksum(content) + after))


def load(path: str | Path) -> xr.Dataset:
    """Read a result.

    Raises:
        ResultError: no such file, one that is damaged or not a result at all, or one of another version's format. Files of the
            format before this one have no checksum: of these only what cannot be read at all is found damaged.
    """
    content = _content(Path(path))
    sealed = SEAL in content
    if sealed and _parted(content)[1] != _checksum(content):
        raise _unreadable(path, "its checksum is another")
    try:
        with xr.open_dataset(io.BytesIO(content), engine="scipy") as file:
            dataset = file.load()
    except Exception as error:  # scipy raises whatever a damaged header leads it to
        reason = next(iter(str(error).splitlines()), type(error).__name__)  # xarray writes paragraphs
        raise _unreadable(path, reason) from None
    found = dataset.attrs.get("format")
    if str(found) not in (FORMAT, UNSEALED):
        raise ResultError(f"{path}: format {found!r}, needs {FORMAT!r}; written by another version")
    if found == FORMAT and not sealed:
        raise _unreadable(path, "its checksum is missing")
    return dataset


def best(dataset: xr.Dataset, *, dim: str = "restart", by: str = "loss", certified: str = "converged") -> xr.Dataset:
    """The restart of least finite loss, at each place of the other dimensions of the loss.

    A restart that is not certified counts as a millionth above its loss. So of restarts that differ by rounding a certified one
    is taken. Where no loss is finite, it is the first restart.

    Args:
        dataset: with a variable named `by`, over `dim` and any other dimensions.
        dim: the dimension of the restarts.
        by: the variable that is to be least.
        certified: a variable over the same dimensions, not 0 where a restart is certified; a dataset without it has none.

    Returns:
        The dataset without `dim`. Where `dim` has a coordinate, that says which restart was taken.

    Raises:
        ValueError: `by` is not a variable over `dim`.
    """
    if by not in dataset or dim not in dataset[by].dims:
        raise ValueError(f"by = {by}: needs a variable over {dim}, in a dataset of {', '.join(map(str, dataset.data_vars))}")
    loss = dataset[by]
    if certified in dataset:
        loss = loss.where(dataset[certified] != 0, loss + EQUAL * abs(loss))
    return dataset.isel({dim: loss.where(np.isfinite(loss), np.inf).argmin(dim)})


def regular_bytes(path: Path) -> bytes:
    """All bytes of a file; OSError for what is none, as a folder, and for a pipe or a device, which might never end."""
    if not stat.S_ISREG(path.stat().st_mode):
        raise OSError(errno.EINVAL, "not a file", str(path))
    return path.read_bytes()


def _content(path: Path) -> bytes:
    try:
        return regular_bytes(path)
    except FileNotFoundError:
        if not os.path.lexists(path):
            raise ResultError(f"{path}: no such results file") from None
        raise _unreadable(path, "a link to nothing") from None
    except OSError as error:
        raise _unreadable(path, error.strerror or type(error).__name__) from None


def _unreadable(path: str | Path, reason: str) -> ResultError:
    return ResultError(f"{path}: damaged or not a results file ({reason}); move it away to compute it again")


def _parted(content: bytes) -> tuple[bytes, bytes, bytes]:
    """A sealed file before, in and after the digits of its checksum."""
    start = content.index(SEAL) + len(SEAL)
    return content[:start], content[start : start + len(ZEROS)], content[start + len(ZEROS) :]


def _checksum(content: bytes) -> bytes:
    before, _, after = _parted(content)
    return hashlib.sha256(before + ZEROS + after).hexdigest().encode()


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
