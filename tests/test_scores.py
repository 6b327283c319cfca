"""Scores of sparse autoencoders: against slow loops, answers known by construction, and what is not a score."""

from itertools import permutations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from checks import EPS, RTOL, assert_close, theorem
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import minimize

from superpose.sae import scores

SHAPES = [(5, 3, 6), (5, 6, 6), (4, 6, 3)]
"""`(m, L, n)`: fewer latents than features, as many, more."""
shape_and_seed = (st.sampled_from(SHAPES[::2]), st.integers(0, 99))


def draw(shape, seed, samples=40):
    """A made-up autoencoder: W_dec, D, x, z, h, h_hat; about a third of x and z are on, the last latent and one sample never."""
    (m, L, n), rng = shape, np.random.default_rng(seed)
    W_dec, D = rng.normal(size=(m, L)), rng.normal(size=(m, n))
    x, z = (rng.random((samples, k)) * (rng.random((samples, k)) < 1 / 3) for k in (n, L))
    x[0], z[:, -1] = 0, 0
    h = x @ D.T
    return tuple(jnp.asarray(a, float) for a in (W_dec, D, x, z, h, 0.8 * h + 0.1 * rng.normal(size=h.shape)))


def assert_same(actual, expected):
    """Two structures of arrays, each up to rounding."""
    for a, b in zip(*map(jax.tree.leaves, (actual, expected)), strict=True):
        assert_close(a, b)


def loops(W_dec, D, x, z, h, h_hat):
    """The scores as their definitions say, one pair and one sample after the other."""
    W_dec, D, x, z, h, h_hat = (np.asarray(a, np.float64) for a in (W_dec, D, x, z, h, h_hat))
    (_, L), n, samples = W_dec.shape, D.shape[1], len(h)
    C = np.array([[d @ t / np.sqrt((d @ d) * (t @ t)) for t in D.T] for d in W_dec.T])
    size = np.abs(C) if L <= n else np.abs(C).T
    sums = [sum(size[k, i] for k, i in enumerate(order)) for order in permutations(range(size.shape[1]), size.shape[0])]
    near = [max(range(n), key=lambda i, c=c: abs(c[i])) for c in C]
    precision, recall, f1, above_chance = np.zeros((4, L))
    for k, i in enumerate(near):
        on, due = [s for s in range(samples) if z[s, k] > 0], [s for s in range(samples) if x[s, i] > 0]
        hits = len(set(on) & set(due))
        precision[k], recall[k] = hits / len(on) if on else 0, hits / len(due) if due else 0
        f1[k] = 2 * precision[k] * recall[k] / (precision[k] + recall[k]) if hits else 0
        always = 2 * (len(due) / samples) / (len(due) / samples + 1)  # precision p, recall 1
        above_chance[k] = (f1[k] - always) / (1 - always)
    some = [s for s in range(samples) if np.any(h[s])]
    return {
        "mcc": max(sums) / size.shape[0],
        "mmcs": np.mean([max(c) for c in C]),
        "representedness": np.mean([max(c) for c in C.T]),
        "uniqueness": len(set(near)) / L,
        "fvu": np.sum((h - h_hat) ** 2) / np.sum((h - h.mean(0)) ** 2),
        "l0": np.mean([sum(s > 0) for s in z]),
        "true_l0": np.mean([sum(s > 0) for s in x]),
        "dead_fraction": np.mean([not any(a > 0) for a in z.T]),
        "shrinkage": np.mean([np.sqrt(h_hat[s] @ h_hat[s]) / np.sqrt(h[s] @ h[s]) for s in some]),
        "precision": precision.mean(),
        "recall": recall.mean(),
        "f1": f1.mean(),
        "f1_calibrated": above_chance.mean(),
    }


