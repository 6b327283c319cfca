"""Experiments on hidden neurons and on getting rid of superposition: what they say of known models, and QUICK runs."""

import jax.numpy as jnp
import numpy as np
import pytest
import xarray as xr

from experiments import absolute_value_sparsity, asymmetric_superposition, getting_rid
from superpose import hidden_layer

pytestmark = pytest.mark.x64


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


def test_score_knows_the_motif():
    motif = asymmetric_superposition.motif(2.0)
    ratio, cancelled = asymmetric_superposition.score(np.array(motif.W_in), np.array(motif.W_out))
    assert ratio == pytest.approx(32, rel=1e-6)  # 2 x 2 against 1/2 x 1/4
    assert cancelled == pytest.approx(1, rel=1e-6)
    turned = asymmetric_superposition.score(np.array(motif.W_in) * [1, -1, 1], np.array(motif.W_out))
    assert turned == (ratio, cancelled)  # |x| does not know a feature's sign
    for model in np.array([0, 2]):  # dedicated neurons have no pair, and without inhibition none is cancelled
        q = asymmetric_superposition.built()[model]
        assert asymmetric_superposition.score(np.array(q.W_in), np.array(q.W_out)) == (0.0, 0.0)


def test_loss_of_models_by_hand():
    """Dedicated: one of three features lost. Motif, one active: x_1 and x_2 each leak 1/8 into x_0, on both sides."""
    dedicated, motif = asymmetric_superposition.built()[:2]
    assert float(asymmetric_superposition.loss(dedicated, jnp.array(0.2), nodes=4)) == pytest.approx(0.2 / 3, rel=1e-12)
    rare = float(asymmetric_superposition.loss(motif, jnp.array(1e-6), nodes=8))
    assert rare == pytest.approx(1e-6 * 2 / 64 / 3, rel=1e-3)  # two active at once add a share of order p


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


def test_a_pair_on_one_axis_pays_less_only_for_features_little_worth():
    """By sums over 400 x 400 inputs, biases 0, lambda = 1; and as the docstring of the module says, up to 1.67."""
    x = (np.arange(400) + 0.5) / 400
    one, other = np.meshgrid(x, x)
    for importance, lower in ((1.5, True), (1.65, True), (1.7, False), (3.0, False)):
        pair, apart = getting_rid.pair_against_apart(importance, 0.05)
        assert (pair < apart) == lower
        w = np.linspace(0.5, 1.1, 61)[:, None, None]
        both = 2 * importance * (one - w**2 * np.maximum(one - other, 0)) ** 2 + w * abs(one - other)
        single = (importance * (x - w**2 * x) ** 2 + w * x)[:, 0]
        assert pair == pytest.approx(float((0.05 * both.mean((1, 2)) + 1.9 * single.mean(1)).min()), rel=1e-3)
        assert apart == pytest.approx(float(2 * single.mean(1).min()), rel=1e-3)


def penalised(caught):
    """At each of two penalties a start that ends as pairs and one apart, and who pays less; widths in proportion to n."""
    pair, apart = np.array([[1.0, -1, 0, 0], [0, 0, 1, -1]]), np.eye(2, 4)
    W = np.array([[pair, pair], [pair, apart]])
    paid = np.array([[1.0, 1.1], [1.0, 1.1 if caught else 0.9]])
    m, p = np.array([[1.0, 2, 4, 8], [2, 4, 8, 16]]), np.array([0.2, 0.1])
    data = {"W": (("penalty", "restart", "hidden", "feature"), W), "paid": (("penalty", "restart"), paid)}
    data |= {"loss": (("penalty", "restart"), np.array([[0.1, 0.1], [0.2, 0.3]]))}
    data |= {"error": (("n", "density", "width"), np.repeat((1 / m)[:, None] * np.array([[[0.3]], [[0.6]]]), 2, axis=1))}
    data |= {"m": (("n", "density", "width"), np.repeat(m[:, None], 2, axis=1))}
    coords = {"penalty": [0.0, 0.6], "n": [5, 10], "density": p}
    return xr.Dataset(data, coords, {"fraction": 0.1, "decay": 0.85})


def test_what_pays_least_is_read_and_widths_grow_with_n():
    gone, caught = getting_rid.findings(penalised(False))[1], getting_rid.findings(penalised(True))[1]
    assert gone.holds
    assert gone.found == pytest.approx(3)
    assert gone.note == "lambda 0.6: loss 3.00 times, 2 features, 0.0% left, from random starts 50.0%"
    assert not caught.holds
    assert getting_rid.findings(penalised(False))[-1].note == "p = 0.2: 1.00, p = 0.1: 1.00"
    assert getting_rid.findings(penalised(False))[-1].holds
    assert len(getting_rid.figure(penalised(False)).data) == 7


@pytest.mark.slow
@pytest.mark.parametrize("experiment", [absolute_value_sparsity, asymmetric_superposition, getting_rid])
def test_quick_run(experiment):
    data = experiment.compute(experiment.QUICK)
    assert bool(np.isfinite(data["loss"]).all())
    assert 2 <= len(experiment.findings(data)) <= 6
    assert experiment.figure(data).data
