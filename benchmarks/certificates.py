"""How many starts and cells end certified where people use the library: sizes, densities and decaying importances of one's own.

`python -m benchmarks.certificates` solves each case on a grid of importances decay^i and of densities, from random starts,
and prints a line each: the share of starts certified, the share certified or stuck for a reason that is a property of the point,
the share of cells whose best start is certified, that share by density, and the seconds of the search (compiled before).
`python -m benchmarks.certificates 6,3,64` takes the cases named.
"""

import sys
import time
from collections import Counter
from collections.abc import Sequence
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from superpose import expected_loss, features, solve, toy_model

jax.config.update("jax_enable_x64", True)

CASES = ((6, 3, 64), (6, 3, 256), (10, 4, 64), (20, 5, 64))
"""n, m and nodes."""
DECAYS = (0.4, 0.6, 0.8, 0.9, 1.0)
DENSITIES = tuple(np.geomspace(1, 0.01, 8))
STARTS = 8
STEPS = 800
COARSE = 16
"""Nodes with which the search begins."""
OF_THE_POINT = {"certified", "degenerate", "kink"}
"""Reasons that are a property of the point, not of the search."""


def solution(n: int, m: int, nodes: int) -> tuple[solve.Solution, float]:
    """All cells and starts of a case, leading axes (decay, density, start), and the seconds it took."""
    decay, density, number = (
        x.reshape(-1) for x in jnp.meshgrid(jnp.array(DECAYS), jnp.array(DENSITIES), jnp.arange(STARTS), indexing="ij")
    )
    keys = jax.vmap(partial(jax.random.fold_in, jax.random.key(0)))(jnp.arange(len(number)))
    starts = jax.vmap(lambda key: toy_model.init(key, n=n, m=m))(keys)

    def loss(params: toy_model.Params, cell: tuple[jax.Array, jax.Array], nodes: int = nodes) -> jax.Array:
        law, importance = features.SparseUniform(cell[1]), features.geometric_importance(cell[0], n=n)
        units = solve.natural_units(law, importance, n=n)
        return expected_loss.relu_output(units.plain(params), law, importance, nodes=nodes) / units.loss

    run = partial(solve.minimize, loss, starts, (decay, density), coarser=partial(loss, nodes=COARSE), steps=STEPS)
    jax.block_until_ready(run())
    before = time.perf_counter()
    found = jax.block_until_ready(run())
    grid = (len(DECAYS), len(DENSITIES), STARTS)
    return jax.tree.map(lambda x: x.reshape(grid + x.shape[1:]), found), time.perf_counter() - before


def line(case: tuple[int, int, int]) -> str:
    """The table's line for one case."""
    found, seconds = solution(*case)
    names = np.array(solve.REASONS)[np.asarray(found.reason)]
    doubted = np.where(found.converged, found.loss, found.loss * (1 + 1e-9))  # of equals, a certified one
    best = np.nanargmin(doubted, axis=2)[..., None]
    cells = np.take_along_axis(np.asarray(found.converged), best, axis=2)[..., 0]
    shares = [np.mean(found.converged), np.isin(names, list(OF_THE_POINT)).mean(), cells.mean()]
    columns = [", ".join(map(str, case)), *(f"{100 * x:.1f} %" for x in shares)]
    columns += [" ".join(f"{x:.2g}" for x in cells.mean(axis=0)), f"{seconds:.0f} s"]
    return (
        "| " + " | ".join([*columns, ", ".join(f"{k} {v}" for k, v in Counter(names.ravel().tolist()).most_common())]) + " |"
    )


def main(arguments: Sequence[str]) -> None:
    """Print the table, a line as soon as it is known."""
    cases = [tuple(int(x) for x in text.split(",")) for text in arguments] or CASES
    density = " ".join(f"{p:.2g}" for p in DENSITIES)
    print(
        f"| n, m, nodes | starts certified | or named | cells | by density {density} | time | reasons |\n" + "|---" * 7 + "|"
    )
    for n, m, nodes in cases:
        print(line((n, m, nodes)), flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
