"""Known sums of shapes, hidden by rotation, order, scale and noise: split, named and brought back."""

import time
from inspect import unwrap
from itertools import permutations

import numpy as np
import pytest
from checks import theorem
from hypothesis import given
from hypothesis import strategies as st

from superpose import geometry
from superpose.geometry import shapes

pytestmark = pytest.mark.x64

SHAPES = {name: shape for k in range(1, shapes.LARGEST + 1) for name, shape in shapes.library(k).items()}
SUM = ["digon"] * 4 + ["triangle"] * 3 + ["tetrahedron"] * 2 + ["pentagon"] * 2 + ["square antiprism", "hexagon"]
SEEDS = st.integers(0, 2**31)
crowded = pytest.mark.filterwarnings("ignore:W has no small pieces")
CLOSE = 1e-6  # the library is rounded to jax's float type: 1e-7 in the float32 run


def plant(rng, names, *, m, noise=0.0, lengths=None):
    """Shapes in orthogonal spaces under a random rotation and order; and which columns are which shape."""
    blocks = [SHAPES[name] * (1 if lengths is None else lengths[i]) for i, name in enumerate(names)]
    k = np.cumsum([0] + [b.shape[1] for b in blocks])
    r = np.cumsum([0] + [b.shape[0] for b in blocks])
    W = np.zeros((m, k[-1]))
    for i, block in enumerate(blocks):
        W[r[i] : r[i + 1], k[i] : k[i + 1]] = block
    W = np.linalg.qr(rng.normal(size=(m, m)))[0] @ W + noise * rng.normal(size=W.shape)
    order = rng.permutation(k[-1])
    truth = {frozenset(np.flatnonzero((order >= k[i]) & (order < k[i + 1])).tolist()): n for i, n in enumerate(names)}
    return W[:, order], truth


def named(found):
    return {frozenset(p.features.tolist()): p.name for p in found}


def accuracy(noise, *, names=SUM, m=30, trials=10, **settings):
    right = 0
    for seed in range(trials):
        W, truth = plant(np.random.default_rng(seed), names, m=m, noise=noise)
        found = named(geometry.pieces(W, **settings))
        right += sum(found.get(features) == name for features, name in truth.items())
    return right / (trials * len(names))


# --- one shape


@pytest.mark.parametrize("name", SHAPES)
@theorem
@given(SEEDS)
def test_each_shape_is_known_in_any_position(name, seed):
    rng = np.random.default_rng(seed)
    shape = SHAPES[name]
    W, _ = plant(rng, [name], m=shape.shape[0] + 2, lengths=[rng.uniform(0.1, 10)])
    found = shapes.match(W)
    assert found.name == name
    assert found.residual < CLOSE
    ordered = W[:, found.order] / np.linalg.norm(W[:, 0])
    np.testing.assert_allclose(ordered.T @ ordered, shape.T @ shape, rtol=0, atol=CLOSE)


@pytest.mark.parametrize("name", SHAPES)
def test_canonical_form_undoes_rotation_and_order(name):
    rng = np.random.default_rng(0)
    shape = SHAPES[name]
    W, _ = plant(rng, [name], m=shape.shape[0] + 1, lengths=[1.3])
    (found,) = geometry.pieces(W)
    np.testing.assert_allclose(found.frame, 1.3 * shape, rtol=0, atol=10 * CLOSE)


@pytest.mark.parametrize(
    ("one", "other", "distance"),
    [  # |G - s T| / |G| with s = <G, T> / <T, T>: sqrt(1 - <G, T>^2 / (<G, G> <T, T>))
        ("pentagon", "simplex of 5", np.sqrt(1 / 2)),  # tight of rank 2 and 4 with G T = (5/2) G: 1 - 2/4
        ("hexagon", "simplex of 6", np.sqrt(3 / 5)),
        ("square antiprism", "simplex of 8", np.sqrt(4 / 7)),
        ("octagon", "square antiprism", np.sqrt(1 / 3)),
    ],
)
def test_distance_between_shapes(one, other, distance):
    W = SHAPES[one]
    residual, _ = shapes._matched(W.T @ W, SHAPES[other])
    np.testing.assert_allclose(residual, distance, rtol=1e-6)


def test_residual_of_a_lopsided_digon():
    """Lengths 1 and a: G = [[1, -a], [-a, a^2]], s = (1 + a)^2 / 4; the distance follows by hand."""
    a = 0.8
    s = (1 + a) ** 2 / 4
    expected = np.sqrt((1 - s) ** 2 + 2 * (a - s) ** 2 + (a * a - s) ** 2) / (1 + a * a)
    np.testing.assert_allclose(shapes.match(np.array([[1, -a]])).residual, expected, rtol=1e-12)


def test_matching_is_the_best_over_all_orders():
    """Against brute force, for a bent pentagon whose best order is not obvious."""
    rng = np.random.default_rng(1)
    pentagon = SHAPES["pentagon"]
    for _ in range(5):
        W = pentagon + 0.3 * rng.normal(size=pentagon.shape)
        G, T = W.T @ W, pentagon.T @ pentagon
        best = min(shapes._distance(G[np.ix_(o, o)], T) for o in permutations(range(5)))
        np.testing.assert_allclose(shapes._matched(G, pentagon)[0], best, rtol=CLOSE)


