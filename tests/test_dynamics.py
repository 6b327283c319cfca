"""Recorded runs, planted jumps, exact coincidences, and saddles whose way down is known."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from checks import assert_close

from superpose import dynamics, expected_loss, features, interference, toy_model, train

pytestmark = pytest.mark.x64

LAW = features.SparseUniform(0.3)


def test_a_trajectory_is_the_run_with_stops(key):
    start = toy_model.init(key, n=3, m=2)
    settings = {"batch": 16, "optimizer": optax.adam(1e-2)}
    found = dynamics.trajectory(key, start, LAW, 0.5, snapshots=4, every=5, **settings)
    assert found.params.W.shape == (5, 2, 3)
    assert found.losses.shape == (4,)
    assert np.array_equal(found.params.W[0], start.W)
    whole = train.fit(key, start, LAW, 0.5, steps=20, **settings)
    assert_close(found.params.W[-1], whole.params.W, rtol=1e-4)  # compiled otherwise: Adam divides by the gradient
    assert_close(found.losses, whole.losses.reshape(4, 5).mean(1), rtol=1e-4)
    D = dynamics.dimensionalities(found.params.W)
    assert_close(D[-1], interference.feature_dimensionality(found.params.W[-1]))


# --- jumps


def steps(times, sizes, *, length=200, noise=0.0, slope=0.0, seed=0):
    t = np.arange(length)
    series = sum(size * (t > time) for time, size in zip(times, sizes, strict=True)) + slope * t
    return series + noise * np.random.default_rng(seed).normal(size=length)


@pytest.mark.parametrize("window", [1, 3, 6])
@pytest.mark.parametrize("slope", [0.0, 0.005])
def test_planted_jumps_are_found(window, slope):
    times, sizes = [40, 90, 150], [0.5, -0.3, 0.2]
    found = dynamics.jumps(steps(times, sizes, noise=0.005, slope=slope), least=0.1, window=window)
    assert len(found.at) == 3
    assert np.all(np.abs(found.at - times) <= window // 2 + 1)
    np.testing.assert_allclose(found.size, np.array(sizes) + slope * window, atol=0.03)  # 5 sigma of a difference


def test_a_slope_and_noise_are_no_jumps():
    assert len(dynamics.jumps(steps([], [], slope=0.05), least=0.1).at) == 0
    assert len(dynamics.jumps(steps([], [], noise=0.01), least=0.1).at) == 0
    assert len(dynamics.jumps(np.ones(50), least=0.1).at) == 0


def test_a_jump_in_several_snapshots_is_one():
    series = np.interp(np.arange(100), [0, 50, 53, 99], [0, 0, 1, 1])
    found = dynamics.jumps(series, least=0.1, window=3)
    assert found.at.tolist() == [51]
    np.testing.assert_allclose(found.size, 1.0)


# --- matching


def test_match_counts_and_its_chance_is_that_of_all_shifts():
    found = dynamics.match(np.array([10, 30, 50]), np.array([11, 52]), length=100, within=2)
    assert (found.matched, found.total) == (2, 3)
    np.testing.assert_allclose(found.expected, 3 * 10 / 100)  # two drops cover 5 snapshots each of 100
    # Shifts of -3 .. 1 put 11 within 2 of 10, those of -4 .. 0 put 52 within 2 of 50: both, -3 .. 0. By 20 more, 30 has 11,
    # but no other has 52; by -22, 30 has 52, but none has 11.
    np.testing.assert_allclose(found.p_value, 4 / 100)


def test_drops_everywhere_prove_nothing():
    found = dynamics.match(np.array([3, 7]), np.arange(0, 20, 2), length=20, within=1)
    assert (found.matched, found.expected, found.p_value) == (2, 2.0, 1.0)
    nothing = dynamics.match(np.array([3, 7]), np.array([], int), length=20)
    assert (nothing.matched, nothing.expected, nothing.p_value) == (0, 0.0, 1.0)


# --- the Hessian


def quadratic(seed=0, d=12):
    """`sum_k lam_k (v_k . theta)^2 / 2` over W and b: the spectrum is known by construction."""
    values = np.concatenate([[-2.0, -1.0], np.zeros(2), np.linspace(0.5, 4, d - 4)])
    Q = np.linalg.qr(np.random.default_rng(seed).normal(size=(d, d)))[0]
    H = jnp.asarray(Q @ np.diag(values) @ Q.T, float)

    def loss(params):
        theta = jnp.concatenate([params.W.ravel(), params.b])
        return theta @ H @ theta / 2

    return loss, values, Q


def unravel(theta):
    return toy_model.Params(W=jnp.asarray(theta[:8], float).reshape(2, 4), b=jnp.asarray(theta[8:], float))


@pytest.mark.parametrize("lowest", [None, 3])
def test_spectrum_of_a_known_hessian(lowest):
    loss, values, Q = quadratic()
    found, vectors = dynamics.spectrum(loss, unravel(np.zeros(12)), lowest=lowest)
    assert_close(found, values[:lowest], rtol=1e-5)  # Lanczos in float32; else 1e-12
    np.testing.assert_allclose(np.abs(Q[:, :2].T @ vectors[:, :2]), np.eye(2), atol=1e-4)


def test_escape_shares_of_a_known_movement():
    loss, _, Q = quadratic()
    there = unravel(np.ones(12))
    move = 0.1 * (3 * Q[:, 0] + 2 * Q[:, 1] + Q[:, 2] + Q[:, 7])
    found = dynamics.escape(loss, there, unravel(np.ones(12) + move), flat=1e-4)
    np.testing.assert_allclose(found.along[:2], [9 / 15, 4 / 15], rtol=1e-4)
    np.testing.assert_allclose(found.along.sum(), 1, rtol=1e-5)
    np.testing.assert_allclose([found.negative, found.chance], [13 / 15, 2 / 12], rtol=1e-4)


def test_descent_leaves_a_saddle_by_its_negative_directions():
    """Two features of equal importance, one dimension: `W = 0` is a saddle when nothing else is learnt yet."""

    def loss(params):
        return expected_loss.relu_output(params, LAW)

    saddle = toy_model.Params(W=jnp.zeros((1, 2)), b=jnp.full(2, 0.15))  # the best bias is E x = p/2
    start = saddle.replace(W=jnp.array([[1e-4, 0.5e-4]]))
    descend = jax.jit(lambda q: jax.tree.map(lambda a, g: a - 0.1 * g, q, jax.grad(loss)(q)))
    later = start
    for _ in range(200):
        later = descend(later)
    found = dynamics.escape(loss, saddle, later)
    assert found.chance == 0.5  # both of W, neither of b
    assert found.negative > 0.99


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: dynamics.trajectory(jax.random.key(0), None, LAW, snapshots=0, every=1), "snapshots = 0: needs at least 1"),
        (lambda: dynamics.jumps(np.ones(3), least=0.1, window=3), "window = 3: needs at least 1 and less than the 3"),
        (lambda: dynamics.jumps(np.ones(9), least=0.0), "least = 0.0"),
        (lambda: dynamics.match(np.array([5]), np.array([1]), length=5), "length = 5"),
        (lambda: dynamics.escape(quadratic()[0], unravel(np.ones(12)), unravel(np.ones(12))), "later = params"),
    ],
)
def test_mistakes_are_named(call, says):
    with pytest.raises(ValueError, match=says):
        call()