@pytest.mark.parametrize("shape", SHAPES)
def test_scores_are_their_definitions(key, shape):
    arrays = draw(shape, 0)
    found = scores.report(key, *arrays, draws=2)
    assert found.collapse == ""
    for name, expected in loops(*arrays).items():
        assert_close(getattr(found, name), np.asarray(expected))


@pytest.mark.parametrize("shape", SHAPES)
def test_a_matching_is_one_to_one_and_its_shares_are_counts(shape):
    _, L, n = shape
    W_dec, D = draw(shape, 1)[:2]
    found = scores.match(W_dec, D)
    feature, latent = np.asarray(found.feature), np.asarray(found.latent)
    pairs = [(k, i) for k, i in enumerate(feature) if i >= 0]
    assert len(pairs) == min(L, n)
    assert sorted(pairs) == sorted((k, i) for i, k in enumerate(latent) if k >= 0)
    C = np.abs(np.asarray(scores.cosines(W_dec, D)))
    cosine = np.array([C[k, i] if i >= 0 else 0 for k, i in enumerate(feature)])
    assert_close(found.cosine, cosine)
    hits = np.sum(cosine > 0.5)
    shares = [f(found, 0.5) for f in (scores.above, scores.coverage, scores.latent_coverage)]
    assert_close(jnp.stack(shares), hits / np.array([min(L, n), n, L]))


def test_a_signed_matching_takes_no_opposite_latent():
    D = jnp.eye(2)
    W_dec = jnp.array([[-1.0, 0.6], [0.0, 0.8]])  # opposite to the first, nearer to the second
    either, signed = scores.match(W_dec, D), scores.match(W_dec, D, signed=True)
    np.testing.assert_array_equal(either.feature, [0, 1])
    assert_close(either.cosine, np.array([1, 0.8]))
    np.testing.assert_array_equal(signed.feature, [1, 0])
    assert_close(signed.cosine, np.array([0, 0.6]))


@theorem
@given(*shape_and_seed)
def test_order_and_scale_change_no_score(shape, seed):
    """Features and latents in another order, columns of other lengths and signs, activations in other units."""
    W_dec, D, x, z, h, h_hat = draw(shape, seed)
    rng, (_, L, n) = np.random.default_rng(seed), shape
    p, q = rng.permutation(L), rng.permutation(n)
    signs = jnp.asarray(rng.choice([-3, 0.2], L), float)[None, :]
    matching, moved = scores.match(W_dec, D), scores.match((W_dec * signs)[:, p], 7 * D[:, q])
    assert_close(scores.mcc(moved), scores.mcc(matching))
    C, C_moved = scores.cosines(W_dec, D), scores.cosines((W_dec * jnp.abs(signs))[:, p], 7 * D[:, q])
    for score in (scores.mmcs, scores.representedness, scores.uniqueness):
        assert_close(score(C_moved), score(C))
    total = scores.counts(x, z, h, h_hat)
    other = scores.counts(x[:, q], 5 * z[:, p], 3 * h, 3 * h_hat)
    for score in (scores.fvu, scores.l0, scores.dead_fraction, scores.shrinkage):
        assert_close(score(other), score(total))
    f1, f1_moved = (scores.detection(t, scores.nearest(c)).f1 for t, c in ((total, C), (other, C_moved)))
    assert_close(f1_moved, f1[p])


@theorem
@given(*shape_and_seed)
def test_batches_add_up(shape, seed):
    *_, x, z, h, h_hat = draw(shape, seed)
    whole = scores.counts(x, z, h, h_hat, 0.1)
    parts = [scores.counts(x[s], z[s], h[s], h_hat[s], 0.1) for s in (slice(0, 15), slice(15, 40))]
    assert_same(jax.tree.map(jnp.add, *parts), whole)


def test_a_report_comes_from_sums_as_well(key):
    W_dec, D, x, z, h, h_hat = draw(SHAPES[0], 3)
    total = scores.counts(x, z, h, h_hat, jnp.mean(h[:10], axis=0))
    known = scores.report(key, W_dec, D, x, z, h, h_hat, draws=2)
    assert_same(scores.report_from_counts(key, W_dec, D, total, draws=2), known)


