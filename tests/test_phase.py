"""Phases: labels, candidates, and small diagrams."""

from dataclasses import replace
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from superpose import solve, sweep
from superpose.expected_loss import relu_output
from superpose.features import SparseUniform, last_importance
from superpose.phase import (
    IGNORED,
    LABELS,
    STORED,
    SUPERPOSED,
    Diagram,
    agreement,
    axes,
    boundary_offset,
    candidate_losses,
    candidates,
    critical_importance,
    label,
    largest_gap,
    sampled,
    solve_row,
    tricritical_points,
)
from superpose.phase import run as phase_run
from superpose.phase.diagram import starts as eager_starts
from superpose.phase.scores import label_boundary
from superpose.results import ResultError
from superpose.sweep import chunks
from superpose.toy_model import Params
from tests.checks import EPS, RTOL, theorem

TINY = Diagram(densities=4, importances=5, restarts=2, steps=200)
x64 = pytest.mark.x64
starts = jax.jit(eager_starts, static_argnums=0)


BOUNDARY = 0.0487218979022
"""At p = .1, from `test_boundary`."""
OTHERS = {0.5: axes(TINY)[1], 0.01: axes(TINY)[1], 0.1: BOUNDARY * np.array([0.5, 0.99, 1.01, 2.0, 4.0])}
"""Importances at other densities, by density."""


@pytest.fixture(scope="module")
def rows():
    """The rows of TINY and OTHERS, each a dictionary of arrays: all by the program of a run, which the command's tests share."""
    densities, importances = axes(TINY)
    numbers = np.array([*range(len(densities)), *(0 for _ in OTHERS)])
    points = {
        "row": numbers,
        "density": np.array([*densities, *OTHERS]),
        "importances": np.stack([*(importances for _ in densities), *OTHERS.values()]),
    }
    found = sweep.run(lambda row: solve_row(TINY, row["row"], row["density"], row["importances"]), points, width=1)
    return [{name: x[k] for name, x in found.items()} for k in range(len(numbers))]


@pytest.fixture(scope="module")
def solved(rows):
    return rows[: TINY.densities]


@pytest.fixture(scope="module")
def other(rows):
    return dict(zip(OTHERS, rows[TINY.densities :], strict=True))


@pytest.fixture(scope="module")
def dataset(rows, tmp_path_factory):
    del rows  # compiles what this runs
    return phase_run.compute(TINY, tmp_path_factory.mktemp("tiny"))


@jax.jit
def pair_loss(theta, p, importance):
    """The loss for n=2, m=1 and its gradient at theta = (w_1, w_2, b_1, b_2)."""

    def loss(theta):
        return relu_output(Params(W=theta[None, :2], b=theta[2:]), SparseUniform(p), last_importance(importance, n=2))

    return jax.value_and_grad(loss)(theta)


# --- candidates


@pytest.mark.parametrize(("n", "m"), [(2, 1), (3, 2)])
def test_candidate_loss_is_the_population_loss(n, m):
    exact = jax.jit(lambda params, p, i: relu_output(params, SparseUniform(p), last_importance(i, n=n)))
    for p, importance in ((0.01, 0.1), (0.3, 2.0), (0.8, 0.5), (1.0, 1.0)):
        stated = candidate_losses(p, importance, n=n, m=m)
        for k, candidate in enumerate(candidates(n=n, m=m)):
            true = float(exact(candidate.params(p), jnp.asarray(p, float), jnp.asarray(importance, float)))
            # the loss is a difference of terms up to sum_i I_i p/3, which sets the rounding
            rounding = RTOL * (n - 1 + importance) * p / 3
            assert float(stated[k]) == pytest.approx(true, rel=RTOL, abs=0.1 * rounding), candidate.name
            assert abs(1.02 * float(stated[k]) - true) > 1e-3 * true


@x64
@pytest.mark.parametrize(("n", "m"), [(2, 1), (3, 2)])
def test_candidates_are_labelled_as_their_columns_say(n, m):
    for candidate in candidates(n=n, m=m):
        params = candidate.params(0.3)
        assert params.W.shape == (m, n)
        assert int(label(params.W)[-1]) == candidate.label, candidate.name
        ignored = np.flatnonzero(np.asarray(label(params.W)) == IGNORED)
        assert tuple(ignored) == candidate.ignored
        np.testing.assert_allclose(params.b, [0.15 if k in candidate.ignored else 0 for k in range(n)], rtol=1e-6)


@x64
def test_other_sizes_have_no_candidates():
    assert candidates(n=5, m=2) == ()
    assert candidate_losses(0.1, 1.0, n=5, m=2).shape == (0,)


# --- labels


def column(*entries):
    return jnp.array(entries, float)[:, None]


