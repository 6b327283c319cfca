"""Minimisation on problems with known minima; what did not converge says so."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from checks import assert_close

from superpose import expected_loss, features, solve, toy_model
from superpose.toy_model import Params

SPECTRUM = np.array([0.5, 1.0, 2.0, 7.0])
TOLERANCE = 1e-9 if jax.config.jax_enable_x64 else 1e-4


def quadratic(seed=0):
    """`(t - t0)^T A (t - t0) / 2 + 3` with A of the known spectrum."""
    rng = np.random.default_rng(seed)
    Q, _ = np.linalg.qr(rng.standard_normal((4, 4)))
    return jnp.asarray((Q * SPECTRUM) @ Q.T), jnp.asarray(rng.standard_normal(4))


def scattered(seed, *shape):
    return jnp.asarray(np.random.default_rng(seed).standard_normal(shape))


def rosenbrock(t, _):
    return ((1 - t[0]) ** 2 + 100 * (t[1] - t[0] ** 2) ** 2) / 100


rosenbrock_from = partial(solve.minimize, rosenbrock)


def test_quadratic_is_solved_with_its_spectrum():
    A, t0 = quadratic()
    solution = solve.minimize(lambda t: (t - t0) @ A @ (t - t0) / 2 + 3, scattered(1, 6, 4), gradient_tolerance=TOLERANCE)
    assert np.all(solution.converged)
    # In float32 the loss of 3 hides steps below 1e-3; the gradient is what is held to the tolerance.
    assert_close(solution.params, jnp.broadcast_to(t0, (6, 4)), rtol=10 * TOLERANCE)
    assert_close(solution.eigenvalues, np.broadcast_to(SPECTRUM, (6, 4)), rtol=1e-5)
    assert_close(solution.loss, np.full(6, 3.0), rtol=1e-6)
    assert np.all(solution.gradient_norm <= TOLERANCE)
    assert np.all(solution.gap <= 1e-8 * solution.loss)


@pytest.mark.x64
def test_rosenbrock_is_solved_from_anywhere():
    solution = rosenbrock_from(2 * scattered(2, 8, 2))
    assert np.all(solution.converged)
    assert_close(solution.params, np.ones((8, 2)), rtol=1e-7)
    # Hessian at (1, 1): [[802, -400], [-400, 200]] / 100.
    assert_close(solution.eigenvalues[0], np.linalg.eigvalsh([[8.02, -4.0], [-4.0, 2.0]]), rtol=1e-6)


@pytest.mark.x64
def test_what_did_not_converge_says_so():
    solution = rosenbrock_from(2 * scattered(2, 8, 2), steps=1, newton_steps=1, escapes=0)
    assert not np.any(solution.converged)
    assert np.all(solution.gradient_norm > 1e-6)
    assert np.all(solution.steps == 1)
    assert np.all(solution.reason == solve.REASONS.index("unfinished"))


@pytest.mark.x64
def test_a_start_out_of_steps_begins_again():
    once, again = (rosenbrock_from(2 * scattered(2, 8, 2), steps=8, newton_steps=1, escapes=k) for k in (0, 6))
    assert not np.all(once.converged)
    assert np.all(again.loss <= once.loss)
    assert again.converged.sum() > once.converged.sum()
    assert np.all(again.steps <= 7 * 8)


@pytest.mark.x64
def test_a_coarser_loss_only_begins():
    A, t0 = quadratic()
    starts, moved = scattered(1, 6, 4), t0 + 1e-3

    def loss(t):
        return (t - t0) @ A @ (t - t0) / 2 + 3

    plain = solve.minimize(loss, starts)
    begun = solve.minimize(loss, starts, coarser=lambda t: loss(t - moved + t0) + 1)
    assert np.all(begun.converged)
    assert_close(begun.loss, plain.loss, rtol=1e-12)
    assert_close(begun.params, plain.params, rtol=1e-6)


def test_what_is_not_finite_says_so():
    """A loss that is NaN, a loss that is infinite, and a start that is NaN, beside one that is well."""
    starts = jnp.array([[-1.0, 2.0], [0.0, 2.0], [jnp.nan, 2.0], [1.0, 2.0]])
    solution = solve.minimize(lambda t: 1 - jnp.log(t[0]) + t @ t, starts)
    assert [solve.REASONS[k] for k in solution.reason] == ["not finite"] * 3 + ["certified"]
    assert np.isnan(solution.gradient_norm[:3]).all()
    assert np.isnan(solution.loss[:3]).all()
    assert np.isinf(solution.gap[:3]).all()
    assert solution.converged.tolist() == [False] * 3 + [True]
    assert_close(solution.params[3], np.array([0.5**0.5, 0.0]), rtol=1e-6 if TOLERANCE < 1e-6 else 1e-3)


@pytest.mark.x64
def test_result_does_not_depend_on_the_lanes():
    starts = 2 * scattered(2, 8, 2)
    reference = rosenbrock_from(starts)
    for lanes in (1, 3):
        other = rosenbrock_from(starts, lanes=lanes)
        # Sums of two terms, compiled for another batch.
        assert_close(other.params, reference.params, rtol=1e-7)
        np.testing.assert_array_equal(other.converged, reference.converged)


@pytest.mark.x64
def test_data_tells_the_problems_apart():
    A, _ = quadratic()
    targets = scattered(3, 5, 4)
    starts = {"t": scattered(4, 5, 4)}
    loss = lambda t, d: (t["t"] - d[0]) @ A @ (t["t"] - d[0]) / 2 * d[1]  # noqa: E731
    scale = jnp.linspace(1, 2, 5)
    solution = jax.jit(partial(solve.minimize, loss, gradient_tolerance=TOLERANCE, lanes=2))(starts, (targets, scale))
    assert np.all(solution.converged)
    assert_close(solution.params["t"], targets, rtol=10 * TOLERANCE)
    assert_close(solution.eigenvalues, np.asarray(scale)[:, None] * SPECTRUM[None, :], rtol=1e-5)


@pytest.mark.x64
def test_antipodal_pair_of_the_theory():
    """Theory.md section 2: n=2, m=1, p=.5, I=1."""
    distribution = features.SparseUniform(0.5)
    starts = Params(W=jnp.array([[[0.8, -0.9]], [[-1.1, 1.0]]]), b=jnp.zeros((2, 2)))
    solution = jax.jit(partial(solve.minimize, lambda p, _: expected_loss.relu_output(p, distribution)))(starts)
    assert np.all(solution.converged)
    assert_close(solution.params.W[:, 0] ** 2, np.full((2, 2), 0.938902844049854), rtol=1e-8)
    assert_close(solution.params.b, np.full((2, 2), 0.0976826814112035), rtol=1e-7)
    assert_close(solution.loss, np.full(2, 0.0762824469895636), rtol=1e-12)
    # No continuous symmetry at m = 1: the minimum is strict.
    assert np.all(solution.eigenvalues[:, 0] > 1e-3)


@pytest.mark.slow
@pytest.mark.x64
def test_no_start_lies_below_the_best_pentagon():
    """Theory against training, one-sided: n=5, m=2, p=.03, where five features make a pentagon.

    The first start is the regular unit pentagon: what it settles to is the best pentagon, and the others may only match it.
    """
    distribution = features.SparseUniform(0.03)
    angle = 2 * jnp.pi * jnp.arange(5) / 5
    pentagon = Params(W=jnp.stack([jnp.cos(angle), jnp.sin(angle)])[None], b=jnp.zeros((1, 5)))
    random = jax.vmap(lambda k: toy_model.init(k, n=5, m=2))(jax.random.split(jax.random.key(0), 7))
    starts = jax.tree.map(lambda a, b: jnp.concatenate([a, b]), pentagon, random)
    loss = lambda params, _: expected_loss.relu_output(params, distribution, nodes=32)  # noqa: E731
    found = jax.jit(partial(solve.minimize, loss, newton_steps=3))(starts)
    best = found.loss[0]
    assert found.converged[0]
    assert_close(jnp.linalg.norm(found.params.W[0], axis=0), np.full(5, np.linalg.norm(found.params.W[0, :, 0])), rtol=1e-4)
    # The series' own error at 32 nodes is 1e-4 of the loss, alike for all orientations of a pentagon.
    assert np.all(found.loss >= best * (1 - 1e-4))
    reached = np.asarray(found.converged & (jnp.abs(found.loss / best - 1) < 1e-4))
    assert reached[1:].any()
    # One rotation leaves the loss alone: one eigenvalue of about 0.
    flattest = np.abs(found.eigenvalues)[reached, 0] / np.asarray(found.eigenvalues)[reached, -1]
    assert np.all(flattest <= 1e-6)


@pytest.mark.x64
@pytest.mark.parametrize(
    ("name", "value"),
    [("steps", 0), ("newton_steps", 0), ("lanes", 0), ("tolerance", 0.0), ("gradient_tolerance", -1.0), ("escapes", -1)],
)
def test_wrong_settings_are_named(name, value):
    with pytest.raises(ValueError, match=f"{name} = {value}"):
        solve.minimize(rosenbrock, jnp.zeros((1, 2)), **{name: value})


def test_basins_count_what_converged():
    losses = jnp.array([2.0, 1.0, 1.0 + 1e-8, 0.5, 3.0, 2.0 - 1e-8])
    converged = jnp.array([True, True, True, False, True, True])
    basin, counts = solve.basins(losses, converged)
    assert basin.tolist() == [1, 0, 0, -1, 2, 1]
    assert counts.tolist() == [2, 2, 1, 0, 0, 0]


def test_basins_are_empty_where_nothing_converged():
    basin, counts = jax.jit(solve.basins)(jnp.array([1.0, 2.0, jnp.nan]), jnp.zeros(3, bool))
    assert basin.tolist() == [-1, -1, -1]
    assert counts.tolist() == [0, 0, 0]


def test_basins_part_at_the_tolerance():
    losses = jnp.array([1.0, 1.0 + 1e-3, 1.0 + 3e-3])
    for tolerance, expected in ((1e-4, [0, 1, 2]), (1.5e-3, [0, 0, 1]), (1e-2, [0, 0, 0])):
        basin, _ = solve.basins(losses, jnp.ones(3, bool), tolerance=tolerance)
        assert basin.tolist() == expected
