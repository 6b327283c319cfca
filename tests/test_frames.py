"""Constructions against their defining inner products; the bounds as properties."""

import math

import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import oracles
import pytest
from checks import EPS, RTOL, assert_close, assert_matches_simulation, theorem
from hypothesis import given

from superpose import frames, interference

pytestmark = pytest.mark.x64

coherence, feature_dimensionality = map(jax.jit, (interference.coherence, interference.feature_dimensionality))

TIGHT = {  # name: W, with W W^T = (n/m) I
    "triangle": frames.polygon(3),
    "square": frames.polygon(4),
    "pentagon": frames.polygon(5),
    "17-gon": frames.polygon(17),
    "digon": frames.simplex(2),
    "tetrahedron": frames.simplex(4),
    "9-simplex": frames.simplex(10),
    "antipodal pairs": frames.antipodal_pairs(4),
    "square antiprism": frames.square_antiprism(),
    "icosahedron diagonals": frames.icosahedron_diagonals(),
}
tight = pytest.mark.parametrize("W", TIGHT.values(), ids=TIGHT.keys())


def gaussian(seed, m, n):
    return jnp.asarray(np.random.default_rng(seed).normal(size=(m, n)), float)


def unit(W):
    return W / jnp.linalg.norm(W, axis=0, keepdims=True)


@tight
def test_columns_have_length_one_and_the_frame_is_tight(W):
    m, n = W.shape
    assert W.dtype == jnp.zeros(()).dtype
    assert_close(np.linalg.norm(W, axis=0), np.ones(n))
    assert_close(np.asarray(W) @ np.asarray(W).T, n / m * np.eye(m))
    assert_close(feature_dimensionality(W), np.full(n, m / n))
    assert_close(frames.frame_potential(W), n**2 / m)


@pytest.mark.parametrize("k", [3, 4, 5, 12])
def test_polygon_neighbours_are_one_step_apart(k):
    W = np.asarray(frames.polygon(k))
    assert W.shape == (2, k)
    assert_close(W[:, 0], [1.0, 0.0])
    assert_close(oracles.gram(W), np.cos(2 * np.pi * np.subtract.outer(np.arange(k), np.arange(k)) / k))
    assert np.all(W[0] * np.roll(W[1], -1) > W[1] * np.roll(W[0], -1))  # anticlockwise


@pytest.mark.parametrize("k", [2, 3, 4, 10])
def test_simplex_has_equal_negative_cosines(k):
    G = np.full((k, k), -1 / (k - 1)) + k / (k - 1) * np.eye(k)
    assert frames.simplex(k).shape == (k - 1, k)
    assert_close(oracles.gram(frames.simplex(k)), G)


@pytest.mark.parametrize("m", [1, 2, 3])
def test_antipodal_pairs_are_signed_axes(m):
    W = np.asarray(frames.antipodal_pairs(m))
    np.testing.assert_array_equal(W[:, ::2], np.eye(m))
    np.testing.assert_array_equal(W[:, 1::2], -np.eye(m))


def test_square_antiprism_is_two_turned_squares():
    h = 0.8
    W = np.asarray(frames.square_antiprism(h)) * math.hypot(1, h)  # back to circumradius 1
    assert_close(W[2], [h] * 4 + [-h] * 4)
    upper, lower = np.arctan2(W[1], W[0]).reshape(2, 4)
    assert_close(np.mod(lower - upper, 2 * np.pi), np.full(4, np.pi / 4))
    assert_close(np.mod(np.diff(upper), 2 * np.pi), np.full(3, np.pi / 2))


@pytest.mark.parametrize("h", [0.0, 0.3, math.sqrt(0.5), 1.0, 2.0])
def test_square_antiprism_dimensionality_at_any_height(h):
    # By hand, circumradius 1: M = W W^T = diag(4, 4, 8 h^2), |W_i|^2 = 1 + h^2, D = |W_i|^4 / (W_i^T M W_i).
    D = (1 + h**2) ** 2 / (4 + 8 * h**4)
    assert_close(oracles.feature_dimensionality(frames.square_antiprism(h)), np.full(8, D))
    assert D == pytest.approx(3 / 8) if h == math.sqrt(0.5) else D < 0.99 * 3 / 8


def test_icosahedron_diagonals_are_equiangular():
    off = np.abs(oracles.gram(frames.icosahedron_diagonals()))[~np.eye(6, dtype=bool)]
    assert_close(off, np.full(30, 1 / math.sqrt(5)))


def test_direct_sum_is_block_diagonal_and_keeps_dimensionality():
    W = frames.direct_sum(frames.polygon(3), 2 * frames.simplex(4), frames.antipodal_pairs(1))
    assert W.shape == (2 + 3 + 1, 3 + 4 + 2)
    assert_close(oracles.gram(W)[3:7, 3:7], 4 * oracles.gram(frames.simplex(4)))
    assert not np.any(oracles.gram(W)[:3, 3:])
    assert_close(feature_dimensionality(W), [2 / 3] * 3 + [3 / 4] * 4 + [1 / 2] * 2)


