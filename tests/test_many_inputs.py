"""The closed part of many features from sums over inputs against the general one, and the period."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from checks import EPS

from superpose import features
from superpose.expected_loss import compressed_sums, fourier_series
from superpose.expected_loss.compressed_sums import SPREAD
from superpose.expected_loss.groups import groups_of
from superpose.expected_loss.own_feature import Aside, aside
from superpose.expected_loss.period import period
from superpose.expected_loss.shares import left_of, part_of

LAW = features.SparseUniform.magnitude


def problem():
    rng = np.random.default_rng(0)
    return jnp.asarray(rng.standard_normal((8, 40)) / 3), jnp.asarray(rng.uniform(-0.3, 0.2, 40)), rng


def period_of(p, g, b):
    known = compressed_sums.sums(g)
    reached, _ = compressed_sums.reach_of(g, compressed_sums.size_of(known))
    return compressed_sums.period(LAW, p, known, reached, b, nodes=32)


@pytest.mark.parametrize("density", [0.01, 0.2, 1.0])
def test_period_is_the_general_one(density):
    W, b, _ = problem()
    W, b = W.at[:, :3].set(0), b.at[:3].set(jnp.array([-0.1, 0.2, 0.0]))

    @jax.jit
    def both(p):
        general = period(groups_of(features.SparseUniform(p), n=40, dtype=b.dtype), LAW, W.T @ W, b, nodes=32)
        return general, period_of(p, W.T @ W, b)

    general, found = both(jnp.asarray(density))
    np.testing.assert_allclose(found.length, general.length, rtol=2e-3)  # where corners are rounded off
    np.testing.assert_array_equal(found.on, general.on)
    np.testing.assert_array_equal(found.off, general.off)


@pytest.mark.parametrize("density", [0.01, 0.2, 1.0])
def test_closed_part_is_that_of_the_general_form(density):
    """With some outputs whose own feature has a closed form, and some without."""
    W, b, rng = problem()
    W = jnp.concatenate([W, jnp.asarray(np.diag(np.arange(40) % 2 * 1.0 + 1e-3 * rng.standard_normal(40)))])
    W = W.at[:8, 1::2].multiply(1e-2)

    @jax.jit
    def both(p):
        sets, g = groups_of(features.SparseUniform(p), n=40, dtype=b.dtype), W.T @ W
        g, own = aside(sets, LAW, g, b)
        span = period_of(p, g, b)
        general = fourier_series.closed_part(sets, LAW, span, g, b, own, nodes=32, spread=SPREAD)
        w = fourier_series.highest(span, 32)
        fade = compressed_sums.faded(g, w)
        taken = compressed_sums.Taken(*(x.sum(0) for x in compressed_sums.taken_by(left_of(p, w[None] * g, 40, SPREAD), g)))
        later = compressed_sums.turning_up(LAW, p, g, w, fade)
        part = part_of(later.count, later.drift)
        alone = compressed_sums.single(LAW, p, g, b, w, fade, own).value
        given = compressed_sums.Split(jnp.diagonal(g), compressed_sums.sums(g), own)
        return general, compressed_sums.closed_part(LAW, p, span, b, given, taken, alone, part, nodes=32)

    general, found = both(jnp.asarray(density))
    np.testing.assert_allclose(found, general, rtol=0, atol=256 * EPS * np.abs(general).max())


@pytest.mark.x64
def test_stated_slopes_are_those_of_the_sums():
    W, b, rng = problem()
    g, p, along = W.T @ W, jnp.asarray(0.2), jnp.asarray(rng.standard_normal((40, 40)))
    size, w = jnp.asarray(rng.uniform(1, 2, 40)), jnp.asarray(rng.uniform(5, 30, 40))
    square, cube = jnp.asarray(rng.uniform(-1, 1, (2, 40)))
    own = Aside(loss=jnp.zeros(40), square=square, cross=jnp.zeros(40), cube=cube)

    def alone(g, b, w, own=own):
        return compressed_sums.single(LAW, p, g, b, w, compressed_sums.faded(g, w), own)

    def reached(g, size):
        return compressed_sums.reach_of(g, size)[0]

    _, by_size = compressed_sums.reach_of(g, size)
    _, moved = jax.jvp(lambda g: reached(g, size), (g,), (along,))
    for row in np.eye(3):
        factors = compressed_sums.Reach(*(jnp.full(40, x) for x in row))
        slope = (compressed_sums.reach_slope(g, size, factors) * along).sum(0)
        expected = sum(x * y for x, y in zip(factors, moved, strict=True))
        np.testing.assert_allclose(slope, expected, rtol=1e-11, atol=1e-11)
    _, expected = jax.jvp(lambda size: reached(g, size), (size,), (jnp.ones(40),))
    np.testing.assert_allclose(jnp.stack(by_size), jnp.stack(expected), rtol=1e-11)
    value = alone(g, b, w)
    _, by_b = jax.jvp(lambda b: alone(g, b, w).value, (b,), (jnp.ones(40),))
    _, by_w = jax.jvp(lambda w: alone(g, b, w).value, (w,), (jnp.ones(40),))
    _, by_g = jax.jvp(lambda g: alone(g, b, w).value, (g,), (along,))
    _, by_cube = jax.jvp(lambda cube: alone(g, b, w, own._replace(cube=cube)).value, (own.cube,), (jnp.ones(40),))
    slope = (compressed_sums.single_slope(LAW, p, g, b, w, compressed_sums.faded(g, w), own) * along).sum(0)
    for found, truth in ((value.by_b, by_b), (value.by_w, by_w), (value.by_cube, by_cube), (slope, by_g)):
        np.testing.assert_allclose(found, truth, rtol=1e-11, atol=1e-13)

    def turning(g, w):
        return compressed_sums.turning_up(LAW, p, g, w, compressed_sums.faded(g, w))

    w = w / 10
    later, fade = turning(g, w), compressed_sums.faded(g, w)
    for k in range(2):
        _, by_w = jax.jvp(lambda w, k=k: turning(g, w)[k], (w,), (jnp.ones(40),))
        _, by_g = jax.jvp(lambda g, k=k: turning(g, w)[k], (g,), (along,))
        slope = compressed_sums.turning_up_slope(LAW, p, g, w, fade, tuple(jnp.outer(jnp.eye(2)[k], jnp.ones(40))))
        np.testing.assert_allclose(later[2 + k], by_w, rtol=1e-11, atol=1e-13)
        np.testing.assert_allclose((slope * along).sum(0), by_g, rtol=1e-11, atol=1e-13)
