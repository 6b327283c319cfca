"""Large problems: known spectra and gaps from products alone, saddles that are left or named, symmetries that do no harm."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from checks import assert_close

from superpose import expected_loss, features, solve
from superpose.solve import krylov, minimize_large, without_rotations
from superpose.toy_model import Params

D = 300
X64 = bool(jax.config.jax_enable_x64)
TOLERANCE = 1e-8 if X64 else 1e-5
REASON = {name: k for k, name in enumerate(solve.REASONS)}


def with_spectrum(spectrum, seed=0):
    """A symmetric matrix with these eigenvalues, and its eigenvectors in columns."""
    Q, _ = np.linalg.qr(np.random.default_rng(seed).standard_normal((len(spectrum), len(spectrum))))
    return (Q * spectrum) @ Q.T, Q


def scattered(seed, *shape):
    return jnp.asarray(np.random.default_rng(seed).standard_normal(shape))


SPECTRUM = np.geomspace(2e-2, 1, D)
ends_of = jax.jit(lambda A, v, steps: krylov.ends(lambda x: A @ x, v, steps, most=120))


@pytest.mark.parametrize(
    "low",
    [[1e-2], [0.0] * 30, [-1e-2], [-1e-4], [-1e-4] + [0.0] * 30],
    ids=["positive", "flat", "saddle", "shallow saddle", "shallow saddle beside flat"],
)
@pytest.mark.x64
def test_ends_of_a_known_spectrum(low):
    spectrum = np.concatenate([low, np.geomspace(2e-2, 1, D - len(low))])
    ends = ends_of(jnp.asarray(with_spectrum(spectrum)[0]), scattered(1, D), 120)
    assert_close(ends.largest, 1.0, rtol=1e-12)
    assert ends.error < 3e-5
    assert min(low) - 1e-12 <= ends.lowest <= min(low) + ends.error + 1e-12


@pytest.mark.x64
def test_error_of_the_lowest_eigenvalue_holds_at_every_number_of_steps():
    """An eigenvalue lies within the error of the Ritz value, also long before the lowest is found."""
    A = jnp.asarray(with_spectrum(SPECTRUM)[0])
    errors = []
    for steps in (1, 3, 10, 30):
        ends = ends_of(A, scattered(2, D), steps)
        assert np.min(np.abs(SPECTRUM - float(ends.lowest))) <= ends.error
        errors.append(float(ends.error))
    assert errors[-1] < 0.05 * errors[0]


@pytest.mark.parametrize("value", [0.0, 2.0])
def test_ends_of_a_single_eigenvalue(value):
    """All is known after one product; nothing is made of what is left by rounding."""
    ends = ends_of(value * jnp.eye(D), scattered(3, D), 80)
    assert_close(jnp.stack([ends.lowest, ends.largest]), np.full(2, value), rtol=1e-5)
    assert ends.error <= 1e-5


@pytest.mark.x64
def test_decrement_of_a_quadratic_is_bounded_at_every_number_of_steps():
    A, _ = with_spectrum(SPECTRUM)
    g, shift = np.asarray(scattered(4, D)), 1e-3
    true = g @ np.linalg.solve(A + shift * np.eye(D), g) / 2
    found = partial(krylov.solved, lambda x: jnp.asarray(A) @ x, jnp.asarray(g), jnp.asarray(shift), rtol=jnp.zeros(()))
    gaps = [float(found(atol=jnp.array(1e-9), steps=steps).decrement) for steps in (5, 20, 200)]
    assert all(gap >= true * (1 - 1e-12) for gap in gaps)
    assert_close(gaps[-1], true, rtol=1e-9)
    assert gaps[0] > 1.02 * true


def test_decrement_of_a_saddle_is_no_number_and_its_curvature_is_shown():
    A = jnp.diag(jnp.concatenate([jnp.array([-0.5]), jnp.ones(D - 1)]))
    small = jnp.array(1e-3)
    found = krylov.solved(lambda x: A @ x, jnp.ones(D), small, atol=small, rtol=small, steps=50)
    assert found.decrement == jnp.inf
    assert_close(found.curvature, found.direction @ A @ found.direction, rtol=1e-4)
    assert_close(jnp.linalg.norm(found.direction), 1.0, rtol=1e-6)
    assert found.curvature < -small


@pytest.mark.x64
def test_lanczos_stops_where_the_lowest_eigenvalue_is_sure():
    """It looks now and then whether the error is small enough; where that is never so it goes on to the end."""
    A, products = jnp.asarray(with_spectrum(np.concatenate([[-1e-2], SPECTRUM[1:]]))[0]), []

    def product(x):
        jax.debug.callback(lambda: products.append(1))
        return A @ x

    found = krylov.ends(product, scattered(1, D), 250, most=250, rtol=0.1)
    jax.effects_barrier()
    assert found.error <= 0.1 * 1.1e-2
    assert abs(found.lowest + 1e-2) <= found.error
    shown = len(products)
    assert shown <= 150
    krylov.ends(product, scattered(1, D), 120, most=250)
    jax.effects_barrier()
    assert len(products) == shown + 120


@pytest.mark.x64
def test_lowest_eigenvalues_come_with_their_vectors():
    spectrum = np.concatenate([[-3e-1, -2e-1, -1e-1], SPECTRUM[3:]])
    A, Q = with_spectrum(spectrum)
    found = krylov.ends(lambda x: jnp.asarray(A) @ x, scattered(1, D), 120, most=120)
    assert_close(found.low[:3], spectrum[:3], rtol=1e-9)
    assert np.abs(np.abs(found.vectors[:3] @ Q[:, :3]) - np.eye(3)).max() < 1e-6
    few = krylov.ends(lambda x: jnp.asarray(A) @ x, scattered(1, D), 2, most=120)
    assert few.low[1] == few.largest == few.low[7]


@pytest.mark.x64
def test_a_finer_loss_counts_and_a_coarser_one_only_begins():
    """Quadratics around other points: the finer one's minimum lies `shift^2 / 2` of slope and a constant away."""
    A, t0 = (x[0] for x in quartics())

    def around(shift, constant):
        return lambda t, _: 3 + constant + (t - t0 - shift) @ A @ (t - t0 - shift) / 2

    search = partial(minimize_large, around(0.0, 0.0), (t0 + 0.3 * scattered(6, D))[None], lanczos_steps=120)
    plain, begun = search(), search(coarser=around(1e-4, 1.0))
    assert_close(begun.loss, plain.loss, rtol=1e-8)
    assert bool(plain.converged[0] & begun.converged[0])
    apart = search(finer=around(0.0, 1e-3))
    assert REASON["inexact"] == apart.reason[0]
    assert_close(apart.gap[0], 1e-3, rtol=1e-3)
    moved = search(finer=around(1e-3, 0.0))
    difference = 1e-6 * np.ones(D) @ np.asarray(A) @ np.ones(D) / 2
    assert moved.gap[0] >= difference
    assert REASON["inexact"] == moved.reason[0]


