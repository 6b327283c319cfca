"""Chunks on disk: what a sweep has finished, kept as it goes, so that a run killed at any moment goes on where it was.

A chunk is an `.npz`, named by the SHA-256 of the sweep's manifest and by its number, written under a temporary name, synced
and renamed. The comment that ends the file is the SHA-256 of its name and of all bytes before, so a wrong byte anywhere is found.
"""

import fcntl
import hashlib
import io
import json
import os
import shutil
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import IO, Any

import numpy as np

from superpose.results import ResultError, regular_bytes, write_atomically

FORMAT = "superpose chunks 2"
"""Written into each manifest; a folder with another one is refused."""
DIGEST = 64
"""Hexadecimal digits of the checksum that ends a chunk."""


@contextmanager
def lock(folder: Path) -> Iterator[None]:
    """Hold `folder`, which is created, against other runs; the system lets go of it when this process ends, however it does.

    Raises:
        ResultError: another run holds it, or it cannot be written.
    """
    try:
        while (file := _locked(folder)) is None:
            pass
    except OSError as error:
        raise ResultError(f"folder = {folder}: needs a folder that can be written ({error.strerror})") from None
    with file:
        yield


def _locked(folder: Path) -> IO | None:
    """The lock file, locked; None if whoever held it has finished meanwhile and removed the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "lock"
    with ExitStack() as opened, suppress(FileNotFoundError):
        file = opened.enter_context(open(path, "a"))
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ResultError(f"{folder}: another run is at work here; wait for it, or name another folder") from None
        if os.path.samestat(os.fstat(file.fileno()), path.stat()):
            opened.pop_all()
            return file
    return None


def clear(folder: Path) -> None:
    """Remove the chunks of a sweep whose result is written."""
    shutil.rmtree(folder, ignore_errors=True)


def clear_leftovers(folder: Path) -> None:
    """Remove the chunks of a run that was killed after its result was written and before it had cleared up."""
    if folder.exists():
        with suppress(ResultError), lock(folder):
            clear(folder)


def read_manifest(folder: Path) -> dict[str, Any] | None:
    """What the chunks in `folder` belong to; None if nothing was begun there.

    Raises:
        ResultError: it is not what was written.
    """
    path = folder / "sweep.json"
    try:
        manifest = dict(json.loads(regular_bytes(path)))
        whole = manifest.pop("checksum", None) == _manifest_checksum(manifest) or manifest.get("format") != FORMAT
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError, RecursionError):
        whole, manifest = False, {}
    if not whole:
        raise ResultError(f"{path}: damaged; delete {folder} to compute its chunks again")
    return manifest


def write_manifest(folder: Path, manifest: Mapping[str, Any]) -> None:
    """Begin a sweep in `folder`."""
    text = _canonical({**manifest, "checksum": _manifest_checksum(manifest)}) + "\n"
    write_atomically(folder / "sweep.json", lambda path: path.write_text(text))


def check_manifest(folder: Path, found: Mapping[str, Any], wanted: Mapping[str, Any]) -> None:
    """Raise ResultError, naming the first difference, unless the chunks found in `folder` are those wanted."""
    for name, value in wanted.items():
        if found.get(name) != value:
            both = f" ({found.get(name)}, here {value})"
            short = both if len(both) < 80 else ""
            advice = f"finish them with the {name} that began them, delete {folder}, or name another folder"
            raise ResultError(f"{folder}: holds unfinished chunks of another {name}{short}; {advice}")


def chunk_path(folder: Path, manifest: Mapping[str, Any], index: int) -> Path:
    """File of a chunk: the first 16 digits of the manifest's SHA-256, and the chunk's number."""
    return folder / f"{_manifest_checksum(manifest)[:16]}-{index:06d}.npz"


def write(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Keep a finished chunk; equal arrays make equal files. What is in its place gives way, a folder too.

    Raises:
        ResultError: it cannot be written, on a full disk for one.
        ValueError: a dtype that NumPy itself does not have, as bfloat16.
    """
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, value in arrays.items():
            if value.dtype.kind == "V":
                raise ValueError(f"{name} = array of {value.dtype}: needs a dtype that NumPy has")
            with archive.open(zipfile.ZipInfo(f"{name}.npy"), "w", force_zip64=True) as member:
                np.lib.format.write_array(member, value, allow_pickle=False)
        archive.comment = bytes(DIGEST)
    content = buffer.getvalue()[:-DIGEST]
    try:
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        write_atomically(path, lambda temporary: temporary.write_bytes(content + _checksum(path, content)))
    except OSError as error:
        kept = "finished chunks are kept, the same run goes on"
        raise ResultError(f"{path}: cannot be written ({error.strerror}); {kept}") from None


def read(path: Path) -> dict[str, np.ndarray]:
    """A finished chunk, bit by bit as it was written.

    Raises:
        FileNotFoundError: it is not there.
        ResultError: it is not what was written.
    """
    try:
        content = regular_bytes(path)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise ResultError(f"{path}: damaged ({error.strerror})") from None
    if _checksum(path, content[:-DIGEST]) != content[-DIGEST:]:
        raise ResultError(f"{path}: damaged")
    with np.load(io.BytesIO(content), allow_pickle=False) as data:
        return {name: data[name] for name in data.files}


def _checksum(path: Path, content: bytes) -> bytes:
    return hashlib.sha256(path.name.encode() + content).hexdigest().encode()


def _manifest_checksum(manifest: Mapping[str, Any]) -> str:
    return hashlib.sha256(_canonical(manifest).encode()).hexdigest()


def _canonical(manifest: Mapping[str, Any]) -> str:
    return json.dumps(manifest, sort_keys=True, separators=(",", ":"))
