"""Interference and dimensionality against loops, known constructions, the capacity theorem, and gradients."""

import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import oracles
import pytest
from checks import EPS, RTOL, assert_close, assert_matches_simulation, theorem
from hypothesis import given

from superpose import frames, weights
from superpose.interference import (
    capacity_bound,
    coherence,
    dimensions_per_feature,
    feature_dimensionality,
    gram,
    interference,
    signed_coherence,
)

SHAPES = [(1, 4), (2, 5), (3, 3), (5, 3), (4, 20)]
seeds = st.integers(0, 2**31)
tall = pytest.mark.filterwarnings("ignore:W has shape")
"""Put on tests that mean it to have more dimensions than features."""


def gaussian(seed, m, n):
    return jnp.asarray(np.random.default_rng(seed).normal(size=(m, n)), float)


def low_rank(seed, m, n, rank):
    """`A B` in small whole numbers, exact; of rank `rank` by the identity blocks of A and B."""
    rng = np.random.default_rng(seed)
    A, B = rng.integers(-2, 3, (m, rank)), rng.integers(-2, 3, (rank, n))
    A[:rank], B[:, :rank] = np.eye(rank), np.eye(rank)
    return jnp.asarray(A @ B, float)


def rotation(seed, m):
    return jnp.asarray(np.linalg.qr(np.random.default_rng(seed).normal(size=(m, m)))[0], float)


def naive_dimensionality(W):
    """The capacity `(W_i . W_i)^2 / sum_j (W_i . W_j)^2`, through G: another route for gradients."""
    G = W.T @ W
    return jnp.diag(G) ** 2 / jnp.sum(G**2, axis=1)


@tall
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("zero_column", [False, True])
def test_loops_agree(shape, zero_column):
    W = gaussian(0, *shape)
    W = W.at[:, 1].set(0) if zero_column else W
    assert_close(gram(W), oracles.gram(W))
    assert_close(interference(W), oracles.interference(W))
    assert_close(coherence(W), oracles.coherence(W))
    assert_close(signed_coherence(W), oracles.signed_coherence(W))
    assert_close(feature_dimensionality(W), oracles.feature_dimensionality(W))


def test_dimensionality_of_a_pentagon_beside_two_features_in_a_line():
    W = frames.direct_sum(1.3 * frames.polygon(5), jnp.array([[0.7, -0.2]]))
    # (.4 x 5, .924528302, .0754716981), which is .49/.53 and .04/.53
    D = feature_dimensionality(W)
    assert_close(D, [0.4] * 5 + [0.49 / 0.53, 0.04 / 0.53])
    np.testing.assert_allclose(D[5:], [0.924528302, 0.0754716981], rtol=max(1e-9, RTOL))  # digits given
    assert_close(jnp.sum(D), 3.0)
    assert capacity_bound(W) == 3


@pytest.mark.x64
def test_coherences_of_known_sets():
    assert_close(coherence(5 * frames.simplex(4)), 1 / 3)
    assert_close(signed_coherence(frames.simplex(4)), -1 / 3)
    assert coherence(frames.antipodal_pairs(3)) == 1
    assert signed_coherence(frames.antipodal_pairs(3)) == 0
    assert signed_coherence(frames.antipodal_pairs(1)) == -1
    assert coherence(jnp.zeros((2, 3))) == 0
    assert signed_coherence(jnp.zeros((2, 3))) == 0


@pytest.mark.x64
def test_dimensions_per_feature_of_known_sets():
    assert_close(dimensions_per_feature(jnp.eye(3)), 1.0)
    assert_close(dimensions_per_feature(frames.antipodal_pairs(3)), 0.5)
    assert dimensions_per_feature(jnp.zeros((2, 3))) == jnp.inf
    assert not np.any(jax.grad(dimensions_per_feature)(jnp.zeros((2, 3))))


@tall
@theorem
@given(seeds, st.sampled_from([(1, 4, 1), (3, 7, 2), (5, 4, 3), (6, 20, 6), (6, 20, 3)]))
def test_dimensionalities_add_up_to_at_most_the_rank(seed, shape):
    m, n, rank = shape
    W = low_rank(seed, m, n, rank)
    D = feature_dimensionality(W)
    assert capacity_bound(W) == capacity_bound(1e-9 * W) == capacity_bound(1e9 * W) == rank
    # Equality at rank 1 and where W happens to be a sum of tight frames; each D errs by tens of roundings.
    assert jnp.sum(D) <= rank * (1 + RTOL)
    assert np.all((D >= 0) & (D <= 1 + RTOL))


@pytest.mark.parametrize("lengths", [(1.0, 1.0, 1.0), (1.3, 0.2, 5.0)])
def test_sums_of_tight_frames_reach_the_rank_and_others_do_not(lengths):
    parts = (frames.polygon(7), frames.simplex(5), frames.square_antiprism())
    W = rotation(0, 9) @ frames.direct_sum(*(s * W for s, W in zip(lengths, parts, strict=True)))
    assert_close(jnp.sum(feature_dimensionality(W)), 9.0)
    assert capacity_bound(W) == 9
    assert jnp.sum(feature_dimensionality(W.at[0, 0].add(0.5))) < 9 - 1e-3


