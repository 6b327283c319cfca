"""Every distribution's moments and characteristic function against its own draws, and against each other."""

import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from checks import EPS, RTOL, assert_close, assert_matches_simulation, theorem
from exact_oracles import tree_states
from hypothesis import given

from superpose import features
from superpose.features import (
    Exclusive,
    SparseBinary,
    SparseExponential,
    SparseSymmetric,
    SparseUniform,
    Together,
    Tree,
    forest,
)

LAWS = [SparseUniform, SparseBinary, SparseSymmetric, SparseExponential]
N = 3
DRAWS = 3 * 2**20
"""The most demanding is an exponential's variance at density .4, of relative spread 3.9: 8 sem = 1.7 %."""
FEWER = 3 * 2**18
"""Enough for the bounded laws, but for their small covariances in exclusive sets."""


def cases():
    """Each law with one density, one a feature, and coupled, by name; n = 3."""
    for law in LAWS:
        yield f"{law.__name__}-same", law(0.6)
        yield f"{law.__name__}-each", law(jnp.array([0.5, 0.7, 1.0]))
        yield f"{law.__name__}-together", Together(law(jnp.array([0.5, 0.8])), sets=(0, 1, 0))
        yield f"{law.__name__}-exclusive", Exclusive(law(jnp.array([0.4, 0.7, 0.5])), sets=(0, 1, 0))
        yield f"{law.__name__}-tree", Tree(law(jnp.array([0.5, 0.7, 0.8])), parents=(-1, -1, 0))
        if law is not SparseBinary:  # which is then constant: `test_a_binary_feature_of_density_one_is_one`
            yield f"{law.__name__}-always", law(1.0)


CASES = dict(cases())


def draw(distribution, *, n=N, draws=DRAWS, seed=0):
    keys = jax.random.split(jax.random.key(seed), draws)
    return np.asarray(jax.jit(jax.vmap(lambda key: features.sample(key, distribution, n=n)))(keys))


DRAWN = CASES if jax.config.jax_enable_x64 else [name for name in CASES if name.endswith(("each", "exclusive"))]


@pytest.fixture(scope="module", params=DRAWN)
def case(request):
    """A distribution and its draws, shape `(draws, N)`."""
    draws = DRAWS if "Exponential" in request.param or "exclusive" in request.param else FEWER
    return CASES[request.param], draw(CASES[request.param], draws=draws)


def assert_nonzero_entries_match(samples, theory):
    """The gate is relative: entries whose theory is 0 are for identities and exact statements about draws."""
    nonzero = np.asarray(theory) != 0
    assert_matches_simulation(samples[:, nonzero], theory[nonzero])


def test_mean_matches_draws(case):
    distribution, x = case
    assert_nonzero_entries_match(x, features.mean(distribution, n=N))


def test_variance_matches_draws(case):
    distribution, x = case
    centred = x - np.asarray(features.mean(distribution, n=N))
    assert_nonzero_entries_match(centred**2, features.variance(distribution, n=N))


def test_covariance_matches_draws(case):
    distribution, x = case
    mean, covariance = (np.asarray(f(distribution, n=N)) for f in (features.mean, features.covariance))
    np.testing.assert_array_equal(np.diag(covariance), features.variance(distribution, n=N))
    np.testing.assert_array_equal(covariance, covariance.T)
    if isinstance(distribution, features.Sparse):  # independent: E x_i x_j = E x_i E x_j
        assert not np.any(covariance[~np.eye(N, dtype=bool)])
        assert_nonzero_entries_match(x[:, [0, 0, 1]] * x[:, [1, 2, 2]], mean[[0, 0, 1]] * mean[[1, 2, 2]])
    else:  # 0 and 2 share a set; 1 does not
        assert not np.any(covariance[1, [0, 2]])
        together = (x[:, 0] - mean[0]) * (x[:, 2] - mean[2])
        assert_nonzero_entries_match(together[:, None], covariance[:1, 2])
        assert_nonzero_entries_match(x[:, :1] * x[:, 1:2], mean[:1] * mean[1])


