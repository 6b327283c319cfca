"""Factorisations one after the other: the same numbers under every `vmap`, and programs side by side that do not hang."""

import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from checks import EPS, assert_close

from superpose._jax import one_by_one
from superpose.sweep import devices

SIDE_BY_SIDE = """
from concurrent.futures import ThreadPoolExecutor
import jax, jax.numpy as jnp, numpy as np
from superpose import sweep
from superpose._jax import one_by_one

a = np.random.default_rng(0).standard_normal((100, 40, 40), np.float32)
a = a + a.swapaxes(1, 2)
run = jax.jit(jax.vmap(lambda x: one_by_one.eigh(x)[0])).lower(a).compile()
expected = np.asarray(run(a))
with ThreadPoolExecutor(4) as pool:
    assert all((np.asarray(x) == expected).all() for x in pool.map(lambda _: run(a), range(12)))
found = sweep.run(lambda x: jnp.linalg.eigh(x)[0], np.tile(a, (8, 1, 1)), width=100)["value"]
np.testing.assert_allclose(found, np.tile(expected, (8, 1)), atol=1e-4)
print("done")
"""


@pytest.mark.parametrize("lead", [(), (5,), (2, 3)])
def test_values_are_those_of_numpy(lead):
    a = np.random.default_rng(1).standard_normal((*lead, 6, 4))
    square = np.swapaxes(a, -1, -2) @ a

    def run(f, x):
        for _ in lead:
            f = jax.vmap(f)
        return jax.jit(f)(jnp.asarray(x))

    values, vectors = run(one_by_one.eigh, square)
    assert_close(values, np.linalg.eigvalsh(square), rtol=256 * EPS)
    assert_close((vectors * values[..., None, :]) @ jnp.swapaxes(vectors, -1, -2), square, rtol=256 * EPS)
    triangle = run(one_by_one.triangle, a)
    assert_close(jnp.swapaxes(triangle, -1, -2) @ triangle, square, rtol=256 * EPS)
    assert_close(run(one_by_one.singular_values, a), np.linalg.svd(a, compute_uv=False), rtol=256 * EPS)


def test_a_plan_lets_nothing_run_beside_a_batch_of_factorisations(monkeypatch):
    monkeypatch.setattr(devices, "_at_once", lambda: 4)
    points = np.ones((40, 3, 3))
    for function, width, expected in (
        (one_by_one.eigh, 10, 4),
        (jnp.linalg.eigh, 1, 4),
        (jnp.linalg.eigh, 10, 1),
        (jnp.linalg.qr, 10, 1),
        (jnp.sin, 10, 4),
    ):
        plan = devices.plan(function, points, width=width, memory=0)
        assert plan.at_once == expected
        assert expected > 1 or len(plan.programs) == 1


def test_programs_side_by_side_do_not_wait_for_each_other_for_ever():
    """In a process of its own, with threads as there are cores: what is tested is that it ends."""
    done = subprocess.run([sys.executable, "-c", SIDE_BY_SIDE], capture_output=True, text=True, timeout=120, check=False)
    assert done.stdout == "done\n", done.stderr
