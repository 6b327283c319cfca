"""Averages over the box of active features: the exact loss of few features."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from checks import assert_close
from exact_oracles import corner_sums, uniform_losses
from test_few_active import LAWS

from superpose import features
from superpose.expected_loss import box_quadrature
from superpose.expected_loss.groups import groups_of


@pytest.mark.x64
@pytest.mark.parametrize("n", [1, 2, 3])
@pytest.mark.parametrize("law", ["uniform", "symmetric"])
def test_few_features_have_the_exact_loss(n, law):
    """Against corner sums; U[-1, 1] is 2 v - 1: a mixture over the 2^n signs of uniform features."""
    rng = np.random.default_rng(n)

    @jax.jit
    def losses(p, gram, b):
        return box_quadrature.losses(groups_of(LAWS[law](p), n=n, dtype=b.dtype), LAWS[law].magnitude, gram, b, nodes=0)

    for p, b_scale in itertools.product((0.01, 0.5, 1.0), (0.0, 0.5)):
        W, b = rng.standard_normal((2, n)), b_scale * rng.uniform(-1, 1, n)
        if n == 3:
            W[:, 2] = 0
        found = losses(jnp.asarray(p), jnp.asarray(W.T @ W), jnp.asarray(b))
        expected = uniform_losses(W, b, np.full(n, p)) if law == "uniform" else symmetric_losses(W.T @ W, b, p)
        assert_close(found, expected, rtol=1e-13 if law == "uniform" else 1e-9)


def symmetric_losses(G, b, p):
    n, losses = len(b), np.zeros(len(b))
    for i in range(n):
        for signs in itertools.product((1.0, -1.0), repeat=n):  # x_i r(y) has the sign of x_i
            _, second, cross = corner_sums((G[i] * signs).tolist(), float(b[i]), [p] * n, i)
            losses[i] += float(p / 3 - 2 * signs[i] * cross + second) / 2**n
    return losses


@pytest.mark.x64
@pytest.mark.parametrize(("n", "p"), [(3, 0.4), (2, 1.0)])
def test_slopes_are_those_of_the_values_and_finite_at_corners(n, p):
    sets = groups_of(features.SparseUniform(p), n=n, dtype=jnp.zeros(()).dtype)
    magnitude = features.SparseUniform.magnitude
    slopes = jax.jit(lambda gram, b: box_quadrature.losses_and_slopes(sets, magnitude, gram, b, nodes=0))
    value = jax.jit(lambda gram, b: box_quadrature.losses(sets, magnitude, gram, b, nodes=0))
    rng = np.random.default_rng(5)
    gram, b, h = jnp.asarray(rng.standard_normal((n, n))), jnp.asarray(rng.uniform(-0.3, 0.3, n)), 1e-6
    losses, by_gram, by_bias = slopes(gram, b)
    assert_close(losses, value(gram, b))
    for j in range(n):
        step = jnp.zeros((n, n)).at[j].set(h)  # of all outputs: each depends on its own column
        np.testing.assert_allclose(by_gram[j], (value(gram + step, b) - value(gram - step, b)) / (2 * h), atol=1e-8)
    np.testing.assert_allclose(by_bias, (value(gram, b + h) - value(gram, b - h)) / (2 * h), atol=1e-8)
    for corner in (jnp.zeros((n, n)), jnp.eye(n), -jnp.ones((n, n))):
        assert all(np.all(np.isfinite(x)) for x in slopes(corner, jnp.zeros(n)))