def test_characteristic_function_matches_draws(case):
    distribution, x = case
    t = jnp.array([0.3, 0.5, 0.2])  # small enough that neither the real nor the imaginary part is near 0
    theory, samples = features.characteristic_function(distribution, t), np.exp(1j * (x @ np.asarray(t)))
    if features.magnitude(distribution).moments[0] == 0:  # a symmetric law: real
        assert abs(theory.imag) <= 8 * EPS  # a product of three factors, each rounded
        assert_matches_simulation(samples.real, theory.real)
    else:
        assert_matches_simulation(samples, theory)


@pytest.mark.x64
@pytest.mark.parametrize("name", CASES)
def test_characteristic_function_generates_the_moments(name):
    # phi(t) = 1 + i t . E x - t^T E[x x^T] t / 2 + ...: its derivatives at 0.
    distribution, zero = CASES[name], jnp.zeros(N)
    mean = features.mean(distribution, n=N)
    second = features.covariance(distribution, n=N) + jnp.outer(mean, mean)

    def real(t):
        return features.characteristic_function(distribution, t).real

    def imag(t):
        return features.characteristic_function(distribution, t).imag

    value, slope, curvature = jax.jit(lambda t: (real(t), jax.grad(imag)(t), jax.hessian(real)(t)))(zero)
    assert_close(value, 1.0)
    np.testing.assert_allclose(slope, mean, atol=RTOL)  # of order 1, or 0
    np.testing.assert_allclose(curvature, -second, atol=RTOL)


@pytest.mark.parametrize("p", [0.001, 0.3, 1.0])
def test_moments_by_hand(p):
    # Var = p/3 - p^2/4 for U[0, 1]. Binary p (1 - p); U[-1, 1] p/3; Exp(1) 2p - p^2.
    values = [p / 3 - p**2 / 4, p * (1 - p), p / 3, 2 * p - p**2]
    for law, value, mean in zip(LAWS, values, [p / 2, p, 0, p], strict=True):
        assert_close(features.variance(law(p), n=2), [value] * 2)
        assert_close(features.mean(law(p), n=2), [mean] * 2)


def test_covariance_by_hand():
    # (E u)^2 p (1 - p) = .25 x .3 x .7 within a set; -(E u)^2 p_i p_j = -.25 x .3 x .2.
    together = features.covariance(Together(SparseUniform(0.3), sets=(0, 0, 1)), n=3)
    assert_close(together[0, 1:], [0.0525, 0.0])
    exclusive = features.covariance(Exclusive(SparseUniform(jnp.array([0.3, 0.2])), sets=(0, 0)), n=2)
    assert_close(exclusive[0, 1], -0.015)


def test_a_binary_feature_of_density_one_is_one():
    assert np.all(draw(SparseBinary(1.0), draws=10_000) == 1)
    assert not np.any(features.variance(SparseBinary(1.0), n=N))
    t = jnp.array([0.9, 1.3, 0.6])
    assert_close(features.characteristic_function(SparseBinary(1.0), t), np.exp(2.8j))


def test_together_is_all_or_none():
    x = draw(Together(SparseBinary(0.5), sets=(0, 1, 0, 1, 1)), n=5, draws=10_000)
    assert np.all(x[:, 0] == x[:, 2])
    assert np.all((x[:, 1] == x[:, 3]) & (x[:, 3] == x[:, 4]))
    assert np.any(x[:, 0] != x[:, 1])


def test_exclusive_is_at_most_one_and_one_if_densities_add_up_to_one():
    density = jnp.array([0.25, 0.5, 0.5, 0.125, 0.25, 0.0625])
    x = draw(Exclusive(SparseBinary(density), sets=(0, 1, 0, 1, 0, 1)), n=6, draws=100_000)
    assert np.all(x[:, ::2].sum(1) == 1)
    assert set(x[:, 1::2].sum(1)) == {0, 1}


