"""Certificates: no planted saddle passes, flat and degenerate minima do, and the gap lies above the truth, not far.

Everything is a polynomial in two numbers, `sum_ij a_ij x^i y^j`, with its coefficients as data: one program for all.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from superpose import solve

pytestmark = pytest.mark.x64


def polynomial(t, a):
    x, y = t
    return jnp.sum(a * jnp.stack([x**k for k in range(7)])[:, None] * jnp.stack([y**k for k in range(7)])[None, :])


def coefficients(**terms):
    """`x2y1=3` is `3 x^2 y`."""
    a = np.zeros((7, 7))
    for name, value in {"x0y0": 1.0, **terms}.items():
        a[int(name[1]), int(name[3])] = value
    return a


def solved(starts, polynomials, **settings):
    """Filled up to eight problems, so that all share their programs."""
    count = len(starts)
    rows = np.stack([*polynomials, *[coefficients(x2y0=1, x0y2=1)] * (8 - count)])
    found = solve.minimize(polynomial, jnp.zeros((8, 2)).at[:count].set(jnp.asarray(starts)), jnp.asarray(rows), **settings)
    return jax.tree.map(lambda x: x[:count], found)


def reasons(solution):
    return [solve.REASONS[k] for k in solution.reason]


SADDLES = {
    "plain": coefficients(x2y0=1, x0y2=-1, x0y4=1),
    "little curvature": coefficients(x2y0=1, x0y2=-1e-6, x0y4=1e-6),
    "less": coefficients(x2y0=1, x0y2=-1e-7, x0y4=1e-8),
    "inflection": coefficients(x2y0=1, x0y3=1, x0y4=1),
    "monkey": coefficients(x3y0=1, x1y2=-3, x4y0=1, x2y2=2, x0y4=1),
    "across": coefficients(x2y1=1, x4y0=1, x2y2=2, x0y4=1),
    "bent valley": coefficients(x2y0=0.5, x1y2=1, x0y4=0.25, x0y6=1),
    "quartic": coefficients(x2y0=1, x0y4=-1, x0y6=1),
}


def test_no_planted_saddle_is_certified():
    """All start where the gradient is exactly 0; without an escape all end there, and none is certified."""
    stuck = solved(np.zeros((len(SADDLES), 2)), list(SADDLES.values()), escapes=0)
    assert np.all(np.asarray(stuck.params) == 0)
    assert not np.any(stuck.converged)
    assert set(reasons(stuck)) == {"saddle", "degenerate"}
    assert np.all(stuck.gap > 1e-8)


def test_saddles_are_left():
    """With escapes all end in certified minima below, but the shallowest, whose minimum is 2.5e-7 lower at y^2 = 5."""
    left = solved(np.zeros((len(SADDLES), 2)), list(SADDLES.values()))
    deep = np.array(list(SADDLES)) != "less"
    assert np.all(left.converged[deep]), reasons(left)
    assert not np.any(left.converged & (left.loss > 1 - 2e-7))


def test_inflections_approached_from_the_side_where_curvature_is_positive_are_left():
    """Newton steps halve the distance to `x^3`'s inflection, with ever smaller gradient and positive curvature."""
    found = solved([[0.1, 0.3], [0.02, 0.0]], [SADDLES["inflection"], SADDLES["inflection"].T])
    assert np.all(found.converged)
    np.testing.assert_allclose(found.loss, 1 - 27 / 256, rtol=1e-12)  # t^3 + t^4 at t = -3/4


FLAT = {
    "constant along y": coefficients(x2y0=1),
    "y^4": coefficients(x2y0=1, x0y4=1),
    "valley along x = y": coefficients(x2y0=1, x1y1=-2, x0y2=1),
    "unit circle": coefficients(x0y0=2, x2y0=-2, x0y2=-2, x4y0=1, x2y2=2, x0y4=1),
    "no slope at all": coefficients(),
}