@tall
@theorem
@given(seeds, st.sampled_from(SHAPES))
def test_dimensionality_ignores_rotation_order_and_sign(seed, shape):
    m, n = shape
    rng = np.random.default_rng(seed)
    W, order, signs = gaussian(seed, m, n), rng.permutation(n), rng.choice([-1.0, 1.0], n)
    D = np.asarray(feature_dimensionality(W))
    assert_close(feature_dimensionality(rotation(seed, m) @ W), D)
    assert_close(feature_dimensionality(W[:, order]), D[order])
    assert_close(feature_dimensionality(W * jnp.asarray(signs, float)[None, :]), D)


@pytest.mark.parametrize("exponent", [-40, 40])
def test_dimensionality_has_no_scale(exponent):
    W = gaussian(1, 3, 8)
    assert_close(feature_dimensionality(2.0**exponent * W), feature_dimensionality(W))


@pytest.mark.x64
def test_columns_of_very_different_lengths():
    W = gaussian(2, 3, 6) * jnp.array([1e-8, 1.0, 1e8, 1e-8, 1.0, 1e8])[None, :]
    D, expected = feature_dimensionality(W), oracles.feature_dimensionality(W)
    np.testing.assert_allclose(D, expected, rtol=1e-12)  # tens of roundings, each entry on its own
    assert_close(coherence(W), oracles.coherence(W))


def test_a_short_column_alone_in_its_dimension_keeps_its_digits():
    short = (10 * EPS) ** 0.5  # W W^T, which is lost at eps / short^2, would be 10 % off
    W = rotation(3, 4) @ frames.direct_sum(gaussian(3, 3, 7), jnp.array([[short]]))
    D = feature_dimensionality(W)
    # The rotation rounds the other columns to eps: overlaps of eps / short with this one, entering squared,
    # as eps / 10.
    np.testing.assert_allclose(D[-1], 1.0, rtol=RTOL)


@pytest.mark.x64
@pytest.mark.parametrize("shape", [(2, 5), (3, 3), (5, 3)])
def test_dimensionality_gradient(shape):
    W, weight = gaussian(4, *shape), gaussian(5, 1, shape[1])[0]
    actual = jax.jit(jax.grad(lambda W: weight @ feature_dimensionality(W)))(W)
    assert_close(actual, jax.jit(jax.grad(lambda W: weight @ naive_dimensionality(W)))(W))


@pytest.mark.x64
def test_dimensionality_hessian():
    W, weight = gaussian(6, 2, 4), gaussian(7, 1, 4)[0]
    actual = jax.jit(jax.hessian(lambda W: weight @ feature_dimensionality(W)))(W)
    assert_close(actual, jax.jit(jax.hessian(lambda W: weight @ naive_dimensionality(W)))(W))


@pytest.mark.x64
def test_dimensionality_gradient_at_low_rank():
    W = low_rank(8, 3, 6, 2)
    assert_close(jax.jit(jax.jacobian(feature_dimensionality))(W), jax.jit(jax.jacobian(naive_dimensionality))(W))


@pytest.mark.parametrize("function", [feature_dimensionality, coherence, signed_coherence])
def test_zero_columns_have_zero_gradient(function):
    W = gaussian(9, 3, 5).at[:, 2].set(0)
    jacobian = jax.jit(jax.jacobian(function))
    J = jacobian(W)
    assert np.all(np.isfinite(J))
    assert not np.any(J[..., 2])
    assert np.any(J)
    assert not np.any(jacobian(jnp.zeros((3, 5))))


def test_nothing_stored_takes_no_dimensions():
    assert not np.any(feature_dimensionality(jnp.zeros((2, 3))))
    assert capacity_bound(jnp.zeros((2, 3))) == 0


@pytest.mark.x64
def test_functions_batch_and_compile():
    W = jnp.stack([gaussian(seed, 2, 5) for seed in range(3)])
    for function in (feature_dimensionality, coherence, capacity_bound, dimensions_per_feature):
        assert_close(jax.jit(jax.vmap(function))(W), np.stack([function(w) for w in W]))


def gradient_of_sum(W):
    return jax.grad(lambda W: jnp.sum(feature_dimensionality(W)))(W)


@pytest.mark.x64
@pytest.mark.parametrize("function", [feature_dimensionality, gradient_of_sum, capacity_bound])
def test_many_features_never_need_their_gram_matrix(function):
    m, n = 4, 100_000
    W = jax.ShapeDtypeStruct((m, n), jnp.zeros(()).dtype)
    scratch = jax.jit(function).lower(W).compile().memory_analysis().temp_size_in_bytes
    assert scratch < 40 * m * n * W.dtype.itemsize  # a few copies of W, where (n, n) would be 25,000