def test_what_is_no_shape_says_so():
    rng = np.random.default_rng(2)
    (found,) = geometry.pieces(rng.normal(size=(3, 9)))
    assert found.name == shapes.NONE
    assert found.residual > 0.2
    assert found.nearest in shapes.library(9)
    assert found.frame.shape == (3, 9)
    np.testing.assert_allclose(found.frame @ found.frame.T, np.diag(np.sum(found.frame**2, axis=1)), atol=1e-12)
    assert shapes.match(rng.normal(size=(2, 11)))[:2] == (shapes.NONE, 1.0)


def test_two_features_side_by_side_are_no_digon():
    (found,) = geometry.pieces(np.array([[1.0, 0.9]]))
    assert found.name == shapes.NONE


# --- sums of shapes


@theorem
@given(SEEDS, st.lists(st.sampled_from(sorted(SHAPES)), min_size=1, max_size=5))
def test_any_sum_is_split_and_named(seed, names):
    rng = np.random.default_rng(seed)
    m = sum(SHAPES[name].shape[0] for name in names)
    W, truth = plant(rng, names, m=m, lengths=rng.uniform(0.5, 1.5, len(names)))
    found = geometry.pieces(W)
    assert named(found) == truth
    assert max(p.residual for p in found) < CLOSE
    assert max(p.coupling for p in found) < CLOSE
    assert [p.features.min() for p in found] == sorted(p.features.min() for p in found)


def test_ignored_features_are_in_no_piece():
    W, truth = plant(np.random.default_rng(3), ["triangle", "digon"], m=3)
    found = geometry.pieces(np.concatenate([W, np.full((3, 2), 0.05), np.zeros((3, 1))], axis=1))
    assert named(found) == truth
    assert geometry.pieces(np.zeros((2, 3))) == []


# Noise of standard deviation e in every weight: an overlap that should be 0 has one of about e sqrt 2 (unit columns).
@pytest.mark.parametrize(("noise", "least"), [(0.0, 1.0), (0.02, 1.0), (0.04, 0.98), (0.05, 0.98), (0.06, 0.9)])
def test_accuracy_against_noise(noise, least):
    assert accuracy(noise) >= least


@crowded
def test_noise_beyond_the_limits_is_not_named_at_random():
    W, truth = plant(np.random.default_rng(0), SUM, m=30, noise=0.3)
    found = named(geometry.pieces(W))
    assert sum(found.get(features) == name for features, name in truth.items()) == 0
    assert set(found.values()) <= {shapes.NONE, shapes.ALONE}


@crowded
def test_cutting_weak_links_is_what_withstands_noise():
    assert accuracy(0.04) - accuracy(0.04, loosest=0.1) > 0.5


def test_coupling_is_the_largest_overlap_with_another_piece():
    t = np.arcsin(0.05)
    W = np.array([[1, -1, np.sin(t)], [0, 0, np.cos(t)]])
    pair, single = geometry.pieces(W)
    assert (pair.name, single.name) == ("digon", "alone")
    np.testing.assert_allclose([pair.coupling, single.coupling], 0.05)


def test_twenty_large_solutions_in_seconds():
    names = ["digon"] * 10 + ["triangle"] * 4 + ["tetrahedron"] * 2 + ["pentagon"] * 3
    rng = np.random.default_rng(5)
    solutions = [plant(rng, names, m=30, noise=0.01)[0] for _ in range(20)]
    solutions = [np.concatenate([W, 0.001 * rng.normal(size=(30, 400 - W.shape[1]))], axis=1) for W in solutions]
    began = time.perf_counter()
    for W in solutions:
        geometry.pieces(W)
    assert time.perf_counter() - began < 10


@pytest.mark.parametrize("shape", [(30, 400), (400, 500), (64, 1000)])
def test_what_has_no_small_pieces_says_so_fast(shape):
    """In nearly orthogonal noise all cuts are tried, by name alone: in full each took a second."""
    W = np.random.default_rng(7).normal(size=shape)
    began = time.perf_counter()
    with pytest.warns(UserWarning, match=r"W has no small pieces: \d+ features hang together .* ask interference.describe"):
        found = geometry.pieces(W)
    assert time.perf_counter() - began < 15
    assert max(len(piece.features) for piece in found) > shapes.LARGEST
    assert all(piece.name in (shapes.NONE, shapes.ALONE) for piece in found)


@pytest.mark.parametrize("size", [1e200, 1e-200, 1e-30])
def test_pieces_of_any_length(size):
    W, truth = plant(np.random.default_rng(8), ["pentagon", "digon", "alone"], m=4)
    found = geometry.pieces(size * W)
    assert named(found) == truth
    for piece, like in zip(found, geometry.pieces(W), strict=True):
        np.testing.assert_allclose(piece.frame / size, like.frame, rtol=0, atol=10 * CLOSE)
    assert [piece.name for piece in geometry.pieces(size * np.eye(2))] == ["alone", "alone"]


