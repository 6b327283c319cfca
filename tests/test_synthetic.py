"""Activations whose features are known: dictionaries, which features fire, how strongly, and what is drawn."""

from itertools import product

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from checks import EPS, assert_close, assert_matches_simulation
from scipy.stats import multivariate_normal, norm

from superpose import features, frames, synthetic

MINIATURES = {"small": (1024, 48, 8), "large": (2048, 96, 16)}


def overlaps(D):
    """`|D_i . D_j|`, 0 on the diagonal."""
    cosines = np.abs(np.asarray(D).T @ np.asarray(D))
    return cosines - np.diag(np.diag(cosines))


def rectified(mean, deviation):
    """`E r(u)` and `E r(u)^2` of a normal number u."""
    t = mean / deviation
    below, slope = norm.cdf(t), norm.pdf(t)
    return mean * below + deviation * slope, (mean**2 + deviation**2) * below + mean * deviation * slope


def planted(candidates, trees, *, mean, deviation):
    """A world of independent candidates whose D is the identity."""
    n = len(candidates)
    law = synthetic.Planted(
        synthetic.Copula(jnp.asarray(candidates), jnp.zeros((n, 1))),
        synthetic.RectifiedNormal(jnp.full(n, mean), jnp.full(n, deviation)),
        trees,
    )
    return synthetic.World(jnp.eye(n), jnp.zeros(n), law)


def test_random_directions_have_length_one(key):
    D = synthetic.random_directions(key, m=5, n=40)
    assert_close(np.linalg.norm(D, axis=0), np.ones(40))


def test_spread_directions_become_a_tight_frame(key):
    """Benedetto and Fickus 2003: `sum_ij (D_i . D_j)^2` of unit columns is least in tight frames, n^2/m; no other minima."""
    m, n = 4, 10
    D = synthetic.spread_directions(key, m=m, n=n, steps=1500, rate=3e-3)
    assert_close(np.linalg.norm(D, axis=0), np.ones(n))
    np.testing.assert_allclose(frames.frame_potential(D), n**2 / m, rtol=1e-4)  # Adam's last steps swing by about its rate
    start = synthetic.spread_directions(key, m=m, n=n, steps=0)
    assert_close(start, synthetic.random_directions(key, m=m, n=n))
    assert frames.frame_potential(start) > 1.02 * n**2 / m


def test_the_least_step_goes_down_the_sum_over_pairs(key):
    """One step of Adam moves each entry by its rate against the gradient's sign, here by finite differences of a slow sum."""
    m, n, rate = 3, 4, 1e-5
    D = np.asarray(synthetic.random_directions(key, m=m, n=n), np.float64)

    def loss(D):
        gram = D.T @ D
        return sum(gram[i, j] ** 2 for i in range(n) for j in range(n) if i != j) + n * np.sum((np.diag(gram) - 1) ** 2)

    steps = 1e-6 * np.eye(m * n).reshape(m, n, m, n)
    slope = np.array([[(loss(D + d) - loss(D - d)) / 2e-6 for d in row] for row in steps])
    expected = D - rate * np.sign(slope)
    expected /= np.linalg.norm(expected, axis=0)
    found = synthetic.spread_directions(key, m=m, n=n, steps=1, rate=rate)
    np.testing.assert_allclose(found, expected, atol=rate / 100 + 4 * EPS)


@pytest.mark.parametrize(
    ("m", "n", "coherence"), [(2, 5, 0.9), (8, 16, 0.33), (8, 16, 0.7), (3, 6, 0.45), (6, 4, 0.0), (1, 3, 1.0), (5, 9, 1.0)]
)
def test_coherence_is_as_asked(key, m, n, coherence):
    D = synthetic.coherent_directions(key, m=m, n=n, coherence=coherence)
    assert_close(np.linalg.norm(D, axis=0), np.ones(n))
    np.testing.assert_allclose(overlaps(D).max(), coherence, rtol=0, atol=16 * EPS)  # as its docstring says


def test_zipf_rates_are_a_rescaled_power_law():
    z = [(i + 1) ** -0.7 for i in range(20)]
    expected = [0.01 + (0.3 - 0.01) * (y - z[-1]) / (z[0] - z[-1]) for y in z]
    assert_close(synthetic.zipf_rates(n=20, exponent=0.7, low=0.01, high=0.3), expected)


def test_children_stand_level_by_level():
    found = synthetic.parents(synthetic.Trees(roots=2, branching=2, depth=2), n=16)
    assert found.tolist() == [-1, -1, 0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, -1, -1]


