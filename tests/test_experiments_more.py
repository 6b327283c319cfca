"""Experiments on correlated features and on one feature that differs: what their findings say of known datasets, and QUICK runs."""

import numpy as np
import pytest
import xarray as xr

from experiments import correlated, one_feature_differs

pytestmark = pytest.mark.x64


def test_cosines_of_a_hexagon_with_partners_side_by_side():
    angle = np.pi / 3 * np.arange(6)
    hexagon = np.stack([np.cos(angle), np.sin(angle)])
    partners, others = correlated.cosines(hexagon)
    np.testing.assert_allclose(partners, 0.5, atol=1e-6)  # neighbours at 60 degrees
    np.testing.assert_allclose(others.max(1), 0.5, atol=1e-6)
    assert correlated._side_by_side(hexagon)
    assert not correlated._side_by_side(hexagon[:, [0, 3, 1, 4, 2, 5]])  # partners opposite


def branches(crossing):
    """Losses that are straight in log(sparser) and cross at `crossing`."""
    ratio = np.geomspace(0.5, 5, 7)
    loss = np.stack([np.ones(7), 1 - 0.1 * np.log(ratio / crossing)])
    coords = {"branch": list(one_feature_differs.BRANCHES), "sparser": ratio}
    return xr.Dataset({"loss": (("branch", "sparser"), loss)}, coords)


def test_crossing_of_straight_lines():
    assert one_feature_differs.crossing(branches(2.5)) == pytest.approx(2.5, rel=1e-9)  # exact for straight lines
    assert np.isnan(one_feature_differs.crossing(branches(50.0)))


@pytest.mark.slow
def test_quick_run_of_correlated_features():
    data = correlated.compute(correlated.QUICK)
    found = correlated.findings(data)
    assert len(found) == 3
    assert all(f.holds for f in found)
    assert len(correlated.figure(data).data) == 4 + 4 + 6


@pytest.mark.slow
def test_quick_run_of_one_feature_that_differs():
    data = one_feature_differs.compute(one_feature_differs.QUICK)
    assert set(data["loss"].dims) == {"branch", "sparser"}
    assert bool(np.isfinite(data["loss"]).all())
    assert len(one_feature_differs.findings(data)) == 2
    assert len(one_feature_differs.figure(data).data) == 2
