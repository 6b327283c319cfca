"""Magnitude laws: characteristic functions and single-feature expectations against quadrature in extended precision."""

from functools import partial

import jax
import jax.numpy as jnp
import mpmath
import numpy as np
import pytest
from checks import EPS, assert_close

from superpose.features import magnitudes

LAWS = {law.name: law for law in (magnitudes.UNIFORM, magnitudes.BINARY, magnitudes.SYMMETRIC, magnitudes.EXPONENTIAL)}
CONTINUOUS = ("uniform", "symmetric", "exponential")
ARGUMENTS = (0.0, 1e-30, 1e-12, 1e-4, -0.03, 0.5, 0.999999, 1.0, -1.0, 1.000001, 2.0, 3.14159, -12.5, 100.0)


def expectation(law, f, knots=()):
    """`E f(u)` by adaptive quadrature between the knots, 30 digits."""
    if law == "binary":
        return f(mpmath.mpf(1))
    low, high, density = {
        "uniform": (0, 1, lambda u: 1),  # noqa: ARG005
        "symmetric": (-1, 1, lambda u: mpmath.mpf(1) / 2),  # noqa: ARG005
        "exponential": (0, mpmath.inf, lambda u: mpmath.exp(-u)),
    }[law]
    inside = sorted({mpmath.mpf(k) for k in knots if low < k < high})
    return mpmath.quad(lambda u: density(u) * f(u), [low, *inside, high])


@pytest.fixture(autouse=True)
def thirty_digits():
    with mpmath.workdps(30):
        yield


@pytest.mark.parametrize("name", LAWS)
def test_moments_and_the_derivatives_at_zero(name):
    law = LAWS[name]
    assert_close(np.array(law.moments), np.array([float(expectation(name, lambda u, k=k: u**k)) for k in (1, 2, 3, 4)]))
    at_zero = law.derivatives(jnp.zeros(()), 2)
    assert_close(jnp.stack(at_zero), np.array([1, 1j * law.moments[0], -law.moments[1]]))


@pytest.mark.parametrize("name", LAWS)
def test_characteristic_function_and_its_derivatives(name):
    """`psi^(d)(t) = i^d E u^d e^{itu}`."""
    t = jnp.asarray(ARGUMENTS)
    found = jax.jit(lambda t: LAWS[name].derivatives(t, 2))(t)
    for d, values in enumerate(found):
        expected = [closed_derivative(name, float(x), d) for x in np.asarray(t, float)]
        # Elementwise: relative to 1, the size of E u^d |e^{itu}|; large t loses digits in its own rounding.
        np.testing.assert_allclose(np.asarray(values), np.array(expected), rtol=0, atol=32 * EPS * 2)


def closed_derivative(name, t, d):
    """In 30 digits: the quadrature for moderate t, else the textbook form."""
    if name == "exponential":
        return complex(mpmath.mpc(0, 1) ** d * mpmath.factorial(d) / (1 - mpmath.mpc(0, t)) ** (d + 1))
    knots = [k / 40 for k in range(-40, 41)] if abs(t) > 20 else ()
    f = lambda u: (mpmath.mpc(0, 1) * u) ** d * mpmath.expj(t * u)  # noqa: E731
    return complex(expectation(name, f, knots))


@pytest.mark.parametrize("name", LAWS)
def test_quantile_turns_uniform_numbers_into_draws(name):
    """`int_0^1 quantile(q)^k dq = E u^k`, by Gauss's rule in each of 2,000 cells."""
    nodes, weights = np.polynomial.legendre.leggauss(4)
    edges = np.arange(2000)[:, None]
    q = jnp.asarray((edges + (nodes[None, :] + 1) / 2) / 2000)
    u = np.asarray(LAWS[name].quantile(q), float)
    low, high = LAWS[name].support
    assert np.all((u >= low) & (u <= high))
    for k, moment in enumerate(LAWS[name].moments, start=1):
        # The exponential's logarithm at the last cell: 1e-3 of its cubed size there.
        assert_close((u**k * weights[None, :] / 2).sum() / 2000, moment + 0.0, rtol=0.01) if moment else None