def quartic(t, data):
    """`3 + s^T A s / 2 + sum_i s_i^4 / 4`, `s = t - t0`: from t0 downhill along negative eigenvalues of A."""
    A, t0 = data
    return 3 + (t - t0) @ A @ (t - t0) / 2 + jnp.sum((t - t0) ** 4) / 4


settled = jax.jit(
    partial(minimize_large, quartic, tolerance=TOLERANCE, flat=1e-6 if X64 else 1e-4, lanczos_steps=120),
    static_argnames=("rounds", "lanes", "steps"),
)
LOWEST = (1e-2, -1e-2, -1e-3)


def quartics():
    """One minimum and two saddles, each with its matrix."""
    matrices = [with_spectrum(np.concatenate([[low], SPECTRUM[1:]]))[0] for low in LOWEST]
    return jnp.asarray(np.stack(matrices)), scattered(5, 3, D)


@pytest.mark.x64
def test_quadratic_part_is_solved_with_its_spectrum():
    data = quartics()
    starts = data[1] + 0.3 * scattered(6, 3, D)
    found = settled(starts, data)
    assert np.all(found.converged)
    assert np.all(found.gap <= TOLERANCE * found.loss)
    assert_close(found.params[0], data[1][0], rtol=1e-6)
    assert_close(found.loss[0], 3.0, rtol=1e-12)
    assert_close(found.eigenvalues[0, 0], 1e-2, rtol=1e-4)
    assert_close(found.eigenvalues[0, 1], 1.0, rtol=1e-6)
    assert np.all(found.loss[1:] < 3)


def test_a_saddle_is_named_or_left():
    """From where the gradient is exactly 0 and one eigenvalue of 300 is negative."""
    data = quartics()
    stopped = settled(data[1], data, steps=2, rounds=1)
    assert stopped.reason.tolist() == [REASON["certified"], REASON["saddle"], REASON["saddle"]]
    assert_close(stopped.loss, np.full(3, 3.0))
    assert_close(stopped.eigenvalues[1:, 0], np.array(LOWEST[1:]), rtol=1e-3)
    left = settled(data[1], data)
    assert np.all(left.converged)
    assert np.all(left.loss[1:] < 3)


@pytest.mark.x64
def test_under_vmap_the_same():
    data = quartics()
    starts = data[1] + 0.3 * scattered(6, 3, D)
    alone = settled(starts, data)
    mapped = jax.vmap(lambda t, d: settled(t[None], jax.tree.map(lambda x: x[None], d)))(starts, data)
    assert_close(mapped.loss[:, 0], alone.loss, rtol=1e-9)
    np.testing.assert_array_equal(mapped.converged[:, 0], alone.converged)


