"""Very many features: seconds, share of the machine's matrix-product rate, and peak memory; saves results/many_features.json.

`python -m benchmarks.many_features`. Each part runs in a process of its own, which then also measures the rate of
a large float32 matrix product. Operations are counted in full, 4 n m^2 for the dimensionality and
n^2 m for all pairs, so triangles and symmetry that spare work show as a larger share. `W` is made block by block from the place
of each entry, within the time that is measured; its own cost is measured as well.
"""

import json
import subprocess
import sys
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import memory
from superpose import many_features

PARTS = {
    "dimensionality, n=10^6, m=1024": ("dimensionality", 1_000_000, 1024),
    "dimensionality, n=10^5, m=1024": ("dimensionality", 100_000, 1024),
    "nearest neighbours, n=10^5, m=1024": ("neighbours", 100_000, 1024),
    "nearest neighbours, n=10^5, m=256": ("neighbours", 100_000, 256),
    "nearest neighbours, n=3x10^4, m=1024": ("neighbours", 30_000, 1024),
    "top 100 pairs, n=3x10^4, m=1024": ("pairs", 30_000, 1024),
    "histogram, n=3x10^4, m=1024": ("histogram", 30_000, 1024),
    "histogram of 1,000 probes, n=10^6, m=1024": ("sample", 1_000_000, 1024),
}
RUNS = {
    "dimensionality": (many_features.feature_dimensionality, lambda n, m: 4 * n * m**2),
    "neighbours": (many_features.nearest_neighbours, lambda n, m: n**2 * m),
    "pairs": (lambda W: many_features.top_pairs(W, 100), lambda n, m: n**2 * m),
    "histogram": (many_features.histogram, lambda n, m: n**2 * m),
    "sample": (lambda W: many_features.sampled_histogram(W, jax.random.key(0)), lambda n, m: 2 * n * m * 1000),
}


def rate() -> float:
    """Operations per second of the best of 9 float32 products of two square matrices, of 2,048 or 4,096 rows."""
    best = 0.0
    for size in (2048, 4096):
        a = jax.random.normal(jax.random.key(0), (size, size), jnp.float32)
        product = jax.jit(jnp.matmul)
        product(a, a).block_until_ready()
        for _ in range(9):
            start = time.perf_counter()
            product(a, a).block_until_ready()
            best = max(best, 2 * size**3 / (time.perf_counter() - start))
    return best


def columns(n: int, m: int) -> many_features.Columns:
    """Entries uniform on [-1, 1], from two rounds of a 32-bit hash of their place; any block gives a column the same values."""

    @jax.jit
    def block(places):
        h = places[None, :].astype(jnp.uint32) * jnp.uint32(m) + jnp.arange(m, dtype=jnp.uint32)[:, None]
        for multiplier in (0x7FEB352D, 0x846CA68B):
            h = (h ^ (h >> 16)) * jnp.uint32(multiplier)
        return (h ^ (h >> 15)).astype(jnp.float32) * jnp.float32(2**-31) - 1

    return many_features.Columns(lambda start, stop: block(np.arange(start, stop)), n=n, m=m)


def measure(name: str, n: int, m: int) -> dict:
    """One part, in this process; compiled at a small n before."""
    run, operations = RUNS[name]
    run(columns(4096 + n % 1024, m))  # blocks of the same widths, the last one too
    W = columns(n, m)
    start = time.perf_counter()
    run(W)
    seconds, peak = time.perf_counter() - start, memory.peak()
    best = rate()
    start = time.perf_counter()
    for first in range(0, n, 1024):
        W[:, first : min(first + 1024, n)].block_until_ready()
    reading = time.perf_counter() - start
    return {
        "seconds": seconds,
        "operations": operations(n, m),
        "product rate, GFlop/s": best / 1e9,
        "share of the rate": operations(n, m) / seconds / best,
        "seconds to make W once": reading,
        "peak memory, GiB": peak / 2**30,
    }


def main() -> None:
    """Run all parts, each in its own process; print and save."""
    report = {}
    for title, part in PARTS.items():
        done = subprocess.run(
            [sys.executable, "-m", __spec__.name, *map(str, part)], check=True, capture_output=True, text=True
        )
        report[title] = json.loads(done.stdout)
        print(f"{title:45}", "  ".join(f"{key} {value:.3g}" for key, value in report[title].items()), flush=True)
    Path("results").mkdir(exist_ok=True)
    Path("results/many_features.json").write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    if len(sys.argv) > 1:
        print(json.dumps(measure(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))))
    else:
        main()