# --- features in one direction


def test_a_duplicated_vertex_does_not_hide_the_pentagon():
    pentagon, rng = SHAPES["pentagon"], np.random.default_rng(9)
    W = np.concatenate([pentagon, pentagon[:, [1]], 0.8 * pentagon[:, [1, 3]]], axis=1) + 0.01 * rng.normal(size=(2, 8))
    (found,) = geometry.pieces(W)
    assert found.name == "pentagon"
    first = int(np.argmax(np.linalg.norm(W[:, [1, 5]], axis=0)))
    vertex, other = (1, 5) if first == 0 else (5, 1)
    assert set(found.features.tolist()) == {0, vertex, 2, 3, 4}
    assert found.duplicates.tolist() == sorted([[other, vertex], [6, vertex], [7, 3]])
    assert found.residual < 0.05
    table = geometry.census([W], [0.1])
    assert table["features"].sel(name="pentagon").values.tolist() == [8]
    assert table["features"].sel(name="ignored").values.tolist() == [0]


def test_features_in_one_direction_alone_are_no_shape():
    (found,) = geometry.pieces(np.array([[1.0, 0.9, 0.9]]))
    assert (found.name, found.features.tolist(), found.duplicates.tolist()) == (shapes.NONE, [0, 1, 2], [])
    (pair,) = geometry.pieces(np.array([[1.0, -1.0, 0.5]]))
    assert (pair.name, pair.duplicates.tolist()) == ("digon", [[2, 0]])


def test_a_transposed_solution_brings_a_warning():
    with pytest.warns(UserWarning, match=r"W has shape \(m, n\) = \(3, 2\), more dimensions than features"):
        assert len(geometry.pieces(np.eye(3)[:, :2])) == 2


# --- names of sums, census


@pytest.mark.parametrize(
    ("names", "whole"),
    [
        (["digon"], "digon"),
        (["digon"] * 2, "square"),
        (["digon"] * 3, "octahedron"),
        (["digon"] * 4, "orthoplex of 8"),
        (["digon", "triangle"], "triangular bipyramid"),
        (["pentagon", "digon"], "pentagonal bipyramid"),
        (["pentagon", "digon", "digon"], "2 x digon + pentagon"),
        (["alone", "alone"], "2 x alone"),
        ([], "nothing"),
    ],
)
def test_names_of_sums(names, whole):
    assert shapes.compound(names) == whole


def test_census_counts_by_density():
    rng = np.random.default_rng(6)
    dense, _ = plant(rng, ["alone", "alone", "alone"], m=3)
    mixed, _ = plant(rng, ["digon", "triangle"], m=3)
    pairs, _ = plant(rng, ["digon"] * 3, m=3)
    dense = np.concatenate([dense, np.zeros((3, 2))], axis=1)
    table = geometry.census([pairs, dense, mixed], [0.1, 1.0, 0.1])
    assert table["density"].values.tolist() == [0.1, 1.0]
    assert table["solutions"].values.tolist() == [2, 1]
    counts = {n: table["pieces"].sel(name=n).values.tolist() for n in table["name"].values.tolist()}
    assert counts == {"digon": [4, 0], "triangle": [1, 0], "alone": [0, 3], "ignored": [0, 0]}
    assert table["features"].sel(name="digon").values.tolist() == [8, 0]
    assert table["features"].sel(name="ignored").values.tolist() == [0, 2]
    assert int(table["features"].sum()) == 6 + 5 + 5
    assert np.isnan(table["residual"].sel(name="digon", density=1.0))


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"ignored": 1.0}, r"ignored = 1.0: needs to lie in \[0, 1\)"),
        ({"tolerance": 0.0}, r"tolerance = 0.0: needs to lie in \(0, 1\)"),
        ({"loosest": 0.05}, r"loosest = 0.05: needs to lie in \[tolerance = 0.1, 1\)"),
        ({"limit": 1.0}, r"limit = 1.0: needs to lie in \(0, 1\)"),
    ],
)
def test_mistakes_are_named(settings, says):
    with pytest.raises(ValueError, match=says):
        geometry.pieces(np.eye(2), **settings)


def test_what_is_not_a_solution_is_refused():
    for function in (geometry.pieces, shapes.match):
        with pytest.raises(ValueError, match="W has nan or inf in 2 columns: 0, 1: needs finite numbers"):
            function(np.full((1, 2), np.nan))
        with pytest.raises(ValueError, match=r"W has shape \(3,\): needs \(m, n\)"):
            unwrap(function)(np.ones(3))
    with pytest.raises(
        ValueError, match=r"W has 6000 features that are not ignored: needs at most 5000; ask interference.desc"
    ):
        geometry.pieces(np.random.default_rng(0).uniform(0.5, 1, (2, 6000)))
    with pytest.raises(ValueError, match="solutions is empty: needs at least one W"):
        geometry.census([], [])
    with pytest.raises(ValueError, match="density has 2 entries: needs one for each of 1 solutions"):
        geometry.census([np.eye(2)], [0.1, 0.2])
    with pytest.raises(ValueError, match="k = 0: needs at least 1"):
        shapes.library(0)
