"""The exact boundary of n=2, m=1 against its expansions, its limits and an independent search; the published one."""

from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.optimize

from superpose.expected_loss import relu_output
from superpose.features import SparseUniform, last_importance
from superpose.phase import (
    candidate_losses,
    critical_importance,
    published_boundaries,
    spinodal_importance,
    tricritical_points,
)
from superpose.toy_model import Params

pytestmark = pytest.mark.x64
TRICRITICAL = (
    (0.520247736799398, 0.574041907440224),
    (0.837319580135034, 0.896440608365),
)  # found apart from this code
DENSITIES = (0.1, 0.5, 0.7, 0.001, 0.002, 0.004, *(p + d for p, _ in TRICRITICAL for d in (-0.005, 0.005)))


@pytest.fixture(scope="module")
def transition():
    """Transitions at DENSITIES, all in one compiled call, by density."""
    found = jax.jit(jax.vmap(critical_importance))(jnp.array(DENSITIES))
    names = ("importance", "spinodal", "order", "jump", "gradient_norm")
    return {p: SimpleNamespace(**{name: float(getattr(found, name)[k]) for name in names}) for k, p in enumerate(DENSITIES)}


@jax.jit
def pair_loss(theta, p, importance):
    """The loss for n=2, m=1 and its gradient at theta = (w_1, w_2, b_1, b_2)."""

    def loss(theta):
        return relu_output(Params(W=theta[None, :2], b=theta[2:]), SparseUniform(p), last_importance(importance, n=2))

    return jax.value_and_grad(loss)(theta)


def variance(p):
    return p / 3 - p**2 / 4


def excess(theta, p, importance):
    """How far theta lies above the solution that ignores feature 2, and the gradient."""
    value, gradient = pair_loss(jnp.asarray(theta), jnp.asarray(p), jnp.asarray(importance))
    return float(value) - importance * variance(p), np.asarray(gradient)


@pytest.mark.parametrize(
    ("p", "importance", "jump", "spinodal", "published"),
    [  # found apart from this code, to the digits given
        (0.1, 0.0487218979022, -0.604839262, 0.101966340859, 0.057143),
        (0.5, 0.535738764065, -0.756261842, 0.550444679663, 0.666667),
        (0.7, 0.772579530482, 0, 0.772579530482, np.nan),
    ],
)
def test_boundary_has_the_known_values(transition, p, importance, jump, spinodal, published):
    found = transition[p]
    assert found.importance == pytest.approx(importance, abs=6e-13)
    assert found.spinodal == pytest.approx(spinodal, abs=6e-13)
    assert found.jump == pytest.approx(jump, abs=6e-10)
    assert found.order == (2 if jump == 0 else 1)
    assert found.gradient_norm < 1e-9
    assert float(published_boundaries(jnp.array([p]))[0][0]) == pytest.approx(published, abs=6e-7, nan_ok=True)


def test_tricritical_points_have_the_known_values():
    np.testing.assert_allclose(tricritical_points(), TRICRITICAL, rtol=0, atol=6e-13)


@pytest.mark.parametrize(("p", "order"), list(zip(DENSITIES[-4:], (1, 2, 2, 1), strict=True)))
def test_order_changes_at_each_tricritical_point(transition, p, order):
    found = transition[p]
    assert found.order == order
    assert (found.importance < found.spinodal) == (order == 1)
    assert (found.jump < 0) == (order == 1)


def test_boundary_in_the_sparse_limit(transition):
    """I_c/p -> (2 + sqrt 2)/8 and w_2 -> -(2 - sqrt 2).

    Each further active feature brings a factor p, so the corrections are a power series in p with coefficients of order one:
    less than p at p = .001, and of order 8 p^3 = 1e-8 once p, 2p and 4p have cancelled the first two.
    """
    fine, middle, coarse = (transition[p] for p in (0.001, 0.002, 0.004))
    for one, two, four, limit in (
        (fine.importance / 0.001, middle.importance / 0.002, coarse.importance / 0.004, (2 + 2**0.5) / 8),
        (fine.jump, middle.jump, coarse.jump, -(2 - 2**0.5)),
    ):
        assert abs(one - limit) < 1e-3
        assert (8 * one - 6 * two + four) / 3 == pytest.approx(limit, abs=1e-7)