def test_a_large_mean_does_not_drown_the_variance():
    """Means 1,000 times the standard deviation; the center takes them away before squares are taken."""
    *_, x, z, h, h_hat = draw(SHAPES[0], 4)
    far = scores.counts(x, z, h + 1000, h_hat + 1000, 1000.0)
    # adding 1,000 to h rounds it by 1,000 eps / 2 of its own size, which moves squares by 1,000 eps; 4 for two arrays, twice
    assert_close(scores.fvu(far), scores.fvu(scores.counts(x, z, h, h_hat)), rtol=max(RTOL, 4000 * EPS))


def perfect(seed=0, samples=200):
    """The truth as an autoencoder, its latents in another order, with other lengths and signs; in NumPy."""
    rng = np.random.default_rng(seed)
    D = rng.normal(size=(8, 12))
    order, length = rng.permutation(12), rng.uniform(0.5, 2, 12)
    x = rng.random((samples, 12)) * (rng.random((samples, 12)) < 0.3)
    h = x @ D.T
    arrays = D[:, order] * length, D, x, x[:, order] / length, h, h
    return [a.astype(jnp.zeros(()).dtype) for a in arrays], order


def test_the_truth_scores_one(key):
    arrays, order = perfect()
    found = scores.report(key, *map(jnp.asarray, arrays))
    np.testing.assert_array_equal(found.matching.feature, order)
    ones = "mcc mcc_calibrated above coverage latent_coverage uniqueness precision recall f1 f1_calibrated f1_matched"
    assert {name: float(getattr(found, name)) for name in ones.split()} == dict.fromkeys(ones.split(), 1.0)  # exactly
    assert_close(jnp.stack([found.mmcs, found.representedness, found.shrinkage]), np.ones(3))
    assert float(found.fvu) == float(found.dead_fraction) == 0
    assert float(found.turn) <= 4 * EPS  # of two roundings of one direction
    assert found.absorption.shape == (0,)


def test_numpy_arrays_do(key):
    arrays, _ = perfect()
    same = scores.report(key, *arrays, np.array([[0, 1]]), draws=2)
    assert_same(same, scores.report(key, *map(jnp.asarray, arrays), jnp.array([[0, 1]]), draws=2))


def test_random_dictionaries_score_zero(key):
    """Half of 32 random dictionaries calibrate the other half: 0 on average, within 5 standard errors of both."""
    D = jax.random.normal(jax.random.key(1), (16, 32))
    expected = scores.chance(key, D, latents=24, draws=16)
    tries = scores.chance(jax.random.key(2), D, latents=24, draws=16)
    error = np.hypot(expected.error, tries.error) / (1 - expected.mean)
    assert abs(scores.calibrated(tries.mean, expected.mean)) <= 5 * error
    assert error <= 0.02  # enough draws to see a bias of 10 %


def test_chance_is_known_for_one_feature_in_three_dimensions(key):
    """`|cos|` is uniform on [0, 1] in three dimensions, so the largest of L has mean L/(L + 1)."""
    found, theory = scores.chance(key, jnp.ones((3, 1)), latents=64, draws=100), 64 / 65
    assert 8 * found.error <= 0.02 * theory
    assert abs(found.mean - theory) <= 5 * found.error
    assert abs(found.mean - 1.02 * theory) > 5 * found.error


def test_chance_is_high_where_features_crowd(key):
    """.4555 for L = n = 128 and m = 32: from a NumPy program of its own, 800 pairs of dictionaries, within .0002.

    The mean differs from D to D by .0024, four times as much as from draw to draw, so the average is over 16 of them.
    """
    keys, theory = jax.random.split(key, (16, 2)), 0.4555
    means = [scores.chance(k, jax.random.normal(d, (32, 128)), latents=128, draws=2).mean for k, d in keys]
    mean, error = np.mean(means), np.std(means, ddof=1) / 4
    assert abs(mean - theory) <= 5 * error
    assert abs(mean - 1.02 * theory) > 5 * error


