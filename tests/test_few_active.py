"""Closed forms for few active sets, and polynomial moments, against enumeration over who is active."""

import itertools

import jax.numpy as jnp
import numpy as np
import pytest
from checks import EPS, assert_close

from superpose import features, few_active
from superpose.sets import sets_of

SETS = (0, 1, 0, 1, 1)
LAWS = {
    "uniform": features.SparseUniform,
    "binary": features.SparseBinary,
    "symmetric": features.SparseSymmetric,
    "exponential": features.SparseExponential,
}
KINDS = {
    "independent": lambda x: x,
    "together": lambda x: features.Together(x, SETS),
    "exclusive": lambda x: features.Exclusive(x, SETS),
}
CASES = [(law, kind) for law in LAWS for kind in KINDS]


def setting(law, kind, density=0.3, pairs=False):
    rng = np.random.default_rng(11)
    gram, offset = rng.standard_normal((5, 5)), rng.uniform(-1, 1, 5)
    distribution = KINDS[kind](LAWS[law](density))
    sets = sets_of(distribution, n=5, dtype=jnp.zeros(()).dtype, pairs=pairs)
    return sets, features.magnitude(distribution), jnp.asarray(gram), jnp.asarray(offset)


def patterns(kind, p=0.3):
    """All patterns of active features with their probability and number of active sets."""
    sets = tuple(range(5)) if kind == "independent" else SETS
    options = []
    for s in sorted(set(sets)):
        members = tuple(j for j in range(5) if sets[j] == s)
        if kind == "together":
            options.append([((), 1 - p), (members, p)])
        else:
            options.append([((), 1 - p * len(members)), *(((j,), p) for j in members)])
    for choice in itertools.product(*options):
        active = [j for members, _ in choice for j in members]
        yield active, np.prod([chance for _, chance in choice]), sum(bool(members) for members, _ in choice)


def brute_moments(gram, offset, law, kind, removed):
    """`moments`, active pattern by active pattern: independent magnitudes with three known moments."""
    mu1, mu2, mu3 = law.moments
    probability, square, active_i, tilt, cross = 0.0, *np.zeros((4, 5))
    for active, chance, count in patterns(kind):
        if count <= removed:
            continue
        probability += chance
        for i in range(5):
            g = gram[i]
            mean = offset[i] + sum(g[j] * mu1 for j in active)
            variance = sum(g[j] ** 2 * (mu2 - mu1**2) for j in active)
            square[i] += chance * (mean**2 + variance)
            if i in active:
                active_i[i] += chance
                rest = mean - g[i] * mu1
                tilt[i] += chance * (mu1 * rest + mu2 * g[i])
                rest_square = rest**2 + variance - g[i] ** 2 * (mu2 - mu1**2)
                cross[i] += chance * (mu1 * rest_square + 2 * mu2 * g[i] * rest + mu3 * g[i] ** 2)
    return probability, square, active_i, tilt, cross


@pytest.mark.parametrize(("law", "kind"), CASES)
def test_moments_are_those_of_the_enumeration(law, kind):
    sets, magnitude, gram, offset = setting(law, kind)
    found = few_active.moments(sets, magnitude, gram, offset)
    expected = brute_moments(np.asarray(gram, float), np.asarray(offset, float), magnitude, kind, sets.removed)
    for value, truth in zip(found, expected, strict=True):
        assert_close(value, truth, rtol=128 * EPS)


@pytest.mark.parametrize("law", ["uniform", "symmetric"])
def test_moments_leave_out_pairs_where_these_are_taken_in_closed_form(law):
    sets, magnitude, gram, offset = setting(law, "independent", pairs=True)
    found = few_active.moments(sets, magnitude, gram, offset)
    expected = brute_moments(np.asarray(gram, float), np.asarray(offset, float), magnitude, "independent", 2)
    for value, truth in zip(found, expected, strict=True):
        assert_close(value, truth, rtol=512 * EPS)  # a difference of the moments with more than one and with two


@pytest.mark.parametrize(("law", "kind"), CASES)
def test_set_moments_are_those_of_each_set(law, kind):
    sets, magnitude, gram, _ = setting(law, kind)
    first, second = few_active.set_moments(sets, magnitude, gram)
    mu1, mu2, _ = magnitude.moments
    G = np.asarray(gram, float)
    for s in range(len(sets.idle)):
        members = [j for j in range(5) if sets.number[j] == s]
        total, square = 0.3 * mu1 * G[:, members].sum(1), 0.3 * mu2 * (G[:, members] ** 2).sum(1)
        if kind == "together":
            pairs = itertools.permutations(members, 2)
            square = square + 0.3 * mu1**2 * sum(G[:, j] * G[:, k] for j, k in pairs)
        assert_close(first[:, s], total, rtol=64 * EPS)
        assert_close(second[:, s], square, rtol=64 * EPS)


@pytest.mark.parametrize(("law", "kind"), CASES)
def test_low_order_is_the_share_of_at_most_one_active_set(law, kind):
    """With one active feature, `E r(b + g u)^2` by Gauss's rule in 400 cells of the quantile."""
    sets, magnitude, gram, b = setting(law, kind)
    nodes, weights = np.polynomial.legendre.leggauss(4)
    q = ((np.arange(4000)[:, None] + (nodes[None, :] + 1) / 2) / 4000).ravel()
    u, weight = np.asarray(magnitude.quantile(jnp.asarray(q)), float), np.tile(weights / 2, 4000) / 4000
    G, offset, expected = np.asarray(gram, float), np.asarray(b, float), np.zeros(5)
    for active, chance, count in patterns(kind):
        if count > sets.removed:
            continue
        for i in range(5):
            y = np.maximum(offset[i] + (G[i, active[0]] * u if active else 0), 0)
            x = u if active == [i] else 0
            expected[i] += chance * np.sum(weight * (x - y) ** 2)
    # The cell with the crossing, and the exponential's last cell: 1e-4 of its squared size.
    assert_close(few_active.low_order(sets, magnitude, gram, b), expected, rtol=1e-3 if law == "exponential" else 1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_states_are_all_patterns_and_their_probability_adds_up(kind, monkeypatch):
    sets, _, _, _ = setting("binary", kind)
    found = few_active.states(sets)
    expected = {tuple(j in active for j in range(5)) for active, _, _ in patterns(kind)}
    assert len(found) == len(expected)
    assert {tuple(row.tolist()) for row in found} == expected
    # With no overlaps and b = 1 every state of an idle feature costs 1, of an active one 0.
    losses = few_active.binary(sets, found, jnp.zeros((5, 5)), jnp.ones(5))
    assert_close(losses, np.full(5, 0.7), rtol=64 * EPS)
    monkeypatch.setattr(few_active, "MOST_STATES", len(expected) - 1)
    assert few_active.states(sets) is None