@pytest.mark.parametrize("p", [0.1, 0.5])
def test_boundary_agrees_with_an_independent_search(transition, p):
    """BFGS of SciPy along the superposed branch, and the importance at which its minimum crosses I v."""

    def above(importance):
        start = np.array([1.0, transition[p].jump, 0.1 * p, 0.0])
        found = scipy.optimize.minimize(excess, start, (p, importance), jac=True, method="BFGS", options={"gtol": 1e-11})
        assert found.x[0] * found.x[1] < -0.3  # it has stayed on the branch
        return found.fun

    guess = {0.1: 0.048, 0.5: 0.53}[p]
    crossing = scipy.optimize.brentq(above, guess, guess * 1.03, xtol=1e-12)
    assert crossing == pytest.approx(transition[p].importance, rel=1e-8)  # rounding of L over the slope in I
    assert crossing != pytest.approx(1.02 * transition[p].importance, rel=1e-8)


def least_excess(p, importance, length):
    """Min over (w_1, b_1, b_2) of the excess at w_2 = -length, with scales that leave a well-conditioned problem."""
    centre = np.array([1, -length, 0, p / 2])
    basis = length * np.eye(4)[:, [0, 2, 3]]

    def scaled(x):
        value, gradient = excess(centre + basis @ x, p, importance)
        return value / length**2, basis.T @ gradient / length**2

    return (
        length**2 * scipy.optimize.minimize(scaled, [0.0, p / 2, 0.0], jac=True, method="BFGS", options={"gtol": 1e-9}).fun
    )


@pytest.mark.parametrize("p", [0.1, 0.5, 0.7, 0.9])
def test_ignored_solution_loses_its_stability_at_the_spinodal(p):
    """`a_2 = (I_sp - I) v`, read off two short columns: their difference takes a_3 out, a_4 e^2 ~ 1e-5 stays."""
    spinodal, e = float(spinodal_importance(p)), 2e-3
    for factor in (0.98, 1.0, 1.02):
        importance = factor * spinodal
        curvature = 2 * least_excess(p, importance, e / 2) / (e / 2) ** 2 - least_excess(p, importance, e) / e**2
        assert curvature == pytest.approx((spinodal - importance) * variance(p), abs=1e-4 * variance(p))


@pytest.mark.parametrize(("p", "sign"), [(0.45, -1), (0.6, 1), (0.76, 1), (0.9, -1)])
def test_cubic_term_at_the_spinodal_sets_the_order(p, sign):
    """Short columns cost less than none (first order) between 0 and the first tricritical density and past the second."""
    assert np.sign(least_excess(p, float(spinodal_importance(p)), 1e-2)) == sign


def test_superposition_pays_exactly_above_the_boundary(transition):
    for p in (0.1, 0.5):
        start = jnp.array([1.0, transition[p].jump, 0.1 * p, 0.0])
        for factor, sign in ((0.999, 1), (1.001, -1)):
            importance = factor * transition[p].importance
            found = scipy.optimize.minimize(excess, start, (p, importance), jac=True, method="BFGS")
            assert np.sign(found.fun) == sign


def test_published_boundaries_meet_in_the_triple_point():
    lower, upper = published_boundaries(jnp.array([0.1, 4 / 7 - 1e-6, 4 / 7 + 1e-6, 1.0]))
    np.testing.assert_allclose(lower[:2], [0.2 / 3.5, 1], rtol=1e-5)
    np.testing.assert_allclose(upper[:2], [3.5 / 0.2, 1], rtol=1e-5)
    assert np.isnan(lower[2:]).all()
    assert np.isnan(upper[2:]).all()


def test_published_lower_boundary_is_where_candidates_cross():
    for p in (0.05, 0.3, 0.55):
        lower, upper = (float(x[0]) for x in published_boundaries(jnp.array([p])))
        ignore, _, pair = candidate_losses(p, lower, n=2, m=1)
        assert float(ignore) == pytest.approx(float(pair), rel=1e-13)
        _, other, pair = candidate_losses(p, upper, n=2, m=1)
        assert float(other) == pytest.approx(float(pair), rel=1e-13)
