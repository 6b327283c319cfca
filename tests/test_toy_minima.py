"""One call from plain arguments to certified minima in plain units."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from checks import assert_close

from superpose import expected_loss, features, labels, solve
from superpose.solve import toy
from superpose.toy_model import Params

RESTARTS = 4
PAIR = {"n": 2, "m": 1, "restarts": RESTARTS}


@pytest.mark.x64
@pytest.mark.parametrize(
    ("p", "square", "bias", "loss"),
    [(0.5, 0.938902844049854, 0.0976826814112035, 0.0762824469895636), (0.01, 1.00124353791081, None, 3.33226173043636e-5)],
)
def test_antipodal_pair_of_the_theory(key, p, square, bias, loss):
    """Theory of n=2, m=1 with both optimal and I=1: `s = w^2`, b and L, derived by hand from the pair's polynomial."""
    found = solve.toy_minima(key, features.SparseUniform(p), **PAIR)
    assert np.all(found.converged)
    best = int(found.best)
    assert_close(found.loss[best], loss, rtol=1e-10)
    assert_close(found.params.W[best, 0] ** 2, np.full(2, square), rtol=1e-7)
    if bias is not None:
        assert_close(found.params.b[best], np.full(2, bias), rtol=1e-7)
    assert found.label[best].tolist() == [labels.SUPERPOSED] * 2
    assert np.all(found.gap <= 1e-8 * found.loss)
    assert found.basin[best] == 0


@pytest.mark.x64
def test_an_unimportant_feature_is_ignored(key):
    """Below I_c = .0487 at p = .1 the best solution keeps one feature: L = I (p/3 - p^2/4), its bias the mean."""
    found = solve.toy_minima(key, features.SparseUniform(0.1), jnp.array([1.0, 0.02]), **PAIR)
    best = int(found.best)
    assert found.converged[best]
    assert_close(found.loss[best], 0.02 * (0.1 / 3 - 0.01 / 4), rtol=1e-8)
    assert found.label[best].tolist() == [labels.STORED, labels.IGNORED]


@pytest.mark.x64
def test_other_densities_and_importances_compile_nothing_anew(key):
    solve.toy_minima(key, features.SparseUniform(0.5), **PAIR)
    programs = toy._minima._cache_size()
    for p, importance in ((0.3, 1.0), (jnp.float32(0.2), 0.5), (0.1, jnp.array([1.0, 0.3])), (0.7, jnp.array([1.0, 2.0]))):
        solve.toy_minima(key, features.SparseUniform(p), importance, **PAIR)
    assert toy._minima._cache_size() == programs


@pytest.mark.x64
def test_a_cell_is_the_same_under_vmap(key):
    densities = jnp.array([0.5, 0.1])
    grid = jax.vmap(lambda p: solve.toy_minima(key, features.SparseUniform(p), nodes=64, **PAIR))(densities)
    for k, p in enumerate(densities):
        alone = solve.toy_minima(key, features.SparseUniform(p), **PAIR)
        assert_close(grid.loss[k], alone.loss, rtol=1e-9)
        np.testing.assert_array_equal(grid.converged[k], alone.converged)


@pytest.mark.x64
def test_restarts_added_or_given_change_no_other(key):
    few = solve.toy_minima(key, features.SparseUniform(0.5), **{**PAIR, "restarts": 2})
    many = solve.toy_minima(key, features.SparseUniform(0.5), **PAIR)
    assert_close(many.loss[:2], few.loss, rtol=1e-12)
    start = jax.tree.map(lambda x: x[1:2], many.params)
    again = solve.toy_minima(key, features.SparseUniform(0.5), n=2, m=1, starts=start)
    assert_close(again.loss, many.loss[1:2], rtol=1e-12)


LAWS = {
    "a density each": (features.SparseUniform(jnp.array([0.5, 0.05, 0.2, 0.1])), 4),
    "binary": (features.SparseBinary(0.2), 3),
    "symmetric": (features.SparseSymmetric(0.3), 4),
    "exponential": (features.SparseExponential(0.1), 3),
    "together": (features.Together(features.SparseUniform(0.1), sets=(0, 0, 1, 1)), 4),
    "exclusive": (features.Exclusive(features.SparseUniform(0.1), sets=(0, 0, 1, 1)), 4),
}


