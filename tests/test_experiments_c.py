"""Experiments in setting 6 of the paper: what their findings say of constructed datasets, and QUICK runs."""

import jax.numpy as jnp
import numpy as np
import pytest
import xarray as xr

from experiments import adversarial_examples, dimensions_per_feature, energy_levels, feature_geometry
from superpose import frames

pytestmark = pytest.mark.x64

M = 6


def digons(k):
    """2 k features in the first k of M dimensions, 12 in all, the others ignored."""
    W = np.zeros((M, 12))
    W[range(k), range(0, 2 * k, 2)], W[range(k), range(1, 2 * k, 2)] = 1, -1
    return W


def dataset(weights, densities, shares=None):
    """One restart a density."""
    W = np.stack(weights)[:, None]
    star = M / (W**2).sum((2, 3))
    if shares is None:
        shares = np.where((W**2).sum(2) > 0, 0.5, 0.0)
    found = {
        "W": (("density", "restart", "hidden", "feature"), W),
        "dimensions": (("density", "restart"), star),
        "dimensionality": (("density", "restart", "feature"), shares),
        "loss": (("density", "restart"), np.ones_like(star)),
        "gap": (("density", "restart"), np.zeros_like(star)),
        "converged": (("density", "restart"), np.ones_like(star, dtype=np.int8)),
    }
    return xr.Dataset(found, {"density": densities, "restart": [0]})


def stairs():
    """`D*` = 1, 1, 3/4, 1/2, 1/2, 1/2 as p falls: M single features, some in pairs, all in pairs."""
    single = np.eye(M, 12)
    return dataset([single, single, single * (4 / 3) ** 0.5, *[digons(M)] * 3], 0.7 ** np.arange(6))


def test_plateaus_of_stairs():
    data = stairs()
    assert dimensions_per_feature.plateau(data, 1.0)[0] == 2
    assert dimensions_per_feature.plateau(data, 0.5)[0] == 3
    one, half, special, _ = dimensions_per_feature.findings(data)
    assert one.holds
    assert half.holds
    assert special.holds  # 5 of 6 densities, where an even fall from 1 to 1/2 has 2 x 14 %
    np.testing.assert_allclose(dimensions_per_feature.counted(data)[[0, 3]], 1, rtol=1e-12)


def test_an_even_fall_has_no_plateaus():
    scale = np.sqrt(np.geomspace(1, 4, 6))
    data = dataset([s * np.eye(M, 12) for s in scale], 0.7 ** np.arange(6))
    assert [f.holds for f in dimensions_per_feature.findings(data)[:3]] == [False, False, False]
    assert dimensions_per_feature.plateau(data, 0.2)[1].startswith("none")


@pytest.mark.parametrize(("near", "run"), [([], (0, 0)), ([0, 0], (0, 0)), ([1, 0, 1, 1], (2, 4)), ([1, 1, 0], (0, 2))])
def test_longest_run(near, run):
    assert dimensions_per_feature.longest_run(np.array(near, bool)) == run


def test_shapes_and_products_of_a_known_sum():
    """A triangle, a pentagon and two digons in orthogonal planes and lines: all but tetrahedron and antiprism."""
    W = np.zeros((M, 12))
    W[:2, :3], W[2:4, 3:8] = frames.polygon(3), frames.polygon(5)
    W[4, 8:10], W[5, 10:12] = [1, -1], [1, -1]
    shares = np.repeat([2 / 3, 2 / 5, 1 / 2], [3, 5, 4])
    data = dataset([W], [0.3], shares[None, None])
    named = feature_geometry.by_shape(data)
    assert {name: len(found) for name, found in named.items() if found} == {"triangle": 1, "pentagon": 1, "digon": 2}
    assert list(feature_geometry.products(data).values()) == [1, 1]
    clusters, each, of_shape, total, *both = feature_geometry.findings(data)
    assert clusters.holds
    assert not each.holds
    assert of_shape.holds
    assert total.holds  # 2 + 2 + 2 = 6
    assert all(f.holds for f in both)
    assert len(feature_geometry.figure(data).data) == 3


def test_only_certified_minima_are_read():
    """A solution of single features that no certificate covers adds neither a shape nor a `D_i`, nor a point of the figure."""
    data = dataset([digons(M), np.eye(M, 12)], [0.2, 0.3], np.array([[[0.5] * 12], [[0.9] * 12]]))
    assert "2 of 2 solutions" in feature_geometry.findings(data)[0].note
    data["converged"][1] = 0
    clusters, *_ = feature_geometry.findings(data)
    assert clusters.found == 1
    assert clusters.note == "1 of 2 solutions are certified, the others not read"
    assert len(feature_geometry.figure(data).data) == 1
    data["converged"][0] = 0
    assert not any(f.holds for f in feature_geometry.findings(data))


def steps(apart):
    """Features that jump from 0 to 1/2 at snapshots 30, 50, ..., where the loss drops, `apart` snapshots later; two runs."""
    t = np.arange(200)[:, None]
    at = np.arange(30, 190, 20)[None, :]
    shares = np.where(t >= at, 0.5, 0.0)
    loss = 1 - 0.02 * (t >= at + apart).sum(1)
    both = {"dimensionality": (("restart", "step", "feature"), np.stack([shares] * 2))}
    return xr.Dataset(both | {"loss": (("restart", "step"), np.stack([loss] * 2))}, {"step": 1.0 + t[:, 0]})


def test_jumps_that_coincide_and_jumps_that_do_not():
    near, total, chance = energy_levels.matched(steps(1), after=0.1)
    assert (near, total) == (16, 16)
    assert 2 < chance < 8  # 8 drops of 7 snapshots each in 180 are 31 % of 16
    assert energy_levels.matched(steps(10), after=0.1)[0] == 0
    assert [f.holds for f in energy_levels.findings(steps(1))] == [True] * 4
    assert [f.holds for f in energy_levels.findings(steps(10))][:2] == [False, False]
    assert len(energy_levels.figure(steps(1)).data) == 8 + 3


def test_vulnerability_that_is_the_norm_and_one_that_is_constant():
    star = np.array([[1.0], [0.5], [0.2]])
    one = np.ones_like(star)
    names = {"dimensions": star, "rise": 1 / star, "attacked": one + 0.01 * star, "rise_error": one, "attacked_error": one}
    data = xr.Dataset(
        {k: (("density", "restart"), v) for k, v in (names | {"loss": one}).items()}, {"density": [0.9, 0.3, 0.1]}
    )
    assert [f.holds for f in adversarial_examples.findings(data)] == [True, True, False, False]
    assert len(adversarial_examples.figure(data).data) == 3


def test_model_without_superposition_has_a_dimension_a_feature():
    params = adversarial_examples.without_superposition(12, M, jnp.asarray(0.3))
    np.testing.assert_array_equal(params.W.T @ params.W, np.diag([1.0] * M + [0.0] * M))
    np.testing.assert_allclose(params.b, [0] * M + [0.15] * M, rtol=1e-6)  # E x = p / 2


@pytest.mark.slow
@pytest.mark.parametrize("module", [dimensions_per_feature, feature_geometry, energy_levels, adversarial_examples])
def test_quick_run(module):
    data = module.compute(module.QUICK)
    assert all(bool(np.isfinite(x).all()) for x in data.values())
    found = module.findings(data)
    assert 2 <= len(found) <= 6
    assert sum(f.holds for f in found) >= 2
    assert module.figure(data).data
