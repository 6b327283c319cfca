"""Sampled training: no dependence on packing or cuts; losses and standard errors against closed forms."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from checks import EPS, assert_close

from superpose import features, toy_model, train

UNIFORM = features.SparseUniform(0.3)
PAIRS = (0, 0, 1, 1)


@partial(jax.jit, static_argnames=("n", "m"))
def random_params(key, *, n=4, m=2):
    w_key, b_key = jax.random.split(key)
    return toy_model.init(w_key, n=n, m=m).replace(b=0.3 * jax.random.normal(b_key, (n,)))


def identical(a, b):
    return all(np.array_equal(x, y) for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True))


def assert_matches(mean, sem, theory):
    """Enough draws; within 5 standard errors of the theory, and not of a theory that is 2 % off."""
    assert 8 * sem <= 0.02 * theory, "under-powered: raise the draws"
    assert abs(mean - theory) <= 5 * sem
    assert abs(mean - 1.02 * theory) > 5 * sem


# --- keys and packing


def test_model_key_depends_on_each_coordinate_and_their_order(key):
    keys = [train.model_key(key, *at) for at in [(0, 1), (1, 0), (1, 1), (0, 0), (0,), (1,), ()]]
    assert len({tuple(np.asarray(jax.random.key_data(k))) for k in keys}) == len(keys)


@jax.jit
def short_run(key, start, density):
    return train.fit(key, start, features.SparseUniform(density), steps=10, batch=64)


@pytest.mark.parametrize("keys", ["own", "shared"])
def test_a_model_alone_is_the_same_model_among_others(key, keys):
    own = [train.model_key(key, cell) for cell in range(3)] if keys == "own" else [key] * 3
    densities = jnp.array([0.9, 0.3, 0.1])
    starts = jax.vmap(random_params)(jax.random.split(key, 3))
    together = jax.vmap(short_run, in_axes=(0 if keys == "own" else None, 0, 0))
    result = together(jnp.stack(own) if keys == "own" else key, starts, densities)
    for cell in range(3):
        alone = short_run(own[cell], jax.tree.map(lambda a, cell=cell: a[cell], starts), densities[cell])
        # Adam divides by the size of the gradient: a small one passes its relative error on to the step.
        assert_close(result.losses[cell], alone.losses, rtol=1000 * EPS)
        assert_close(result.params.W[cell], alone.params.W, rtol=1000 * EPS)


# --- going on


@pytest.mark.parametrize("models", ["one", "own keys", "shared key"])
def test_calls_of_one_step_give_the_bits_of_one_call(key, models):
    keys = jax.random.split(key, 3)
    adamw = optax.adamw(1e-2, weight_decay=0.01)

    def run(start, done, steps):
        fit = partial(train.fit, steps=steps, batch=32, optimizer=adamw)
        if models == "one":
            return fit(key, start, UNIFORM, 1.0, done)
        own = (keys, 0) if models == "own keys" else (key, None)
        return jax.vmap(fit, in_axes=(own[1], 0, None, None, None))(own[0], start, UNIFORM, 1.0, done)

    small = partial(random_params, n=2, m=1)  # the size that compilers treat most variously
    start = small(key) if models == "one" else jax.vmap(small)(keys)
    whole = run(start, 0, 4)
    part, losses = start, []
    for done in range(4):
        part = run(part, done, 1)
        losses.append(part.losses)
    assert identical(part.params, whole.params)
    assert identical(part.optimizer_state, whole.optimizer_state)
    assert identical(jnp.concatenate(losses, axis=-1), whole.losses)


def test_a_step_draws_by_its_number_not_by_its_place_in_the_call(key):
    still = optax.sgd(0.0)  # the weights stay, so a batch's loss shows its draws
    first = train.fit(key, random_params(key), UNIFORM, steps=3, batch=8, optimizer=still)
    again = train.fit(key, first, UNIFORM, 1.0, 3, steps=3, batch=8, optimizer=still)
    assert len(set(np.concatenate([first.losses, again.losses]).tolist())) == 6


# --- the loss


@pytest.mark.parametrize("output", ["relu", "linear"])
@pytest.mark.parametrize("weighted", [False, True])
def test_batch_losses_are_those_of_the_model(key, output, weighted):
    params = random_params(key)
    importance = jnp.array([1.0, 0.5, 2.0, 0.1]) if weighted else 0.7
    x = jax.random.uniform(key, (4, 50))
    one = partial(toy_model.loss, output=output)
    expected = jax.jit(jax.vmap(one, in_axes=(None, 1, None)))(params, x, importance)
    assert_close(train._losses(params, x, importance, output, None), expected)


@pytest.mark.parametrize("draws", [5, 64, 100])
def test_sampled_loss_is_the_mean_and_standard_error_of_its_draws(key, draws):
    params, batch = random_params(key), 16

    @jax.jit
    def batch_losses(t, params):
        return train._losses(params, train._inputs(key, t, params, UNIFORM, batch), 1.0, "relu", None)

    values = [batch_losses(jnp.asarray(t), params) for t in range(-(-draws // batch))]
    values = np.concatenate(values)[:draws].astype(np.float64)
    mean, sem = train.sampled_loss(key, params, UNIFORM, draws=draws, batch=batch)
    np.testing.assert_allclose(mean, values.mean(), rtol=30 * EPS)
    np.testing.assert_allclose(sem, values.std(ddof=1) / np.sqrt(draws), rtol=100 * EPS)


@pytest.mark.x64
def test_standard_error_is_the_spread_of_repeated_means(key):
    params = random_params(key)
    means, sems = jax.vmap(lambda k: train.sampled_loss(k, params, UNIFORM, draws=500, batch=200))(
        jax.random.split(key, 3000)
    )
    # The spread of 3,000 means is itself known to 1 / sqrt(2 * 3000) = 1.3 %: 5 of these.
    np.testing.assert_allclose(np.std(means, ddof=1), np.sqrt(np.mean(sems**2)), rtol=0.065)


def test_zero_weights_lose_each_features_second_moment(key):
    density, importance = jnp.array([0.9, 0.3, 0.05]), jnp.array([1.0, 0.5, 0.2])
    params = toy_model.Params(W=jnp.zeros((2, 3)), b=jnp.zeros(3))
    found = train.sampled_loss(key, params, features.SparseUniform(density), importance, draws=400_000)
    assert_matches(*found, float(jnp.sum(importance * density / 3)))  # E x_i^2 = p_i E u^2 = p_i / 3


def test_one_feature_behind_a_threshold(key):
    """`x' = r(x - c)` errs by x below c, by c above: `p (c^3 / 3 + c^2 (1 - c)) = p (c^2 - 2 c^3 / 3)`."""
    p, c = 0.4, 0.6
    params = toy_model.Params(W=jnp.ones((1, 1)), b=jnp.full(1, -c))
    found = train.sampled_loss(key, params, features.SparseUniform(p), draws=1_000_000)
    assert_matches(*found, p * (c**2 - 2 * c**3 / 3))


@pytest.mark.parametrize(
    "distribution",
    [
        UNIFORM,
        features.SparseSymmetric(jnp.array([0.1, 0.2, 0.3, 0.4])),
        features.Together(features.SparseUniform(0.3), PAIRS),
        features.Exclusive(features.SparseBinary(0.3), PAIRS),
    ],
    ids=lambda distribution: type(distribution).__name__,
)
def test_linear_output_against_moments(key, distribution):
    """The error is `A x - b`, `A = 1 - W^T W`: its second moments are `diag(A Cov A^T) + (A E x - b)^2`."""
    params, importance = random_params(key), jnp.array([1.0, 0.5, 2.0, 0.1])
    found = train.sampled_loss(key, params, distribution, importance, draws=400_000, output="linear")
    A = jnp.eye(4) - params.W.T @ params.W
    second = jnp.diag(A @ features.covariance(distribution, n=4) @ A.T)
    second += (A @ features.mean(distribution, n=4) - params.b) ** 2
    assert_matches(*found, float(importance @ second))


# --- training


def test_training_lowers_the_loss(key):
    start = toy_model.init(key, n=5, m=2)
    run = train.fit(train.model_key(key, 1), start, UNIFORM, 0.8, steps=500, batch=256, optimizer=optax.adam(1e-2))
    before, before_sem = train.sampled_loss(key, start, UNIFORM, 0.8, draws=20_000)
    after, after_sem = train.sampled_loss(key, run.params, UNIFORM, 0.8, draws=20_000)
    assert after + 5 * after_sem < 0.8 * (before - 5 * before_sem)
    # The reported losses are of the batches: the first is that of the start, the last ones that of the end.
    np.testing.assert_allclose(run.losses[0], before, rtol=0.3)
    np.testing.assert_allclose(run.losses[-50:].mean(), after, rtol=0.1)


def test_a_trained_linear_model_reaches_principal_components_and_no_lower(key):
    """Equal importance: m directions and a bias leave the n - m smallest variances `p/3 - p^2/4`."""
    density = jnp.array([0.5, 0.4, 0.2, 0.1])
    law = features.SparseUniform(density)
    start = toy_model.init(key, n=4, m=2)
    run = train.fit(train.model_key(key, 1), start, law, steps=1500, optimizer=optax.adam(1e-2), output="linear")
    mean, sem = train.sampled_loss(key, run.params, law, draws=400_000, output="linear")
    minimum = jnp.sum(jnp.sort(density / 3 - density**2 / 4)[:2])
    assert minimum - 5 * sem <= mean <= 1.02 * minimum  # one-sided: nothing trained lies below the minimum


@pytest.mark.x64
@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"steps": 0}, "steps = 0: needs at least 1"),
        ({"batch": 0}, "batch = 0: needs at least 1"),
        ({"output": "tanh"}, "output = 'tanh': needs 'relu' or 'linear'"),
        ({"distribution": features.SparseUniform(1.5)}, r"density = 1.5: needs to lie in \(0, 1\]"),
        ({"distribution": features.SparseUniform(jnp.ones(3))}, r"density has shape \(3,\)"),
    ],
)
def test_static_mistakes_of_fit(key, wrong, says):
    with pytest.raises(ValueError, match=says):
        train.fit(key, random_params(key), **({"distribution": UNIFORM, "steps": 1} | wrong))


def test_going_on_needs_the_number_of_steps_done(key):
    start = random_params(key)
    run = train.Fit(start, train.ADAM.init(start), jnp.zeros(5))
    with pytest.raises(ValueError, match="done = None: needs the number of steps already taken"):
        train.fit(key, run, UNIFORM, steps=1)


@pytest.mark.x64
@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"draws": 1}, "draws = 1: needs at least 2"),
        ({"batch": 0}, "batch = 0"),
        ({"output": ""}, "output = ''"),
    ],
)
def test_static_mistakes_of_sampled_loss(key, wrong, says):
    with pytest.raises(ValueError, match=says):
        train.sampled_loss(key, random_params(key), UNIFORM, **({"draws": 10} | wrong))
