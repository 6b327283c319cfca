"""How cost grows: time and memory of an exact value and gradient against n, m, cells, nodes and devices.

`python -m benchmarks.growth` measures, fits the model of `work` and `space` to some points, holds it against the others, and
saves results/growth.json; `python -m benchmarks.growth_figure` draws that file. A cell is one model with its own density. The
table ends with what a sweep of 10^4 cells at n = 1,000 would take here, on one H100 and on 64 hosts like this one.
"""

import json
import math
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
from scipy.optimize import nnls

from superpose.expected_loss.compressed_series import terms_for

Point = dict[str, int]
BASE: Point = {"n": 96, "m": 24, "cells": 8, "nodes": 64, "devices": 1}
FIT = [
    BASE | change
    for change in (
        {},
        {"n": 32},
        {"n": 1000, "m": 100, "cells": 1},
        {"m": 96},
        {"cells": 1},
        {"cells": 64},
        {"nodes": 16},
        {"nodes": 256},
    )
]
CHECK = [
    BASE | change
    for change in (
        *({"n": n} for n in (48, 192, 384)),
        {"n": 2000, "m": 100, "cells": 1},
        *({"m": m} for m in (6, 48)),
        *({"cells": cells} for cells in (4, 24)),
        *({"nodes": nodes} for nodes in (32, 128)),
        {"devices": 2},
        {"n": 192, "m": 48, "cells": 16, "nodes": 32, "devices": 2},
    )
]
SWEEP = {"n": 1000, "m": 100, "cells": 10_000, "nodes": 64, "steps": 1000}
"""Each cell takes so many steps of value and gradient, and no Hessian: it would have 10^10 entries."""
H100 = 34e12
"""Float64 operations per second outside its tensor cores, by NVIDIA's data sheet (H100 SXM); not measured here."""
HOSTS = 64


def work(n: int, m: int, cells: int, nodes: int, devices: int, cores: int) -> list[float]:
    """What seconds are a sum of: a start, and per cell Chebyshev moments, closed terms, `W^T W` and its gradient, and the nodes.

    Cells are dealt out over devices, which share the cores.
    """
    share = math.ceil(cells / devices) * max(1, devices / cores)
    return [1.0, *(share * x for x in (n**2 * terms_for(nodes), n**2, n**2 * m, n * nodes, nodes))]


def space(n: int, m: int, cells: int, nodes: int, devices: int, cores: int) -> list[float]:
    """What bytes on a device are a sum of: a start; the one cell whose series is at work; and per cell the matrices and weights."""
    del cores
    return [1.0, n**2, n * nodes, *(math.ceil(cells / devices) * x for x in (n**2, n * m))]


def fitted(terms, points: list[Point], values: list[float], cores: int) -> list[float]:
    """Coefficients >= 0 with the least relative squared error."""
    table = np.array([terms(**point, cores=cores) for point in points]) / np.array(values)[:, None]
    scale = table.max(axis=0)  # terms differ by ten orders of magnitude
    return (nnls(table / scale, np.ones(len(points)))[0] / scale).tolist()


def predicted(terms, coefficients: list[float], point: Point, cores: int) -> float:
    """The fitted sum at a point."""
    return float(np.dot(coefficients, terms(**point, cores=cores)))


def measure(points: list[Point]) -> list[dict]:
    """Seconds of a step and bytes on a device, for points of one number of devices; needs a fresh process."""
    os.environ["PJRT_NPROC"] = "1"  # a thread a device, and a device a core: as sweeps run
    import jax

    jax.config.update("jax_enable_x64", True)
    jax.config.update("jax_num_cpu_devices", points[0]["devices"])
    return [measured(jax, **point) for point in points]


def measured(jax, n: int, m: int, cells: int, nodes: int, devices: int) -> dict:
    """One point: the least of five timings, each of about 0.2 s."""
    from superpose import expected_loss, features, toy_model

    def loss(params, density):
        return expected_loss.relu_output(params, features.SparseUniform(density), nodes=nodes)

    start = jax.vmap(lambda k: toy_model.init(k, n=n, m=m))(jax.random.split(jax.random.key(0), cells))
    whole = (start, jax.numpy.geomspace(0.01, 0.5, cells))
    parts = [
        jax.device_put(jax.tree.map(lambda x, k=part: x[k], whole), device)
        for part, device in zip(np.array_split(np.arange(cells), devices), jax.devices(), strict=True)
    ]
    step = jax.jit(jax.vmap(jax.value_and_grad(loss)))
    programs = [step.lower(*part).compile() for part in parts]

    def seconds(repeats):
        begin = time.perf_counter()
        for _ in range(repeats):
            jax.block_until_ready([program(*part) for program, part in zip(programs, parts, strict=True)])
        return (time.perf_counter() - begin) / repeats

    repeats = max(1, round(0.2 / seconds(2)))
    memory = programs[0].memory_analysis()
    return {
        "seconds": min(seconds(repeats) for _ in range(5)),
        "bytes": memory.temp_size_in_bytes + memory.argument_size_in_bytes + memory.output_size_in_bytes,
    }