def test_compensated_rates_follow_the_benchmark(key):
    trees = synthetic.Trees(roots=2, branching=3, depth=2)
    n = trees.nodes + 2
    rates = np.sort(np.asarray(jax.random.uniform(key, (n,), minval=0.05, maxval=0.4)))[::-1].copy()
    parents, expected = synthetic.parents(trees, n=n), rates.copy()
    for i, up in enumerate(parents):
        if up >= 0:
            others = sum(rates[j] for j in range(n) if parents[j] == up and j != i)
            expected[i] = min(1, rates[i] / rates[up] * (1 + others / rates[up]))
    assert_close(synthetic.compensated_rates(jnp.asarray(rates), trees), expected)
    assert np.any(expected == 1)


@pytest.mark.parametrize("branching", [1, 2, 3, 4])
def test_marginal_rates_sum_over_all_outcomes(key, branching):
    """Each set of candidates among siblings has its chance, and each of its k members wins with 1/k."""
    trees = synthetic.Trees(roots=2, branching=branching, depth=2)
    q = np.asarray(jax.random.uniform(key, (trees.nodes + 1,), minval=0.1, maxval=0.9))
    parents, expected = synthetic.parents(trees, n=len(q)), q.copy()
    for up in range(trees.nodes - trees.levels[-1]):
        children = np.flatnonzero(parents == up)
        expected[children] = 0
        for on in map(np.array, product([False, True], repeat=branching)):
            chance = expected[up] * np.prod(np.where(on, q[children], 1 - q[children]))
            expected[children] += on * chance / max(1, on.sum())
    assert_close(synthetic.marginal_rates(jnp.asarray(q), trees), expected)


@pytest.mark.parametrize("scale", [0.0, 0.1, 2.0])
def test_latent_numbers_have_variance_one(key, scale):
    law = synthetic.copula(key, synthetic.zipf_rates(n=30), rank=5, scale=scale)
    found = np.asarray(synthetic.latent_correlation(law))
    expected = np.asarray(law.factor) @ np.asarray(law.factor).T
    assert np.all(np.diag(expected) <= 0.99 + 4 * EPS)
    assert_close(np.diag(found), np.ones(30))
    assert_close(found - np.eye(30), expected - np.diag(np.diag(expected)))
    assert np.linalg.eigvalsh(found)[0] >= 0.01 - 30 * EPS  # each feature's own part of the variance


def test_copula_fires_as_the_normal_law_says(key):
    """Rates are as set, and a pair fires as often as a bivariate normal number exceeds both quantiles."""
    rates, factor = np.array([0.5, 0.4, 0.6]), np.array([[0.8, 0.0], [0.6, 0.5], [-0.3, 0.7]])
    law = synthetic.Copula(jnp.asarray(rates, float), jnp.asarray(factor, float))
    ones = synthetic.RectifiedNormal(jnp.ones(3), jnp.zeros(3))
    world = synthetic.World(jnp.eye(3), jnp.zeros(3), synthetic.Planted(law, ones))
    x = np.asarray(synthetic.draw(key, world, batch=2**20).x)
    assert set(np.unique(x)) == {0, 1}
    correlation, quantiles = np.asarray(synthetic.latent_correlation(law), np.float64), norm.ppf(rates)
    pairs = [(0, 1), (0, 2), (1, 2)]
    both = [multivariate_normal.cdf(quantiles[[i, j]], cov=correlation[np.ix_([i, j], [i, j])]) for i, j in pairs]
    assert_matches_simulation(np.column_stack([x, *(x[:, i] * x[:, j] for i, j in pairs)]), np.concatenate([rates, both]))


@pytest.mark.parametrize("shape", [(1, 1, 3), (2, 4, 2), (3, 2, 0)])
def test_trees_hold_in_every_draw(key, shape):
    trees = synthetic.Trees(*shape)
    n = trees.nodes + 3
    rates = synthetic.compensated_rates(synthetic.zipf_rates(n=n, low=0.2, high=0.9), trees)
    law = synthetic.Planted(synthetic.copula(key, rates, scale=0.2), synthetic.rectified_normal(key, n=n), trees)
    on = np.asarray(synthetic.draw(key, synthetic.World(jnp.eye(n), jnp.zeros(n), law), batch=4096).x) > 0
    parents = synthetic.parents(trees, n=n)
    assert np.all(on.any(0))
    for up in range(trees.nodes - trees.levels[-1]):
        children = on[:, parents == up]
        assert np.all(children.sum(1) <= on[:, up])  # at most one, and none without the parent


