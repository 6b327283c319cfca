"""One program on all local devices, each chunk of points on one of them: how a sweep computes.

A chunk is as many points as its width, side by side. Chunks share nothing, so each device runs a program of its own, at its own
pace: one program partitioned over CPU devices would have them wait for each other after every chunk, and one over all points
at every step of a loop. The bits of a chunk depend on its width, on the kind of device and on its points, and on nothing else.
"""

import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from functools import partial
from queue import SimpleQueue
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

PARTS = 64
"""A width that is not asked for leaves at least about so many chunks: to share out, and to lose little when stopped."""

BATCHED = r"@lapack_\w+\(.*: \(tensor<(?:\d+x){3,}"
"""A CPU's factorisation of more than one matrix in a lowered program."""

Arrays = dict[str, np.ndarray]


class Program(NamedTuple):
    """`run` takes the points of a chunk and `memory` bytes; `alone`: nothing may run beside it, see `superpose._jax.one_by_one`."""

    run: Callable[[Any], Any]
    memory: int
    alone: bool


class Plan(NamedTuple):
    """A program compiled for each device that has work: `width` points at a time, which take `memory` bytes.

    Each device works on `at_once` chunks at a time.
    """

    programs: Mapping[jax.Device, Callable[[Any], Any]]
    width: int
    memory: int
    at_once: int


def plan(
    function: Callable,
    points: Any,
    *,
    width: int | None,
    memory: int,
    one: jax.stages.Lowered | None = None,
) -> Plan:
    """The program of the width asked for; or else of the largest that `memory` and `PARTS` allow.

    Memory is what the compiler states: temporaries, and what goes in and out. `one` is the program of one point, if it is
    lowered already.

    Raises:
        ValueError: one point takes more than `memory`.
    """
    first, *others = jax.local_devices()

    def build(width: int, device: jax.Device = first) -> Program:
        known = one if width == 1 and device == first else None
        return _compiled(known or lowered(function, points, width=width, device=device))

    if width is None:
        width, program = _widest(build, points, memory)
    else:
        program = build(width)
    busy = [] if program.alone else others[: -(-count(points) // width) - 1]
    with ThreadPoolExecutor() as pool:
        programs = [program, *pool.map(partial(build, width), busy)]
    runs = {device: each.run for device, each in zip([first, *busy], programs, strict=True)}
    return Plan(runs, width, program.memory, 1 if program.alone else _at_once())


def _widest(build: Callable[[int], Program], points: Any, memory: int) -> tuple[int, Program]:
    best = build(1)
    if best.memory > memory:
        raise ValueError(f"memory = {memory}: needs at least {best.memory} bytes, what one point takes")
    width = min(memory // max(best.memory, 1), -(-count(points) // PARTS))
    while width > 1:
        wider = build(width)
        if wider.memory <= memory:
            return width, wider
        width = min(width - 1, width * memory // wider.memory)
    return 1, best


def lowered(
    function: Callable,
    points: Any,
    *,
    width: int = 1,
    device: jax.Device | None = None,
    platform: str | None = None,
) -> jax.stages.Lowered:
    """The program of `width` points side by side on a device, the first if none is named; or as it would be on a platform."""
    where = jax.sharding.SingleDeviceSharding(device or jax.local_devices()[0])

    def alone(point: Any) -> Any:
        value = function(jax.tree.map(lambda x: x[0], point))
        return jax.tree.map(lambda x: jnp.asarray(x)[None], value)

    def shape(x: np.ndarray) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct((width, *x.shape[1:]), x.dtype, sharding=where)

    traced = jax.jit(alone if width == 1 else jax.vmap(function)).trace(jax.tree.map(shape, points))
    return traced.lower(lowering_platforms=(platform,) if platform else None)


def _compiled(program: jax.stages.Lowered) -> Program:
    run = program.compile()
    need: Any = run.memory_analysis()
    taken = need.temp_size_in_bytes + need.argument_size_in_bytes + need.output_size_in_bytes
    return Program(run, taken, re.search(BATCHED, program.as_text()) is not None)


def compute(plan: Plan, points: Any, indices: Sequence[int], keep: Callable[[int, Arrays], None]) -> Iterator[int]:
    """Compute the chunks of these indices and give each to `keep`, in a thread of its own; the index of each that is kept.

    Chunk k holds the points from `k width` on; the last is filled up with its last point, and what that gives is dropped.
    """
    free: SimpleQueue[jax.Device] = SimpleQueue()
    for device in [*plan.programs] * plan.at_once:
        free.put(device)

    def work(index: int) -> int:
        device = free.get()
        try:
            rows = np.minimum(index * plan.width + np.arange(plan.width), count(points) - 1)
            value = plan.programs[device](jax.device_put(jax.tree.map(lambda x: x[rows], points), device))
            own = slice(0, size(points, plan.width, index))
            keep(index, {name: np.asarray(x)[own] for name, x in named(value).items()})
        finally:
            free.put(device)
        return index

    pool = ThreadPoolExecutor(free.qsize())
    try:
        yield from (done.result() for done in as_completed([pool.submit(work, index) for index in indices]))
    finally:
        pool.shutdown(cancel_futures=True)


def _at_once() -> int:
    """Chunks a device works on at a time: one for each core of a CPU; elsewhere two, so that one is computed as one is written."""
    if jax.local_devices()[0].platform != "cpu":
        return 2
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, cores // jax.local_device_count())


def named(tree: Any) -> dict[str, Any]:
    """Leaves by the path to them, `params.W` for one; `value` where the tree is a leaf itself."""
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return {jax.tree_util.keystr(path, simple=True, separator=".") or "value": leaf for path, leaf in leaves}


def count(points: Any) -> int:
    """How many points there are."""
    return len(jax.tree.leaves(points)[0])


def size(points: Any, width: int, index: int) -> int:
    """How many points a chunk has: `width`, or fewer for the last."""
    return min(width, count(points) - index * width)