def test_flat_minima_are_certified():
    found = solved(np.full((len(FLAT), 2), [0.6, 0.3]), list(FLAT.values()))
    assert np.all(found.converged), reasons(found)
    np.testing.assert_allclose(found.loss, 1, rtol=1e-8)


def test_an_unused_column_is_certified_and_a_kink_is_named():
    """A loss that grows like `|w|^3` in two numbers has no curvature at its minimum, which is there; `|t_0 - 0.3|` has a kink."""

    def either(t, kinked):
        column = (t[0] - 0.5) ** 2 + (t[1:] @ t[1:] + 1e-30) ** 1.5
        return 1 + jnp.where(kinked, jnp.abs(t[0] - 0.3) + t[1:] @ t[1:], column)

    found = solve.minimize(either, jnp.array([[0.1, 0.4, -0.2], [0.5, 0.2, 0.1]]), jnp.array([False, True]))
    assert reasons(found) == ["certified", "kink"]
    assert found.converged.tolist() == [True, False]
    assert found.loss[0] < 1 + 1e-8


@pytest.mark.parametrize("spread", [1.0, 1e-3, 1e-6])
def test_the_gap_of_a_quadratic_is_above_the_truth_within_tenfold(spread):
    """One quasi-Newton step and one Newton step on `1 + x^2 + spread y^2` and a little `x^2 y^2`, whose minimum is 1."""
    starts = np.random.default_rng(0).uniform(-0.5, 0.5, (8, 2))
    bowl = coefficients(x2y0=1, x0y2=spread, x2y2=spread / 10)
    found = solved(starts, [bowl] * 8, steps=1, newton_steps=1)
    truth, gap = np.asarray(found.loss) - 1, np.asarray(found.gap)
    known = truth > 1e-15
    assert np.all(gap[known] >= truth[known] - 4e-16)
    assert np.all(gap[known] <= 10 * truth[known] + 1e-15)


def test_the_gap_of_a_quartic_tells_the_truth():
    """`t^4`, whose minimum is 0: no share of the loss can be asked for, and the gap says how far it is."""
    quartic = coefficients(x0y0=0, x4y0=1, x0y2=1)
    found = solved([[0.5, 0.0], [0.1, 0.0]], [quartic, quartic])
    assert np.all(found.gap >= found.loss)
    assert np.all(found.gap <= 10 * found.loss)


def test_a_finer_loss_goes_into_the_certificate():
    """The finer minimum lies at x = 1e-3, with slope 2e-3 where the coarse one is; or higher, with the same slope."""

    def coarse(t, shift):
        return 1 + t @ t + 0 * shift[0]

    def finer(t, shift):
        return 1 + (t[0] - shift[0]) ** 2 + t[1] ** 2 + shift[1]

    shift = jnp.array([[1e-3, 0], [1e-6, 0], [0, 1e-3], [0, 1e-9]])
    found = solve.minimize(coarse, jnp.full((4, 2), 0.3), shift, finer=finer)
    assert reasons(found) == ["inexact", "certified", "inexact", "certified"]
    # 2 c^2 / lambda with c = 2 shift and lambda = 2, and shift^2 for the value; or the value's offset.
    np.testing.assert_allclose(found.gap, 5 * shift[:, 0] ** 2 + shift[:, 1], rtol=1e-3, atol=1e-15)


@pytest.mark.slow  # in the models' own units: `test_toy_minima`
def test_certificates_hold_under_vmap():
    """A stack of searches side by side gives what each gives alone."""
    starts = jnp.asarray(np.random.default_rng(1).uniform(-0.5, 0.5, (2, 3, 2)))
    many = jnp.asarray(np.stack([FLAT["y^4"], SADDLES["plain"]]))
    both = jax.jit(jax.vmap(lambda s, a: solve.minimize(lambda t: polynomial(t, a), s)))(starts, many)
    each = solved(starts.reshape(6, 2), list(np.repeat(many, 3, axis=0)))
    np.testing.assert_allclose(both.loss.reshape(6), each.loss, rtol=1e-12)
    np.testing.assert_array_equal(both.reason.reshape(6), each.reason)
