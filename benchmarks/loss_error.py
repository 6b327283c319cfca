"""Error of the exact loss and of its estimate, over weights of the kinds that people meet: random, structured, solved and trained.

`python -m benchmarks.loss_error` prints, for laws, sizes and both precisions, how many models miss 1e-4 of the loss, how many
besides those of orthogonal columns, the worst,
how the estimate compares with the error (median, 90th percentile, smallest ratio), and how often it lies below. Truth is the
direct product in float64 with 16 times as many nodes, at least 4,096. `python -m benchmarks.loss_error uniform,6,300` takes one
law, n and number of models.
"""

import sys
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax

from superpose import expected_loss, features, solve, toy_model, train
from superpose.expected_loss import accuracy
from superpose.toy_model import Params

jax.config.update("jax_enable_x64", True)

CASES = (
    *(("uniform", n, 240) for n in (4, 6, 20)),
    *(("exponential", n, 240) for n in (4, 6, 20)),
    *((name, 6, 120) for name in ("symmetric", "together", "exclusive")),
    ("binary", 12, 120),
    ("uniform", 32, 120),
    ("uniform", 100, 60),
    ("uniform", 400, 12),
)
NODES = (16, 64, 256, 1024)
MOST_NODES = {32: 1024, 100: 256, 400: 64}
"""Nodes tried at most, where truth would take too long."""
ADAM = optax.adam(0.01)
NO_LOSS = 1e-9
"""Models whose loss is a smaller share of the features' variance are left out: it is 0 but for rounding."""
RESOLVED = 1e-13
"""Shares of the loss below which an error says no more about the series."""


