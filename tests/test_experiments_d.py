"""Experiments on geometry in training, the privileged basis and absolute values: known datasets, and QUICK runs."""

import numpy as np
import pytest
import xarray as xr

from experiments import absolute_value, geometry_in_training, privileged_basis
from superpose import hidden_layer

pytestmark = pytest.mark.x64

OCTAHEDRON = np.concatenate([np.eye(3), -np.eye(3)[:, [1, 2, 0]]], axis=1)
"""Feature i of set A against feature 3 + (i - 1) mod 3 of set B."""
STEP = np.geomspace(1, 1e4, 160)


def falls(*at):
    """A loss that falls by a factor of e around each of some steps and hardly moves between."""
    x = np.log(STEP)
    return np.exp(-sum(1 / (1 + np.exp(-12 * (x - np.log(a)))) for a in at) - 0.005 * x)


def test_drops_and_rests_of_a_known_run():
    loss = falls(30, 1000)
    at = geometry_in_training.drops(loss)
    np.testing.assert_allclose(np.log(STEP[at]), np.log([30, 1000]), atol=0.15)  # two and a half snapshots
    assert geometry_in_training.in_stages(loss)
    assert at[0] < geometry_in_training.first_rest(loss) < at[1]


@pytest.mark.parametrize("loss", [falls(30), STEP**-0.5, falls(300, 420)], ids=["one drop", "a steady slope", "no rest"])
def test_what_is_no_stage(loss):
    assert not geometry_in_training.in_stages(loss)


def run_to(W, loss):
    data = {"W": (("restart", "step", "hidden", "feature"), np.broadcast_to(W, (1, len(STEP), 3, 6)))}
    return xr.Dataset(data | {"loss": (("restart", "step"), loss[None])}, {"step": STEP})


def test_octahedron_and_whether_its_antipodes_are_of_different_sets():
    assert sorted(geometry_in_training.digons(OCTAHEDRON)) == [(0, 5), (1, 3), (2, 4)]
    assert geometry_in_training.digons(np.concatenate([np.eye(3), np.eye(3)], axis=1)) == []
    assert [f.holds for f in geometry_in_training.findings(run_to(OCTAHEDRON, falls(30, 1000)))] == [True] * 3
    within = OCTAHEDRON[:, [0, 5, 1, 3, 2, 4]]  # antipodes 0-1, 2-3, 4-5: one within each set
    assert [f.holds for f in geometry_in_training.findings(run_to(within, falls(30)))] == [False, True, False]


def test_end_is_held_against_the_certified_minimum():
    run = run_to(OCTAHEDRON, falls(30, 1000))
    least = float(run["loss"][0, -1])
    more = {"converged": ("restart", [1]), "eigenvalues": (("restart", "direction"), [[-1.0, 0.0, 2.0]])}
    for below, holds in ((1e-5, True), (1e-3, False)):
        told = geometry_in_training.findings(run.assign(more | {"minimum": ("restart", [least * (1 - below)])}))
        assert told[-1].found == pytest.approx(below, rel=2e-2 if holds else 1e-2)
        assert told[-1].holds is holds
        assert "1 to 1 ways down" in told[0].note


def test_of_equal_minima_the_certified_one_is_judged():
    run = run_to(OCTAHEDRON, falls(30, 1000))
    least, eigenvalues = float(run["loss"][0, -1]), (("restart", "direction"), [[-1.0], [-1.0]])
    both = xr.concat([run, run], "restart").assign(eigenvalues=eigenvalues, converged=("restart", [0, 1]))
    for gap, holds in ((1e-10, True), (1e-3, False)):  # a tie, and a lower minimum without certificate
        told = geometry_in_training.findings(both.assign(minimum=("restart", [least * (1 - gap), least])))
        assert told[-1].holds is holds


def weights(*codes):
    """Neurons by features; each code lists the neurons that a feature excites, and it silences the others."""
    W = np.full((5, 10), -0.5)
    W[:, len(codes) :] = 0.01
    for feature, code in enumerate(codes):
        W[list(code), feature] = 0.8
    return W


SINGLE = [(k,) for k in range(5)]
PAIRS = [(j, k) for k in range(5) for j in range(k)]


@pytest.mark.parametrize(
    ("codes", "named"),
    [
        (SINGLE, "one a neuron"),
        ([*SINGLE, (3, 4)], "3 in 2"),
        ([(0,), (1,), (2,), (3,), (4,), (2, 3), (3, 4)], "5 in 3"),
        ([(0,), *PAIRS[2:3], (1, 3), (2, 3), (1, 4), (2, 4), (3, 4)], "6 in 4"),
        (PAIRS[:8], "8 in 5"),
        (PAIRS, "pairs"),
        ([*PAIRS[:9], PAIRS[0]], "10 in 5"),  # a pair used twice
    ],
)
def test_structure_of_known_codes(codes, named):
    assert privileged_basis.structure(weights(*codes)) == named


