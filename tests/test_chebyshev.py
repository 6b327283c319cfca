"""Sums of functions by their Chebyshev series, against numpy's polynomials."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from checks import EPS
from numpy.polynomial import Chebyshev

from superpose.expected_loss import chebyshev


def numbers(terms):
    rng = np.random.default_rng(3)
    return rng.uniform(-1, 1, (5, 4)), rng.standard_normal((5, 4)), rng.standard_normal((terms, 4))


@pytest.mark.parametrize("terms", [16, 32])
def test_moments_their_derivative_and_the_slope_of_a_series(terms):
    x, dx, series = numbers(terms)
    halves = jnp.asarray(series[0::2]), jnp.asarray(series[1::2])
    found = jax.jvp(lambda x: chebyshev.moments(x, terms), (jnp.asarray(x),), (jnp.asarray(dx),))
    slopes, growth = chebyshev.slope(halves, jnp.asarray(x)), chebyshev.growth(halves, found[0])
    moments, moved = (np.stack(x, 1).reshape(terms, -1) for x in found)
    for r in range(terms):
        np.testing.assert_allclose(moments[r], Chebyshev.basis(r)(x).sum(0), atol=2e3 * EPS)
        np.testing.assert_allclose(moved[r], (Chebyshev.basis(r).deriv()(x) * dx).sum(0), atol=2e5 * EPS)
    for i in range(4):
        derivative = Chebyshev(series[:, i]).deriv()(x[:, i])
        np.testing.assert_allclose(slopes[:, i], derivative, atol=2e5 * EPS)
        np.testing.assert_allclose(growth[i], (x[:, i] * derivative).sum(), atol=4e5 * EPS)


def test_sums_of_functions_and_their_slopes_in_the_moments():
    """`f(-x) = conj f(x)`; the slopes are real and of the sum's real part."""
    x, _, factor = numbers(2)
    functions = [lambda x: np.exp(1j * x), lambda x: 1 / (3 + 1j * x)]
    points = chebyshev.points(24)
    coefficients = chebyshev.coefficients(jnp.asarray(np.stack([f(points) for f in functions])))
    moments = chebyshev.moments(jnp.asarray(x), 24)
    found = chebyshev.sums(coefficients, moments)
    for k, f in enumerate(functions):
        np.testing.assert_allclose(found[k], f(x).sum(0), atol=1e3 * EPS)
    weighted = jnp.asarray(factor + 1j * factor[::-1])

    def real(moments):
        return (weighted * chebyshev.sums(coefficients, moments)).real.sum(0)

    pulled = chebyshev.pulled(coefficients, weighted)
    linear = sum((x * y).sum(0) for x, y in zip(pulled, moments, strict=True))
    np.testing.assert_allclose(linear, real(moments), atol=1e3 * EPS)
    assert float(chebyshev.last_terms(coefficients, moments).max()) < 1e-6
