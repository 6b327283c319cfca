"""Models with a hidden layer: loops, exact constructions, penalties; and that they train."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from checks import assert_close

from superpose import features, hidden_layer, toy_model, train

pytestmark = pytest.mark.x64

N, M = 4, 3


@pytest.fixture
def x():
    return jnp.asarray(np.random.default_rng(0).uniform(-1, 1, N), float)


def tied(seed=0):
    rng = np.random.default_rng(seed)
    return toy_model.Params(W=jnp.asarray(rng.normal(size=(M, N)), float), b=jnp.asarray(rng.normal(size=N), float))


def untied(seed=1):
    rng = np.random.default_rng(seed)
    W_in, W_out, b = (jnp.asarray(rng.normal(size=shape), float) for shape in [(M, N), (N, M), (N,)])
    return hidden_layer.Untied(W_in, W_out, b)


def by_loops(W_in, W_out, b, x, f, g):
    W_in, W_out, b, x = (np.asarray(a, np.float64) for a in (W_in, W_out, b, x))
    h = [f(sum(W_in[k, i] * x[i] for i in range(N))) for k in range(M)]
    return np.array([g(sum(W_out[i, k] * h[k] for k in range(M)) + b[i]) for i in range(N)]), np.array(h)


ELEMENTWISE = {"relu": (jax.nn.relu, lambda v: max(v, 0.0)), "square": (jnp.square, lambda v: v * v)}


@pytest.mark.parametrize("model", [tied, untied])
@pytest.mark.parametrize("activation", ELEMENTWISE)
def test_loops_agree(model, activation, x):
    params = model()
    W_in, W_out = (params.W, params.W.T) if model is tied else (params.W_in, params.W_out)
    f, plain = ELEMENTWISE[activation]
    expected, h = by_loops(W_in, W_out, params.b, x, plain, abs)
    assert_close(hidden_layer.hidden(params, x, activation=f), h)
    assert_close(hidden_layer.reconstruct(params, x, activation=f, output=jnp.abs), expected)
    weights = np.array([1.0, 0.5, 2.0, 0.0])
    value = hidden_layer.loss(
        params, x, jnp.asarray(weights, float), activation=f, output=jnp.abs, target=jnp.square, l1=0.3
    )
    assert_close(value, weights @ (np.asarray(x) ** 2 - expected) ** 2 + 0.3 * np.abs(h).sum())


def test_a_linear_hidden_layer_is_the_toy_model(x):
    params = tied()
    value = hidden_layer.loss(params, x, 0.7, activation=hidden_layer.identity)
    assert_close(value, toy_model.loss(params, x, 0.7))
    penalised = hidden_layer.loss(params, x, 0.7, activation=hidden_layer.identity, l1=2.0)
    assert_close(penalised - value, 2 * np.abs(np.asarray(params.W) @ np.asarray(x)).sum(), rtol=1e-5)


def test_absolute_value_has_no_error():
    params = hidden_layer.absolute_value(N)
    assert params.W_in.shape == (2 * N, N)
    xs = jax.random.uniform(jax.random.key(0), (50, N), minval=-1)
    assert_close(jax.vmap(lambda x: hidden_layer.reconstruct(params, x))(xs), np.abs(xs))
    assert not np.any(jax.vmap(partial(hidden_layer.loss, params, target=jnp.abs))(xs))


def test_each_start_has_the_scale_of_its_own_shape(key):
    start = hidden_layer.init(key, n=400, m=50, scale=2.0)
    for W in (start.W_in, start.W_out):  # 20,000 entries: their standard deviation is known to 0.5 %
        np.testing.assert_allclose(np.std(W), 2 / 50**0.5, rtol=0.03)
    assert abs(np.corrcoef(start.W_in.T.ravel(), start.W_out.ravel())[0, 1]) < 0.03
    assert start.b.shape == (400,)
    assert hidden_layer.init(key, n=3, m=6).W_in.shape == (6, 3)


# --- training


ABSOLUTE = partial(hidden_layer.loss, target=jnp.abs)
FAST = optax.adam(3e-2)


def test_absolute_value_is_learnt(key):
    law = features.SparseSymmetric(0.5)
    starts = jax.vmap(lambda k: hidden_layer.init(k, n=2, m=4))(jax.random.split(key, 8))
    fit = partial(train.fit, steps=600, batch=128, optimizer=FAST, loss=ABSOLUTE)
    run = jax.vmap(fit, in_axes=(None, 0, None))(key, starts, law)
    score = partial(train.sampled_loss, draws=4000, loss=ABSOLUTE)
    loss, _ = jax.vmap(score, in_axes=(None, 0, None))(jax.random.key(9), run.params, law)
    nothing = 2 * 0.5 / 3  # E |x_i|^2 = p/3 each
    assert np.min(loss) < 1e-3 * nothing
    best = jax.tree.map(lambda a: a[np.argmin(loss)], run.params)
    assert_close(hidden_layer.reconstruct(best, jnp.array([0.5, -0.5])), [0.5, 0.5], rtol=0.05)


def test_the_loss_argument_trains_the_toy_model_alike(key):
    start = toy_model.init(key, n=3, m=2)
    fit = partial(train.fit, key, start, features.SparseUniform(0.3), 0.5, steps=20, batch=32)
    expected, actual = fit(), fit(loss=toy_model.loss)
    assert_close(actual.params.W, expected.params.W, rtol=1e-4)  # another order of sums, and Adam divides by the gradient
    assert_close(actual.losses, expected.losses, rtol=1e-4)
    again = train.fit(key, actual, features.SparseUniform(0.3), 0.5, 20, steps=5, batch=32, loss=toy_model.loss)
    assert again.losses.shape == (5,)


def penalised(params, x, data):
    importance, l1 = data
    return hidden_layer.loss(params, x, importance, l1=l1)


def test_a_penalty_varies_over_models_as_data_and_empties_the_hidden_layer(key):
    """One compiled run for all penalties: they go through `importance`."""
    law, l1 = features.SparseUniform(0.2), jnp.array([0.0, 0.05, 1.0])
    start = toy_model.init(key, n=3, m=2)
    fit = partial(train.fit, steps=400, batch=128, optimizer=optax.adam(1e-2), loss=penalised)
    run = jax.vmap(fit, in_axes=(None, None, None, (None, 0)))(key, start, law, (1.0, l1))
    xs = jax.random.uniform(key, (200, 3))
    size = jax.vmap(lambda p: jnp.mean(jax.vmap(partial(hidden_layer.hidden, p))(xs)))(run.params)
    assert size[0] > size[1] > size[2]
    assert size[2] < 0.1 * size[0]  # Adam of rate 1e-2 leaves weights of about that size jittering about 0


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: hidden_layer.init(jax.random.key(0), n=0, m=2), "m = 2, n = 0: needs both at least 1"),
        (lambda: hidden_layer.absolute_value(0), "n = 0: needs at least 1"),
        (
            lambda: train.fit(jax.random.key(0), jnp.ones(3), features.SparseUniform(0.1), steps=1, loss=penalised),
            r"needs a field b of shape \(n,\)",
        ),
    ],
)
def test_mistakes_are_named(call, says):
    with pytest.raises(ValueError, match=says):
        call()
