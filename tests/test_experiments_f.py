"""Experiments on parts of the loss, basic results and phase diagrams: what they say of known solutions, and QUICK runs."""

import jax.numpy as jnp
import numpy as np
import pytest
import xarray as xr

from experiments import basic_results, loss_parts, phase_three_two, phase_two_one
from superpose.toy_model import Params

pytestmark = pytest.mark.x64


def test_gaps_of_a_regular_polygon_and_of_a_pair():
    angle = 2 * np.pi / 5 * np.arange(5) + 0.3
    np.testing.assert_allclose(loss_parts.gaps(np.stack([np.cos(angle), np.sin(angle)])[:, [3, 0, 4, 1, 2]]), 72)
    np.testing.assert_allclose(loss_parts.gaps(np.array([[1.0, -1.0], [0.0, 0.0]])), 180)


def test_interference_of_equal_and_of_opposite_features():
    """Overlap 1 and no bias: `E u^2 = 1/3` each way. Overlap -1: nothing. With a bias b < 0, `(1 + b)^3 / 3`."""
    equal, opposite = np.array([[1.0, 1.0]]), np.array([[1.0, -1.0]])
    np.testing.assert_allclose(loss_parts.interference(equal, np.zeros(2)), (0, 2 / 3), rtol=1e-12)
    np.testing.assert_allclose(loss_parts.interference(opposite, np.zeros(2)), (0, 0))
    np.testing.assert_allclose(loss_parts.interference(equal, np.full(2, -0.5)), (0, 2 * 0.125 / 3), rtol=1e-3)  # a kink


def solutions(W, b, label):
    """A dataset of one case, linear and ReLU alike, one density of 0.1 and two restarts, the first the better."""
    both = {
        "W": (("hidden", "feature"), np.asarray(W, float)),
        "b": ("feature", np.asarray(b, float)),
        "label": ("feature", np.asarray(label, float)),
    }
    dims = ("case", "output", "density", "restart")
    arrays = {name: ((*dims, *np.atleast_1d(d)), np.stack([x, 0 * x])[None, None, None]) for name, (d, x) in both.items()}
    arrays = {name: (d, np.repeat(x, 2, axis=1)) for name, (d, x) in arrays.items()}
    loss = (dims, np.array([[[[0.1, 0.2]]] * 2]))
    arrays["converged"] = (dims, np.ones((1, 2, 1, 2), np.int8))
    coords = {"case": list(basic_results.CASES)[:1], "output": list(basic_results.OUTPUTS), "density": [0.1]}
    return xr.Dataset(arrays | {"loss": loss}, coords)


def test_basic_results_of_a_known_solution():
    n, m = 20, 5
    W, b, label = np.eye(m, n), np.r_[np.zeros(m), np.full(n - m, 0.05)], np.r_[np.ones(m), np.zeros(n - m)]
    data = solutions(W, b, label)
    assert basic_results.best(data, "ReLU")[0][0]["W"].values.shape == (m, n)
    linear, first, ignored, kept, _ = (f.holds for f in basic_results.findings(data))
    assert (linear, first, ignored, kept) == (True, False, True, True)  # nothing is superposed
    wrong = solutions(W[:, ::-1], 2 * b, label)
    linear, _, ignored, _, _ = (f.holds for f in basic_results.findings(wrong))
    assert (linear, ignored) == (False, False)


def test_mean_output_of_a_feature_stored_a_little_and_of_a_dead_one():
    """Two stored on axes; the third, 0.02 long, gets 0.01 (p / 2) from each; bias and what it gets are its mean."""
    n, m, p = 20, 5, 0.1
    W, mean = np.eye(m, n), np.full(n, p / 2)
    W[:2, 5] = 0.02
    b = np.where(np.arange(n) < m, 0, mean)
    b[5] -= (0.02 * 2 + 2 * 0.02**2) * p / 2
    np.testing.assert_allclose(basic_results.mean_output(W, b, p)[5], p / 2, rtol=1e-12)
    label = np.r_[np.ones(m), np.zeros(n - m)]
    found = basic_results.findings(solutions(W, b, label))[2]
    assert found.holds
    assert found.found == 1
    assert found.note.startswith("15 of 15 with what the others add, 14 by itself, 0 dead; 2 of 2 ")
    b[6:9] = -0.01
    assert basic_results.findings(solutions(W, b, label))[2].note.startswith("12 of 15")
    none = basic_results.without_ignored(Params(W=jnp.asarray(W), b=jnp.asarray(b)), jnp.asarray(mean))
    np.testing.assert_array_equal(none.W[:, 5:], 0)
    np.testing.assert_allclose(none.b, np.r_[np.zeros(m), mean[m:]], rtol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("experiment", [loss_parts, phase_two_one, phase_three_two, basic_results])
def test_quick_run(experiment):
    data = experiment.compute(experiment.QUICK)
    found = experiment.findings(data)
    assert 4 <= len(found) <= 6
    assert found[0].holds  # the Thomson problem aside, each module's first finding is robust at this size
    assert experiment.figure(data).data
