"""Time to equal exact loss at n = 400, m = 30, against PyTorch with the settings of the paper's notebook; needs an idle machine.

`python -m benchmarks.dimensions_per_feature`. PyTorch: AdamW at 1e-3 with decay 0.01, fresh batches of 1,024, 10,000 steps,
float32, all of them run; its loss curve is the exact loss of its weights, every 500 steps. Ours: Adam at a rate that falls from
0.01 to 0 as a cosine in 1,500 steps on the exact loss, biases in units of sqrt(p). For each density the ratio is PyTorch's seconds
to the least loss of its curve over ours to that same loss, both from the seconds that a step of a model takes when all cores work.
Compilation is left out, and stated.
"""

import json
import os
import time
from pathlib import Path

CORES = len(os.sched_getaffinity(0))
os.environ.setdefault("PJRT_NPROC", "1")  # a thread a device, and a device a core: as sweeps run

import jax  # noqa: E402
import jax.numpy as jnp  # noqa: E402
import numpy as np  # noqa: E402
import optax  # noqa: E402

from benchmarks import torch_models  # noqa: E402
from experiments import dimensions_per_feature as experiment  # noqa: E402
from superpose import expected_loss, features, toy_model  # noqa: E402

jax.config.update("jax_enable_x64", True)
jax.config.update("jax_num_cpu_devices", CORES)
CONFIG = experiment.Config()
DENSITIES = (0.6, 0.3, 0.1, 0.03)
STEPS, EVERY = 10_000, 500
OURS, RATE, NODES = 1_500, 0.01, 48
FINE = 1e-4
"""Relative error of the loss while training, by which ours has to be lower."""


def ours() -> tuple[np.ndarray, float, float]:
    """Losses `(density, step)`; seconds a step of a model, all cores at work; seconds of compilation."""

    @jax.jit
    def run(start: toy_model.Params, p: jax.Array) -> jax.Array:
        return trained(start, p)

    start = experiment.xavier(jax.random.fold_in(jax.random.key(0), 0), n=CONFIG.n, m=CONFIG.m)
    devices = jax.devices()
    parts = [jax.device_put((start, jnp.float32(p)), devices[k % CORES]) for k, p in enumerate(DENSITIES)]
    begin = time.perf_counter()
    programs = [run.lower(*part).compile() for part in parts[:CORES]]
    compilation = time.perf_counter() - begin
    begin = time.perf_counter()
    running = [programs[k % CORES](*part) for k, part in enumerate(parts)]
    losses = np.stack([np.asarray(x) for x in running])
    return losses, (time.perf_counter() - begin) / losses.size, compilation


def trained(start: toy_model.Params, p: jax.Array) -> jax.Array:
    """The loss before each step of our training."""
    adam = optax.adam(optax.cosine_decay_schedule(RATE, OURS))

    def step(carry: tuple, _: None) -> tuple[tuple, jax.Array]:
        params, state = carry
        value, slope = jax.value_and_grad(experiment.scaled_loss)(params, p, nodes=NODES)
        change, state = adam.update(slope, state)
        return (optax.apply_updates(params, change), state), value

    return jax.lax.scan(step, (start, adam.init(start)), length=OURS)[1]


def theirs(form: str) -> tuple[np.ndarray, float, float]:
    """Exact losses `(density, checkpoint)`; seconds a step of a model; seconds of compilation and first step."""
    models = torch_models.models(form, CONFIG.n, CONFIG.m, DENSITIES, np.ones((len(DENSITIES), CONFIG.n)), threads=CORES)
    compilation = torch_models.compile_time(models)
    models.start(0)
    spent, curve = 0.0, []
    for _ in range(STEPS // EVERY):
        spent += EVERY * torch_models.timed(models, EVERY)
        curve.append((models.W.detach().mT.contiguous().numpy().copy(), models.b.detach().numpy().copy()))
    losses = np.array([[exact(W[k], b[k], p) for W, b in curve] for k, p in enumerate(DENSITIES)])
    return losses, spent / (STEPS * len(DENSITIES)), compilation


@jax.jit
def exact(W: np.ndarray, b: np.ndarray, p: float) -> jax.Array:
    """The exact loss divided by `n p / 3`, in float64."""
    params = toy_model.Params(W=jnp.asarray(W, float), b=jnp.asarray(b, float))
    return expected_loss.relu_output(params, features.SparseUniform(p), nodes=128) * 3 / (CONFIG.n * p)


def compared(losses: np.ndarray, step: float, curve: np.ndarray, their_step: float) -> list[dict]:
    """For each density both sides' least loss, the seconds to the least of theirs, and their ratio."""
    rows = []
    for k, p in enumerate(DENSITIES):
        target = curve[k].min()
        reached = losses[k] <= target * (1 - FINE)
        seconds = (1 + int(np.argmax(reached))) * step if reached.any() else float("nan")
        their_seconds = (1 + int(np.argmin(curve[k]))) * EVERY * their_step
        row = {"density": p, "loss, theirs": target, "loss, ours": losses[k].min()}
        rows.append(row | {"seconds, theirs": their_seconds, "seconds, ours": seconds, "ratio": their_seconds / seconds})
    return rows


def main() -> None:
    """Measure both, print and save."""
    losses, step, compilation = ours()
    report = {"n": CONFIG.n, "m": CONFIG.m, "ms a step, ours": step * 1e3, "compilation, ours, s": compilation}
    for form in ("plain", "best"):
        time.sleep(1)
        curve, their_step, their_compilation = theirs(form)
        rows = compared(losses, step, curve, their_step)
        times = {"ms a step": their_step * 1e3, "compilation, s": their_compilation}
        report[form] = times | {"densities": rows, "median ratio": float(np.median([row["ratio"] for row in rows]))}
        print(form, json.dumps(report[form], indent=2, default=float), flush=True)
    Path("results").mkdir(exist_ok=True)
    Path("results/dimensions_per_feature.json").write_text(json.dumps(report, indent=2, default=float) + "\n")


if __name__ == "__main__":
    main()
