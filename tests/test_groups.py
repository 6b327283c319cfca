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
from superpose.expected_loss import groups

SETS = (0, 1, 0, 2, 1, 1)
DISTRIBUTIONS = {
    "independent": features.SparseUniform(jnp.array([0.1, 0.2, 0.9, 1.0, 0.5, 0.01])),
    "together": features.Together(features.SparseUniform(jnp.array([0.2, 0.7, 1.0])), SETS),
    "tree": features.Tree(features.SparseUniform(jnp.array([0.2, 0.7, 0.5, 0.3, 0.9, 0.6])), parents=(-1, -1, 0, 1, 1, 2)),
    "exclusive": features.Exclusive(features.SparseUniform(jnp.array([0.5, 0.2, 0.5, 1.0, 0.3, 0.1])), SETS),
}


def described(kind):
    return groups.groups_of(DISTRIBUTIONS[kind], n=6, dtype=jnp.zeros(()).dtype)


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
    one, rest = groups.product(jnp.asarray(q))
    shares = np.stack([expanded(column) for column in q.T])
    assert one.shape == rest.shape == (3,)
    assert_close(one, shares[:, 1], rtol=64 * EPS)
    if count > 1:
        assert_close(rest, shares[:, 2:].sum(1), rtol=64 * EPS)
    else:
        assert np.all(np.asarray(rest) == 0)


def test_product_keeps_the_digits_of_a_small_rest():
    """Twenty of 1e-6: `rest` is 190 pairs of 1e-12, which a difference would lose."""
    one, rest = groups.product(jnp.full(20, 1e-6))
    shares = [comb(20, k) * 1e-6**k for k in range(21)]
    assert_close(one, shares[1], rtol=64 * EPS)
    assert_close(rest, sum(shares[2:]), rtol=64 * EPS)


@theorem
@given(st.lists(st.sampled_from([0.0, 1.0, 0.5, 1e-3, -1.0]), min_size=1, max_size=12))
def test_parts_of_a_product_add_up(q):
    q = np.array(q)
    one, rest = groups.product(jnp.asarray(q))
    np.testing.assert_allclose(1 + one + rest, np.prod(1 + q), rtol=64 * EPS, atol=64 * EPS * np.prod(1 + np.abs(q)))


@pytest.mark.parametrize("kind", DISTRIBUTIONS)
def test_the_groups_say_who_is_idle(kind):
    found = described(kind)
    idle = {
        "independent": [0.9, 0.8, 0.1, 0.0, 0.5, 0.99],
        "together": [0.8, 0.3, 0.0],
        "exclusive": [0.0, 0.4, 0.0],
        "tree": [0.8, 0.3],
    }[kind]
    # 1 - sum p of an exclusive set is 0 up to rounding where its densities add up to 1.
    np.testing.assert_allclose(1 - np.asarray(found.chance), idle, rtol=0, atol=4 * EPS)
    assert found.independent == (kind == "independent")
    sums = groups.group_sums(found, groups.in_order(found, jnp.arange(6.0)))
    assert_close(sums, {"independent": range(6), "tree": [7, 8]}.get(kind, [2, 10, 3]))


@pytest.mark.parametrize("kind", DISTRIBUTIONS)
def test_groups_are_alike_whatever_their_numbers(kind):
    structure = jax.tree.structure(described(kind))
    assert structure == jax.tree.structure(jax.tree.map(lambda x: x / 2, described(kind)))
    assert hash(structure) == hash(jax.tree.structure(described(kind)))
    assert [structure == jax.tree.structure(described(other)) for other in DISTRIBUTIONS].count(True) == 1
