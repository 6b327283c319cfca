"""The experiment on a parent with two children: names of known solutions, findings of a known dataset, and a QUICK run."""

import numpy as np
import pytest
import xarray as xr

from experiments import parent_and_children as experiment

pytestmark = pytest.mark.x64


@pytest.mark.parametrize(
    ("W", "name"),
    [
        ([[0.6, 0.6, 0.6]], "all in one direction"),
        ([[0.7, 0.7, 0.3]], experiment.UNLIKE),
        ([[0.7, 0.9, 0.2], [0.0, 0.6, -0.9]], experiment.OTHER),
        ([[0.9, -1.2, 0.05]], "parent against one child"),
        ([[0.9, 0.05, -1.2]], "parent against one child"),
        ([[0.0, 1.0, -1.0]], "children opposite, no parent"),
        ([[1.0, 0.0, 0.0]], "parent alone"),
        ([[0.4, 1.0, 0.0], [0.4, 0.0, 1.0]], "parent between its children"),
        ([[1.0, 0.0, 0.0], [0.0, 1.0, -1.0]], "parent apart, children opposite"),
        ([[0.7, 0.5, 0.5], [0.0, 0.8, -0.8]], "parent between its children"),
        ([[1.0, -0.5, -0.5], [0.0, 0.8, -0.8]], experiment.OTHER),
    ],
)
def test_solutions_have_names_whatever_their_rotation(W, name):
    W = np.array(W)
    assert experiment.kind(W) == name
    angle = 0.7
    if len(W) == 2:
        W = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]) @ W
    else:
        W = -W
    assert experiment.kind(W) == name


def known(between_from=0.5, certified=1):
    """Two densities of the parent, four of the children: in two dimensions the parent is apart, then between."""
    given = np.array([0.2, 0.4, 0.6, 0.8])
    apart, between = np.array([[1.0, 0, 0], [0, 1, -1]]), np.array([[0.4, 1, 0], [0.4, 0, 1]])
    one = np.array([[0.6, 0.6, 0.6], [0, 0, 0]])
    W = np.stack([[[one] * 4] * 2, [[between if q > between_from else apart for q in given]] * 2])
    coords = {"dimensions": [1, 2], "parent": [0.3, 0.01], "given": given}
    converged = np.full((2, 2, 4), certified)
    dims = ("dimensions", "parent", "given")
    return xr.Dataset({"W": ((*dims, "hidden", "feature"), W), "converged": (dims, converged)}, coords)


def test_findings_of_a_known_dataset():
    found = experiment.findings(known())
    assert [f.holds for f in found] == [True] * 4
    assert "from 0.60 to 0.60, at 2 of 2" in found[2].note
    assert "in one dimension all in one direction from 0.20" in found[3].note
    assert not experiment.findings(known(certified=0))[0].holds
    assert not experiment.findings(known(between_from=0.9))[2].holds


def test_figure_names_each_phase_once():
    drawn = experiment.figure(known())
    names = [trace.name for trace in drawn.data if trace.showlegend]
    assert names == ["all in one direction", "parent between its children", "parent apart, children opposite"]


@pytest.mark.slow
def test_quick_run():
    data = experiment.compute(experiment.QUICK)
    found = experiment.findings(data)
    assert len(found) == 4
    assert found[0].holds
    assert found[2].holds
    # With the parent rare, a loss of all parts scales with its density alone: divided by it, it tends to a limit.
    loss = (data["loss"] / data["parent"]).transpose("dimensions", "parent", "given").sortby("parent").values
    assert np.all(np.abs(loss[:, 0] / loss[:, 1] - 1) < 0.1)