def test_trees_fire_and_scale_as_the_theory_says(key):
    """Moments of children: who wins does not depend on how strongly, and each level has the parent's over its mean as a factor."""
    trees = synthetic.Trees(roots=1, branching=2, depth=2)
    candidates = np.array([0.95, 0.9, 0.7, 0.9, 0.7, 0.8, 0.8, 0.5])
    rates = np.asarray(synthetic.marginal_rates(jnp.asarray(candidates), trees))
    x = np.asarray(synthetic.draw(key, planted(candidates, trees, mean=2.0, deviation=0.5), batch=2**20).x)
    first, second = rectified(2.0, 0.5)
    level = np.array([0, 1, 1, 2, 2, 2, 2, 0])
    assert_matches_simulation(x > 0, rates)  # but for 3e-5 whose magnitude is rectified to 0
    assert_matches_simulation(x, rates * 2 * (first / 2) ** (level + 1))
    few = level < 2  # the third level's squares vary too much for so many draws
    assert_matches_simulation(x[:, few] ** 2, (rates * 4 * (second / 4) ** (level + 1))[few])


def test_magnitudes_of_the_benchmark(key):
    law = synthetic.rectified_normal(key, n=2**18)
    assert_close(law.mean[jnp.array([0, 2**18 - 1])], np.array([5.0, 4.0]))
    folded = 0.5 * (1 - 2 * norm.cdf(-1)) + 0.5 * 2 * norm.pdf(1)  # the mean of |N(.5, .5^2)|
    assert_matches_simulation(law.deviation, np.array(folded))


