"""The ladder of characteristic functions against direct evaluation at each node."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from checks import EPS
from test_magnitudes import LAWS

from superpose._jax.complex_numbers import scaled
from superpose.features.characteristic import powers

NODES = 128
THETA = (0.0, 1e-30, -1e-9, 1e-4, 0.003, -0.1, 0.999, 1.0, 1.7, -3.1, 6.2831, 12.0)


def climb(rung, count=NODES):
    """All values, each `(theta, nodes)`."""
    _, values = jax.lax.scan(rung.step, rung.start, nodes(count))
    return [jnp.moveaxis(v, 0, -1) for v in values]


def nodes(count=NODES):
    return jnp.arange(1, count + 1).astype(float)


@pytest.mark.parametrize("name", LAWS)
def test_ladder_is_psi_at_every_multiple(name):
    theta = jnp.asarray(THETA)
    found = jax.jit(lambda t: climb(LAWS[name].recurrence(t, 2)))(theta)
    with jax.enable_x64(True):
        wide = jnp.asarray(np.asarray(theta, float))[:, None] * jnp.asarray(np.asarray(nodes(), float))[None, :]
        expected = LAWS[name].derivatives(wide, 2)
    for values, truth in zip(found, expected, strict=True):
        # 128 products of a phase, each off by a rounding or two.
        np.testing.assert_allclose(np.asarray(values), np.asarray(truth), rtol=0, atol=2 * 128 * EPS)


@pytest.mark.parametrize("order", [0, 1, 2])
@pytest.mark.parametrize("name", LAWS)
def test_ladder_gives_as_many_derivatives_as_asked(name, order):
    theta = jnp.asarray(THETA)
    rung = LAWS[name].recurrence(theta, order)
    _, values = rung.step(rung.start, jnp.ones(()))
    assert [v.shape for v in values] == [(len(THETA),)] * (order + 1)


def test_powers_turn_by_theta_each_node():
    theta = jnp.asarray(THETA)
    (found,) = climb(powers(theta))
    angle = np.asarray(theta, float)[:, None] * np.arange(1, NODES + 1)
    np.testing.assert_allclose(np.asarray(found), np.exp(1j * angle), rtol=0, atol=2 * 128 * EPS)


def test_a_tiny_overlap_keeps_its_slope_in_float32():
    """`psi'(k theta) = i/2 - k theta/3` near 0, where `(e^{it} - 1)/(it)` would have lost it."""
    with jax.enable_x64(False):
        theta = jnp.array([1e-6], jnp.float32)
        _, slope = climb(LAWS["uniform"].recurrence(theta, 1), count=64)
        expected = 0.5j - np.arange(1, 65) * 1e-6 / 3
        np.testing.assert_allclose(np.asarray(slope)[0].imag, expected.imag, rtol=1e-6)
        np.testing.assert_allclose(np.asarray(slope)[0].real, expected.real, rtol=0, atol=1e-7)


def test_scaled_is_a_real_times_a_complex():
    z, factor = jnp.array([1 + 2j, -3j]), jnp.array([2.0, -0.5])
    np.testing.assert_array_equal(np.asarray(scaled(factor, z)), np.array([2 + 4j, 1.5j]))