@pytest.mark.slow
@pytest.mark.x64
@pytest.mark.parametrize("name", LAWS)
def test_every_law_is_solved_in_plain_units(key, name):
    """The loss is that of the parameters returned, with a vanishing slope; the best is certified."""
    law, n = LAWS[name]
    found = solve.toy_minima(key, law, n=n, m=2, restarts=RESTARTS)
    best = int(found.best)
    assert found.converged[best], solve.REASONS[int(found.reason[best])]
    params = jax.tree.map(lambda x: x[best], found.params)
    value, slope = jax.value_and_grad(lambda q: expected_loss.relu_output(q, law, nodes=int(found.nodes)))(params)
    assert_close(found.loss[best], value, rtol=1e-12)
    unit = solve.natural_units(law, n=n).loss
    assert all(jnp.all(jnp.abs(x) < 1e-6 * jnp.sqrt(unit)) for x in jax.tree.leaves(slope))


@pytest.mark.x64
def test_units_go_both_ways_and_are_known():
    law = features.SparseExponential(jnp.array([0.25, 0.01]))
    units = solve.natural_units(law, jnp.array([1.0, 2.0]), n=2)
    assert_close(units.bias, np.array([0.5 * 2**0.5, 0.1]))
    assert_close(units.loss, 2 * (0.25 + 2 * 0.01))  # E u^2 = 2
    params = Params(W=jnp.eye(2), b=jnp.array([1.0, 2.0]))
    assert_close(units.plain(params).b, np.array([0.5 * 2**0.5, 0.2]))
    assert_close(units.plain(units.natural(params)).b, params.b)


def test_units_of_a_traced_density_and_known_importances():
    """As in a loss that is minimised with the density as its data."""
    weights = jnp.array([1.0, 0.5])
    bias = jax.jit(lambda p: solve.natural_units(features.SparseUniform(p), weights, n=2).bias)(0.25)
    assert_close(bias, np.array([0.5, 0.5**0.5]))


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"restarts": 0}, "restarts = 0: needs at least 1"),
        ({"m": 3}, "m = 3, n = 2: needs 1 <= m <= n"),
        ({"importance": jnp.ones(3)}, r"importance has shape \(3,\): needs a scalar or \(2,\)"),
        ({"importance": -1.0}, "importance = -1.0: needs finite values >= 0, not all 0"),
        ({"importance": 0.0}, "importance = 0.0: needs"),
        ({"distribution": features.SparseUniform(1.5)}, r"density = 1.5: needs to lie in \(0, 1\]"),
        ({"starts": Params(W=jnp.zeros((1, 2)), b=jnp.zeros(2))}, r"starts has W \(1, 2\), b \(2,\): needs \(r, 1, 2\)"),
        ({"nodes": 4}, "nodes = 4: needs at least 8"),
        ({"tolerance": 0.0}, "tolerance = 0.0: needs to be positive"),
    ],
)
def test_wrong_arguments_are_named(key, changed, message):
    arguments = {"distribution": features.SparseUniform(0.5), "n": 2, "m": 1} | changed
    with pytest.raises(ValueError, match=message):
        solve.toy_minima(key, **arguments)


@pytest.mark.slow
@pytest.mark.x64
def test_a_large_model_is_certified_like_a_small_one(key):
    """132 numbers: no Hessian is stored. Eight features stored and two antipodal pairs, as of the theory above, are a bound."""
    law = features.SparseUniform(0.5)
    found = solve.toy_minima(key, law, n=12, m=10, restarts=4)
    assert np.all(found.converged)
    assert found.loss.min() <= 2 * 0.0762824469895636
    assert found.eigenvalues.shape == (4, 2)
    units = solve.natural_units(law, n=12)

    def loss(params):
        return expected_loss.relu_output(units.plain(params), law, nodes=int(found.nodes)) / units.loss

    dense = solve.minimize(loss, jax.vmap(units.natural)(found.params))
    assert np.all(dense.converged)
    assert_close(dense.loss * units.loss, found.loss, rtol=1e-8)
    assert_close(dense.eigenvalues[:, -1], found.eigenvalues[:, 1], rtol=1e-3)


def test_nodes_cannot_be_chosen_under_a_transformation(key):
    with pytest.raises(ValueError, match="nodes = None: needs a number under vmap or jit"):
        jax.vmap(lambda p: solve.toy_minima(key, features.SparseUniform(p), n=2, m=1).loss)(jnp.array([0.1, 0.2]))