@pytest.mark.x64
def test_what_is_not_finished_says_so():
    data = quartics()
    found = settled(data[1] + 0.3 * scattered(6, 3, D), data, steps=2, rounds=1)
    assert not np.any(found.converged)
    assert np.all(found.gap > TOLERANCE * found.loss)


def test_a_loss_that_is_not_finite_is_not_converged():
    matrices, points = quartics()
    found = settled(points, (matrices, points.at[1, 0].set(jnp.nan)), steps=2, rounds=1)
    assert found.reason.tolist() == [REASON[name] for name in ("certified", "not finite", "saddle")]
    assert found.converged.tolist() == [True, False, False]


@pytest.mark.x64
def test_rosenbrock_chain():
    """`sum_i 100 (t_{i+1} - t_i^2)^2 + (1 - t_i)^2`, whose only minimum with all t_i > 0 is 1."""

    def chain(t, _):
        return 1 + jnp.mean(100 * (t[1:] - t[:-1] ** 2) ** 2 + (1 - t[:-1]) ** 2) / 100

    found = jax.jit(partial(minimize_large, chain))(0.5 + 0.1 * jnp.abs(scattered(7, 1, 120)))
    assert found.converged[0]
    assert 0 <= found.loss[0] - 1 <= found.gap[0] <= 1e-8
    assert_close(found.params[0], np.ones(120), rtol=2e-3)  # the loss is flat along the chain


def wells(params, _):
    """Distance of `W^T W` to a matrix of rank 4: alike for all rotations of W."""
    target = np.diag([4.0, 3.0, 2.0, 1.0] + [0.0] * 36)
    return 1 + jnp.sum((params.W.T @ params.W - jnp.asarray(target, params.W.dtype)) ** 2) / 40 + jnp.sum(params.b**2)


@pytest.mark.parametrize("deflate", [None, without_rotations], ids=["flat", "deflated"])
@pytest.mark.x64
def test_rotations_do_not_hide_a_minimum(deflate):
    starts = Params(W=scattered(8, 1, 4, 40), b=scattered(9, 1, 40))
    found = jax.jit(partial(minimize_large, wells, deflate=deflate))(starts)
    assert found.converged[0]
    assert_close(found.loss[0], 1.0, rtol=1e-8)
    assert_close(jnp.linalg.norm(found.params.W[0], axis=0)[:4], np.sqrt([4.0, 3.0, 2.0, 1.0]), rtol=1e-4)
    # Six rotations have eigenvalue 0. The softest other direction is a column of length 0 along the shortest: 4 / 40.
    assert abs(found.eigenvalues[0, 0] - (0 if deflate is None else 0.1)) < 1e-5


@pytest.mark.x64
def test_without_rotations_is_a_projection():
    params = Params(W=scattered(10, 4, 9), b=scattered(11, 9))
    turn = scattered(12, 4, 4)
    along = Params(W=(turn - turn.T) @ params.W, b=jnp.zeros(9))
    assert jnp.abs(without_rotations(params, along).W).max() < 1e-13
    left = without_rotations(params, Params(W=scattered(13, 4, 9), b=scattered(14, 9)))
    assert_close(without_rotations(params, left).W, left.W, rtol=1e-12)
    assert abs(jnp.sum(left.W * along.W)) < 1e-11
    assert_close(left.b, scattered(14, 9))


@pytest.mark.x64
@pytest.mark.parametrize("name", ["steps", "rounds", "memory", "lanczos_steps", "lanes"])
def test_wrong_settings_are_named(name):
    with pytest.raises(ValueError, match=f"{name} = 0: needs at least 1"):
        minimize_large(quartic, jnp.zeros((1, 2)), **{name: 0})


@pytest.mark.slow
@pytest.mark.x64
def test_agrees_with_the_dense_solver():
    """With n = 40, m = 2, 120 numbers, both can: what one certifies the other does not better."""
    law = features.SparseUniform(0.2)

    def loss(params, _):
        plain = Params(W=params.W, b=params.b * 0.2**0.5)
        return expected_loss.relu_output(plain, law, nodes=48) * 3 / (40 * 0.2)

    starts = Params(W=scattered(15, 1, 2, 40) * 0.2, b=jnp.zeros((1, 40)))
    found = jax.jit(partial(minimize_large, loss, deflate=without_rotations))(starts)
    assert found.converged[0]
    dense = jax.jit(partial(solve.minimize, loss))(found.params)
    assert_close(dense.loss, found.loss, rtol=1e-8)
    assert found.gap[0] <= 1e-8 * found.loss[0]
