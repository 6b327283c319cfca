"""Experiments on hidden neurons and on getting rid of superposition: what they say of known models, and QUICK runs."""

import jax.numpy as jnp
import numpy as np
import pytest
import xarray as xr

from experiments import absolute_value_sparsity, asymmetric_superposition, getting_rid
from superpose import hidden_layer


def known(models):
    """A dataset of untied models, one a density, as if from one restart each."""
    arrays = {"W_in": ("neuron", "feature"), "W_out": ("feature", "neuron")}
    stacked = {
        name: (("density", "restart", *dims), np.array([[getattr(q, name)] for q in models]))
        for name, dims in arrays.items()
    }
    return xr.Dataset(
        stacked | {"loss": (("density", "restart"), np.zeros((len(models), 1)))}, {"density": [1.0, 0.1][: len(models)]}
    )


def test_census_of_a_dedicated_and_a_shared_model():
    apart, shared = hidden_layer.absolute_value(3), hidden_layer.absolute_value(3)
    both = jnp.ones((6, 3))
    counted = absolute_value_sparsity.census(known([apart, shared.replace(W_in=both, W_out=both.T)]))
    assert counted["monosemantic"].values.ravel().tolist() == [1, 0]
    assert counted["two"].values.ravel().tolist() == [3, 0]
    assert all(
        f.holds for f in absolute_value_sparsity.findings(known([apart, shared.replace(W_in=both, W_out=both.T)]))[:4]
    )


def test_a_shared_neuron_is_known_by_its_asymmetry_leak_and_inhibition():
    """The motif reads (2, -1/2) and writes (1/2, 2): 1 of x_i leaves 4 in output j, which the fourth neuron takes away."""
    W_in, W_out = (np.array(x, float) for x in asymmetric_superposition.BUILT["the motif"])
    np.testing.assert_allclose(asymmetric_superposition.shared_neurons(W_in, W_out), [[2, 4, 1]], rtol=1e-12)
    scaled = np.array([3.0, 1, 1, 1])  # a neuron's scale is free
    same = asymmetric_superposition.shared_neurons(W_in * scaled[:, None], W_out / scaled)
    np.testing.assert_allclose(same, [[2, 4, 1]], rtol=1e-12)
    W_in, W_out = (np.array(x, float) for x in asymmetric_superposition.BUILT["shared, not inhibited"])
    np.testing.assert_allclose(asymmetric_superposition.shared_neurons(W_in, W_out), [[1, 1, 0]], rtol=1e-12)


def test_loss_of_models_built_by_hand():
    """Half of one of two features left out: 1/4 at any density. Shared evenly both halves fail; the motif leaks 1/4, squared."""
    density = np.array([1.0, 1e-9])

    def cost(name):
        W_in, W_out = asymmetric_superposition.BUILT[name]
        return asymmetric_superposition.loss_of_pair(np.array(W_in), np.array(W_out), density)

    np.testing.assert_allclose(cost("j < 0 is not computed"), 0.25, rtol=1e-12)
    np.testing.assert_allclose(cost("shared, not inhibited")[1], 0.5, rtol=1e-8)
    np.testing.assert_allclose(cost("shared, inhibited")[1], 0.25, rtol=1e-8)
    np.testing.assert_allclose(cost("the motif")[1], 0.25 / 16, rtol=1e-7)


def test_least_width_on_a_power_law():
    m = np.array([1.0, 2, 4, 8])
    assert getting_rid.least_width(1 / m**2, m, 0.1) == pytest.approx(10**0.5, rel=1e-9)
    assert np.isnan(getting_rid.least_width(1 / m**2, m, 1e-9))
    assert np.isnan(getting_rid.least_width(1 / m**2, m, 2.0))


def test_interference_of_known_weights():
    W = np.array([np.eye(2, 4), [[1, -1, 0, 0], [0, 0, 1, -1]], np.zeros((2, 4))])
    np.testing.assert_allclose(getting_rid.interference_share(W), [0, 0.5, 0], atol=1e-12)
    assert getting_rid.represented(W).sum(-1).tolist() == [2, 4, 0]


def test_threshold_is_where_a_feature_pays():
    w = np.linspace(0, 1.2, 100_001)
    for importance, pays in ((1.001, True), (0.999, False)):
        saved = importance * getting_rid.THRESHOLD * (1 - (1 - w**2) ** 2) / 3 - w / 2
        assert (saved.max() > 0) == pays


@pytest.mark.slow
@pytest.mark.x64
@pytest.mark.parametrize("experiment", [absolute_value_sparsity, asymmetric_superposition, getting_rid])
def test_quick_run(experiment):
    data = experiment.compute(experiment.QUICK)
    assert bool(np.isfinite(data["loss"]).all())
    assert 2 <= len(experiment.findings(data)) <= 5
    assert experiment.figure(data).data
