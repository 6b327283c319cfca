"""All speed comparisons, printed and saved to results/benchmarks.json; needs the extra `bench` and an idle machine.

1. One AdamW step with the exact gradient against one of PyTorch with a minibatch of 1,024, per model: with 64 nodes, and with as
   many as make the loss good to 1e-4. Ours run ten in a program, as the library's solvers do.
2. The n=2, m=1 phase diagram of 2,500 cells x 10 restarts, certified, against 5,000 PyTorch steps of each model.
3. n=5, m=2 at 20 densities x 8 restarts, certified, against 10,000 PyTorch steps of each model.
4. Start-up and compilation of the command.

PyTorch is timed on a stated part of the models and scaled. `plain` is its usual form, `best` the fastest that was found.
"""

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

CORES = len(os.sched_getaffinity(0))
os.environ.setdefault("PJRT_NPROC", "1")  # a thread a device, and a device a core: as sweeps run

import jax  # noqa: E402
import jax.numpy as jnp  # noqa: E402
import numpy as np  # noqa: E402
import optax  # noqa: E402

from benchmarks import torch_models  # noqa: E402
from superpose import expected_loss, features, phase, solve, toy_model  # noqa: E402
from superpose.expected_loss import compressed_series  # noqa: E402

jax.config.update("jax_enable_x64", True)
jax.config.update("jax_num_cpu_devices", CORES)
REPEATS = 9
FORMS = ("plain", "best")
DENSITY = 0.05
STEPS = 10
"""Of ours in a program."""
ENOUGH = (*range(16, 64, 4), 64, 96, 128, 256, 512)
"""Numbers of nodes to try for a loss good to 1e-4."""


WORKERS = ThreadPoolExecutor(CORES)


def seconds(run, parts: list) -> float:
    """Seconds until `run` is done with all parts, each a tuple of arguments, a worker a core."""
    start = time.perf_counter()
    list(WORKERS.map(lambda part: jax.block_until_ready(run(*part)), parts))
    return time.perf_counter() - start


def spread(*arguments) -> list[tuple]:
    """Arguments with a leading axis, cut into one part for each core and put on its device."""

    def part(k, device):
        return jax.device_put(jax.tree.map(lambda x: jnp.array_split(x, CORES)[k], arguments), device)

    return [part(k, device) for k, device in enumerate(jax.devices())]


def peak(dtype) -> float:
    """Floating-point operations per second of large matrix products on all cores: the machine's limit, as measured."""
    a = spread(jnp.ones((CORES, 1500, 1500), dtype))
    product = jax.jit(lambda a: a[0] @ a[0])
    seconds(product, a)
    return CORES * 2 * 1500**3 / min(seconds(product, a) for _ in range(REPEATS))


