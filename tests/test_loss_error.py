"""The stated error of the exact loss: it holds, and says something; and the nodes that reach a wanted one."""

import jax.numpy as jnp
import numpy as np
import pytest
from checks import EPS
from exact_oracles import bromwich_loss, uniform_losses
from loss_models import almost_orthogonal, big_model, bound, make_models, make_params, models, total, uniform_outputs, zoo

from superpose import expected_loss, features
from superpose.toy_model import Params

LARGE = [
    pytest.param(n, p, marks=() if n == 200 else pytest.mark.slow) for n in (50, 200, 1000) for p in (0.01, 0.1, 0.5, 0.9)
]


@pytest.mark.x64
@pytest.mark.parametrize(("n", "p"), LARGE)
def test_error_estimate_holds_for_many_features_and_says_something(n, p):
    params, judged = big_model(n), [0, 1] if n == 1000 else [0, 1, 2, 3]
    importance = jnp.zeros(n).at[jnp.array(judged)].set(1)
    G, b = np.asarray(params.W.T @ params.W), np.asarray(params.b)
    truth = sum(bromwich_loss(G[i], b[i], p, i, nodes=2000) for i in judged)
    found = total(params, features.SparseUniform(p), importance)
    limit = bound(params, features.SparseUniform(p), importance)
    # The oracle's own error: nodes^-2 of what is cut off, 1e-8 seen.
    assert abs(found - truth) <= limit + 1e-8 * truth
    assert limit <= 0.05 * truth


@pytest.mark.x64
@pytest.mark.parametrize(("n", "nodes"), [(5, 64), (5, 512), (8, 512)])
def test_error_estimate_holds_for_few_features_and_says_something(n, nodes):
    W, b, p, truth = zoo(n)
    found = uniform_outputs(W, b, p, nodes).sum(1)
    limit = np.array(
        [bound(Params(W=W, b=b), features.SparseUniform(p), 1.0, nodes=nodes) for W, b, p in zip(W, b, p, strict=True)]
    )
    error = np.abs(found - truth.sum(1))
    assert np.all(error <= limit)
    assert np.all(limit <= 0.05 * truth.sum(1))
    resolved = error > 1e-14 * truth.sum(1)
    assert np.median(limit[resolved] / error[resolved]) <= 10


@pytest.mark.x64
def test_error_estimate_counts_what_lies_beyond_four_times_the_nodes():
    """Twice what these change: the error is 1.9e-10, of which 1e-10 are seen at 256 nodes."""
    W, b, p = almost_orthogonal()
    params, law = Params(W=jnp.asarray(W), b=jnp.asarray(b)), features.SparseUniform(jnp.asarray(p))
    error = abs(total(params, law) - uniform_losses(W, b, p).sum())
    assert error <= bound(params, law, 1.0) <= 10 * error


def test_error_estimate_of_closed_forms_is_that_of_rounding():
    few, listed = make_params(n=3), make_params()
    for params, distribution in (
        (few, features.SparseUniform(0.3)),
        (few, features.SparseSymmetric(0.3)),
        (listed, features.SparseBinary(0.3)),
    ):
        assert 0 < bound(params, distribution, 1.0) <= 1e3 * EPS * total(params, distribution, 1.0)
        assert np.isnan(bound(params.replace(b=params.b.at[0].set(jnp.nan)), distribution, 1.0))


@pytest.mark.x64
def test_nodes_for_are_the_fewest_that_reach_the_tolerance():
    W, b = make_models(5, 2, 2, seed=3)
    params, distribution = Params(W=W, b=b), features.SparseUniform(0.1)
    nodes = expected_loss.nodes_for(params, distribution, tolerance=1e-5)
    relative = [
        max(float(bound(one, distribution, 1.0, nodes=k) / total(one, distribution, 1.0, nodes=k)) for one in models(params))
        for k in (nodes // 2, nodes)
        if k >= expected_loss.FEWEST
    ]
    assert relative[-1] <= 1e-5
    assert nodes == expected_loss.FEWEST or relative[0] > 1e-5
    with pytest.raises(ValueError, match=r"tolerance = 0.*: needs to be positive"):
        expected_loss.nodes_for(params, distribution, tolerance=0.0)


@pytest.mark.x64
@pytest.mark.parametrize("f", [expected_loss.relu_output, expected_loss.error_estimate, expected_loss.nodes_for])
def test_importances_of_another_length_are_named(f):
    with pytest.raises(ValueError, match="importance has shape"):
        f(make_params(), features.SparseUniform(0.1), jnp.ones(4))