def polygons(n: int, m: int, corners: int) -> np.ndarray:
    """Regular polygons in as many planes as m has, the columns that are left 0."""
    W = np.zeros((m, n))
    for j in range(min(n, corners * (m // 2))):
        angle = 2 * np.pi * (j % corners) / corners
        W[2 * (j // corners) : 2 * (j // corners) + 2, j] = np.cos(angle), np.sin(angle)
    return W


def unit(W: np.ndarray) -> np.ndarray:
    """Columns of length 1."""
    return W / np.linalg.norm(W, axis=0)


def antipodal(n: int, m: int) -> np.ndarray:
    """Pairs of opposite columns, as many as fit."""
    W = np.zeros((m, n))
    for j in range(min(n, 2 * m)):
        W[j // 2, j] = (-1) ** j
    return W


def solved(rng: np.random.Generator, n: int, m: int, law: features.Distribution) -> Params:
    """A minimum of the loss with 64 nodes, from a random start; beyond 20 features a point on the way there."""
    key, importance = (
        jax.random.key(int(rng.integers(2**31))),
        features.geometric_importance(float(rng.uniform(0.5, 1)), n=n),
    )
    if n <= 6:
        return jax.tree.map(lambda x: x[0], solve.toy_minima(key, law, importance, n=n, m=m, nodes=64).params)
    return _descended(toy_model.init(key, n=n, m=m), law, importance)


@jax.jit
def _descended(params: Params, law: features.Distribution, importance: jax.Array) -> Params:
    """After 500 steps of Adam on the loss with 16 nodes."""

    def step(carry: tuple, _: None) -> tuple[tuple, None]:
        params, state = carry
        slope = jax.grad(lambda q: expected_loss.relu_output(q, law, importance, nodes=16))(params)
        updates, state = ADAM.update(slope, state)
        return (optax.apply_updates(params, updates), state), None

    return jax.lax.scan(step, (params, ADAM.init(params)), None, length=500)[0][0]


def trained(rng: np.random.Generator, n: int, m: int, law: features.Distribution) -> Params:
    """After 1,000 steps of Adam on batches of 256 inputs."""
    key = jax.random.key(int(rng.integers(2**31)))
    start = toy_model.init(jax.random.fold_in(key, 0), n=n, m=m)
    return train.fit(jax.random.fold_in(key, 1), start, law, steps=1000, batch=256, optimizer=ADAM).params


def plain(rng: np.random.Generator, kind: str, n: int, m: int) -> np.ndarray:
    """W of a kind that needs no search."""
    normal = rng.standard_normal((m, n))
    if kind == "normal":
        return normal / np.sqrt(m)
    if kind == "unit":
        return unit(normal)
    if kind == "repeated":
        return unit(normal)[:, np.arange(n) // 3]
    if kind == "scaled":
        return unit(normal) * rng.uniform(0.2, 2, n)
    if kind == "shrunk":
        return normal * 10 ** rng.uniform(-3, -0.5)
    if kind == "polygons":
        return polygons(n, m, int(rng.integers(3, 7)))
    if kind == "orthogonal":
        return np.eye(n) if rng.random() < 0.5 else np.linalg.qr(rng.standard_normal((n, n)))[0]
    factor = {"antipodal": np.ones(n), "half zero": rng.permutation(n) < n // 2, "two lengths": rng.choice([0.5, 1.1], n)}
    return antipodal(n, m) * factor[kind]


PLAIN = ("normal", "unit", "repeated", "scaled", "shrunk", "polygons", "orthogonal", "antipodal", "half zero", "two lengths")
NOISE = (0, 1e-3, 0.01, 0.05)
BIAS = (0, 1e-4, 0.01, 0.1, 0.3)


def law_of(name: str, p: float, n: int) -> features.Distribution:
    """Of one density, or in sets of two that are active at most half the time."""
    single = {
        "uniform": features.SparseUniform,
        "symmetric": features.SparseSymmetric,
        "exponential": features.SparseExponential,
        "binary": features.SparseBinary,
    }
    if name in single:
        return single[name](jnp.asarray(p))
    pairs = tuple(np.arange(n) // 2)
    coupled = {"together": features.Together, "exclusive": features.Exclusive}[name]
    return coupled(features.SparseUniform(jnp.asarray(p / 2)), pairs)


def model(rng: np.random.Generator, name: str, n: int, kind: str) -> tuple[Params, features.Distribution]:
    """A model of one kind and its distribution."""
    law = law_of(name, float(10 ** rng.uniform(-2.5, 0)), n)
    if kind in ("solved", "trained"):
        found = {"solved": solved, "trained": trained}[kind](rng, n, max(2, n // 3), law)
        return Params(W=_square(found.W), b=found.b), law
    W = plain(rng, kind, n, int(rng.integers(max(2, n // 8), n // 2 + 1)))
    W = W + rng.choice(NOISE) * rng.standard_normal(W.shape) / np.sqrt(len(W))
    b = rng.choice(BIAS) * rng.uniform(-1, 0.5 if rng.random() < 0.5 else 0, n)
    return Params(W=_square(jnp.asarray(W)), b=jnp.asarray(b)), law


def _square(W: jax.Array) -> jax.Array:
    """W with rows of 0 below, so that one program serves all m."""
    return jnp.pad(W, ((0, W.shape[1] - len(W)), (0, 0)))


@partial(jax.jit, static_argnums=2)
def _value(params: Params, law: features.Distribution, nodes: int) -> tuple[jax.Array, jax.Array]:
    return (
        expected_loss.relu_output(params, law, nodes=nodes),
        expected_loss.error_estimate(params, law, nodes=nodes),
    )


def judged(case: tuple[str, int, int]) -> dict[tuple[str, int], np.ndarray]:
    """For each precision and number of nodes, rows of loss, error, estimate and whether the columns are orthogonal."""
    name, n, count = case
    rng, kinds = np.random.default_rng([n, count]), [*PLAIN, "solved", "trained"]
    most = MOST_NODES.get(n, max(NODES))
    rows: dict[tuple[str, int], list] = {}
    for i in range(count):
        kind = kinds[i % len(kinds)]
        params, law = model(rng, name, n, kind)
        leaves, tree = jax.tree.flatten(law)
        nodes = jnp.asarray(max(16 * most, 4096))
        truth = float(accuracy._by_product(params.W, params.b, leaves, nodes, tree)[0].sum())
        if truth < NO_LOSS * float(jnp.trace(features.covariance(law, n=n))):
            continue
        for precision in (np.float64, np.float32):
            single, single_law = jax.tree.map(lambda x, t=precision: x.astype(t), (params, law))
            for k in NODES:
                if k <= most and not (precision == np.float32 and k > 64):
                    value, estimate = map(float, _value(single, single_law, k))
                    rows.setdefault((precision.__name__, k), []).append(
                        (truth, abs(value - truth), estimate, kind == "orthogonal")
                    )
    return {key: np.array(row) for key, row in rows.items()}


def line(case: tuple[str, int, int], precision: str, nodes: int, rows: np.ndarray) -> str:
    """One line of the table."""
    truth, error, estimate, orthogonal = rows.T
    share = error / truth
    resolved = share > (RESOLVED if precision == "float64" else 1e-7)
    ratio = estimate[resolved] / error[resolved]
    at = [np.median(ratio), np.quantile(ratio, 0.9), ratio.min()] if len(ratio) else [np.nan] * 3
    columns = f"{case[0]:12} {case[1]:4} {precision:8} {nodes:5} {len(rows):5}"
    columns = f"{columns} {100 * np.mean(share > 1e-4):7.1f}"
    columns = f"{columns} {100 * np.mean((share > 1e-4) & (orthogonal == 0)):7.1f} {share.max():9.1e}"
    return f"{columns} {at[0]:8.1f} {at[1]:9.1f} {at[2]:8.2f} {int((estimate < error).sum()):6}"


def main(cases: list[tuple[str, int, int]]) -> None:
    """Print the table."""
    head = f"{'law':12} {'n':>4} {'':8} {'nodes':>5} {'tried':>5} {'% >1e-4':>7} {'besides':>7} {'worst':>9}"
    print(f"{head} {'median':>8} {'90 %':>9} {'least':>8} {'below':>6}")
    for case in cases:
        for (precision, nodes), rows in judged(case).items():
            print(line(case, precision, nodes, rows), flush=True)


if __name__ == "__main__":
    asked = [arg.split(",") for arg in sys.argv[1:]]
    main([(name, int(n), int(count)) for name, n, count in asked] or list(CASES))
