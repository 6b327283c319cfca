"""Attacks whose answer is known: linear models by their largest singular value, and by a search over the circle."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from checks import assert_close

from superpose import adversarial, features, frames, toy_model

pytestmark = pytest.mark.x64

LINEAR = partial(toy_model.reconstruct, output="linear")
SIZE = 0.3


@pytest.fixture(scope="module")
def params():
    rng = np.random.default_rng(0)
    return toy_model.Params(jnp.asarray(rng.normal(size=(2, 4)), float), jnp.asarray(rng.normal(size=4), float))


X = np.array([0.2, 0.0, 0.9, 0.4])
IMPORTANCE = np.array([1.0, 0.5, 2.0, 0.1])


def linear_attack(params, x=X, importance=IMPORTANCE, size=SIZE):
    x, importance = jnp.asarray(x, float), jnp.asarray(importance, float)
    attack = adversarial.linearised_attack(params, x, size, importance, model=LINEAR)
    return attack, adversarial.attacked_loss(params, x, attack, importance, model=LINEAR)


def test_no_other_attack_on_a_linear_model_is_worse(params):
    attack, worst = linear_attack(params)
    assert_close(jnp.linalg.norm(attack), SIZE, rtol=1e-5)
    rng = np.random.default_rng(1)
    others = rng.normal(size=(200_000, 4))
    # Far and near: around the attack as well as anywhere.
    others[:100_000] = np.asarray(attack) / SIZE + 0.05 * others[:100_000]
    others *= SIZE / np.linalg.norm(others, axis=1, keepdims=True)
    G = np.asarray(params.W.T @ params.W, np.float64)
    losses = (X - (X + others) @ G - np.asarray(params.b)) ** 2 @ IMPORTANCE
    assert losses.max() <= float(worst) * (1 + 1e-5)
    assert losses.max() >= float(worst) * (1 - 1e-3)  # and it is reached


def test_without_error_the_attack_is_the_leading_direction():
    """`W = I`, importances 4 and 1: the loss is `4 d_0^2 + d_1^2`, at most `4 size^2`."""
    exact = toy_model.Params(W=jnp.eye(2), b=jnp.zeros(2))
    attack, worst = linear_attack(exact, np.array([0.5, 0.5]), np.array([4.0, 1.0]))
    assert_close(jnp.abs(attack), [SIZE, 0.0])
    assert_close(worst, 4 * SIZE**2)


def test_where_the_error_has_nothing_along_the_leading_direction():
    """Hard case: `J = diag(2, 1)`, error e along the second axis: d_1 = e/3 away from it, d_0 makes up the length.

    Maximise `4 d_0^2 + (e + d_1)^2`: with lam = 4, (4 - 1) d_1 = e.
    """
    e = 0.3
    model = toy_model.Params(W=jnp.diag(jnp.array([2.0**0.5, 1.0])), b=jnp.array([0.0, e]))
    attack, worst = linear_attack(model, np.zeros(2), np.ones(2))
    assert_close(attack[1], e / 3)
    assert_close(jnp.abs(attack[0]), np.sqrt(SIZE**2 - e**2 / 9))
    assert_close(worst, 4 * (SIZE**2 - e**2 / 9) + (e + e / 3) ** 2)


def test_no_attack_of_no_size(params):
    attack, _ = linear_attack(params, size=0.0)
    assert not np.any(attack)


@pytest.fixture(scope="module")
def attacked():
    """Inputs with a few of five features active; attacks found and linearised, compiled once."""
    xs = jax.vmap(lambda k: features.sample(k, features.SparseUniform(0.2), n=5))(jax.random.split(jax.random.key(1), 100))

    @jax.jit
    def losses(params, size):
        keys = jax.random.split(jax.random.key(2), len(xs))
        search = partial(adversarial.projected_attack, starts=2)
        found = jax.vmap(search, in_axes=(0, None, 0, None))(keys, params, xs, size)
        linearised = jax.vmap(adversarial.linearised_attack, in_axes=(None, 0, None))(params, xs, size)
        loss = jax.vmap(partial(adversarial.attacked_loss, params))
        return found, loss(xs, found), loss(xs, linearised)

    return losses


PENTAGON = toy_model.Params(W=frames.polygon(5), b=jnp.zeros(5))


def test_projected_attack_is_within_the_ball_and_no_weaker_than_the_linearised(attacked):
    found, losses, linearised = attacked(PENTAGON, SIZE)
    assert np.all(np.linalg.norm(found, axis=1) <= SIZE * (1 + 1e-6))
    assert np.all(losses >= linearised * (1 - 1e-5))
    assert np.mean(losses > 1.01 * linearised) > 0.2  # an inactive output bends, which its linearisation at 0 misses


def test_projected_attack_on_two_inputs_is_the_best_of_the_disc(key):
    params = toy_model.Params(W=jnp.array([[1.0, -0.9]]), b=jnp.array([0.1, -0.2]))
    r, t = np.meshgrid(np.linspace(0, SIZE, 61), np.linspace(0, 2 * np.pi, 721))
    grid = jnp.asarray(np.stack([r * np.cos(t), r * np.sin(t)], -1).reshape(-1, 2), float)
    loss = partial(adversarial.attacked_loss, params)

    @jax.jit
    def both(x):
        return loss(x, adversarial.projected_attack(key, params, x, SIZE)), jax.vmap(partial(loss, x))(grid).max()

    for x in [[0.0, 0.5], [0.7, 0.0], [0.4, 0.4]]:
        found, every = both(jnp.asarray(x, float))
        np.testing.assert_allclose(found, every, rtol=2e-3)  # the grid's own coarseness, and the last steps'


def test_attack_size_is_a_tenth_of_the_mean_norm(key):
    # One feature of density 1: E |u| = 1/2.
    found = adversarial.attack_size(key, features.SparseUniform(1.0), n=1, draws=100_000)
    np.testing.assert_allclose(found, 0.05, rtol=5 * 0.58 / 100_000**0.5)


def test_superposition_is_vulnerable(attacked):
    """A feature stored alone moves by the attack; one of a pentagon by those of its neighbours too."""
    alone = attacked(toy_model.Params(W=jnp.eye(5), b=jnp.zeros(5)), SIZE)[1]
    ratio, error = adversarial.vulnerability(attacked(PENTAGON, SIZE)[1], alone)
    assert ratio - 5 * error > 1
    same, none = adversarial.vulnerability(alone, alone)
    assert (float(same), float(none)) == (1.0, 0.0)


def test_mistakes_are_named(key, params):
    with pytest.raises(ValueError, match="steps = 0, starts = 8"):
        adversarial.projected_attack(key, params, jnp.asarray(X, float), SIZE, steps=0)
