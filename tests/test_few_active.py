"""Closed forms for few active groups, and polynomial moments, against enumeration over who is active."""

import itertools

import jax.numpy as jnp
import numpy as np
import pytest
from checks import EPS, assert_close
from loss_models import LAWS, SETS

from superpose import features
from superpose.expected_loss import binary_states, low_order
from superpose.expected_loss.groups import groups_of
from superpose.expected_loss.shares import idle_shares

KINDS = {
    "independent": lambda x: x,
    "together": lambda x: features.Together(x, SETS),
    "exclusive": lambda x: features.Exclusive(x, SETS),
}
REMOVED = {"independent": 1, "together": 0, "exclusive": 1}
"""Active sets up to which inputs are taken out: of features that come together none is alone."""
CASES = [(law, kind) for law in LAWS for kind in KINDS]


def setting(law, kind, density=0.3):
    rng = np.random.default_rng(11)
    gram, offset = rng.standard_normal((5, 5)), rng.uniform(-1, 1, 5)
    distribution = KINDS[kind](LAWS[law](density))
    groups = groups_of(distribution, n=5, dtype=jnp.zeros(()).dtype)
    return groups, features.magnitude(distribution), jnp.asarray(gram), jnp.asarray(offset)


def patterns(kind, p=0.3):
    """All patterns of active features with their probability and number of active groups."""
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


def brute_moments(g, b, law, kind, removed):
    """`moments` where the shares are the chances of idle sets: active pattern by active pattern."""
    mu1, mu2, mu3, mu4 = law.moments
    found = np.zeros((9, 5))
    for active, chance, count in patterns(kind):
        if count <= removed:
            continue
        for i in range(5):
            mean = b[i] + sum(g[j, i] * mu1 for j in active)
            variance = sum(g[j, i] ** 2 * (mu2 - mu1**2) for j in active)
            third = sum(g[j, i] ** 3 * (mu3 - 3 * mu1 * mu2 + 2 * mu1**3) for j in active)
            excess = mu4 - 4 * mu1 * mu3 - 3 * mu2**2 + 12 * mu1**2 * mu2 - 6 * mu1**4
            fourth = mean**4 + 6 * mean**2 * variance + 4 * mean * third + 3 * variance**2
            fourth += sum(g[j, i] ** 4 * excess for j in active)
            own = np.zeros(4)
            if i in active:
                rest = mean - g[i, i] * mu1
                rest_square = rest**2 + variance - g[i, i] ** 2 * (mu2 - mu1**2)
                first = mu1 * rest + mu2 * g[i, i]
                own = [1, mu1, first, mu1 * rest_square + 2 * mu2 * g[i, i] * rest + mu3 * g[i, i] ** 2]
            y = [1, mean, mean**2 + variance, mean**3 + 3 * mean * variance + third]
            found[:, i] += chance * np.array([*y, *own, fourth])
    return found


@pytest.mark.parametrize(("law", "kind"), CASES)
def test_moments_are_those_of_the_enumeration(law, kind):
    groups, magnitude, g, b = setting(law, kind)
    found = low_order.moments(groups, magnitude, idle_shares(groups, g), g, b)
    expected = brute_moments(np.asarray(g, float), np.asarray(b, float), magnitude, kind, REMOVED[kind])
    assert (found.fourth is None) == (kind != "independent" or law in ("symmetric", "exponential"))
    for value, truth in zip(found, expected, strict=True):
        if value is not None:
            assert_close(value, truth, rtol=512 * EPS)


@pytest.mark.parametrize(("law", "kind"), CASES)
def test_group_moments_are_those_of_each_group(law, kind):
    groups, magnitude, gram, _ = setting(law, kind)
    first, second, _ = low_order.group_moments(groups, magnitude, gram)
    mu1, mu2, *_ = magnitude.moments
    G = np.asarray(gram, float)
    for s in range(len(groups.chance)):
        members = [j for j in range(5) if groups.coupling.sets[j] == s]
        total, square = 0.3 * mu1 * G[members].sum(0), 0.3 * mu2 * (G[members] ** 2).sum(0)
        if kind == "together":
            pairs = itertools.permutations(members, 2)
            square = square + 0.3 * mu1**2 * sum(G[j] * G[k] for j, k in pairs)
        assert_close(first[s], total, rtol=64 * EPS)
        assert_close(second[s], square, rtol=64 * EPS)


@pytest.mark.parametrize(("law", "kind"), CASES)
def test_low_order_is_the_share_of_at_most_one_active_set(law, kind):
    """With one active feature, `E r(b + g u)^2` by Gauss's rule in 400 cells of the quantile."""
    groups, magnitude, gram, b = setting(law, kind)
    nodes, weights = np.polynomial.legendre.leggauss(4)
    q = ((np.arange(4000)[:, None] + (nodes[None, :] + 1) / 2) / 4000).ravel()
    u, weight = np.asarray(magnitude.quantile(jnp.asarray(q)), float), np.tile(weights / 2, 4000) / 4000
    G, offset, expected = np.asarray(gram, float), np.asarray(b, float), np.zeros(5)
    for active, chance, count in patterns(kind):
        if count > REMOVED[kind]:
            continue
        for i in range(5):
            y = np.maximum(offset[i] + (G[active[0], i] * u if active else 0), 0)
            x = u if active == [i] else 0
            expected[i] += chance * np.sum(weight * (x - y) ** 2)
    # The cell with the crossing, and the exponential's last cell: 1e-4 of its squared size.
    found = low_order.low_order(groups, magnitude, idle_shares(groups, gram), gram, b)
    assert_close(found, expected, rtol=1e-3 if law == "exponential" else 1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_states_are_all_patterns_and_their_probability_adds_up(kind, monkeypatch):
    groups, law, _, _ = setting("binary", kind)
    found = binary_states.states(groups.coupling)
    expected = {tuple(j in active for j in range(5)) for active, _, _ in patterns(kind)}
    assert len(found) == len(expected)
    assert {tuple(row.tolist()) for row in found} == expected
    # With no overlaps and b = 1 every state of an idle feature costs 1, of an active one 0.
    losses = binary_states.losses(groups, law, jnp.zeros((5, 5)), jnp.ones(5), nodes=0)
    assert_close(losses, np.full(5, 0.7), rtol=64 * EPS)
    monkeypatch.setattr(binary_states, "MOST_STATES", len(expected) - 1)
    assert not binary_states.applies(groups, law)


def test_a_long_chain_has_too_many_states():
    """Deeper than Python's recursion goes."""
    assert binary_states.states(features.forest.tree((-1, *range(1500)), exclusive=False)) is None