def enough(n: int, m: int, dtype) -> tuple[int, float]:
    """Least nodes with which the loss in `dtype` is good to 1e-4 at the step's models, by 1,024 in float64; and its error."""
    start = starts(n, m, min(4, 1 + 200 // n), dtype)

    def loss(start, dtype, nodes):
        law = features.SparseUniform(jnp.asarray(np.float32(DENSITY), dtype))
        params = jax.tree.map(lambda x: x.astype(dtype), start)
        return jax.jit(jax.vmap(lambda p: expected_loss.relu_output(p, law, nodes=nodes)))(params)

    truth = loss(start, jnp.float64, 1024)
    errors = ((k, float(jnp.abs(loss(start, dtype, k) / truth - 1).max())) for k in ENOUGH)
    return next((k, error) for k, error in errors if error < 1e-4)


def starts(n: int, m: int, models: int, dtype) -> toy_model.Params:
    """Random starts of many models."""
    start = jax.vmap(lambda k: toy_model.init(k, n=n, m=m))(jax.random.split(jax.random.key(0), models))
    return jax.tree.map(lambda x: x.astype(dtype), start)


def step(n: int, m: int, models: int, dtype, nodes: int, rate: float) -> dict:
    """Microseconds per model and step of ours and of PyTorch, in turn, and their ratio; `rate` is `peak`."""
    start, law = starts(n, m, models, dtype), features.SparseUniform(jnp.asarray(DENSITY, dtype))
    optimizer = optax.adamw(1e-3, weight_decay=0.01)

    def loss(params):
        return jnp.sum(jax.vmap(lambda p: expected_loss.relu_output(p, law, nodes=nodes))(params))

    def next_step(_, now):
        params, state = now
        updates, state = optimizer.update(jax.grad(loss)(params), state, params)
        return optax.apply_updates(params, updates), state

    steps = jax.jit(lambda params: jax.lax.fori_loop(0, STEPS, next_step, (params, optimizer.init(params)))[0])
    parts = spread(start)
    seconds(steps, parts)
    runs = max(1, round(0.05 / seconds(steps, parts)))
    rivals = {form: torch_models.models(form, n, m, np.full(models, DENSITY), np.ones((models, n))) for form in FORMS}
    for rival in rivals.values():
        torch_models.compile_time(rival)
        torch_models.timed(rival, 3)
    times = {"exact": []} | {form: [] for form in FORMS}
    for _ in range(REPEATS):
        time.sleep(0.3)  # PyTorch's threads go on spinning for a while
        seconds(steps, parts)
        times["exact"].append(sum(seconds(steps, parts) for _ in range(runs)) / runs / STEPS)
        for form, rival in rivals.items():
            times[form].append(torch_models.timed(rival, 5))
    result = {name: statistics.median(t) / models * 1e6 for name, t in times.items()}
    for form in FORMS:
        result[f"{form}/exact"] = statistics.median(np.array(times[form]) / np.array(times["exact"]))
    share = arithmetic(n, nodes) * models / statistics.median(times["exact"]) / rate
    return (
        {"n": n, "m": m, "models": models, "dtype": np.dtype(dtype).name, "nodes": nodes} | result | {"share of peak": share}
    )


def arithmetic(n: int, nodes: int) -> float:
    """Operations of a value and gradient, counted by hand: 80 an element and node, or with compressed products their parts."""
    if n < compressed_series.FEWEST:
        return 80 * nodes * n * n
    terms, large = compressed_series.terms_for(nodes), compressed_series.LARGE
    return n * n * (7 * terms + 60) + n * nodes * (80 * (1 + large) + 8 * terms + 150)


def diagram() -> dict:
    """The n=2, m=1 diagram against PyTorch on 25 of its 2,500 cells."""
    settings = phase.Diagram()
    densities, importances = phase.axes(settings)
    row = partial(phase.solve_row, settings)
    devices = jax.devices()
    arguments = [jax.device_put((k, p, importances), devices[k % CORES]) for k, p in enumerate(densities)]
    first = seconds(row, arguments[:CORES])
    start = time.perf_counter()
    rows = list(WORKERS.map(lambda part: jax.block_until_ready(row(*part)), arguments))
    ours = time.perf_counter() - start
    cells = [(i, j) for i in range(5, 50, 10) for j in range(5, 50, 10)]
    p = np.repeat([densities[i] for i, _ in cells], 10)
    weight = np.stack([np.ones(250), np.repeat([importances[j] for _, j in cells], 10)], 1)
    minima = np.array([float(np.min(rows[i]["loss"][j])) for i, j in cells])
    result = {"compile and first row, s": first, "25,000 certified solutions (and near candidates), s": ours}
    for form in FORMS:
        lowest, spent = trained(form, 2, 1, p, weight, steps=5_000)
        lowest = lowest.reshape(25, 10).min(1)
        result[form] = {
            "seconds for 250 models": spent,
            "ratio": spent * 100 / ours,
            "ratio with compilation": spent * 100 / (ours + first),
            "share of cells with ours at most theirs": float(np.mean(minima <= lowest * (1 + 1e-6))),
            "median excess of theirs": float(np.median(lowest / minima - 1)),
        }
    return result


def plane() -> dict:
    """n=5, m=2: 160 models to a certificate, against PyTorch on 40 of them (5 densities x 8 restarts)."""
    densities = np.geomspace(1, 0.05, 20)
    keys = jax.random.split(jax.random.key(0), 160)
    start = jax.vmap(lambda k: toy_model.init(k, n=5, m=2))(keys)

    @jax.jit
    def run(start, p):
        def loss(params, p):
            plain = toy_model.Params(W=params.W, b=params.b * jnp.sqrt(p))
            return expected_loss.relu_output(plain, features.SparseUniform(p)) / (5 * p / 3)

        return solve.minimize(loss, start, p, lanes=32)

    p = jnp.asarray(np.repeat(densities, 8))
    parts = spread(start, p)
    first = seconds(run, parts)
    ours = statistics.median(seconds(run, parts) for _ in range(3))
    found = run(start, p)
    chosen = np.arange(2, 20, 4)
    minima = (np.asarray(found.loss).reshape(20, 8) * 5 * densities[:, None] / 3).min(1)[chosen]
    result = {
        "compile and first, s": first,
        "160 models, s": ours,
        "certified": float(found.converged.mean()),
        "median gradient norm": float(jnp.median(found.gradient_norm)),
    }
    for form in FORMS:
        lowest, spent = trained(form, 5, 2, np.repeat(densities[chosen], 8), np.ones((40, 5)), steps=10_000)
        lowest = lowest.reshape(5, 8).min(1)
        result[form] = {
            "seconds for 40 models": spent,
            "ratio": spent * 4 / ours,
            "share of densities with ours at most theirs": float(np.mean(minima <= lowest * (1 + 1e-6))),
            "excess of theirs": [float(x) for x in lowest / minima - 1],
        }
    return result


def trained(form, n, m, p, weight, *, steps) -> tuple[np.ndarray, float]:
    """Exact losses of PyTorch's models after `steps` steps, and the seconds they took."""
    W, b, spent = torch_models.train(form, n, m, p, weight, steps, 0, decay=0.0)
    params = toy_model.Params(W=jnp.asarray(W, float), b=jnp.asarray(b, float))

    def loss(params, p, weight):
        return expected_loss.relu_output(params, features.SparseUniform(p), weight, nodes=128)

    return np.asarray(jax.jit(jax.vmap(loss))(params, jnp.asarray(p), jnp.asarray(weight))), spent


def command() -> dict:
    """Whole-process seconds: help; a diagram of 2 x 2 cells with an empty compilation cache, and with a full one."""
    superpose = str(Path(sys.executable).with_name("superpose"))
    result = {}
    with tempfile.TemporaryDirectory() as folder:
        environment = os.environ | {"JAX_COMPILATION_CACHE_DIR": f"{folder}/cache"}

        def run(*arguments):
            start = time.perf_counter()
            subprocess.run([superpose, *arguments], env=environment, check=True, capture_output=True)
            return time.perf_counter() - start

        result["superpose --help, s"] = statistics.median(run("--help") for _ in range(5))
        tiny = ("--n", "2", "--m", "1", "--densities", "2")
        result["n=2 diagram of 2 rows, nothing compiled, s"] = run("phase", *tiny, "--out", f"{folder}/a")
        result["the same, compiled before, s"] = run("phase", *tiny, "--out", f"{folder}/b")
    return result


def main() -> None:
    """Run all and save."""
    rates = {dtype: peak(dtype) for dtype in (jnp.float64, jnp.float32)}
    report = {f"peak {dtype.__name__}, GFlop/s": rate / 1e9 for dtype, rate in rates.items()} | {"command": command()}
    print(json.dumps(report, indent=2), flush=True)
    report["steps"] = []
    for n, m, models in torch_models.SIZES:
        least, error = enough(n, m, jnp.float32)
        for dtype, nodes, known in ((jnp.float32, 64, {}), (jnp.float64, 64, {}), (jnp.float32, least, {"error": error})):
            report["steps"].append(step(n, m, models, dtype, nodes, rates[dtype]) | known)
            print(json.dumps(report["steps"][-1]), flush=True)
    for name, part in {"diagram n=2, m=1": diagram, "n=5, m=2": plane}.items():
        report[name] = part()
        print(name, json.dumps(report[name], indent=2), flush=True)
    Path("results").mkdir(exist_ok=True)
    Path("results/benchmarks.json").write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
