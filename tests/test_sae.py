"""Autoencoders solved exactly: against closed forms, and what is refused."""

import jax
import jax.numpy as jnp
import numpy as np
import oracles
import pytest

from superpose import expected_loss, features, sae, solve

pytestmark = pytest.mark.x64


@pytest.mark.parametrize(("p", "penalty", "scale"), [(0.1, 0.2, 1.0)])
def test_one_feature_is_a_soft_threshold(p, penalty, scale):
    W = scale * jnp.ones((1, 1))
    found = sae.solve(jax.random.key(0), W, features.SparseUniform(p), latents=1, penalty=penalty, restarts=1, nodes=64)
    d, loss = oracles.one_latent(p, penalty)
    read, bias, write, center = (np.asarray(x[found.best]).ravel()[0] for x in jax.tree.leaves(found.params))
    assert bool(found.converged[found.best])
    np.testing.assert_allclose(found.loss[found.best], loss, rtol=1e-6)
    np.testing.assert_allclose([read * write, bias, center], [1, -d - penalty / 2, d], atol=1e-4)
    np.testing.assert_allclose(np.abs(found.cosine[found.best]), 1, atol=1e-12)
    with pytest.raises(AssertionError):
        np.testing.assert_allclose(found.loss[found.best], 1.02 * loss, rtol=1e-6)


@pytest.mark.slow
def test_orthogonal_features_are_recovered():
    """Features that do not overlap cost nothing to each other: each has its own soft threshold, and no start ends below."""
    p, penalty = 0.1, 0.2
    found = sae.solve(
        jax.random.key(1), jnp.eye(2), features.SparseUniform(p), latents=2, penalty=penalty, restarts=3, nodes=32
    )
    best = found.best
    np.testing.assert_allclose(found.loss[best], 2 * oracles.one_latent(p, penalty)[1], rtol=1e-5)
    np.testing.assert_allclose(np.sort(found.cosine[best], axis=0), [[0, 0], [1, 1]], atol=1e-3)
    assert np.all(np.asarray(found.loss) >= float(found.loss[-1]) * (1 - 1e-6))


@pytest.mark.slow
def test_overlapping_features_are_not_recovered():
    """Five features in a pentagon: the symmetric point that the truth leads to is a saddle, and lower minima have no symmetry."""
    turn = jnp.arange(5) * 2 * jnp.pi / 5
    W, rare = jnp.array([jnp.cos(turn), jnp.sin(turn)]), features.SparseUniform(0.05)
    how = {"latents": 5, "penalty": 0.03, "nodes": 32}
    stay = sae.solve(jax.random.key(0), W, rare, restarts=0, escapes=0, **how)
    assert solve.REASONS[int(stay.reason[0])] == "saddle"
    np.testing.assert_allclose(np.diag(np.asarray(stay.cosine[0])), 1, atol=1e-6)
    found = sae.solve(jax.random.key(0), W, rare, restarts=2, **how)
    assert float(found.loss.min()) < float(stay.loss[0]) * 0.999
    params = jax.tree.map(lambda x: x[found.best], found.params)
    again = expected_loss.autoencoder(params, W, rare, penalty=0.03, weighted=False, nodes=64)
    np.testing.assert_allclose(again, found.loss[found.best], rtol=1e-6)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"latents": 0}, "latents = 0"),
        ({"penalty": -0.1}, "penalty = -0.1: needs to be at least 0"),
        ({"restarts": 0, "truth": False}, "needs a start"),
        ({"restarts": -1}, "restarts = -1"),
        ({"distribution": features.Tree(features.SparseUniform(0.2), parents=(1, 0))}, "feature 1 needs"),
        ({"starts": sae.from_dictionary(jnp.ones((3, 2)))}, r"starts has W_enc"),
    ],
)
def test_what_does_not_fit_is_refused(changes, message):
    how = {"distribution": features.SparseUniform(0.1), "latents": 2, "penalty": 0.1, "restarts": 1, **changes}
    with pytest.raises(ValueError, match=message):
        sae.solve(jax.random.key(0), jnp.eye(2), how.pop("distribution"), **how)