def test_calibration_needs_room_above_chance():
    assert np.isnan(scores.calibrated(jnp.ones(()), jnp.ones(())))


def merged(samples=400):
    """Parent and child, `x_0 >= x_1`, and a dictionary that merged them: latent 1 speaks for both, latent 0 for a parent alone."""
    rng = np.random.default_rng(0)
    parent = rng.random(samples) < 0.5
    child = parent & (rng.random(samples) < 0.3)
    x, z = np.stack([parent, child], 1), np.stack([parent & ~child, child * np.sqrt(2)], 1)
    W_dec = np.array([[1, np.sqrt(0.5)], [0, np.sqrt(0.5)]])
    return tuple(jnp.asarray(a, float) for a in (W_dec, np.eye(2), x, z, x, x))


def test_a_merged_dictionary_absorbs_all_and_the_truth_nothing(key):
    """No pair where the second is the parent: it is never on alone. The merged latent has turned by 45 degrees to the parent."""
    W_dec, D, x, z, h, h_hat = merged()
    pairs = jnp.array([[0, 1], [1, 0]])
    found = scores.report(key, W_dec, D, x, z, h, h_hat, pairs, draws=2)
    np.testing.assert_array_equal(found.absorption, [1, np.nan])
    np.testing.assert_array_equal(scores.report(key, D, D, x, x, h, h_hat, pairs, draws=2).absorption, [0, np.nan])
    turned = scores.turn(W_dec, D, found.matching)
    assert_close(turned.angle, np.array([0, np.pi / 4]))
    np.testing.assert_array_equal(turned.towards, [-1, 0])
    assert_close(turned.alignment, np.array([0.0, 1]))


def test_absorption_is_a_difference_of_shares():
    """Against a loop, with a parent that has no latent; batches add up."""
    *_, x, z, _, _ = draw(SHAPES[1], 5, samples=200)
    pairs, latent = np.array([[0, 1], [2, 0], [3, 4]]), np.array([2, 1, -1])
    x, z = np.asarray(x), np.asarray(z)

    def share(k, which):
        return np.mean(z[which, k] == 0)

    expected = [share(k, (x[:, i] > 0) & (x[:, j] > 0)) - share(k, (x[:, i] > 0) & (x[:, j] == 0)) for k, (i, j) in
                zip(latent, pairs, strict=True)]  # fmt: skip
    parts = [scores.absorption_counts(x[s], z[s], pairs, latent) for s in (slice(0, 90), slice(90, 200))]
    found = scores.absorption(jax.tree.map(jnp.add, *parts))
    assert_close(found[:2], np.array(expected[:2]))
    assert np.isnan(found[2])


HEDGED = 37.2379445016
"""Degrees: half the arctangent of 3.6, for rates .3 and .2, both on with .15."""


@pytest.mark.x64
def test_one_latent_for_two_features_hedges():
    """Against the minimum of `E |h - (d (e . h + a) + c)|^2` over d, e and c (a moves c), found by descent from a random start."""
    p1, p2, p12 = 0.3, 0.2, 0.15
    states = np.array([[0, 0], [1, 0], [0, 1], [1, 1]])
    chances = np.array([1 - p1 - p2 + p12, p1 - p12, p2 - p12, p12])

    def loss(v):
        d, e, c = v.reshape(3, 2)
        return chances @ np.sum((states - np.outer(states @ e, d) - c) ** 2, axis=1)

    best = minimize(loss, np.random.default_rng(0).normal(size=6), tol=1e-14).x[:2]
    angle = np.degrees(scores.hedging_angle(p1, p2, p12))
    np.testing.assert_allclose(angle, HEDGED, atol=1e-10)  # as many digits as it is quoted with
    np.testing.assert_allclose(np.degrees(np.arctan(best[1] / best[0])), HEDGED, atol=1e-4)  # gradients by differences: 1e-8
    W_dec, D = jnp.asarray(best)[:, None], jnp.eye(2)
    found = scores.turn(W_dec, D, scores.match(W_dec, D))
    np.testing.assert_allclose(np.degrees(found.angle), HEDGED, atol=1e-4)
    assert (int(found.towards[0]), round(float(found.alignment[0]), 12)) == (1, 1)