def test_welch_bound_values():
    assert frames.welch_bound(n=6, m=3) == pytest.approx(0.4472135955, rel=1e-10)  # 1/sqrt 5
    assert frames.welch_bound(n=4, m=3) == pytest.approx(1 / 3, rel=1e-15)  # a tetrahedron's
    assert frames.welch_bound(n=5, m=5) == 0.0
    assert frames.welch_bound(n=2, m=1) == 1.0


@pytest.mark.parametrize("W", [frames.icosahedron_diagonals(), frames.simplex(7), frames.polygon(3)])
def test_welch_bound_is_reached_by_equiangular_tight_frames(W):
    m, n = W.shape
    assert_close(coherence(W), frames.welch_bound(n=n, m=m))


@theorem
@given(st.integers(0, 2**31), st.sampled_from([(1, 2), (2, 2), (2, 3), (3, 5), (3, 9), (8, 12), (8, 40)]))
def test_no_frame_beats_welch(seed, shape):
    m, n = shape
    # A cosine errs by at most about m roundings, and equality is possible (m = n - 1 = 1).
    assert coherence(gaussian(seed, m, n)) >= frames.welch_bound(n=n, m=m) - 4 * m * EPS


@theorem
@given(st.integers(0, 2**31), st.sampled_from([(1, 4), (2, 3), (3, 9), (8, 12), (5, 5), (6, 2)]))
def test_frame_potential_is_bounded_from_below(seed, shape):
    m, n = shape
    W = gaussian(seed, m, n)
    total = float(jnp.sum(W**2))
    assert frames.frame_potential(W) >= total**2 / m * (1 - RTOL)  # equality at m = 1
    assert frames.frame_potential(unit(W)) >= n**2 / m * (1 - RTOL)
    assert_close(frames.frame_potential(W), oracles.frame_potential(W))


def test_frame_potential_of_nothing_is_zero():
    assert frames.frame_potential(jnp.zeros((2, 3))) == 0


def test_frame_potential_of_random_directions():
    # E (u . v)^2 = 1/m for independent unit vectors: n + n (n - 1)/m expected.
    m, n, draws = 3, 4, 40_000
    W = jax.vmap(unit)(jax.random.normal(jax.random.key(1), (draws, m, n)))
    assert_matches_simulation(jax.vmap(frames.frame_potential)(W), n + n * (n - 1) / m)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: frames.polygon(2), r"k = 2: needs k >= 3"),
        (lambda: frames.simplex(1), r"k = 1: needs k >= 2"),
        (lambda: frames.antipodal_pairs(0), r"m = 0: needs m >= 1"),
        (lambda: frames.square_antiprism(-0.5), r"height = -0.5: needs a finite height >= 0"),
        (lambda: frames.square_antiprism(math.inf), r"height = inf: needs a finite height >= 0"),
        (lambda: frames.square_antiprism(math.nan), r"height = nan: needs a finite height >= 0"),
        (lambda: frames.direct_sum(), r"frames = \(\): needs at least one frame"),
        (lambda: frames.welch_bound(n=1, m=1), r"n = 1: needs n >= 2"),
        (lambda: frames.welch_bound(n=3, m=0), r"m = 0: needs 1 <= m <= n = 3"),
        (lambda: frames.welch_bound(n=3, m=4), r"m = 4: needs 1 <= m <= n = 3"),
    ],
)
def test_wrong_arguments_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.parametrize(("n", "m"), [(2, 3), (6, 3), (40, 8)])
def test_random_coherence_is_the_median_of_chance(n, m):
    """Half of 4,000 random sets lie above; 5 standard deviations of a fair coin are 4 %, and 2 % more coherence is beyond."""
    W = np.random.default_rng(5).normal(size=(4000, m, n))
    W /= np.linalg.norm(W, axis=1, keepdims=True)
    largest = np.abs(np.swapaxes(W, 1, 2) @ W * (1 - np.eye(n))).max((1, 2))
    median = frames.random_coherence(n=n, m=m)
    assert abs(np.mean(largest > median) - 0.5) < 0.04
    assert n == 2 or abs(np.mean(largest > 1.02 * median) - 0.5) > 0.04


def test_random_coherence_of_known_cases():
    # Three dimensions: |t| is uniform on [0, 1], so (1 - P)^N = t^N = 1/2.
    np.testing.assert_allclose(frames.random_coherence(n=5, m=3), 0.5 ** (1 / 10), rtol=1e-12)
    # Two: the angle is uniform, t = cos(pi P / 2) with P = 1/2 for a pair.
    np.testing.assert_allclose(frames.random_coherence(n=2, m=2), np.cos(np.pi / 4), rtol=1e-12)
    assert frames.random_coherence(n=3, m=1) == 1
    with pytest.raises(ValueError, match="n = 1: needs n >= 2"):
        frames.random_coherence(n=1, m=3)
