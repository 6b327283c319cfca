"""An accelerator beside the CPU and beside PyTorch on the same device: times, memory and ratios.

`python -m benchmarks.accelerator` takes JAX's default device (install the extra `cuda` on a machine with an NVIDIA GPU), needs
the extra `bench` with a PyTorch that knows the device, and saves results/accelerator.json. Without an accelerator it compares the
CPU with itself and says so.

1. One exact value and gradient of many models, float32, 64 nodes; against a PyTorch minibatch step of 1,024, per model.
2. A row of the n=2, m=1 phase diagram, float64, certified: a whole chunk of a sweep, one program without a host round trip in it.
"""

import json
import statistics
import time
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import torch

from benchmarks import torch_models
from superpose import expected_loss, features, phase, toy_model

SIZES = ((5, 2, 16384), (20, 5, 4096), (100, 20, 256), (200, 20, 128), (400, 30, 64))
"""n, m and the number of models side by side; a CPU gets an eighth of them."""
REPEATS, DENSITY, BATCH = 7, 0.05, 1024


def median_seconds(run) -> float:
    """Of `REPEATS` runs, after one that compiles."""
    run()
    times = []
    for _ in range(REPEATS):
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def exact(device: jax.Device, n: int, m: int, models: int) -> dict[str, float]:
    """Microseconds a model, and MiB for all of them, of value and gradient on `device`."""
    start = jax.vmap(lambda key: toy_model.init(key, n=n, m=m))(jax.random.split(jax.random.key(0), models))
    start = jax.device_put(jax.tree.map(lambda x: x.astype(jnp.float32), start), device)
    law = features.SparseUniform(jnp.asarray(DENSITY, jnp.float32))
    step = jax.jit(jax.vmap(jax.value_and_grad(lambda p: expected_loss.relu_output(p, law)))).lower(start).compile()
    seconds = median_seconds(lambda: jax.block_until_ready(step(start)))
    need = step.memory_analysis()
    size = need.temp_size_in_bytes + need.argument_size_in_bytes + need.output_size_in_bytes
    return {"models": models, "us per model": seconds / models * 1e6, "MiB": size / 2**20}


def pytorch(device: str, n: int, m: int, models: int) -> dict[str, float]:
    """Microseconds a model of a PyTorch step on `device`: the usual form, and with its loss compiled."""
    found = {"models": models}
    with torch.device(device):
        for form in ("plain", "compiled"):
            if device == "cuda":
                torch.cuda.reset_peak_memory_stats()
            rival = torch_models.models("plain", n, m, np.full(models, DENSITY), np.ones((models, n)), batch=BATCH)
            if form == "compiled":
                torch._dynamo.reset()
                rival.loss = torch.compile(rival.loss)
            rival.start(0)
            found[f"{form}, us per model"] = median_seconds(partial(_synchronous, rival, device)) / models * 1e6
            if device == "cuda":
                found[f"{form}, MiB"] = torch.cuda.max_memory_allocated() / 2**20
    return found


def _synchronous(rival, device: str) -> None:
    rival.step()
    if device == "cuda":
        torch.cuda.synchronize()


def row(device: jax.Device) -> float:
    """Seconds for 50 importances x 10 restarts of n=2, m=1 at one density, certified."""
    settings = phase.Diagram(n=2, m=1)
    densities, importances = phase.axes(settings)
    arguments = jax.device_put((10, densities[10], importances), device)
    return median_seconds(lambda: jax.block_until_ready(phase.solve_row(settings, *arguments)))


def main() -> None:
    """Measure, print and save."""
    jax.config.update("jax_enable_x64", True)
    device, cpu = jax.devices()[0], jax.devices("cpu")[0]
    alone = device.platform == "cpu"
    rival = "cuda" if device.platform == "gpu" and torch.cuda.is_available() else "cpu"
    report = {"device": device.device_kind, "PyTorch's device": rival, "jax": jax.__version__, "torch": torch.__version__}
    if alone:
        print("no accelerator found: the CPU beside itself", flush=True)
    report["steps"] = []
    for n, m, models in SIZES:
        few = models // 8  # on a CPU
        here = exact(device, n, m, few if alone else models)
        there = here if alone else exact(cpu, n, m, few)
        other = pytorch(rival, n, m, few if rival == "cpu" else models)
        times = {f"{form}/exact": other[f"{form}, us per model"] / here["us per model"] for form in ("plain", "compiled")}
        ratios = times | {"CPU/device": there["us per model"] / here["us per model"]}
        report["steps"].append({"n": n, "m": m, "exact": here, "CPU": there, "PyTorch": other} | ratios)
        print(json.dumps(report["steps"][-1]), flush=True)
    report["row, s"] = row(device)
    report["row on CPU, s"] = report["row, s"] if alone else row(cpu)
    print(json.dumps({name: report[name] for name in ("row, s", "row on CPU, s")}), flush=True)
    Path("results").mkdir(exist_ok=True)
    Path("results/accelerator.json").write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