def test_no_rounding_makes_two_exclusive_features_active():
    n, rng = 64, np.random.default_rng(0)  # sums of 32 terms or more are not taken in order

    def active(v, p):
        return forest.sampled(forest.exclusive((0,) * n), p, v[None])

    for _ in range(5):
        p = jnp.asarray(rng.dirichlet(np.ones(n)) * 0.999, float)
        edges = jnp.cumsum(p)  # and all numbers within two roundings of them
        v = edges[:, None] * (1 + EPS / 2 * jnp.arange(-4, 5))[None, :]
        count = jnp.sum(jax.vmap(active, in_axes=(0, None))(v.reshape(-1), p), axis=1)
        assert np.max(count) == 1


def test_rare_features_have_all_magnitudes():
    # 16.8 of 2^24 features are active; float32's steps of 2^-23 would give them 8 values between them.
    x = np.asarray(features.sample(jax.random.key(0), SparseUniform(1e-6), n=2**24))
    assert len(set(x[x > 0])) > 9
    assert np.max(x) <= 1


@pytest.mark.x64
def test_densities_can_be_traced():
    keys = jax.random.split(jax.random.key(0), 4)
    densities = jnp.array([0.1, 0.4, 0.6, 1.0])
    batch = jax.vmap(lambda key, p: features.sample(key, SparseUniform(p), n=N))(keys, densities)
    alone = [features.sample(key, SparseUniform(p), n=N) for key, p in zip(keys, densities, strict=True)]
    np.testing.assert_array_equal(batch, np.stack(alone))
    assert_close(jax.grad(lambda p: features.variance(SparseUniform(p), n=1)[0])(0.5), 1 / 3 - 0.5 / 2)


def test_density_is_per_feature():
    assert_close(features.density(Together(SparseBinary(jnp.array([0.2, 0.7])), sets=(1, 0, 1)), n=3), [0.7, 0.2, 0.7])
    assert_close(features.density(Together(SparseBinary(0.2), sets=(1, 0, 1)), n=3), [0.2] * 3)
    assert_close(features.density(Exclusive(SparseBinary(0.2), sets=(0, 0)), n=2), [0.2] * 2)
    assert_close(features.density(SparseBinary(0.2), n=2), [0.2] * 2)


@theorem
@given(st.integers(0, 2**31), st.sampled_from(LAWS))
def test_covariances_and_characteristic_functions_are_possible(seed, law):
    rng = np.random.default_rng(seed)
    p, t = jnp.asarray(rng.uniform(0.01, 0.49, N), float), jnp.asarray(rng.normal(size=N) * 5, float)
    for distribution in (law(p), Together(law(p[:2]), sets=(0, 1, 0)), Exclusive(law(p), sets=(0, 1, 0))):
        # Eigenvalues and moduli of order 1, some sums of ten terms: within RTOL.
        assert np.min(np.linalg.eigvalsh(features.covariance(distribution, n=N))) >= -RTOL
        phi, mirrored = (features.characteristic_function(distribution, s) for s in (t, -t))
        assert abs(phi) <= 1 + RTOL
        np.testing.assert_allclose(mirrored, np.conj(phi), atol=RTOL)


def test_importances():
    assert_close(features.geometric_importance(0.7, n=3), [1, 0.7, 0.49])
    assert_close(features.power_law_importance(2.0, n=3), [1, 1 / 4, 1 / 9])
    np.testing.assert_array_equal(features.last_importance(0.3, n=3), jnp.array([1, 1, 0.3]))


