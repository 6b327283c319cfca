"""The loss by number of active features: binary features state by state, and the sum against the population loss."""

from functools import partial
from itertools import product

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from checks import assert_close

from superpose import expected_loss, features, toy_model
from superpose.expected_loss import active_count

N = 4
P = np.array([0.5, 0.3, 0.1, 0.2])
IMPORTANCE = np.array([1.0, 0.5, 2.0, 0.7])


@pytest.fixture(scope="module")
def params():
    rng = np.random.default_rng(0)
    return toy_model.Params(jnp.asarray(0.7 * rng.normal(size=(2, N)), float), jnp.asarray(0.2 * rng.normal(size=N), float))


def loss_by_active(key, params, law, importance=1.0, *, most, draws):
    """Compiled as a whole."""
    found = partial(active_count.loss_by_active, most=most, draws=draws)
    return jax.jit(found)(key, params, law, jnp.asarray(importance, float))


def by_states(params):
    """`P(|A| = k)` and `P(k) E[loss | k]` of binary features, over all 16 states."""
    W, b = np.asarray(params.W, np.float64), np.asarray(params.b, np.float64)
    probability, loss = np.zeros(N + 1), np.zeros(N + 1)
    for state in product([0, 1], repeat=N):
        x = np.array(state)
        chance = np.prod(np.where(x == 1, P, 1 - P))
        probability[x.sum()] += chance
        loss[x.sum()] += chance * (IMPORTANCE @ (x - np.maximum(W.T @ W @ x + b, 0)) ** 2)
    return probability, loss


def test_binary_features_state_by_state(key, params):
    law = features.SparseBinary(jnp.asarray(P, float))
    found = loss_by_active(key, params, law, IMPORTANCE, most=N, draws=20_000)
    probability, loss = by_states(params)
    assert_close(found.probability, probability)
    assert_close(found.loss[:2], loss[:2])
    assert not np.any(found.sem[:2])
    assert np.all(np.abs(found.loss[2:] - loss[2:]) <= 5 * found.sem[2:] + 1e-6 * loss[2:])  # k = 4: one state, no spread
    assert np.all(8 * found.sem <= 0.1 * loss + 1e-6)  # enough draws to tell


@pytest.mark.x64
def test_parts_add_up_to_the_population_loss(key, params):
    law = features.SparseUniform(0.3)
    found = loss_by_active(key, params, law, most=N, draws=50_000)
    total, sem = float(found.loss.sum()), float(np.sqrt((np.asarray(found.sem) ** 2).sum()))
    exact = float(expected_loss.relu_output(params, law))
    assert_close(found.probability.sum(), 1.0)
    assert 8 * sem <= 0.02 * exact
    assert abs(total - exact) <= 5 * sem
    assert abs(total - 1.02 * exact) > 5 * sem


@pytest.mark.x64
def test_one_active_feature_stored_without_error_costs_nothing(key):
    """Antipodal pair, no bias: with one active feature the other's interference is negative, and free."""
    pair = toy_model.Params(W=jnp.array([[1.0, -1.0]]), b=jnp.zeros(2))
    found = loss_by_active(key, pair, features.SparseUniform(0.1), most=2, draws=200_000)
    assert not np.any(found.loss[:2])
    # Both active: x' = (r(u - v), r(v - u)), the error is 2 min(u, v)^2 in all, E min^2 = 1/6.
    expected = 0.1**2 * 2 / 6
    assert abs(found.loss[2] - expected) <= 5 * found.sem[2]
    assert 8 * found.sem[2] <= 0.03 * expected


@pytest.mark.x64
def test_active_sets_have_k_features_and_the_right_law(key):
    k, draws = 2, 20_000
    sample = jax.jit(jax.vmap(lambda key: active_count.sample_active(key, jnp.asarray(P, float), k, most=3)))
    found = np.asarray(sample(jax.random.split(key, draws)))
    assert np.all(found.sum(1) == k)
    odds = P / (1 - P)
    weights = {pair: odds[pair[0]] * odds[pair[1]] for pair in [(i, j) for i in range(N) for j in range(i)]}
    for (i, j), weight in weights.items():
        share = weight / sum(weights.values())
        assert abs(np.mean(found[:, i] & found[:, j]) - share) <= 5 * np.sqrt(share * (1 - share) / draws)


@pytest.mark.parametrize("p", [1e-7, 1.0])
def test_extreme_densities(key, params, p):
    found = loss_by_active(key, params, features.SparseUniform(p), most=N, draws=100)
    assert np.all(np.isfinite(found.loss))
    expected = [
        np.prod([N - i for i in range(k)]) / np.prod(range(1, k + 1)) * p**k * (1 - p) ** (N - k) for k in range(N + 1)
    ]
    np.testing.assert_allclose(found.probability, expected, rtol=1e-5)


@pytest.mark.x64
@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"most": 0}, "most = 0: needs to lie in 1 .. n = 4"),
        ({"most": 5}, "most = 5"),
        ({"draws": 1}, "draws = 1: needs at least 2"),
        ({"distribution": features.Exclusive(features.SparseUniform(0.1), (0, 0, 1, 1))}, "Exclusive: needs independent"),
    ],
)
def test_mistakes_are_named(key, params, wrong, says):
    with pytest.raises(ValueError, match=says):
        active_count.loss_by_active(key, params, **({"distribution": features.SparseUniform(0.1)} | wrong))
