"""A small sweep as a process of its own, to be killed, starved and spread over processes: imported by a fork server."""

import os
import sys
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from superpose import processes, sweep
from superpose.results import ResultError
from superpose.sweep import chunks

WIDTH, DEVICES = 3, 2
CHUNKS = 34
AXES = {"target": np.linspace(-2, 2, 10), "curvature": np.geomspace(0.1, 1, 10)}


@dataclass(frozen=True)
class Settings:
    """Of the sweep; `work` lengthens it."""

    work: int = 1


def descend(point, *, work=1):
    """Gradient descent until it converges, from parameters born as constants: each point takes its own number of steps."""

    def loss(w):
        return point["curvature"] * jnp.sum((w - point["target"]) ** 2) + jnp.sum(jnp.cos(w))

    def step(state):
        w, steps = state
        return w - 0.1 * jax.grad(loss)(w), steps + 1

    def going(state):
        w, steps = state
        return (jnp.max(jnp.abs(jax.grad(loss)(w))) > 1e-5) & (steps < 20_000)

    def descent(_, start):
        return jax.lax.while_loop(going, step, (0 * start[0], 0 * start[1]))

    w, steps = jax.lax.fori_loop(0, work, descent, (jnp.zeros(2), jnp.zeros((), jnp.int32)))
    return {"w": w, "steps": steps, "gradient_at_one": jax.grad(loss)(jnp.ones(2))}


def compute(folder, settings, **options):
    """The sweep's result, in `folder/sweep.nc`."""
    function = partial(descend, work=settings.work)
    points, labelled = sweep.grid(AXES), partial(sweep.label, axes=AXES)
    return sweep.result(Path(folder) / "sweep.nc", function, points, labelled, settings=settings, width=WIDTH, **options)


def job(folder, settings, log, shared):
    """Run it as the command would: one line on standard error, here a file, if it fails. Each chunk computed is put on `log`."""
    write = chunks.write

    def write_and_tell(path, arrays):
        with open(log, "ab", buffering=0) as file:
            file.write(f"{path.name}\n".encode())
        write(path, arrays)

    chunks.write = write_and_tell
    os.dup2(os.open(f"{log}.stderr", os.O_WRONLY | os.O_CREAT | os.O_APPEND), 2)
    processes.begin(shared)
    jax.config.update("jax_num_cpu_devices", DEVICES)
    code = 0
    try:
        processes.connect(shared)
        compute(folder, settings)
    except (ResultError, processes.Lost) as error:
        print(f"superpose: {error}", file=sys.stderr, flush=True)
        code = 1
    with suppress(SystemExit):
        processes.leave(code)
    if shared.several:
        jax.distributed.shutdown()  # multiprocessing leaves no room for what runs at exit
    os._exit(code)