@pytest.mark.x64
@pytest.mark.parametrize(
    ("distribution", "message"),
    [
        (SparseUniform(0.0), r"density = 0.0: needs to lie in \(0, 1\]"),
        (SparseUniform(1.1), r"density = 1.1: needs to lie in \(0, 1\]"),
        (SparseUniform(float("nan")), r"density = nan: needs to lie in \(0, 1\]"),
        (SparseUniform(jnp.array([0.1, -0.1, 0.2])), r"needs to lie in \(0, 1\]"),
        (SparseUniform(jnp.ones(2)), r"density has shape \(2,\): needs a scalar or \(3,\)"),
        (SparseUniform(jnp.ones((3, 1))), r"density has shape \(3, 1\): needs a scalar or \(3,\)"),
        (
            Together(SparseUniform(0.1), sets=(0, 0)),
            r"sets = \(0, 0\): needs one set number for each of n = 3",
        ),
        (Together(SparseUniform(0.1), sets=(0, 2, 2)), r"sets = \(0, 2, 2\): .* from 0 without gaps"),
        (Exclusive(SparseUniform(0.1), sets=(-1, 0, 0)), r"sets = \(-1, 0, 0\): .* from 0 without gaps"),
        (Together(SparseUniform(jnp.ones(3)), sets=(0, 0, 1)), r"needs a scalar or \(2,\)"),
        (Exclusive(SparseUniform(jnp.ones(2)), sets=(0, 0, 1)), r"needs a scalar or \(3,\)"),
        (
            Exclusive(SparseUniform(0.4), sets=(0, 0, 0)),
            r"adds up to .* exclusive features need at most 1 a set",
        ),
        (Tree(SparseUniform(0.1), parents=(-1, 0)), r"parents = \(-1, 0\): needs one for each of n = 3"),
        (Tree(SparseUniform(0.1), parents=(-1, 2, 1)), r"feature 1 needs the number of another .* not below it"),
        (Tree(SparseUniform(0.1), parents=(-1, 3, 0)), r"feature 1 needs the number of another of the n = 3 features"),
        (Tree(SparseUniform(0.6), parents=(-1, 0, 0), exclusive=True), r"adds up to 1.2 in the children of one parent"),
        (features.Mixture((SparseUniform(0.1),), jnp.ones(2) / 2), r"contexts = 1, weights of shape \(2,\)"),
        (
            features.Mixture((SparseUniform(0.1),) * 2, jnp.ones(2)),
            r"weights = .*: need to be at least 0 and to add up to 1",
        ),
        (features.Mixture((SparseUniform(-0.1),), jnp.ones(1)), r"density = -0.1: needs to lie in \[0, 1\]"),
    ],
)
@pytest.mark.parametrize("function", [features.check, features.density, features.covariance])
def test_wrong_distributions_are_named(distribution, message, function):
    with pytest.raises(ValueError, match=message):
        function(distribution, n=3)
    with pytest.raises(ValueError, match=message):
        features.sample(jax.random.key(0), distribution, n=3)


TREES = {
    "independent children": Tree(SparseBinary(jnp.array([0.6, 0.5, 0.3, 0.8, 0.4])), parents=(-1, 0, 0, 2, -1)),
    "exclusive children": Tree(SparseBinary(jnp.array([0.7, 0.5, 0.3, 0.9, 0.2])), parents=(-1, 0, 0, 1, 0), exclusive=True),
    "numbered from below": Tree(SparseBinary(jnp.array([0.5, 0.6, 0.7, 0.4, 0.9])), parents=(1, 4, 4, -1, -1)),
}


@pytest.mark.parametrize("name", TREES)
def test_a_tree_s_moments_are_those_of_its_states(name):
    tree, t = TREES[name], np.array([0.3, -0.5, 0.2, 0.8, 0.4])
    patterns, chance = map(np.array, zip(*tree_states(tree), strict=True))
    assert_close(chance.sum(), 1.0)
    assert_close(features.density(tree, n=5), chance @ patterns)
    second = (chance[:, None] * patterns).T @ patterns
    assert_close(features.covariance(tree, n=5), second - np.outer(chance @ patterns, chance @ patterns))
    assert_close(features.characteristic_function(tree, jnp.asarray(t)), chance @ np.exp(1j * patterns @ t))
    only = [chance[(patterns == np.eye(5)[i]).all(1)].sum() for i in range(5)]
    known, given = features.coupling(tree, n=5), features.given(tree, n=5)
    others = 1 - forest.chances(known, given)  # of the features alone, with all other sets idle
    idle = np.array([np.prod(np.delete(others, known.sets[i])) for i in range(5)])
    assert_close(forest.alone(known, given) * idle, only)


