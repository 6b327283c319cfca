"""Groups of features: their characteristic functions, and the split of a product by how many sets are active."""

import itertools
from math import comb

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from checks import EPS, assert_close, theorem
from hypothesis import given
from hypothesis import strategies as st

from superpose import features
from superpose.expected_loss import sets
from superpose.features.magnitudes import UNIFORM

SETS = (0, 1, 0, 2, 1, 1)
DISTRIBUTIONS = {
    "independent": features.SparseUniform(jnp.array([0.1, 0.2, 0.9, 1.0, 0.5, 0.01])),
    "together": features.Together(features.SparseUniform(jnp.array([0.2, 0.7, 1.0])), SETS),
    "exclusive": features.Exclusive(features.SparseUniform(jnp.array([0.5, 0.2, 0.5, 1.0, 0.3, 0.1])), SETS),
}


def described(kind):
    return sets.groups_of(DISTRIBUTIONS[kind], n=6, dtype=jnp.zeros(()).dtype)


def expanded(q):
    """Term by term: the sum of products of each number of q."""
    shares = np.zeros(len(q) + 1, np.asarray(q).dtype)
    for on in itertools.product([False, True], repeat=len(q)):
        shares[sum(on)] += np.prod([x for x, chosen in zip(q, on, strict=True) if chosen])
    return shares


@pytest.mark.parametrize("count", [1, 2, 3, 5, 8, 11])
def test_product_is_the_expanded_polynomial(count):
    rng = np.random.default_rng(count)
    q = rng.standard_normal((count, 3)) + 1j * rng.standard_normal((count, 3))
    one, rest = sets.product(jnp.asarray(q))
    shares = np.stack([expanded(column) for column in q.T])
    assert one.shape == rest.shape == (3,)
    assert_close(one, shares[:, 1], rtol=64 * EPS)
    if count > 1:
        assert_close(rest, shares[:, 2:].sum(1), rtol=64 * EPS)
    else:
        assert np.all(np.asarray(rest) == 0)


def test_product_keeps_the_digits_of_a_small_rest():
    """Twenty of 1e-6: `rest` is 190 pairs of 1e-12, which a difference would lose."""
    one, rest = sets.product(jnp.full(20, 1e-6))
    shares = [comb(20, k) * 1e-6**k for k in range(21)]
    assert_close(one, shares[1], rtol=64 * EPS)
    assert_close(rest, sum(shares[2:]), rtol=64 * EPS)


@theorem
@given(st.lists(st.sampled_from([0.0, 1.0, 0.5, 1e-3, -1.0]), min_size=1, max_size=12))
def test_parts_of_a_product_add_up(q):
    q = np.array(q)
    one, rest = sets.product(jnp.asarray(q))
    np.testing.assert_allclose(1 + one + rest, np.prod(1 + q), rtol=64 * EPS, atol=64 * EPS * np.prod(1 + np.abs(q)))


@pytest.mark.parametrize("kind", DISTRIBUTIONS)
def test_the_sets_say_who_is_idle(kind):
    found = described(kind)
    idle = {
        "independent": [0.9, 0.8, 0.1, 0.0, 0.5, 0.99],
        "together": [0.8, 0.3, 0.0],
        "exclusive": [0.0, 0.4, 0.0],
    }[kind]
    # 1 - sum p of an exclusive set is 0 up to rounding where its densities add up to 1.
    np.testing.assert_allclose(1 - np.asarray(found.chance), idle, rtol=0, atol=4 * EPS)
    assert found.kind == kind
    assert found.removed == (0 if kind == "together" else 1)
    assert found.alone == (kind == "independent")
    expected = range(6) if kind == "independent" else SETS
    assert found.number.tolist() == list(expected)
    for i, row in enumerate(found.members.tolist()):
        assert row[0] == i
        assert sorted(j for j in row if j < 6) == [j for j in range(6) if expected[j] == expected[i]]


@pytest.mark.parametrize("kind", DISTRIBUTIONS)
def test_active_parts_multiply_to_the_characteristic_function(kind):
    t = jnp.array([0.3, -2.0, 1.1, 0.0, 5.0, -0.7])
    found, (psi,) = described(kind), UNIFORM.derivatives(t, 0)
    active = sets.active_part(found, psi)
    expected = features.characteristic_function(DISTRIBUTIONS[kind], t)
    assert_close(jnp.prod(1 - found.chance + active), expected, rtol=64 * EPS)


@pytest.mark.parametrize("kind", DISTRIBUTIONS)
def test_active_slope_is_the_derivative_of_the_active_part(kind):
    t, found = jnp.array([0.3, -2.0, 1.1, 0.0, 5.0, -0.7]), described(kind)

    def parts(t):
        active = sets.active_part(found, UNIFORM.derivatives(t, 0)[0])
        return active.real, active.imag

    slopes = [np.asarray(x) for x in jax.jacfwd(parts)(t)]  # (S, n): 0 outside a feature's own set
    own = found.number, np.arange(6)
    psi, dpsi = UNIFORM.derivatives(t, 1)
    assert_close(sets.active_slope(found, psi, dpsi), slopes[0][own] + 1j * slopes[1][own], rtol=64 * EPS)
