"""The model against loops, exact zero-loss solutions, and population losses known in closed form."""

import jax
import jax.numpy as jnp
import numpy as np
import oracles
import pytest
from checks import assert_close, assert_matches_simulation

from superpose import features, frames, toy_model
from superpose.toy_model import Params

DRAWS = 2**21


def sampled_losses(params, distribution, importance=1.0, output="relu"):
    """The loss at each of `DRAWS` inputs, shape `(DRAWS,)`."""

    def one(key):
        x = features.sample(key, distribution, n=params.b.shape[0])
        return toy_model.loss(params, x, importance, output=output)

    return jax.jit(jax.vmap(one))(jax.random.split(jax.random.key(0), DRAWS))


def some_params(m=3, n=5):
    rng = np.random.default_rng(0)
    return Params(W=jnp.asarray(rng.normal(size=(m, n)), float), b=jnp.asarray(rng.normal(size=n), float))


@pytest.mark.parametrize("output", ["relu", "linear"])
@pytest.mark.parametrize("shape", [(3, 5), (3, 3), (1, 2)])
def test_loops_agree(shape, output):
    params, rng = some_params(*shape), np.random.default_rng(1)
    x, importance = jnp.asarray(rng.uniform(size=(2, shape[1])), float)
    expected = oracles.reconstruct(params.W, params.b, x, output)
    assert_close(toy_model.reconstruct(params, x, output=output), expected)
    expected = oracles.loss(params.W, params.b, x, importance, output)
    assert_close(toy_model.loss(params, x, importance, output=output), expected)


def test_relu_with_importance_one_is_the_default():
    params, x = some_params(), jnp.linspace(0, 1, 5)
    np.testing.assert_array_equal(toy_model.reconstruct(params, x), toy_model.reconstruct(params, x, output="relu"))
    np.testing.assert_array_equal(toy_model.loss(params, x), toy_model.loss(params, x, jnp.ones(5)))
    np.testing.assert_array_equal(toy_model.loss(params, x, jnp.array(1.0)), toy_model.loss(params, x, 1.0))


@pytest.mark.parametrize("points", [3, 5, 50])
def test_two_dimensions_hold_any_number_of_single_features(points):
    # |w|^2 = 1/(1 - cos(2 pi/T)), b = -cos(2 pi/T)/(1 - cos(2 pi/T)) returns each e_i.
    c = np.cos(2 * np.pi / points)
    params = Params(W=frames.polygon(points) / np.sqrt(1 - c), b=jnp.full(points, -c / (1 - c)))
    x = np.eye(points)
    rows = jax.vmap(lambda row: toy_model.reconstruct(params, row))(jnp.asarray(x, float))
    np.testing.assert_allclose(rows, x, atol=64 * np.finfo(rows.dtype).eps / (1 - c))  # 1/(1-c) cancels: 127 at T=50


@pytest.mark.x64
def test_the_sampled_loss_of_a_regular_pentagon():
    params = Params(W=frames.polygon(5), b=jnp.zeros(5))
    # By corner sums L = 0.0404235950410596 at p = .1, b = 0, I = 1.
    assert_matches_simulation(sampled_losses(params, features.SparseUniform(0.1)), 0.0404235950410596)


def test_the_sampled_loss_of_two_features_in_one_dimension():
    params = Params(W=jnp.array([[0.9, -0.7]]), b=jnp.array([0.05, -0.02]))
    # By corner sums L = 0.0398577287635495 at p = .3, I = (1, .6).
    losses = sampled_losses(params, features.SparseUniform(0.3), jnp.array([1, 0.6]))
    assert_matches_simulation(losses, 0.0398577287635495)


@pytest.mark.x64
@pytest.mark.parametrize("p", [0.5, 1.0])
def test_the_sampled_losses_of_the_papers_candidates(p):
    importance, uniform = 0.7, features.SparseUniform(p)
    weights = features.last_importance(importance, n=2)
    variance = float(features.variance(uniform, n=1)[0])
    # Antipodal (1 + I) p^2/6; ignoring the second feature, I v.
    antipodal = Params(W=frames.antipodal_pairs(1), b=jnp.zeros(2))
    assert_matches_simulation(sampled_losses(antipodal, uniform, weights), (1 + importance) * p**2 / 6)
    ignored = Params(W=jnp.array([[1.0, 0.0]]), b=jnp.array([0, p / 2]))
    assert_matches_simulation(sampled_losses(ignored, uniform, weights), importance * variance)


@pytest.mark.x64
@pytest.mark.parametrize("coupling", [features.Together, features.Exclusive])
def test_the_sampled_loss_of_a_linear_model(coupling):
    # x - x' = A x - b, A = 1 - W^T W: E sum_i I_i (A x - b)_i^2 = sum_i I_i ((A C A^T)_ii + (A mu - b)_i^2).
    params, importance = some_params(2, 4), jnp.array([1, 0.5, 0.8, 0.2])
    distribution = coupling(features.SparseUniform(0.4), sets=(0, 1, 0, 1))
    A = np.eye(4) - oracles.gram(params.W)
    C = np.asarray(features.covariance(distribution, n=4))
    bias = A @ np.asarray(features.mean(distribution, n=4)) - np.asarray(params.b)
    theory = np.sum(np.asarray(importance) * (np.diag(A @ C @ A.T) + bias**2))
    assert_matches_simulation(sampled_losses(params, distribution, importance, "linear"), theory)


@pytest.mark.x64
def test_initial_weights_have_their_variance():
    n, m, scale = 4, 3, 1.5
    keys = jax.random.split(jax.random.key(0), 200_000)
    start = jax.vmap(lambda key: toy_model.init(key, n=n, m=m, scale=scale))(keys)
    assert start.W.shape == (200_000, m, n)
    assert not np.any(start.b)
    assert_matches_simulation(start.W.reshape(-1) ** 2, scale**2 / m)
    assert_matches_simulation(np.sum(np.asarray(start.W) ** 2, axis=1), np.full(n, scale**2))


def test_initial_weights_depend_on_the_key_alone(key):
    one, same = (toy_model.init(key, n=5, m=2) for _ in range(2))
    np.testing.assert_array_equal(one.W, same.W)
    assert not np.any(one.W == toy_model.init(jax.random.key(1), n=5, m=2).W)


@pytest.mark.x64
@pytest.mark.parametrize(("n", "m"), [(3, 0), (3, 4), (3, -1)])
def test_wrong_sizes_are_named(key, n, m):
    with pytest.raises(ValueError, match=f"m = {m}, n = {n}: needs 1 <= m <= n"):
        toy_model.init(key, n=n, m=m)


@pytest.mark.x64
def test_wrong_outputs_are_named():
    params, x = some_params(), jnp.zeros(5)
    for function in (toy_model.reconstruct, toy_model.loss):
        with pytest.raises(ValueError, match="output = 'gelu': needs 'relu' or 'linear'"):
            function(params, x, output="gelu")