CORNERS = [(b, g) for b in (0.0, 0.3, -0.3, 1e-9, -2.0) for g in (0.0, 0.7, -0.7, 0.3, -0.3, 1e-9, -1e-9, 1.5, -1.5)]


@pytest.mark.parametrize("name", LAWS)
def test_single_feature_expectations(name):
    """No crossing, a crossing inside the support, one at its very end; g = 0, b = 0 and both."""
    law, (b, g) = LAWS[name], (jnp.asarray(x) for x in zip(*CORNERS, strict=True))
    square, error = jax.jit(lambda b, g: (law.relu_square(b, g), law.relu_error(b, g)))(b, g)
    expected = np.array([single_feature(name, float(x), float(y)) for x, y in zip(b, g, strict=True)])
    np.testing.assert_allclose(np.asarray(square), expected[:, 0], rtol=0, atol=32 * EPS * 8)
    np.testing.assert_allclose(np.asarray(error), expected[:, 1], rtol=0, atol=32 * EPS * 8)


@pytest.mark.parametrize("name", ["uniform", "binary"])
def test_cubes_below_zero(name):
    law, (b, g) = LAWS[name], (jnp.asarray(x) for x in zip(*CORNERS, strict=True))
    expected = []
    for x, y in zip(np.asarray(b, float), np.asarray(g, float), strict=True):
        expected.append(expectation(name, lambda u, x=x, y=y: max(-x - y * u, 0) ** 3, [-mpmath.mpf(x) / y] if y else []))
    np.testing.assert_allclose(law.below_cube(b, g), np.array(expected, float), rtol=0, atol=32 * EPS * 16)


def single_feature(name, b, g):
    knots = [-mpmath.mpf(b) / g] if g else []
    square = expectation(name, lambda u: max(b + g * u, 0) ** 2, knots)
    error = expectation(name, lambda u: (u - max(b + g * u, 0)) ** 2, knots)
    return float(square), float(error)


def weighted(slope, b, g, power, u):
    """`u^power` times the slope at u."""
    return u**power * slope(u, b + g * u)


@pytest.mark.x64
@pytest.mark.parametrize("name", CONTINUOUS)
def test_single_feature_gradients(name):
    """`d/db E r^2 = 2 E r`, `d/dg E r^2 = 2 E u r`, `d/db E (u - r)^2 = -2 E (u - r) 1[y > 0]`, and with u for g."""
    law, (b, g) = LAWS[name], (jnp.asarray(x) for x in zip(*CORNERS, strict=True))
    for function, slope in (
        (law.relu_square, lambda u, y: 2 * max(y, 0)),  # noqa: ARG005
        (law.relu_error, lambda u, y: -2 * (u - y) * (y > 0)),
        *[(law.below_cube, lambda u, y: -3 * max(-y, 0) ** 2)][: law.has_cubes],  # noqa: ARG005
    ):
        found = np.stack(jax.jit(jax.vmap(jax.grad(function, argnums=(0, 1))))(b, g), 1)
        assert np.all(np.isfinite(found))
        for row, x, y in zip(found, np.asarray(b, float), np.asarray(g, float), strict=True):
            if x == 0 and y == 0:
                continue  # a corner: finite is all that is promised
            knots = [-mpmath.mpf(x) / y] if y else []
            expected = [expectation(name, partial(weighted, slope, x, y, k), knots) for k in (0, 1)]
            # The slope goes through the crossing -b/g: where that lies inside, rounding is divided by g.
            atol = 1e-12 + (8 * EPS / abs(y) if y and abs(x) <= abs(y) else 0)
            np.testing.assert_allclose(row, [float(e) for e in expected], rtol=0, atol=atol, err_msg=f"b {x} g {y}")


@pytest.mark.parametrize("name", LAWS)
def test_single_feature_gradients_are_finite_at_every_corner(name):
    law, (b, g) = LAWS[name], (jnp.asarray(x) for x in zip(*CORNERS, strict=True))
    for function in (law.relu_square, law.relu_error):
        assert np.all(np.isfinite(np.stack(jax.jit(jax.vmap(jax.grad(function, argnums=(0, 1))))(b, g))))
