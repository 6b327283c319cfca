"""The exact loss of an autoencoder: its error, its estimate, its time, and what samples take for the same error.

`python -m benchmarks.autoencoder` prints two tables. Errors are shares of the loss, held against 128 nodes, for autoencoders on
random, pentagon and antipodal directions. Times are medians, after compilation, with the models shared out to all cores; samples
are drawn and differentiated 8,192 at a time, and `variance / error^2` of them have the error of the exact loss.
"""

import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial

CORES = len(os.sched_getaffinity(0))
os.environ.setdefault("PJRT_NPROC", "1")  # a thread a device, and a device a core: as sweeps run

import jax  # noqa: E402
import jax.numpy as jnp  # noqa: E402
import numpy as np  # noqa: E402

from superpose import autoencoder, expected_loss, features  # noqa: E402
from superpose.autoencoder import Params  # noqa: E402

jax.config.update("jax_enable_x64", True)
jax.config.update("jax_num_cpu_devices", CORES)

NODES = (16, 32, 64)
TRUTH = 128
PENALTY = 0.03
BATCH = 8192


def directions(kind: str, n: int, m: int, rng: np.random.Generator) -> np.ndarray:
    """Columns of norm up to 1.5."""
    if kind == "pentagon":
        turn = 2 * np.pi * np.arange(n) / 5
        return np.stack([np.cos(turn), np.sin(turn)]) * np.where(np.arange(n) < 5, 1, 0)
    if kind == "antipodal":
        W = np.zeros((m, n))
        for j in range(min(n, 2 * m)):
            W[j // 2, j] = (-1) ** j * (1 - 0.2 * (j // 2))
        return W
    W = rng.standard_normal((m, n))
    return 1.5 * rng.uniform(0.3, 1, n) * W / np.linalg.norm(W, axis=0)


def start(W: np.ndarray, latents: int, rng: np.random.Generator, *, tied: bool) -> Params:
    """An autoencoder with the truth's directions, disturbed, or random ones; biases of both signs."""
    D = W[:, rng.integers(0, W.shape[1], latents)] if tied else rng.standard_normal((len(W), latents))
    D = D + 0.05 * rng.standard_normal(D.shape)
    D = D / np.linalg.norm(D, axis=0)
    numbers = D.T, 0.1 * rng.standard_normal(latents), D, 0.05 * rng.standard_normal(len(W))
    return Params(*map(jnp.asarray, numbers))


@partial(jax.jit, static_argnums=3)
def loss(params: Params, W: jax.Array, p: jax.Array, nodes: int) -> jax.Array:
    """With so many nodes."""
    return expected_loss.autoencoder(params, W, features.SparseUniform(p), penalty=PENALTY, nodes=nodes)


@partial(jax.jit, static_argnums=3)
def estimate(params: Params, W: jax.Array, p: jax.Array, nodes: int) -> jax.Array:
    """The estimate of its error."""
    return expected_loss.autoencoder_error(params, W, features.SparseUniform(p), penalty=PENALTY, nodes=nodes)


def errors(models: int = 24) -> None:
    """Print the shares of models that miss, by nodes, and how the estimate compares."""
    rng = np.random.default_rng(0)
    print("kind        p    nodes  median  worst   estimate/error: median, lowest")
    for kind, n, m, latents in (("random", 6, 2, 6), ("pentagon", 5, 2, 6), ("antipodal", 4, 2, 6)):
        for p in (0.03, 0.3):
            cases = [directions(kind, n, m, rng) for _ in range(models)]
            cases = [(start(W, latents, rng, tied=k % 2 == 0), jnp.asarray(W)) for k, W in enumerate(cases)]
            truth = np.array([loss(q, W, jnp.asarray(p), TRUTH) for q, W in cases])
            for nodes in NODES:
                error = np.abs(np.array([loss(q, W, jnp.asarray(p), nodes) for q, W in cases]) - truth)
                ratio = np.array([estimate(q, W, jnp.asarray(p), nodes) for q, W in cases]) / np.maximum(error, 1e-300)
                share = error / truth
                told = f"{np.median(ratio):6.1f} {ratio.min():6.2f}"
                print(f"{kind:10} {p:5} {nodes:5}  {np.median(share):.1e} {share.max():.1e}  {told}", flush=True)


def seconds(run: Callable[[], object], repeats: int = 9) -> float:
    """The median time of a call."""
    jax.block_until_ready(run())
    times = []
    for _ in range(repeats):
        begin = time.perf_counter()
        jax.block_until_ready(run())
        times.append(time.perf_counter() - begin)
    return float(np.median(times))


def _shared_out(stack: Params, models: int) -> list[Params]:
    """As many models for each device."""
    share = -(-models // CORES)
    starts = range(0, models, share)
    parts = [jax.tree.map(lambda x, k=k: x[k : k + share], stack) for k in starts]
    return [jax.device_put(part, device) for part, device in zip(parts, jax.devices(), strict=False)]


def _all_at_once(threads: ThreadPoolExecutor, step: Callable, parts: list[Params]) -> list:
    return list(threads.map(step, parts))


def times() -> None:
    """Print the time of value and gradient, and of samples of the same error."""
    print(
        "n   L   models nodes  ms a model   samples: standard deviation over loss, ms for the error of the exact loss, ratio"
    )
    rng = np.random.default_rng(1)
    for n, m, latents, models, nodes in ((5, 2, 10, 64, 32), (5, 2, 10, 1, 32), (20, 6, 40, 1, 32)):
        W = jnp.asarray(directions("random", n, m, rng))
        made = [start(np.asarray(W), latents, rng, tied=True) for _ in range(models)]
        stack = jax.tree.map(lambda *x: jnp.stack(x), *made)
        p = jnp.asarray(0.1)
        step = jax.jit(jax.vmap(jax.value_and_grad(lambda q, W=W, p=p, nodes=nodes: loss(q, W, p, nodes))))
        parts = _shared_out(stack, models)
        with ThreadPoolExecutor(CORES) as threads:
            exact = seconds(partial(_all_at_once, threads, step, parts)) / models

        def sampled(q: Params, key: jax.Array, W: jax.Array = W, n: int = n, p: jax.Array = p) -> jax.Array:
            x = jax.vmap(lambda k: features.sample(k, features.SparseUniform(p), n=n))(jax.random.split(key, BATCH))
            return jax.vmap(lambda x: autoencoder.loss(q, W @ x, PENALTY))(x)

        q = made[0]
        mean = jax.jit(jax.value_and_grad(lambda q, key: sampled(q, key).mean()))
        batch = seconds(lambda mean=mean, q=q: mean(q, jax.random.key(0)))
        spread = float(jnp.std(jax.jit(sampled)(q, jax.random.key(1))))
        value = float(loss(q, W, p, nodes))
        error = abs(float(loss(q, W, p, 2 * nodes)) - value)
        needed = batch * (spread / error) ** 2 / BATCH
        print(
            f"{n:3} {latents:3} {models:5} {nodes:5}  {1e3 * exact:8.2f}    "
            f"{spread / value:.2f}  {1e3 * needed:.1e}  {needed / exact:.0e}",
            flush=True,
        )


if __name__ == "__main__":
    times()
    errors()