@pytest.mark.parametrize("name", TREES)
def test_a_tree_draws_its_states(name):
    patterns, chance = map(np.array, zip(*tree_states(TREES[name]), strict=True))
    x = draw(TREES[name], n=5, draws=200_000)
    share = (x[:, None, :] == patterns[None]).all(2).mean(0)
    assert np.all(share[chance == 0] == 0)
    assert np.abs(share - chance).max() < 5 * np.sqrt(0.25 / 200_000)


@pytest.mark.parametrize(
    "known",
    [
        forest.together((0, 1, 0, 2, 1, 1)),
        forest.exclusive((0, 1, 0, 2, 1, 1)),
        forest.tree((-1, 0, 0, 1, 1, -1, 3), exclusive=False),
        forest.tree((3, -1, 1, 1, 0, -1, 1), exclusive=True),
    ],
)
def test_slopes_of_active_parts_are_those_that_jax_finds(known):
    """In the order that they are given in and in that of levels; with a factor that is 0."""
    n, rng = len(known.parent), np.random.default_rng(0)
    given, weighed = (jnp.asarray(rng.uniform(0.1, 0.9, (n, 3))) for _ in range(2))
    weighed = weighed.at[n - 1, 0].set(0)
    truth, pull = jax.vjp(lambda x: forest.active_part(known, given, x), weighed)
    (slopes,) = pull(jnp.ones_like(truth))
    found = forest.active_part_and_slopes(known, given, weighed)
    assert_close(found[0], truth)
    assert_close(found[1], slopes)
    order = forest.in_order(known)
    assert sorted(order) == list(range(n))
    moved, at = forest.reordered(known, order), np.array(order)
    assert [moved.parent[k] < k for k in range(n)] == [True] * n
    found = forest.active_part_and_slopes(moved, given[at], weighed[at])
    assert_close(found[0], truth)
    assert_close(found[1], slopes[at])


def test_a_forest_is_what_other_couplings_are():
    law, tree = SparseUniform(jnp.array([0.3, 1.0])), Tree(SparseUniform(jnp.array([0.3, 1.0])), parents=(-1, 0))
    t = jnp.array([0.7, -1.1])
    both = Together(SparseUniform(0.3), sets=(0, 0))
    for f in (features.density, features.covariance):
        assert_close(f(tree, n=2), f(both, n=2))
    assert_close(features.characteristic_function(tree, t), features.characteristic_function(both, t))
    roots = Tree(law, parents=(-1, -1))
    assert_close(features.characteristic_function(roots, t), features.characteristic_function(law, t))


def test_a_mixture_is_the_mean_of_its_contexts():
    first = SparseBinary(jnp.array([0.5, 0.0, 0.2]))  # here feature 1 never turns up
    mixture = features.Mixture((first, Together(SparseUniform(0.4), sets=(0, 0, 1))), jnp.array([0.3, 0.7]))
    assert_close(features.density(mixture, n=3), [0.3 * 0.5 + 0.7 * 0.4, 0.7 * 0.4, 0.3 * 0.2 + 0.7 * 0.4])
    mean = np.array([0.3 * 0.5 + 0.7 * 0.2, 0.7 * 0.2, 0.3 * 0.2 + 0.7 * 0.2])
    assert_close(features.mean(mixture, n=3), mean)
    # E x_0 x_1 = .7 x .4 / 4, E x_0 x_2 = .3 x .5 x .2 + .7 x .4^2 / 4, E x_1 x_2 = .7 x .4^2 / 4.
    covariance = features.covariance(mixture, n=3)
    second = np.array([0.7 * 0.4 / 4, 0.3 * 0.1 + 0.7 * 0.04, 0.7 * 0.04])
    assert_close(covariance[(0, 0, 1), (1, 2, 2)], second - mean[[0, 0, 1]] * mean[[1, 2, 2]])
    assert_close(np.diag(covariance), features.variance(mixture, n=3))
    assert_close(features.second_moment(mixture, n=3)[1], 0.7 * 0.4 / 3)
    x = draw(mixture)
    assert_matches_simulation(x, mean)
    assert_matches_simulation((x[:, :1] - mean[0]) * (x[:, 1:2] - mean[1]), covariance[:1, 1])
