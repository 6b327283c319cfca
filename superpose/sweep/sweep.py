"""Sweeps: a function of one point at many points, in chunks, over all local devices and all processes, resumable bit for bit.

Chunks are computed as `devices` says and kept as `chunks` says. Each process takes every so-many-th, and
waits for no other until all are done. So results do not depend on the order of chunks, on devices, processes or interruptions:
bit for bit at one width on one kind of device, and to rounding between widths.
"""

import json
import logging
import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from time import perf_counter
from typing import Any

import jax
import numpy as np
import xarray as xr

from superpose import processes, results
from superpose.sweep import chunks, devices, identity
from superpose.sweep.devices import Arrays

MEMORY = 2**28
"""Bytes that a chunk may take, unless a sweep says otherwise."""

log = logging.getLogger(__name__)


def grid(axes: Mapping[str, Any]) -> Arrays:
    """The points of the product of named axes, the last one fastest: an array a name, as long as the product."""
    return {name: x.ravel() for name, x in zip(axes, np.meshgrid(*axes.values(), indexing="ij"), strict=True)}


def label(arrays: Arrays, axes: Mapping[str, Any], dims: Mapping[str, Sequence[str]] | None = None) -> xr.Dataset:
    """What a sweep over `grid(axes)` found, as a dataset over these axes.

    Args:
        arrays: what `run` returns.
        axes: as `grid` was given.
        dims: names of an array's further dimensions; `name_0`, `name_1`, ... where none are given.
    """
    shape = tuple(len(x) for x in axes.values())

    def variable(name: str, value: np.ndarray) -> tuple[tuple[str, ...], np.ndarray]:
        inner = (dims or {}).get(name, [f"{name}_{k}" for k in range(value.ndim - 1)])
        return (*axes, *inner), value.reshape(shape + value.shape[1:])

    return xr.Dataset({name: variable(name, x) for name, x in arrays.items()}, {n: np.asarray(x) for n, x in axes.items()})


def run(
    function: Callable[[Any], Any],
    points: Any,
    *,
    settings: Any = None,
    folder: str | Path | None = None,
    width: int | None = None,
    memory: int = MEMORY,
    advance: Callable[[int], None] = lambda _: None,
) -> Arrays:
    """Compute `function` at every point.

    Args:
        function: one point to a pytree of arrays, their shapes the same for all points; pure, traced by jax.
        points: a pytree of arrays with one leading axis. For random numbers, fold coordinates into a key.
        settings: with `folder`, the configuration as a dataclass; chunks of other settings, points or programs are refused.
        folder: where finished chunks are kept, until `chunks.clear`; None keeps them in memory, for a single process.
        width: points a chunk; a chunk of one calls the function as it is. None: what `memory` allows, in at least 64 chunks.
        memory: bytes that a chunk may take while it is computed, as the compiler counts them, where `width` is None. A CPU
            computes as many at a time as it has cores, another device two.
        advance: called with the number of points of each chunk that this process finishes.

    Returns:
        An array a leaf, with the leading axis of the points; named by the path to the leaf, "value" for a bare array.

    Raises:
        ResultError: the folder is in use, cannot be written, or holds chunks of something else.
        ValueError: no points, arrays of different lengths, a width below 1, too little memory for one point, no settings.
    """
    points = _checked(points, width)
    if folder is not None:
        results.settings_text(settings)
        with _held(Path(folder)):
            one = devices.lowered(function, points)
            arrays = _gather(_fill(function, points, settings, Path(folder), width, memory, advance, one))
            processes.barrier("gathered")
        return arrays
    if jax.process_count() > 1:
        raise ValueError(f"folder = None: needs a folder that all {jax.process_count()} processes share")
    plan, done = _plan(function, points, width, memory), {}
    for index in devices.compute(plan, points, range(_total(points, plan.width)), done.__setitem__):
        advance(devices.size(points, plan.width, index))
    return _join([done[index] for index in sorted(done)])


def over(
    function: Callable[[Any], Any],
    axes: Mapping[str, Any],
    *,
    dims: Mapping[str, Sequence[str]] | None = None,
    settings: Any = None,
    folder: str | Path | None = None,
    width: int | None = None,
    memory: int = MEMORY,
    advance: Callable[[int], None] = lambda _: None,
) -> xr.Dataset:
    """Compute `function` at every point of the product of named axes: `grid`, `run` and `label` in one call.

    Args:
        function: one point, a dict of one scalar a name, to a pytree of arrays; else as for `run`.
        axes: the values of each axis by name, one-dimensional; the last axis is the fastest.
        dims: names of the further dimensions of each array, as for `label`.
        settings: see `run`.
        folder: see `run`.
        width: see `run`.
        memory: see `run`.
        advance: see `run`.

    Returns:
        A variable for each array, over the axes and then its further dimensions; the axes are coordinates.

    Raises:
        ResultError: as `run`.
        ValueError: as `run`.
    """
    how: dict[str, Any] = {"settings": settings, "folder": folder, "width": width, "memory": memory, "advance": advance}
    return label(run(function, grid(axes), **how), axes, dims)


