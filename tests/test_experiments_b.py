"""Experiments on phase diagrams, local bases and the collapse of pairs: known datasets, and QUICK runs."""

from dataclasses import replace

import jax.numpy as jnp
import numpy as np
import pytest
import xarray as xr

from experiments import collapse, local_bases, phase_three_two, phase_two_one
from superpose import expected_loss, features, toy_model

pytestmark = pytest.mark.x64

ANGLE = np.pi / 3 * np.arange(6)
HEXAGON = np.stack([np.cos(ANGLE), np.sin(ANGLE)])
MERCEDES = np.repeat(HEXAGON[:, ::2], 2, axis=1)


def planes(count):
    """`W` with so many collapsed pairs: partners 60 degrees apart, or both along the first."""
    return np.where(np.arange(6) // 2 < count, MERCEDES, HEXAGON)


def test_number_of_collapsed_pairs():
    np.testing.assert_array_equal(collapse.collapsed(np.stack([planes(k) for k in range(4)])), range(4))
    nearly = MERCEDES + 0.1 * np.array([[1, -1, 0, 0, 0, 0], [0] * 6])  # |W_a - W_b|^2 / 2 = 0.02
    assert collapse.collapsed(nearly) == 3


def test_loss_of_linear_pca_is_that_of_the_projection_on_two_sums():
    p = 0.3
    sums = np.zeros((2, 6))
    sums[0, :2] = sums[1, 2:4] = 0.5**0.5
    law = features.Together(features.SparseUniform(p), sets=collapse.SETS)
    bias = (np.eye(6) - sums.T @ sums) @ np.asarray(features.mean(law, n=6))
    loss = expected_loss.linear(toy_model.Params(W=jnp.asarray(sums), b=jnp.asarray(bias)), law)
    assert collapse.pca_loss(np.array(p)) == pytest.approx(float(loss), rel=1e-5)  # float32 keeps six digits


def pairs(p, counts, ratio=0.95):
    """A dataset of two restarts a density, the better one with so many collapsed pairs, at a share of PCA's loss."""
    pca = collapse.pca_loss(p)
    W = np.stack([[planes(3 - k), planes(k)] for k in counts])
    loss = pca[:, None] * np.array([1.2, ratio])
    data = {"W": (("density", "restart", "hidden", "feature"), W), "loss": (("density", "restart"), loss)}
    data |= {"converged": (("density", "restart"), np.ones((len(p), 2), np.int8)), "pca_loss": ("density", pca)}
    return xr.Dataset(data, {"density": p})


PUBLISHED = np.array([0.9, 0.5, 0.25, 0.2, 0.16, 0.14, 0.06, 0.04])


def test_collapse_as_published_holds_and_shifted_does_not():
    found = collapse.findings(pairs(PUBLISHED, [3, 3, 3, 2, 2, 1, 1, 0]))
    assert [f.holds for f in found] == [True] * 5
    assert found[2].found == pytest.approx(np.sqrt(0.25 * 0.2))  # half way between neighbours in the logarithm
    shifted = collapse.findings(pairs(PUBLISHED, [3, 3, 2, 2, 2, 1, 0, 0], ratio=0.8))
    assert [f.holds for f in shifted] == [False, True, False, True, False]


def test_collapse_out_of_order_or_never():
    found = collapse.findings(pairs(PUBLISHED, [3, 3, 3, 1, 2, 3, 1, 1]))
    assert not found[1].holds
    assert np.isnan(found[4].found)
    assert not found[4].holds


def local(W, loss=(1.0, 2.0)):
    dims = ("density", "restart", "hidden", "feature")
    both = np.stack([W, np.zeros_like(W)])[None]
    per = (("density", "restart"), np.array([loss]))
    return xr.Dataset({"W": (dims, both), "loss": per, "gradient_norm": per}, {"density": [0.05]})


def test_local_bases_of_known_solutions():
    antipodal = local_bases.findings(local(np.concatenate([np.eye(4), -np.eye(4)], axis=1)))
    assert [f.holds for f in antipodal] == [True, True]
    one_set = np.concatenate([np.eye(4), np.zeros((4, 4))], axis=1)  # the other ignored: no superposition
    assert [f.holds for f in local_bases.findings(local(one_set))] == [True, False]
    crowded = np.concatenate([np.tri(4), -np.tri(4)], axis=1)
    assert not local_bases.findings(local(crowded))[0].holds
    turned = np.concatenate([np.eye(4), np.kron(np.eye(2), [[1, -1], [1, 1]])], axis=1)  # a second basis, 45 degrees off
    within, across = local_bases.within_and_across(turned)
    np.testing.assert_allclose(within, 0, atol=1e-12)
    assert across.max() == pytest.approx(0.5**0.5)


def diagram(label, order, trained, n=2, candidates="a; b; c", losses=(2.0, 3.0, 1.0)):
    """Four densities by four importances, one restart; `trained`, the loss of ten models a cell over the minimum."""
    density, importance = np.array([1, 0.5, 0.2, 0.1]), np.array([0.1, 0.3, 1, 3])
    cell = ("density", "importance")
    label = np.asarray(label, np.int8)
    whole = np.concatenate([np.ones((4, 4, n - 1), np.int8) * 2, label[..., None]], axis=-1)
    data = {
        "label": ((*cell, "feature"), whole),
        "published_label": (cell, label),
        "published_boundary_lower": ("density", [np.nan, 0.5477, 0.1732, 0.1732]),
        "candidate_loss": ((*cell, "candidate"), np.broadcast_to(losses, (4, 4, len(losses)))),
        "exact_order": ("density", np.asarray(order, np.int8)),
        "cell_minimum": ("cell", [1.0, 2.0]),
        "trained_loss": (("cell", "model"), np.outer([1.0, 2.0], trained)),
        "trained_label": (("cell", "model"), np.zeros((2, 10), np.int8)),
    }
    return xr.Dataset(data, {"density": density, "importance": importance}, {"candidates": candidates})


ROWS = [[0, 0, 1, 1], [0, 0, 2, 2], [0, 2, 2, 1], [0, 2, 2, 1]]
"""Ignored up to the geometric mean of 0.3 and 1, then of 0.1 and 0.3 twice, as the published boundary above has it."""


def test_findings_of_a_diagram_as_published():
    good = [1.0] * 9 + [3.0]  # one model caught elsewhere, dropped
    assert all(f.holds for f in phase_two_one.findings(diagram(ROWS, [1, 1, 1, 1], good)))


@pytest.mark.parametrize(
    ("which", "change"),
    [
        (0, {"label": np.array(ROWS) % 2}),
        (3, {"trained": [1.0] * 5 + [2.0] * 5}),
        (3, {"trained": [0.99] + [1.0] * 9}),
        (4, {"order": [1, 2, 1, 1]}),
    ],
    ids=["no superposition", "many caught", "one below the minimum", "continuous at one density"],
)
def test_findings_that_fail(which, change):
    data = diagram(**({"label": ROWS, "order": [1] * 4, "trained": [1.0] * 10} | change))
    assert not phase_two_one.findings(data)[which].holds


def test_the_missing_candidate_is_noticed():
    names = "001; 100; 011; 110; 111: triangle"
    for triangle, holds in ((2.0, True), (0.5, False)):
        data = diagram(ROWS, [1] * 4, [1.0] * 10, n=3, candidates=names, losses=(2, 3, 1, 4, triangle))
        assert phase_three_two.findings(data)[4].holds is holds


@pytest.mark.slow
def test_quick_run_of_collapse():
    data = collapse.compute(collapse.QUICK)
    found = collapse.findings(data)
    assert found[1].holds  # 0, 1, 2, 3
    assert len(collapse.figure(data).data) == 2 + 4 * 6


@pytest.mark.slow
def test_quick_run_of_local_bases():
    data = local_bases.compute(replace(local_bases.QUICK, restarts=2))
    assert all(f.holds for f in local_bases.findings(data))
    assert float(data["gradient_norm"].min()) < 0.01
    assert len(local_bases.figure(data).data) == 1


@pytest.mark.slow
@pytest.mark.parametrize("experiment", [phase_two_one, phase_three_two], ids=lambda e: e.NAME)
def test_small_run_of_a_diagram(experiment):
    data = experiment.compute(replace(experiment.QUICK, points=4, restarts=2, cells=2, steps=200))
    assert data["trained_loss"].shape == (2, 10)
    assert np.all(data["trained_loss"].values >= data["cell_minimum"].values[:, None] * (1 - 1e-9))  # minima are minima
    assert len(experiment.findings(data)) in (5, 6)
    assert experiment.figure(data).data