@pytest.mark.parametrize(("size", "all_features", "first"), [("small", 7.23, 5.52), ("large", 10.9, 8.3)])
def test_number_of_active_features_in_the_miniatures(size, all_features, first):
    """Measured elsewhere by simulation with `sae_lens` 6, to about 1 %; trees take nearly half of the rates that are set."""
    n, _, roots = MINIATURES[size]
    trees, rates = synthetic.Trees(roots), synthetic.zipf_rates(n=n)
    found = synthetic.marginal_rates(synthetic.compensated_rates(rates, trees), trees)
    np.testing.assert_allclose([found.sum(), found[: n // 4].sum()], [all_features, first], rtol=0.01)
    assert found.sum() < 0.6 * rates.sum()


def test_number_of_active_features_that_are_drawn(key):
    world = synthetic.synth_sae_bench(key, n=16, m=8, roots=1, branching=2, low=0.3, high=0.9, scale=0.05, steps=0)
    counts = np.sum(np.asarray(synthetic.draw(key, world, batch=2**16).x) > 0, axis=1)
    assert_matches_simulation(counts, synthetic.marginal_rates(world.law.copula.rates, world.law.trees).sum())


@pytest.mark.parametrize("noise", [0.0, 0.5])
def test_activations_are_written_by_the_dictionary(key, noise):
    world = synthetic.synth_sae_bench(key, n=20, m=6, roots=1, depth=1, steps=2, noise=noise)
    drawn = synthetic.draw(key, world, batch=2**16)
    assert drawn.h.shape == (2**16, 6)
    assert drawn.x.shape == (2**16, 20)
    assert drawn.h.dtype == drawn.x.dtype == jnp.zeros(()).dtype
    assert_close(jnp.linalg.norm(world.bias), 0.5)
    rest = np.asarray(drawn.h) - np.asarray(drawn.x) @ np.asarray(world.D).T - np.asarray(world.bias)
    if noise:
        return assert_matches_simulation(np.ravel(rest**2), np.array(noise**2))
    return assert_close(rest + np.asarray(drawn.h), drawn.h)


def test_draws_under_jit_vmap_and_scan(key):
    """A draw depends on its key and world alone."""
    keys = jax.random.split(key, 3)
    worlds = [synthetic.synth_sae_bench(k, n=9, m=4, roots=1, branching=2, depth=1, steps=0) for k in keys]
    stacked = jax.tree.map(lambda *x: jnp.stack(x), *worlds)

    def of(key, world):
        return synthetic.draw(key, world, batch=8)

    def step(carry, key):
        return carry, of(key, worlds[0])

    for found, one in (
        (jax.jit(jax.vmap(of, in_axes=(0, None)))(keys, worlds[0]), lambda i: of(keys[i], worlds[0])),
        (jax.vmap(of, in_axes=(None, 0))(key, stacked), lambda i: of(key, worlds[i])),
        (jax.lax.scan(step, None, keys)[1], lambda i: of(keys[i], worlds[0])),
    ):
        for i in range(3):
            assert_close(found.x[i], one(i).x)
            assert_close(found.h[i], one(i).h)


def test_independent_features(key):
    rates, D = jnp.array([0.7, 0.8, 1.0]), jnp.eye(3)
    x = np.asarray(synthetic.draw(key, synthetic.independent(D, rates), batch=2**19).x)
    assert_matches_simulation(np.column_stack([x > 0, x]), np.concatenate([rates, rates / 2]))
    law = synthetic.RectifiedNormal(jnp.array([1.0, 2.0, 3.0]), jnp.array([1.0, 0.5, 2.0]))
    x = np.asarray(synthetic.draw(key, synthetic.independent(D, rates, law), batch=2**20).x)
    first, second = rectified(np.asarray(law.mean), np.asarray(law.deviation))
    assert_matches_simulation(np.column_stack([x, x**2]), np.concatenate([rates * first, rates * second]))


@pytest.mark.parametrize(
    "distribution",
    [
        features.SparseUniform(0.8),
        features.SparseExponential(jnp.array([0.9, 0.95, 1.0])),
        features.Tree(features.SparseBinary(0.8), parents=(-1, 0, 1)),
    ],
)
def test_activations_of_a_toy_model(key, distribution):
    W = synthetic.random_directions(key, m=2, n=3)
    drawn = synthetic.draw(key, synthetic.of_model(W, distribution), batch=2**18)
    assert_close(drawn.h, np.asarray(drawn.x) @ np.asarray(W).T)
    assert_matches_simulation(drawn.x, features.mean(distribution, n=3))


D = jnp.eye(4)


@pytest.mark.x64
@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda k: synthetic.random_directions(k, m=0, n=2), "m = 0: needs at least 1"),
        (lambda k: synthetic.spread_directions(k, m=2, n=2, steps=-1), "steps = -1"),
        (lambda k: synthetic.spread_directions(k, m=2, n=2, rate=0.0), "rate = 0.0"),
        (lambda k: synthetic.coherent_directions(k, m=3, n=6, coherence=0.44), "Welch bound 0.447214 and 1"),
        (lambda k: synthetic.coherent_directions(k, m=3, n=6, coherence=1.01), "coherence = 1.01"),
        (lambda k: synthetic.coherent_directions(k, m=3, n=6, coherence=0.45, steps=0), "0 steps reached"),
        (lambda k: synthetic.coherent_directions(k, m=3, n=1, coherence=0.5), "n = 1"),
        (lambda _: synthetic.zipf_rates(n=1), "n = 1"),
        (lambda _: synthetic.zipf_rates(n=3, exponent=0.0), "exponent = 0.0"),
        (lambda _: synthetic.zipf_rates(n=3, low=0.5), "low, high = 0.5, 0.4"),
        (lambda k: synthetic.copula(k, jnp.array([0.5, 0.0])), r"rates\[1\] = 0.0: needs to lie in \(0, 1\]"),
        (lambda k: synthetic.copula(k, jnp.array([0.5, 0.1]), rank=0), "rank = 0"),
        (lambda k: synthetic.copula(k, jnp.array([0.5, 0.1]), scale=-1.0), "scale = -1.0"),
        (lambda _: synthetic.Trees(roots=0), "roots = 0: needs at least 1"),
        (lambda _: synthetic.parents(synthetic.Trees(2), n=169), "n = 169: needs at least the 170 features"),
        (lambda _: synthetic.marginal_rates(jnp.ones(3), synthetic.Trees(1)), "n = 3: needs"),
        (lambda _: synthetic.compensated_rates(jnp.ones(3), synthetic.Trees(1)), "n = 3: needs"),
        (lambda k: synthetic.synth_sae_bench(k, n=100, m=4, roots=2), "n = 100: needs at least the 170 features"),
        (lambda k: synthetic.synth_sae_bench(k, n=100, m=4, roots=1, bias=-1.0), "bias = -1.0"),
        (lambda k: synthetic.synth_sae_bench(k, n=100, m=4, roots=1, noise=-1.0), "noise = -1.0: needs to be at least 0"),
        (lambda k: synthetic.rectified_normal(k, n=4, last=0.0), "last = 0.0"),
        (lambda k: synthetic.rectified_normal(k, n=4, spread=-1.0), "spread = -1.0"),
        (lambda _: synthetic.independent(D, jnp.ones(3)), r"rates has shape \(3,\): needs a scalar or \(4,\)"),
        (lambda _: synthetic.independent(D, 1.5), r"rates\[0\] = 1.5"),
        (lambda _: synthetic.independent(D, 0.5, synthetic.RectifiedNormal(jnp.ones(3), jnp.ones(4))), "mean has shape"),
        (lambda _: synthetic.of_model(D, features.Tree(features.SparseUniform(0.5), (1, 0, 0, 0))), "feature 1 needs"),
        (lambda _: synthetic.of_model(D, features.SparseUniform(jnp.full(3, 0.5))), r"needs a scalar or \(4,\)"),
        (lambda k: synthetic.draw(k, synthetic.independent(D, 0.5), batch=0), "batch = 0"),
        (lambda k: synthetic.draw(k, synthetic.independent(D, 0.5).replace(bias=jnp.ones(3)), batch=1), "bias has shape"),
    ],
)
def test_what_does_not_fit_is_refused(key, call, message):
    with pytest.raises(ValueError, match=message):
        call(key)
