"""Sampled training of 20 models of n = 200, m = 20, batches of 1,024: a step here against one of PyTorch; needs an idle machine.

`python -m benchmarks.training`. Both sides in turn in one run, float32, Adam, medians; ours as sweeps run, a share of the models on
each core; PyTorch in its usual form and in the best one found (`benchmarks.torch_models`). `own draws`: each model has its own
random numbers; `shared draws`: all see the same inputs, drawn once, here once a core. Memory is what a process's peak grows by when
it compiles and takes its steps, each side in a process of its own.
"""

import json
import os
import statistics
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

CORES = len(os.sched_getaffinity(0))
os.environ.setdefault("PJRT_NPROC", "1")  # a thread a device, and a device a core: as sweeps run

import jax  # noqa: E402
import jax.numpy as jnp  # noqa: E402
import numpy as np  # noqa: E402

from benchmarks import torch_models  # noqa: E402
from benchmarks.memory import peak  # noqa: E402
from superpose import features, toy_model, train  # noqa: E402

jax.config.update("jax_num_cpu_devices", CORES)
N, M, MODELS, DENSITY = 200, 20, 20, 0.05
STEPS, REPEATS = 10, 7


class Ours:
    """`train.fit` of all models side by side, in `STEPS` steps a call."""

    def __init__(self, *, shared: bool):
        keys = jax.random.split(jax.random.key(0), MODELS)
        start = jax.vmap(lambda k: toy_model.init(k, n=N, m=M))(keys)
        start = jax.tree.map(lambda x: x.astype(jnp.float32), start)
        parts = zip(np.array_split(np.arange(MODELS), CORES), jax.devices(), strict=True)
        self.parts = [
            jax.device_put((keys[0] if shared else keys[part], jax.tree.map(lambda x, k=part: x[k], start)), device)
            for part, device in parts
        ]

        def run(key, start):
            return train.fit(key, start, features.SparseUniform(jnp.float32(DENSITY)), steps=STEPS).params

        self.run = jax.jit(jax.vmap(run, in_axes=(None if shared else 0, 0)))

    def step(self) -> None:
        """Take `STEPS` steps."""
        jax.block_until_ready([self.run(*part) for part in self.parts])


class Theirs:
    """The same of `torch_models`."""

    def __init__(self, form: str, **more):
        densities, weights = np.full(MODELS, DENSITY), np.ones((MODELS, N))
        self.models = torch_models.models(form, N, M, densities, weights, decay=0.0, **more)
        self.models.start(0)

    def step(self) -> None:
        """Take `STEPS` steps."""
        for _ in range(STEPS):
            self.models.step()


SIDES = {
    "own draws": {
        "ours": lambda: Ours(shared=False),
        "PyTorch, usual": lambda: Theirs("plain"),
        "PyTorch, best": lambda: Theirs("best"),
    },
    "shared draws": {"ours": lambda: Ours(shared=True), "PyTorch, best": lambda: Theirs("best", shared=True)},
}


def memory(kind: str, name: str) -> float:
    """MiB by which the peak of this process grows for one of `SIDES`."""
    before = peak()
    SIDES[kind][name]().step()
    return (peak() - before) / 2**20


def measured(kind: str) -> dict:
    """Milliseconds a step of all models and MiB, and the ratio of PyTorch's times to ours, pair by pair."""
    sides = SIDES[kind]
    with ProcessPoolExecutor(1, get_context("spawn"), max_tasks_per_child=1) as alone:
        grown = {name: alone.submit(memory, kind, name).result() for name in sides}
    ready, times = {name: make() for name, make in sides.items()}, {name: [] for name in sides}
    for _ in range(REPEATS):
        for name, side in ready.items():
            time.sleep(0.3)  # PyTorch's threads go on spinning for a while
            side.step()
            start = time.perf_counter()
            side.step()
            times[name].append((time.perf_counter() - start) / STEPS)
    return {
        name: {
            "ms a step": 1e3 * statistics.median(taken),
            "MiB": grown[name],
            "ratio to ours": statistics.median(np.array(taken) / np.array(times["ours"])),
        }
        for name, taken in times.items()
    }


def main() -> None:
    """Measure, print and save."""
    report = {"n": N, "m": M, "models": MODELS, "batch": 1024, "cores": CORES}
    for kind in SIDES:
        report[kind] = measured(kind)
        print(kind, json.dumps(report[kind], indent=2), flush=True)
    Path("results").mkdir(exist_ok=True)
    Path("results/training.json").write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