def rate() -> dict:
    """Float64 operations per second of a large matrix product here; needs a fresh process."""
    import jax

    jax.config.update("jax_enable_x64", True)
    a = jax.numpy.ones((2048, 2048))
    product, best = jax.jit(jax.numpy.matmul), 0.0
    for _ in range(9):
        start = time.perf_counter()
        product(a, a).block_until_ready()
        best = max(best, 2 * 2048**3 / (time.perf_counter() - start))
    return {"rate": best}


def in_process(*arguments) -> list | dict:
    """The JSON that this module prints when run with these arguments."""
    done = subprocess.run([sys.executable, "-m", __spec__.name, *arguments], check=True, stdout=subprocess.PIPE, text=True)
    return json.loads(done.stdout)


def sweep(rows: list[dict], cores: int, here: float) -> dict:
    """Days of the sweep from the step measured at its shape on one core.

    Cells are taken to spread over cores and hosts without loss, and time on the H100 to fall with the rate of arithmetic.
    """
    alone = {name: SWEEP[name] for name in ("n", "m", "nodes")} | {"cells": 1, "devices": 1}
    step = next(row for row in rows if alone.items() <= row.items())
    days = SWEEP["cells"] * SWEEP["steps"] * step["seconds"] / cores / 86_400
    return SWEEP | {
        "days, this machine": days,
        "days, one H100": days * here / H100,
        f"days, {HOSTS} hosts like this": days / HOSTS,
        "MB, one cell": step["bytes"] / 1e6,
    }


def main() -> None:
    """Measure, fit, check, print and save."""
    cores, here = len(os.sched_getaffinity(0)), in_process("rate")["rate"]
    points = FIT + CHECK
    found: dict[int, dict] = {}
    for devices in sorted({point["devices"] for point in points}):
        places = [i for i, point in enumerate(points) if point["devices"] == devices]
        found |= zip(places, in_process(json.dumps([points[i] for i in places])), strict=True)
    results = [found[i] for i in range(len(points))]
    models = {}
    for name, terms in {"seconds": work, "bytes": space}.items():
        models[name] = fitted(terms, FIT, [result[name] for result in results[: len(FIT)]], cores)
        for point, result in zip(points, results, strict=True):
            result[f"{name} predicted"] = predicted(terms, models[name], point, cores)
    rows = [point | result | {"fitted": i < len(FIT)} for i, (point, result) in enumerate(zip(points, results, strict=True))]
    report = {"base": BASE, "rows": rows, "models": models, "cores": cores, "float64 product rate": here}
    report["sweep"] = sweep(rows, cores, here)
    print(table(report))
    Path("results").mkdir(exist_ok=True)
    Path("results/growth.json").write_text(json.dumps(report, indent=2) + "\n")


def table(report: dict) -> str:
    """What was measured and predicted, a line a point, then the sweep."""
    lines = [f"{'n':>5}{'m':>5}{'cells':>6}{'nodes':>6}{'devices':>8}{'ms':>10}{'model':>8}{'MB':>10}{'model':>8}"]
    for row in report["rows"]:
        shape = f"{row['n']:5}{row['m']:5}{row['cells']:6}{row['nodes']:6}{row['devices']:8}"
        time_ratio, space_ratio = (row[f"{name} predicted"] / row[name] for name in ("seconds", "bytes"))
        line = f"{shape}{row['seconds'] * 1e3:10.2f}{time_ratio:8.2f}{row['bytes'] / 1e6:10.2f}{space_ratio:8.2f}"
        lines.append(line + ("" if row["fitted"] else "  not fitted"))
    lines += [f"sweep {key}: {value:.4g}" for key, value in report["sweep"].items()]
    return "\n".join(["`model`: predicted over measured", *lines])


if __name__ == "__main__":
    if len(sys.argv) == 1:
        main()
    else:
        print(json.dumps(rate() if sys.argv[1] == "rate" else measure(json.loads(sys.argv[1]))))
