"""The experiment on five features in a plane: what its findings say of known datasets, and a QUICK run."""

import numpy as np
import pytest
import xarray as xr

from experiments import five_features as experiment
from superpose import results

pytestmark = pytest.mark.x64

ORTHOGONAL = np.array([[1, 0, 0, 0, 0], [0, 1, 0, 0, 0]], float)
PAIRS = np.array([[1, -1, 0, 0, 0], [0, 0, 1, -1, 0]], float)
PENTAGON = np.stack([np.cos(0.4 * np.pi * np.arange(5)), np.sin(0.4 * np.pi * np.arange(5))])


def dataset(*solutions):
    """One solution at each density from 1 to 0.05, reached by a converged restart; a second one, lower, did not converge."""
    density = np.geomspace(1, 0.05, len(solutions))
    W = np.stack([np.stack([W, ORTHOGONAL]) for W in solutions])
    each = ("density", "restart")
    data = {"W": ((*each, "hidden", "feature"), W), "loss": (each, np.full(W.shape[:2], 0.1) * [1, 1 - 1e-9])}
    data |= {"converged": (each, np.ones(W.shape[:2]) * [1, 0]), "basin": (each, np.zeros(W.shape[:2], int) - [0, 1])}
    return xr.Dataset(data, {"density": density, "restart": [0, 1]})


def test_the_papers_shapes_are_named_and_counted():
    assert [experiment.shape(W) for W in (ORTHOGONAL, PAIRS, PENTAGON)] == list(experiment.PUBLISHED.values())
    assert experiment.reached(dataset(PAIRS))[0] == {experiment.PAIRS: 1}


def test_findings_hold_for_the_papers_shapes_and_fail_for_others():
    good = experiment.findings(dataset(ORTHOGONAL, PAIRS, PAIRS, PENTAGON, PENTAGON))  # p = 1, .47, .22, .11, .05
    assert all(f.holds for f in good)
    assert "50% of starts" in good[0].note
    assert [f.holds for f in experiment.findings(dataset(ORTHOGONAL, PAIRS, ORTHOGONAL, PENTAGON, PENTAGON))] == [1, 0, 1, 0]


def test_of_equals_a_converged_solution_is_the_best():
    assert int(results.best(dataset(PAIRS))["converged"].item()) == 1


@pytest.mark.slow
def test_quick_run_of_five_features():
    data = experiment.compute(experiment.QUICK)
    assert data["W"].dims == ("density", "restart", "hidden", "feature")
    assert all(f.holds for f in experiment.findings(data))
    assert (
        len(experiment.figure(data).layout.annotations) >= experiment.SHOWN
    )  # a title for each, and notes of short columns
