"""Sampled training of 20 models of n = 200, m = 20, batches of 1,024: a step here against one of PyTorch; needs an idle machine.

`python -m benchmarks.training`. Both sides in turn in one run, float32, Adam, medians; PyTorch in its usual form and in the best
one found (`benchmarks.torch_models`). `own draws`: each model has its own random numbers; `shared draws`: all see the same inputs,
drawn once. Memory is the growth of the process's peak while it takes its steps, beyond what it holds before it compiles.
"""

import json
import os
import statistics
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import torch_models
from superpose import features, toy_model, train

N, M, MODELS, DENSITY = 200, 20, 20, 0.05
STEPS, REPEATS = 10, 7


class Ours:
    """`train.fit` of all models side by side, in `STEPS` steps a call."""

    def __init__(self, *, shared: bool):
        keys = jax.random.split(jax.random.key(0), MODELS)
        start = jax.vmap(lambda k: toy_model.init(k, n=N, m=M))(keys)
        self.arguments = (keys[0] if shared else keys, jax.tree.map(lambda x: x.astype(jnp.float32), start))

        def run(key, start):
            return train.fit(key, start, features.SparseUniform(jnp.float32(DENSITY)), steps=STEPS).params

        self.run = jax.jit(jax.vmap(run, in_axes=(None if shared else 0, 0)))

    def step(self) -> None:
        """Take `STEPS` steps."""
        jax.block_until_ready(self.run(*self.arguments))


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


def memory(field: str) -> int:
    """Bytes that the process holds now (`VmRSS`), or held at most (`VmHWM`)."""
    return 1024 * int(next(x for x in Path("/proc/self/status").read_text().splitlines() if x.startswith(field)).split()[1])


def measured(sides: dict) -> dict:
    """Milliseconds a step of all models and MiB, and the ratio of PyTorch's times to ours, pair by pair."""
    ready, grown, times = {}, {}, {name: [] for name in sides}
    for name, make in sides.items():
        before = memory("VmRSS")
        Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
        ready[name] = make()
        ready[name].step()
        grown[name] = (memory("VmHWM") - before) / 2**20
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
    report = {"n": N, "m": M, "models": MODELS, "batch": 1024, "cores": len(os.sched_getaffinity(0))}
    for kind, sides in SIDES.items():
        report[kind] = measured(sides)
        print(kind, json.dumps(report[kind], indent=2), flush=True)
    Path("results").mkdir(exist_ok=True)
    Path("results/training.json").write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
