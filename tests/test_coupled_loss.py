"""The exact loss of trees and mixtures: against sums over who is active, its slopes, and where it is hardest."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from checks import EPS, assert_close, traced_anew
from exact_oracles import tree_states, uniform_losses
from loss_models import make_params, outputs, total

from superpose import expected_loss, features
from superpose.expected_loss import binary_states
from superpose.toy_model import Params

TREES = {
    "children": features.Tree(features.SparseUniform(jnp.array([0.6, 0.5, 0.3, 0.8, 0.4])), parents=(-1, 0, 0, 2, -1)),
    "exclusive": features.Tree(
        features.SparseUniform(jnp.array([0.7, 0.5, 0.3, 0.9, 0.2])), parents=(-1, 0, 0, 1, 0), exclusive=True
    ),
    "rare": features.Tree(features.SparseUniform(jnp.array([0.02, 0.3, 0.4, 0.05, 0.01])), parents=(-1, 0, 0, -1, 3)),
}


def by_states(params, tree):
    """Each output's loss: the mean over who is active, each by corner sums."""
    W, b = np.asarray(params.W, float), np.asarray(params.b, float)
    return sum(chance * uniform_losses(W, b, state.astype(float)) for state, chance in tree_states(tree) if chance)


@pytest.mark.parametrize("name", TREES)
def test_trees_are_the_mean_over_who_is_active(name):
    params, tree = make_params(), TREES[name]
    truth = by_states(params, tree)
    assert_close(outputs(params, tree, nodes=512), truth, rtol=max(1e-7, 1e3 * EPS))
    coarse = outputs(params, tree, nodes=64)
    assert (
        abs(float(coarse.sum()) - truth.sum())
        <= float(expected_loss.error_estimate(params, tree, nodes=64)) + 64 * EPS * truth.sum()
    )
    assert_close(coarse.sum(), truth.sum(), rtol=1e-4)


@pytest.mark.x64
@pytest.mark.parametrize("name", ["children", "exclusive"])
def test_slopes_of_trees_are_those_of_the_number(name):
    params, tree = make_params(), TREES[name]
    way = jax.tree.map(lambda x: jnp.asarray(np.random.default_rng(1).standard_normal(x.shape)), params)
    value = lambda t: total(jax.tree.map(lambda x, d: x + t * d, params, way), tree)  # noqa: E731
    step = 1e-4
    slope = jax.grad(value)(0.0)
    assert_close(slope, (8 * (value(step) - value(-step)) - value(2 * step) + value(-2 * step)) / (12 * step), rtol=1e-8)
    bend = (jax.grad(value)(step) - jax.grad(value)(-step)) / (2 * step)
    assert_close(jax.jvp(jax.grad(value), (0.0,), (1.0,))[1], bend, rtol=1e-5)


def test_binary_trees_are_listed(monkeypatch):
    params = make_params()
    for tree in TREES.values():
        law = features.Tree(features.SparseBinary(tree.features.density), tree.parents, tree.exclusive)
        listed, known = outputs(params, law), features.coupling(law, n=5)
        x = np.asarray(
            jax.vmap(lambda k, law=law: features.sample(k, law, n=5))(jax.random.split(jax.random.key(0), 20_000))
        )
        assert {tuple(row) for row in x.astype(bool)} <= {tuple(row) for row in binary_states.states(known)}
        with monkeypatch.context() as patch:
            patch.setattr(binary_states, "MOST_STATES", 0)
            traced_anew(patch)
            assert_close(outputs(params, law, nodes=4096), listed, rtol=1e-4)  # atoms: as of sets, above


def test_mixtures_are_the_mean_over_contexts():
    params, weights = make_params(), np.array([0.2, 0.5, 0.3])
    rows = np.array([[0.3, 0.0, 0.2, 1.0, 0.1], [0.0, 0.4, 0.0, 0.0, 0.3], [0.1] * 5])
    mixture = features.Mixture(tuple(features.SparseUniform(jnp.asarray(p)) for p in rows), jnp.asarray(weights))
    W, b = np.asarray(params.W, float), np.asarray(params.b, float)
    truth = sum(w * uniform_losses(W, b, p) for w, p in zip(weights, rows, strict=True))
    assert_close(outputs(params, mixture, nodes=512), truth, rtol=max(1e-8, 1e3 * EPS))
    assert (
        abs(float(total(params, mixture)) - truth.sum())
        <= float(expected_loss.error_estimate(params, mixture)) + 64 * EPS * truth.sum()
    )
    assert np.all(np.isfinite(jax.grad(total)(params, mixture).W))
    assert expected_loss.nodes_for(params, mixture, tolerance=1e-4) <= 64
    same = features.Mixture((features.SparseUniform(0.2),) * 2, jnp.array([0.25, 0.75]))
    for loss in (expected_loss.linear, expected_loss.mean_field):
        assert_close(loss(params, same), loss(params, features.SparseUniform(0.2)))
    each = [expected_loss.mean_field(params, features.SparseUniform(jnp.maximum(p, 1e-9))) for p in rows]
    assert_close(
        expected_loss.mean_field(params, mixture), sum(w * x for w, x in zip(weights, each, strict=True)), rtol=1e-6
    )


@pytest.mark.x64
def test_exponential_features_that_come_together_are_inside_the_period():
    """20 of them with overlaps of one sign, whose sum while they are active is far beyond what independent ones reach."""
    w, p = np.linspace(0.8, 1.2, 20), 0.01
    params = Params(W=jnp.asarray(w)[None], b=jnp.full(20, -1.0))
    law = features.Together(features.SparseExponential(p), sets=(0,) * 20)
    x = np.random.default_rng(0).exponential(size=(400_000, 20))
    active = ((x - np.maximum(np.outer(x @ w, w) - 1, 0)) ** 2).sum(1)
    found = float(total(params, law))
    assert abs(found / p - active.mean()) < 5 * active.std() / 400_000**0.5
    assert active.std() / 400_000**0.5 < 2e-3 * active.mean()
    assert abs(found - float(total(params, law, nodes=512))) <= float(expected_loss.error_estimate(params, law))


def test_slopes_are_numbers_where_everything_is_always_active():
    """A factor of the product is next to 0 at some nodes then: in float32 its reciprocal's slope overflowed."""
    rng = np.random.default_rng(0)
    W, b = jnp.asarray(rng.normal(size=(200, 2, 4)) * 0.7), jnp.asarray(rng.normal(size=(200, 4)) * 0.2)
    law = features.Tree(features.SparseUniform(1.0), parents=(-1, 0, 0, 1))
    slopes = jax.jit(jax.vmap(lambda W, b: jax.grad(total)(Params(W=W, b=b), law)))(W, b)
    assert np.all(np.isfinite(slopes.W))
    assert np.all(np.isfinite(slopes.b))