@pytest.mark.parametrize(
    ("W", "expected"),
    [
        ([[1.0, 0.0]], [STORED, IGNORED]),
        ([[1.0, -1.0]], [SUPERPOSED, SUPERPOSED]),
        ([[1.0, 0.0, 0.0], [0.0, 1.0, -1.0]], [STORED, SUPERPOSED, SUPERPOSED]),
        ([[0.0, 0.0], [0.0, 0.0]], [IGNORED, IGNORED]),
        ([[1.0, 0.0], [0.0, 0.2]], [STORED, STORED]),
        ([[2.0, 0.0], [0.0, 1.0]], [STORED, STORED]),
        ([[0.5, -0.5]], [SUPERPOSED, SUPERPOSED]),
        ([[1.0, 0.05], [0.0, 0.0]], [STORED, IGNORED]),  # too short to be represented, too short to disturb
    ],
)
def test_label_of_constructed_weights(W, expected):
    found = label(jnp.array(W))
    assert found.dtype == jnp.int8
    assert found.tolist() == expected
    assert LABELS[expected[0]] in ("ignored", "stored", "superposed")


@x64
def test_label_thresholds_are_squared_lengths():
    short = jnp.array([[1.0, 0.0], [0.0, 0.3]])
    assert label(short, tolerance=0.08).tolist() == [STORED, STORED]
    assert label(short, tolerance=0.1).tolist() == [STORED, IGNORED]
    tilted = jnp.array([[1.0, 0.3], [0.0, 0.954]])  # overlap 0.09
    assert label(tilted, tolerance=0.08).tolist() == [SUPERPOSED, SUPERPOSED]
    assert label(tilted, tolerance=0.1).tolist() == [STORED, STORED]


@x64
@pytest.mark.parametrize("tolerance", [0.0, 1.0, -0.1, float("nan")])
def test_label_refuses_a_tolerance_outside_0_1(tolerance):
    with pytest.raises(ValueError, match=r"tolerance = .*: needs to lie in \(0, 1\)"):
        label(jnp.eye(2), tolerance=tolerance)


@x64
@theorem
@given(seed=st.integers(0, 10**6), sparse=st.booleans())
def test_label_does_not_depend_on_the_basis(seed, sparse):
    """Labels are functions of the Gram matrix. Draws whose lengths or overlaps lie on the threshold itself are passed over."""
    rng = np.random.default_rng(seed)
    W = rng.normal(size=(3, 4)) * (rng.random((3, 4)) < 0.5 if sparse else 1)
    rotation, _ = np.linalg.qr(rng.normal(size=(3, 3)))
    gram = W.T @ W
    length = gram.diagonal()
    overlap = (gram**2).sum(1) - length**2
    nothing = np.where(length > 0.01, length, 1)
    if np.any(np.abs(length - 0.01) < 1e-4) or np.any(np.abs(overlap / nothing - 0.01) < 1e-4):
        return
    plain = label(jnp.asarray(W, float))
    assert plain.tolist() == label(jnp.asarray(rotation @ W, float)).tolist()
    assert plain.tolist() == label(jnp.asarray(-W, float)).tolist()
    order = rng.permutation(4)
    assert plain[order].tolist() == label(jnp.asarray(W[:, order], float)).tolist()


# --- scores


@x64
def test_agreement_counts_cells():
    one = np.array([[0, 1], [2, 2]])
    assert agreement(one, one) == 1
    assert agreement(one, np.array([[0, 1], [2, 0]])) == 0.75
    with pytest.raises(ValueError, match=r"shapes \(2, 2\) and \(2,\)"):
        agreement(one, one[0])


@x64
def test_label_boundary_is_the_first_cell_that_is_not_ignored():
    importance = np.array([0.1, 1.0, 10.0])
    rows = np.array([[0, 0, 2], [0, 2, 0], [0, 0, 0], [1, 1, 1], [0, 1, 1]])
    expected = [10**0.5, 0.1**0.5, np.nan, np.nan, 0.1**0.5]
    np.testing.assert_allclose(label_boundary(rows, importance), expected, rtol=1e-14)


@x64
def test_label_boundary_of_a_single_importance_is_none():
    assert np.isnan(label_boundary(np.array([[0], [1]]), np.array([1.0]))).all()


@x64
def test_boundary_offset_is_in_decades_where_both_exist():
    assert boundary_offset(np.array([1.0, 10.0, np.nan]), np.array([10.0, 1.0, 5.0])) == pytest.approx(1)
    assert boundary_offset(np.array([2.0, 3.0]), np.array([2.0, np.nan])) == 0
    assert np.isnan(boundary_offset(np.array([1.0, np.nan]), np.array([np.nan, 1.0])))


@x64
def test_largest_gap_is_relative_to_the_first():
    assert largest_gap(np.array([1.0, 2.0]), np.array([1.5, 2.0])) == 0.5
    assert largest_gap(np.array([1.0]), np.array([0.9])) == pytest.approx(-0.1)


