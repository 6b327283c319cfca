"""Where the time of an exact value and gradient goes: XLA's own record of each loop, per model.

`python -m benchmarks.profile N M MODELS` prints the costliest, in microseconds a model, and how often each runs. The record itself
costs time, the more the more small loops there are; for totals see `python -m benchmarks`.
"""

import collections
import sys
import tempfile
from pathlib import Path

import jax
import jax.numpy as jnp
from jax.profiler import ProfileData, ProfileOptions

from superpose import expected_loss, features, toy_model

RUNS, ROWS, LEVEL = 20, 20, 3


def main(n: int, m: int, models: int) -> None:
    """Profile `RUNS` runs after compilation."""
    start = jax.vmap(lambda key: toy_model.init(key, n=n, m=m))(jax.random.split(jax.random.key(0), models))
    law = features.SparseUniform(jnp.float32(0.05))
    step = jax.jit(jax.vmap(jax.value_and_grad(lambda p: expected_loss.relu_output(p, law)))).lower(start).compile()
    jax.block_until_ready(step(start))
    options = ProfileOptions()
    options.host_tracer_level = LEVEL
    with tempfile.TemporaryDirectory() as folder:
        with jax.profiler.trace(folder, profiler_options=options):
            for _ in range(RUNS):
                jax.block_until_ready(step(start))
        record = ProfileData.from_file(str(next(Path(folder).rglob("*.xplane.pb"))))
    total, count = collections.Counter(), collections.Counter()
    for event in (event for plane in record.planes for line in plane.lines for event in line.events):
        total[event.name] += event.duration_ns
        count[event.name] += 1
    loops = [name for name, _ in total.most_common() if "fusion" in name or "while" in name or "dot" in name]
    print(f"{'us':>8} {'runs':>6}  loop, per model; n = {n}, m = {m}, {models} models")
    for name in loops[:ROWS]:
        print(f"{total[name] / RUNS / models / 1e3:8.1f} {count[name] / RUNS / models:6.1f}  {name}")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:4]))