@pytest.mark.slow
def test_a_million_features():
    copies = 15_385
    W = jnp.tile(frames.simplex(65), copies)  # copies of a tight frame make one
    assert_close(feature_dimensionality(W), np.full(65 * copies, 64 / 65 / copies))


@pytest.mark.x64
def test_interference_of_random_directions():
    # Unit vectors: E (u . v)^2 = 1/m.
    m, n, draws = 3, 4, 300_000
    W = jax.random.normal(jax.random.key(10), (draws, m, n))
    W = W / jnp.linalg.norm(W, axis=1, keepdims=True)
    squares = np.asarray(jax.vmap(interference)(W)) ** 2
    assert not np.any(squares[:, np.arange(n), np.arange(n)])
    assert_matches_simulation(squares[:, ~np.eye(n, dtype=bool)], np.full(n * (n - 1), 1 / m))


@pytest.mark.parametrize("function", [coherence, signed_coherence])
def test_a_pair_needs_two_features(function):
    with pytest.raises(ValueError, match="n = 1, the columns of W: needs n >= 2"):
        function(jnp.ones((3, 1)))


# --- matrices that people have

JUDGES = [feature_dimensionality, coherence, signed_coherence, dimensions_per_feature]
judges = pytest.mark.parametrize("function", [*JUDGES, capacity_bound])


@pytest.mark.parametrize("factor", [1e-30, 1e30])
@pytest.mark.parametrize("function", [feature_dimensionality, coherence, signed_coherence, capacity_bound])
def test_lengths_are_all_that_the_type_holds(function, factor):
    W = gaussian(11, 3, 8)
    assert_close(function(W * (factor if EPS > 1e-10 else factor**5)), function(W))


def test_lengths_may_differ_by_as_much():
    """Features alone in their dimensions, and one short beside a long one in the same."""
    long, short = (1e12, 1e-12) if EPS > 1e-10 else (1e120, 1e-120)
    W = jnp.array([[1.0, 0, 0, 0], [0, short, 0, 0], [0, 0, long, 1]])
    for D in (feature_dimensionality(W), jax.jit(feature_dimensionality)(W)):
        assert_close(D, [1.0, 1.0, 1.0, 0.0])
    slope = jax.jit(jax.jacobian(feature_dimensionality))
    for length in (1e-4, 1e-9, short, short**2):
        assert np.all(np.isfinite(slope(gaussian(14, 3, 4).at[:, 2].multiply(length))))


def test_dimensions_per_feature_overflows_only_where_its_value_does():
    assert_close(
        dimensions_per_feature(jnp.full((1, 1), 1e-19 if EPS > 1e-10 else 1e-154)), 1e38 if EPS > 1e-10 else 1e308, 1e-5
    )
    assert_close(
        dimensions_per_feature(jnp.full((1, 1), 1e18 if EPS > 1e-10 else 1e153)), 1e-36 if EPS > 1e-10 else 1e-306, 1e-5
    )


@judges
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_what_is_not_finite_is_refused_or_shows(function, value):
    W = gaussian(12, 3, 8).at[1, 6].set(value).at[0, 2].set(value)
    with pytest.raises(ValueError, match="W has nan or inf in 2 columns: 2, 6: needs finite numbers"):
        function(W)
    answer = jax.jit(function)(W)
    assert answer == -1 if function is capacity_bound else np.all(np.isnan(answer))
    assert not np.any(np.isfinite(jax.jit(gram)(W)[6]))


@judges
def test_matrices_in_few_bits(function):
    W = jnp.array([[2.0, 1, 0], [0, -1, 1]])
    for kind in (jnp.float16, jnp.bfloat16):
        assert_close(function(W.astype(kind)), function(W), 1e-5)


@pytest.mark.parametrize(
    ("W", "says"),
    [
        (jnp.ones(3), r"W has shape \(3,\): needs \(m, n\) with m, n >= 1, one matrix"),
        (jnp.ones((2, 3, 4)), r"W has shape \(2, 3, 4\): needs \(m, n\)"),
        (jnp.ones((2, 0)), r"W has shape \(2, 0\): needs \(m, n\)"),
        (jnp.ones((2, 2), complex), "W has entries of type complex(64|128): needs real numbers"),
        (np.full((2, 2), "a"), "W has entries of type <U1: needs real numbers"),
        (np.zeros((2, 2), object), "W has entries of type object: needs real numbers"),
        ([[1.0, 2.0]], r"W is a list: needs an array of shape \(m, n\)"),
    ],
)
def test_what_is_no_matrix_is_refused(W, says):
    with pytest.raises(ValueError, match=says):
        weights.check(W)


@pytest.mark.x64
@pytest.mark.parametrize("function", JUDGES)
def test_a_transposed_matrix_brings_a_warning(function):
    W = gaussian(13, 7, 4)
    with pytest.warns(UserWarning, match=r"W has shape \(m, n\) = \(7, 4\), more dimensions than features") as seen:
        function(W)
    assert len(seen) == 1
    jax.jit(function)(W)  # a compiler's business, as in a sweep
    function(W[:4])  # square: nothing to be seen