# --- diagrams


@x64
def test_axes_run_from_dense_to_sparse_and_up_in_importance():
    densities, importances = axes(replace(TINY, densities=3, importances=3))
    np.testing.assert_allclose(densities, [1, 0.1, 0.01], rtol=1e-14)
    np.testing.assert_allclose(importances, [0.1, 1, 10], rtol=1e-14)


@x64
@pytest.mark.parametrize("wider", [dict(importances=7), dict(densities=9), dict(importances=7, steps=9, nodes=128)])
def test_starts_do_not_depend_on_the_grid(wider):
    density = jnp.asarray(0.3, float)
    few, many = starts(TINY, 2, density), starts(replace(TINY, **wider), 2, density)
    assert few.W.shape == (5, 2 + 3, 1, 2)
    for a, b in ((few.W, many.W), (few.b, many.b)):
        assert np.asarray(a).tobytes() == np.asarray(b[:5]).tobytes()


@x64
def test_starts_differ_between_cells_and_seeds():
    density = jnp.asarray(0.3, float)
    drawn = [np.asarray(starts(replace(TINY, seed=s), row, density).W).ravel() for s in (0, 1) for row in (0, 1)]
    assert len(np.unique(np.concatenate(drawn))) == 4 * 5 * 5 * 2
    more = starts(replace(TINY, restarts=3), 0, density)
    np.testing.assert_array_equal(more.W[:, :2], starts(TINY, 0, density).W[:, :2])


@x64
@pytest.mark.parametrize(
    ("p", "length", "bias", "loss"),
    [  # both optimal; found apart from this code, to the digits given
        (0.5, 0.938902844049854, 0.0976826814112035, 0.0762824469895636),
        (0.01, 1.00124353791081, None, 3.33226173043636e-5),
    ],
)
def test_antipodal_minimum_has_the_known_values(other, p, length, bias, loss):
    assert OTHERS[p][2] == 1
    row = other[p]
    best = int(row["best"][2])
    W, b = row["W"][2, best, 0], row["b"][2, best]
    assert float(row["loss"][2, best]) == pytest.approx(loss, rel=1e-13)
    np.testing.assert_allclose(W**2, length, rtol=1e-9)  # a certified point errs by its gradient norm over the curvature
    assert W[0] * W[1] < 0
    if bias is not None:
        np.testing.assert_allclose(b, bias, rtol=1e-8)
    assert row["label"][2].tolist() == [SUPERPOSED, SUPERPOSED]


@x64
def test_minimum_lies_below_every_restart_and_every_candidate(solved):
    for row in solved:
        best = np.take_along_axis(row["loss"], row["best"][:, None], 1)
        assert np.all(best <= row["loss"] * (1 + 2e-9))  # of equals, a certified one is taken
        assert np.all(best <= row["candidate_loss"] * (1 + 1e-12))


@x64
def test_certificates_say_what_they_state(solved):
    for row in solved:
        certified = row["converged"] == 1
        assert certified.mean() > 0.8
        assert np.all(row["gradient_norm"][certified] <= 1e-9)
        assert np.all(row["lowest_eigenvalue"][certified] >= -1e-6)
        assert np.all(np.take_along_axis(certified, row["best"][:, None], 1))
        assert np.all(row["steps"] <= TINY.steps)
        assert np.all(row["loss_error"] <= 64 * EPS)  # n=2: a closed form, so rounding


@x64
def test_stated_loss_is_the_loss_of_the_stated_weights(solved):
    densities, importances = axes(TINY)
    value = jax.jit(jax.vmap(lambda w, b, p, i: pair_loss(jnp.concatenate([w[0], b]), p, i)[0], (0, 0, None, None)))
    for p, row in zip(densities, solved, strict=True):
        for k, importance in enumerate(importances):
            again = value(row["W"][k], row["b"][k], jnp.asarray(p), jnp.asarray(importance))
            np.testing.assert_allclose(row["loss"][k], again, rtol=1e-11)  # cancels from sum_i I_i p/3 at small p


@x64
def test_labels_cross_the_exact_boundary(other):
    """The last feature is ignored below and in superposition above."""
    assert other[0.1]["label"][:, 1].tolist() == [IGNORED, IGNORED, SUPERPOSED, SUPERPOSED, SUPERPOSED]


@x64
def test_basins_are_numbered_from_the_lowest():
    losses = jnp.array([3.0, 1.0, 1.0 + 5e-7, 2.0, 0.5, 3.0, 2.0])
    converged = jnp.array([True, True, True, True, False, True, False])
    basin, count = solve.basins(losses, converged)
    assert basin.tolist() == [2, 0, 0, 1, -1, 2, -1]
    assert count.tolist() == [2, 1, 2, 0, 0, 0, 0]