def test_a_silencing_weight_serves_nothing():
    W = weights(*SINGLE)
    W[1, 0] = -4
    assert privileged_basis.structure(W) == "one a neuron"


def trained(density, *models):
    """A dataset of one density whose later models are worse."""
    stacked = np.stack(models).astype(np.float32)
    data = {"W": (("density", "restart", "hidden", "feature"), stacked[None])}
    loss = (("density", "restart"), [[0.1 * (1 + k) for k in range(len(models))]])
    return xr.Dataset(data | {"loss": loss}, {"density": [density]})


def test_findings_judge_the_best_model_against_the_claim_for_its_density():
    (alone,) = privileged_basis.findings(trained(0.7, weights(*SINGLE), weights(*PAIRS)))
    assert alone.holds
    assert "5 features, 5 monosemantic; 1 of 2 within 1 %" in alone.note
    (rare,) = privileged_basis.findings(trained(0.02, weights(*SINGLE), weights(*PAIRS)))
    assert not rare.holds
    assert privileged_basis.findings(trained(0.1, weights(*SINGLE))) == []  # the paper says nothing of 0.1


def test_deviation_of_exact_scaled_and_shared_neurons():
    exact = hidden_layer.absolute_value(3)
    W_in, W_out, scale = np.asarray(exact.W_in), np.asarray(exact.W_out), np.array([2, 3, 0.5, 1, 1, 7])
    assert absolute_value.deviation(absolute_value.products(W_in, W_out)) == 0
    scaled = absolute_value.products(W_in * scale[:, None], W_out / scale)
    assert absolute_value.deviation(scaled) == pytest.approx(0, abs=1e-6)  # float32 roundings
    assert absolute_value.deviation(absolute_value.products(1.1 * W_in, W_out)) == pytest.approx(0.1, rel=1e-5)
    shared = np.eye(6)[:, :3] - np.eye(6)[:, [1, 2, 0]]  # neurons 0, 1, 2 of two features each, 3, 4, 5 dead
    assert absolute_value.deviation(shared) == 1


def test_findings_on_absolute_values():
    exact, half = hidden_layer.absolute_value(3), hidden_layer.absolute_value(3)
    half = half.replace(W_in=half.W_in.at[0].set(0))  # blind to positive x_0

    def dataset(*models, loss):
        arrays = {"W_in": ("hidden", "feature"), "W_out": ("feature", "hidden")}
        stacked = {
            name: (("density", "restart", *dims), np.stack([np.asarray(getattr(q, name)) for q in models])[None])
            for name, dims in arrays.items()
        }
        return xr.Dataset(stacked | {"loss": (("density", "restart"), [loss])}, {"density": [0.1]})

    assert [f.holds for f in absolute_value.findings(dataset(exact, exact, half, loss=[1e-6, 1e-6, 1 / 6]))] == [True] * 4
    assert [f.holds for f in absolute_value.findings(dataset(half, half, loss=[1 / 6, 1 / 6]))] == [False] * 4
    one_of_two = absolute_value.findings(dataset(exact, half, loss=[1e-6, 1e-6]))
    assert [f.holds for f in one_of_two] == [True, True, True, False]


@pytest.mark.slow
def test_quick_run_of_geometry_in_training():
    data = geometry_in_training.compute(geometry_in_training.QUICK)
    assert np.all(np.diff(data["loss"].values[:, 20:], axis=1) < 1e-3)  # exact descent hardly ever climbs
    assert all(f.holds for f in geometry_in_training.findings(data))
    assert len(geometry_in_training.figure(data).data) == 4 + 1 + 6 + 15


@pytest.mark.slow
def test_quick_run_of_the_privileged_basis():
    data = privileged_basis.compute(privileged_basis.QUICK)
    assert data["W"].shape == (4, 20, 5, 10)
    told = {f.claim: f.holds for f in privileged_basis.findings(data)}
    assert told["one feature a neuron where p >= 0.5"]
    assert told["3 features in 2 neurons for p from 0.2 to 0.5"]
    assert len(privileged_basis.figure(data).data) > 0


@pytest.mark.slow
def test_quick_run_of_absolute_values():
    data = absolute_value.compute(absolute_value.QUICK)
    assert all(f.holds for f in absolute_value.findings(data))
    assert len(absolute_value.figure(data).data) == 1 + 3
