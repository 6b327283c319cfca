"""Outputs whose own feature has a closed form: exact where columns are nearly orthogonal, and one loss with the plain series."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from exact_oracles import uniform_losses

from superpose import features
from superpose.expected_loss import binary_states, fourier_series, own_feature, relu_output
from superpose.expected_loss.groups import groups_of
from superpose.features import magnitudes
from superpose.toy_model import Params


def nearly_orthogonal(n, noise, seed=0):
    """Overlaps of columns of lengths about 1 with a little noise, and small biases of both signs."""
    rng = np.random.default_rng(seed)
    W = np.eye(n) * rng.uniform(0.8, 1.1, n) + noise * rng.standard_normal((n, n))
    return W, noise * rng.uniform(-2, 1, n)


@partial(jax.jit, static_argnums=3)
def with_it(law, g, b, nodes):
    """Each output's loss and its slopes."""
    sets = groups_of(law, n=len(b), dtype=g.dtype)
    return fourier_series.losses_and_slopes(sets, features.magnitude(law), g, b, nodes=nodes)


@partial(jax.jit, static_argnums=3)
def without_it(law, g, b, nodes):
    """The same where no output has the closed form."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(own_feature, "ABOVE", -1e3)
        return with_it.__wrapped__(law, g, b, nodes)


@pytest.mark.x64
@pytest.mark.parametrize("p", [0.01, 0.3, 1.0])
@pytest.mark.parametrize("noise", [1e-3, 0.03])
def test_nearly_orthogonal_columns_are_exact_at_few_nodes(p, noise):
    """Against corner sums. With the own feature in the series 64 nodes missed such losses by up to 2e-2."""
    W, b = nearly_orthogonal(5, noise)
    truth = uniform_losses(W, b, np.full(5, p)).sum()
    found = relu_output(Params(W=jnp.asarray(W), b=jnp.asarray(b)), features.SparseUniform(p), nodes=64)
    assert abs(found / truth - 1) < 1e-8


@pytest.mark.x64
def test_binary_features_have_it_too():
    W, b = nearly_orthogonal(6, 0.03)
    g, b, law = jnp.asarray(W.T @ W), jnp.asarray(b), features.SparseBinary(jnp.asarray(0.2))
    truth = binary_states.losses(groups_of(law, n=6, dtype=g.dtype), magnitudes.BINARY, g, b, nodes=0).sum()
    error, plain = (abs(f(law, g, b, 32)[0].sum() / truth - 1) for f in (with_it, without_it))
    assert 10 * error < plain


@pytest.mark.x64
@pytest.mark.parametrize("law", [features.SparseUniform(jnp.asarray(0.3)), features.SparseBinary(jnp.asarray(0.3))])
def test_slopes_are_those_of_the_value(law):
    """By differences along a random direction; every output in closed form, or only some."""
    rng = np.random.default_rng(1)
    for noise in (0.02, 0.15):
        W, b = nearly_orthogonal(6, noise)
        g, b = jnp.asarray(W.T @ W), jnp.asarray(b)
        along, move, h = jnp.asarray(rng.standard_normal((6, 6))), jnp.asarray(rng.standard_normal(6)), 1e-5
        _, by_g, by_b = with_it(law, g, b, 32)
        up, down = (with_it(law, g + t * along, b + t * move, 32)[0] for t in (h, -h))
        np.testing.assert_allclose((by_g * along).sum(0) + by_b * move, (up - down) / (2 * h), rtol=0, atol=1e-7)


@pytest.mark.x64
def test_both_forms_are_one_loss():
    """Random columns, each feature with a density of its own: which outputs have the closed form does not matter."""
    rng = np.random.default_rng(2)
    W, b = 0.2 * rng.standard_normal((5, 6)) + np.eye(5, 6), jnp.asarray(rng.uniform(-0.1, 0.1, 6))
    g, law = jnp.asarray(W.T @ W), features.SparseUniform(jnp.asarray(rng.uniform(0.1, 1, 6)))
    _, found = own_feature.aside(groups_of(law, n=6, dtype=g.dtype), magnitudes.UNIFORM, g, b)
    assert 2 <= int(found.cross.sum()) <= 4
    for x, y, rtol in zip(with_it(law, g, b, 1024), without_it(law, g, b, 1024), (1e-9, 1e-6, 1e-6), strict=True):
        np.testing.assert_allclose(x, y, rtol=0, atol=rtol * np.abs(y).max())


def test_where_it_applies():
    """Not where other features can turn the output off, the own overlap is 0, or the law or coupling is another."""
    g = jnp.array([[1.0, -0.6, 0.0], [-0.6, 1.0, 0.0], [0.0, 0.0, 0.0]])
    for law, b, expected in (
        (features.SparseUniform(0.3), 0.0, [1, 1, 1]),
        (features.SparseUniform(0.3), 0.2, [0, 0, 1]),
        (features.SparseBinary(0.3), 0.2, [0, 0, 1]),
    ):
        sets = groups_of(law, n=3, dtype=g.dtype)
        left, found = own_feature.aside(sets, features.magnitude(law), g, jnp.full(3, b))
        assert found.cross.tolist() == expected
        assert jnp.diagonal(left).tolist() == [float(x * y) for x, y in zip(expected, (1, 1, 0), strict=True)]
    together = features.Together(features.SparseUniform(0.3), (0, 0, 1))
    for law in (features.SparseSymmetric(0.3), features.SparseExponential(0.3), together):
        sets = groups_of(law, n=3, dtype=g.dtype)
        left, found = own_feature.aside(sets, features.magnitude(law), g, jnp.full(3, 0.2))
        assert left is g
        assert found is own_feature.NONE