@x64
def test_rows_number_their_basins_in_the_order_of_loss(solved):
    for row in solved:
        for loss, basin, converged in zip(row["loss"], row["basin"], row["converged"], strict=True):
            assert np.array_equal(basin >= 0, converged == 1)
            order = np.argsort(loss[basin >= 0], kind="stable")
            assert np.all(np.diff(basin[basin >= 0][order]) >= 0)
            assert basin.max() < 0 or set(basin[basin >= 0]) == set(range(basin.max() + 1))


@x64
def test_dataset_is_labelled(dataset):
    assert dict(dataset.sizes) == dict(density=4, importance=5, restart=5, hidden=1, feature=2, candidate=3)
    assert dataset["W"].dims == ("density", "importance", "restart", "hidden", "feature")
    np.testing.assert_array_equal(dataset["density"], axes(TINY)[0])
    assert all("long_name" in dataset[name].attrs for name in ("W", "loss", "converged", "basin", "label", "exact_boundary"))
    np.testing.assert_array_equal(dataset["published_label"][0], [IGNORED, IGNORED, IGNORED, STORED, STORED])  # p = 1
    np.testing.assert_array_equal(dataset["published_label"][-1], SUPERPOSED)  # p = .01


@x64
def test_summary_counts_what_the_dataset_holds(dataset):
    numbers = phase_run.summary(dataset)
    assert numbers["cells"] == 20
    assert numbers["cells_certified"] == 1
    assert numbers["cells_above_a_candidate"] == 0
    assert numbers["restarts_certified"] == pytest.approx(float(dataset["converged"].mean()))
    assert numbers["random_starts_in_lowest_basin"] == pytest.approx(float((dataset["basin"][..., :2] == 0).mean()))
    assert 0 < numbers["largest_gap_of_candidates"] < 1
    np.testing.assert_array_equal(numbers["boundary"]["exact"], dataset["exact_boundary"])


@x64
def test_stopped_run_goes_on_with_the_rows_it_has(solved, tmp_path, monkeypatch):
    diagram = replace(TINY, density_min=0.0005)  # too sparse for the exact boundary, which is not wanted here
    rows, seen = {name: jnp.stack([row[name] for row in solved]) for name in solved[0]}, []
    monkeypatch.setattr(phase_run, "solve_row", lambda _, k, *__: {name: x[k] for name, x in rows.items()})

    def stop():
        if len(seen) == 2:
            raise KeyboardInterrupt
        seen.append(1)

    with pytest.raises(KeyboardInterrupt):
        phase_run.compute(diagram, tmp_path / "a", advance=stop)
    done = sorted(tmp_path.glob("a/.phase.chunks/*-*.npz"))
    assert len(done) >= 3
    done[1].write_bytes(done[1].read_bytes()[:100])
    before = {file: file.stat().st_mtime_ns for file in done if file is not done[1]}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(chunks, "clear", lambda _: None)
        resumed = phase_run.compute(diagram, tmp_path / "a")
    assert before == {file: file.stat().st_mtime_ns for file in before}
    undisturbed = phase_run.compute(diagram, tmp_path / "b")
    for name in undisturbed.variables:
        assert resumed[name].values.tobytes() == undisturbed[name].values.tobytes(), name
    np.testing.assert_array_equal(undisturbed["loss"], rows["loss"])
    seen.clear()
    phase_run.compute(diagram, tmp_path / "a", advance=lambda: seen.append(1))
    assert len(seen) == 4  # read, not computed; the bar is full
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["phase.nc"]
    with pytest.raises(ResultError, match=r"phase\.nc: holds a result of other settings"):
        phase_run.compute(replace(diagram, seed=1), tmp_path / "a")


@x64
def test_trained_models_do_not_lie_below_the_certified_minimum(dataset, monkeypatch, tmp_path):
    """And the gate has power: minima 3 % too high are noticed."""
    monkeypatch.setattr(sampled, "STEPS", 1_500)
    monkeypatch.setattr(sampled, "DRAWS", 300_000)
    cells = sampled.check_cells(dataset, TINY, 4)
    assert len(cells) == 4
    assert [cell["density"] for cell in cells] == sorted((cell["density"] for cell in cells), reverse=True)
    assert all(cell["below"] <= 5 for cell in cells)
    wrong = sampled.check_cells(dataset.assign(loss=1.03 * dataset["loss"]), TINY, 4, tmp_path / "chunks")
    assert list(tmp_path.iterdir()) == []
    assert any(cell["below"] > 5 for cell in wrong)
    assert wrong[0]["trained"] == cells[0]["trained"]


def test_float32_is_refused():
    if jnp.zeros(()).dtype == jnp.float64:
        pytest.skip("for the float32 run")
    for call in (tricritical_points, partial(critical_importance, 0.1), partial(phase_run.compute, TINY, Path("unused"))):
        with pytest.raises(ValueError, match="float64"):
            call()