@theorem
@given(st.floats(0.05, 0.95), st.floats(0.05, 0.95), st.floats(0.05, 0.95))
def test_hedging_is_the_direction_of_largest_variance(p1, p2, share):
    p12 = max(0, p1 + p2 - 1) + share * (min(p1, p2) - max(0, p1 + p2 - 1))
    covariance = np.array([[p1 * (1 - p1), p12 - p1 * p2], [p12 - p1 * p2, p2 * (1 - p2)]])
    a = float(scores.hedging_angle(p1, p2, p12))
    direction = np.array([np.cos(a), np.sin(a)])
    assert_close(direction @ covariance @ direction, np.linalg.eigvalsh(covariance)[-1], rtol=4 * RTOL)


@pytest.mark.parametrize("p12", [0.09, 0.2])
def test_hedging_has_finite_slopes(p12):
    """Also where no direction is better: equal rates of independent features."""
    p1 = jnp.asarray(0.3)
    slopes = jax.grad(scores.hedging_angle, argnums=(0, 1, 2))(p1, p1, p1 * p1 if p12 == 0.09 else jnp.asarray(p12))
    assert np.all(np.isfinite(slopes))


def test_turns_are_measured_without_the_own_feature():
    """Features that overlap, d a mix of three: the angle to its own, and the larger of the two turns, by plain geometry."""
    D = scores.directions(jnp.array([[1.0, 0.5, 0, 1], [0, 1, 0, 1], [0, 0, 1, 1]]))
    W_dec = (D[:, 0] + 0.3 * D[:, 1] + 0.1 * D[:, 2])[:, None]
    found = scores.turn(-5 * W_dec, D[:, :3], scores.match(-5 * W_dec, D[:, :3]))  # up to sign and length
    d = np.asarray(W_dec[:, 0])
    rest = d - np.array([d[0], 0, 0])
    assert_close(found.angle, np.array([np.arctan2(np.hypot(d[1], d[2]), d[0])]))
    assert_close(found.alignment, np.array([rest[1] / np.hypot(rest[1], rest[2])]))  # feature 1 without feature 0 is e_1
    assert int(found.towards[0]) == 1
    np.testing.assert_array_equal(
        scores.turn(jnp.ones((3, 2)), D[:, :1], scores.match(jnp.ones((3, 2)), D[:, :1])).towards, -1
    )


def good():
    return dict(zip(("W_dec", "D", "x", "z", "h", "h_hat"), draw((5, 6, 6), 0), strict=True))