def result(
    path: str | Path,
    function: Callable[[Any], Any],
    points: Any,
    labelled: Callable[[Arrays], xr.Dataset],
    *,
    settings: Any,
    width: int | None = None,
    memory: int = MEMORY,
    advance: Callable[[int], None] = lambda _: None,
    code: str | None = None,
) -> xr.Dataset:
    """The same as one labelled file with its provenance: read if it is there, else computed, its chunks beside it meanwhile.

    Args:
        path: a NetCDF file; until it is written its chunks are in `.<stem>.chunks` beside it.
        function: as for `run`, like the other arguments.
        points: see `run`.
        labelled: what makes a dataset of the arrays of `run`; `label`, for one.
        settings: the configuration as a dataclass; it is written into the file.
        width: see `run`.
        memory: see `run`.
        advance: see `run`.
        code: digest of all code that `function` follows from, together with the settings, where that is known: a finished
            result of the same code is read without tracing the function.

    Raises:
        ResultError: as `run`; or `path` holds a result of other settings, points or another program, or a damaged one, or is
            something else. Of a result without digests, as older versions wrote, only the settings are compared.
        ValueError: as `run`.
    """
    points, path = _checked(points, width), Path(path)
    results.settings_text(settings)
    folder = path.with_name(f".{path.stem}.chunks")
    if not os.path.lexists(path):
        with _held(folder):
            start, one = perf_counter(), devices.lowered(function, points)
            files = _fill(function, points, settings, folder, width, memory, advance, one)
            if processes.is_first():
                results.remove_temporaries(path)
                dataset = labelled(_gather(files)).assign_attrs(identity.attributes(points, one, code))
                results.save(path, dataset, settings, seconds=perf_counter() - start)
                chunks.clear(folder)
            processes.barrier("saved")
        return results.load(path)

    def lower(platform: str) -> jax.stages.Lowered:
        return devices.lowered(function, points, platform=platform)

    dataset = results.load(path)
    identity.check(path, dataset.attrs, settings, points, code, lower)
    advance(devices.count(points))
    if processes.is_first():
        chunks.clear_leftovers(folder)
    return dataset


def _fill(
    function: Callable,
    points: Any,
    settings: Any,
    folder: Path,
    width: int | None,
    memory: int,
    advance: Callable[[int], None],
    one: jax.stages.Lowered,
) -> list[Path]:
    """Compute the chunks that `folder` lacks, this process its share of them; the files of all, once all are there."""
    wanted, plan = _manifest(points, settings, one), None
    if processes.is_first() and chunks.read_manifest(folder) is None:
        plan = _plan(function, points, width, memory, one)
        chunks.write_manifest(folder, wanted | {"width": plan.width})
    processes.barrier("planned")
    found = chunks.read_manifest(folder) or {}
    chunks.check_manifest(folder, found, wanted | ({} if width is None else {"width": width}))
    width = int(found["width"])
    files = [chunks.chunk_path(folder, found, index) for index in range(_total(points, width))]
    missing = []
    for index in range(jax.process_index(), len(files), jax.process_count()):
        if _is_whole(files[index]):
            advance(devices.size(points, width, index))
        else:
            missing.append(index)
    if missing:
        plan = plan or _plan(function, points, width, memory, one)
        for index in devices.compute(plan, points, missing, lambda index, arrays: chunks.write(files[index], arrays)):
            advance(devices.size(points, width, index))
    processes.barrier("computed")
    return files


def _plan(function: Callable, points: Any, width: int | None, memory: int, one: Any = None) -> devices.Plan:
    plan = devices.plan(function, points, width=width, memory=memory, one=one)
    log.info("%d points a chunk, %.1f MiB, on %d device(s)", plan.width, plan.memory / 2**20, len(plan.programs))
    return plan


def _manifest(points: Any, settings: Any, one: jax.stages.Lowered) -> dict[str, Any]:
    """All that a chunk's bits depend on, but the width."""
    return {
        "format": chunks.FORMAT,
        **identity.versions(),
        "device": jax.local_devices()[0].device_kind,
        "settings": json.loads(results.settings_text(settings)),
        "points": identity.points_digest(points),
        "program": identity.program_digest(one),
    }


def _checked(points: Any, width: int | None) -> Any:
    """The points as NumPy arrays of the dtypes jax would give them."""
    if width is not None and width < 1:
        raise ValueError(f"width = {width}: needs at least 1")
    points = jax.tree.map(lambda x: np.asarray(x, jax.dtypes.canonicalize_dtype(np.asarray(x).dtype)), points)
    lengths = [x.shape[:1] for x in jax.tree.leaves(points)]
    if len(set(lengths)) != 1 or lengths[0] in ((), (0,)):
        shapes = {name: x.shape for name, x in devices.named(points).items()}
        raise ValueError(f"points = arrays of shapes {shapes}: needs one leading axis of length 1 or more, the same for all")
    return points


def _held(folder: Path) -> AbstractContextManager[None]:
    """A folder is held by the first process of a run; the others are its guests."""
    return chunks.lock(folder) if processes.is_first() else nullcontext()


def _is_whole(file: Path) -> bool:
    try:
        chunks.read(file)
    except FileNotFoundError:
        return False
    except results.ResultError as error:
        log.warning("%s; computed again", error)
        return False
    return True


def _total(points: Any, width: int) -> int:
    return -(-devices.count(points) // width)


def _gather(files: Sequence[Path]) -> Arrays:
    return _join([chunks.read(file) for file in files])


def _join(parts: Sequence[Arrays]) -> Arrays:
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