@pytest.mark.parametrize(
    ("change", "name"),
    [
        (lambda g: {"W_dec": g["W_dec"].at[0, 0].set(jnp.nan)}, "W_dec is not finite"),
        (lambda g: {"z": g["z"].at[3, 0].set(jnp.nan)}, "z or h_hat is not finite in 1 of 40 samples"),
        (lambda g: {"h_hat": g["h_hat"].at[3:5, 0].set(jnp.inf)}, "z or h_hat is not finite in 2 of 40 samples"),
        (lambda g: {"W_dec": 0 * g["W_dec"]}, "W_dec is 0"),
        (lambda g: {"z": 0 * g["z"]}, "all 6 latents are dead in 40 samples"),
        (lambda g: {"W_dec": g["W_dec"][:, :1] * g["W_dec"][:1]}, "all columns of W_dec lie along one direction"),
        (lambda g: {"h_hat": jnp.tile(jnp.mean(g["h"], axis=0), (40, 1))}, "h_hat is constant"),
        (lambda g: {"h_hat": 100 + 0 * g["h"]}, "h_hat is constant"),
        (lambda g: {"h_hat": 3 * g["h"]}, "FVU = "),
    ],
)
def test_a_collapse_is_named_and_has_no_scores(key, change, name):
    given = good()
    given |= change(given)
    pairs = jnp.array([[0, 1]])
    found = scores.report(key, *given.values(), pairs, draws=2)
    assert found.collapse.startswith(name)
    assert all(np.all(np.isnan(a)) for a in jax.tree.leaves(found)[:-3])
    assert np.all(found.matching.feature == -1)
    assert np.all(found.matching.latent == -1)
    again = scores.report_from_counts(
        key, given["W_dec"], given["D"], scores.counts(*list(given.values())[2:], jnp.mean(given["h"], axis=0)), draws=2
    )
    assert again.collapse == found.collapse


def test_one_latent_or_one_true_direction_is_no_collapse():
    given = good()
    total = scores.counts(*list(given.values())[2:])
    one, line = given["W_dec"][:, :1], given["D"][:, :1] * jnp.arange(1, 7.0)[None, :]
    assert scores.collapse(one, given["D"], total) == scores.collapse(line, line, total) == ""


@pytest.mark.x64
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda g: {"h": g["h"].at[3, 0].set(jnp.nan)}, "h or x has nan or inf in 1 samples"),
        (lambda g: {"x": g["x"].at[3:6, 0].set(jnp.inf)}, "h or x has nan or inf in 3 samples"),
        (lambda g: {"h": 0 * g["h"] + 0.1}, "h is constant up to rounding: needs samples that vary"),
        (lambda g: {"h": 0 * g["h"]}, "h is constant up to rounding"),
        (lambda g: {k: g[k][:5] for k in ("x", "z", "h", "h_hat")}, "h has 5 samples: needs at least as many .* latents, 6"),
        (lambda g: {"W_dec": g["W_dec"].T}, r"W_dec has shape \(6, 5\), D \(5, 6\): needs"),
        (lambda g: {"D": g["D"].at[0, 2].set(jnp.nan)}, "D has nan or inf in column 2"),
        (lambda g: {"x": g["x"][:, :3]}, r"x has shape \(40, 3\): needs \(samples, 6\) = \(40, 6\)"),
        (lambda g: {"z": g["z"][:30]}, r"z has shape \(30, 6\): needs"),
        (lambda g: {"h_hat": g["h_hat"][:, :4]}, r"h_hat has shape \(40, 4\): needs \(samples, 5\) = \(40, 5\)"),
        (lambda _: {"pairs": jnp.array([[0, 6]])}, "pairs names features 0 to 6: needs 0 to n - 1 = 5"),
        (lambda _: {"draws": 1}, "draws = 1: needs at least 2"),
    ],
)
def test_what_does_not_fit_is_refused(key, change, message):
    given = good()
    with pytest.raises(ValueError, match=message):
        scores.report(key, **{**given, **change(given)})


@pytest.mark.x64
def test_parts_refuse_what_does_not_fit(key):
    given = good()
    total = scores.counts(*list(given.values())[2:])
    with pytest.raises(ValueError, match=r"total has \(6, 6\): needs \(L, n\) = \(3, 6\)"):
        scores.report_from_counts(key, given["W_dec"][:, :3], given["D"], total)
    with pytest.raises(ValueError, match="W_dec has nan or inf in column 1"):
        scores.match(given["W_dec"].at[0, 1].set(jnp.nan), given["D"])
    with pytest.raises(ValueError, match="latents = 0: needs at least 1"):
        scores.chance(key, given["D"], latents=0)
