"""Encoders that know the dictionary: against NumPy and SciPy, conditions of optimality, and the posterior that none beats."""

from functools import partial
from itertools import combinations, product

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from checks import EPS, RTOL, assert_close, assert_matches_simulation, theorem
from hypothesis import given
from hypothesis import strategies as st
from scipy.integrate import quad
from scipy.optimize import nnls

from superpose import frames, sae
from superpose.sae import ladder

SOLVED = 1000 * EPS
"""Codes are solved from Gram matrices whose condition is below 100 in these tests: two digits lost, and a dozen roundings."""


def world(m, n, seed=0, *, samples=20, p=0.2, noise=0.0, binary=False):
    """x, h and a random dictionary with unit columns."""
    rng = np.random.default_rng(seed)
    D = rng.standard_normal((m, n))
    D /= np.linalg.norm(D, axis=0)
    x = (rng.random((samples, n)) < p) * (1.0 if binary else rng.random((samples, n)))
    h = x @ D.T + noise * rng.standard_normal((samples, m))
    return tuple(jnp.asarray(a, float) for a in (x, h, D))


def each(encode, D, h, *more):
    return jax.jit(jax.vmap(lambda *one: encode(D, *one)))(h, *more)


def in_numpy(*arrays):
    return tuple(np.asarray(a, np.float64) for a in arrays)


def test_threshold_is_that_written_out():
    _, h, D = world(3, 5)
    D = D.at[:, 2].set(0) * 2
    z = each(partial(ladder.threshold, t=0.1), D, h)
    H, W = in_numpy(h, D)
    rows = [[max(0, w @ row / (w @ w) - 0.1) if w @ w else 0 for w in W.T] for row in H]
    np.testing.assert_allclose(z, rows, rtol=RTOL, atol=4 * RTOL)


SHAPES = [(8, 5), (3, 3), (5, 20)]


@pytest.mark.parametrize("shape", SHAPES)
def test_lasso_meets_its_optimality_conditions(shape):
    """`D_i . r <= penalty`, with equality where x_i > 0: necessary and sufficient, the problem is convex."""
    _, h, D = world(*shape, noise=0.1)
    solve = jax.jit(jax.vmap(lambda h, penalty: ladder.lasso(D, h, penalty), in_axes=(0, None)))
    for penalty in (0.0, 0.02, 0.2):
        codes = solve(h, penalty)
        H, W, x = in_numpy(h, D, codes.x)
        along = (H - x @ W.T) @ W
        assert np.all(along <= penalty + 100 * SOLVED)
        assert np.all((x == 0) | (along >= penalty - 100 * SOLVED))
        assert np.all(x >= 0)
        assert np.all((x > 0).sum(1) <= min(shape))
        assert np.all(np.asarray(codes.gap) <= 5000 * EPS)  # 64 EPS for a penalty of 0, times `|h|` and the sum of x
        if penalty == 0.0:
            least = np.array([nnls(W, row)[1] for row in H])
            np.testing.assert_allclose(np.linalg.norm(H - x @ W.T, axis=1), least, atol=1e4 * EPS)
            cut = ladder.lasso(D, h[0], most=1)
            assert (float(cut.gap) > 1e-3) == (np.sum(x[0] > 0) > 1)


_lasso, _gap = jax.jit(ladder.lasso), jax.jit(ladder.gap)


@theorem
@given(st.sampled_from(SHAPES), st.integers(0, 99))
def test_no_code_lies_further_above_the_minimum_than_its_gap(shape, seed):
    _, h, D = world(*shape, seed, samples=1, noise=0.2)
    penalty, rng = 0.05, np.random.default_rng(seed)
    some = jnp.asarray(rng.random(shape[1]) * (rng.random(shape[1]) < 0.5), float)

    def objective(x):
        return float(jnp.sum((h[0] - D @ x) ** 2) / 2 + penalty * jnp.sum(x))

    codes = _lasso(D, h[0], penalty)
    assert objective(codes.x) <= objective(some) + 100 * EPS
    assert objective(some) - objective(codes.x) <= float(_gap(D, h[0], some, penalty)) * (1 + 100 * EPS) + 100 * EPS
    if float(jnp.max(codes.x)) > 0.1:
        assert float(_gap(D, h[0], 1.02 * codes.x, penalty)) > 1e-6  # it sees 2 %


def degenerate():
    """Dictionaries in which many features tie."""
    pentagon = frames.polygon(5)
    return {
        "pairs": frames.antipodal_pairs(3),
        "simplex": frames.simplex(5),
        "pentagon": pentagon,
        "twice": jnp.concatenate([pentagon, pentagon[:, :3], jnp.zeros((2, 1))], axis=1),
        "same": jnp.ones((2, 3)),
    }


@pytest.mark.parametrize("name", ["pairs", "simplex", "pentagon", "twice", "same"])
def test_ties_do_not_stop_the_path(name):
    """Activations of up to two features, equally strong."""
    D = degenerate()[name]
    n = D.shape[1]
    x = np.eye(n)[:, None] + np.eye(n)[None]
    h = jnp.asarray(np.append(x.reshape(-1, n), np.zeros((1, n)), axis=0), float) @ D.T
    solve = jax.jit(jax.vmap(lambda h, penalty: ladder.lasso(D, h, penalty), in_axes=(0, None)))
    for penalty in (0.0, 0.1):
        codes = solve(h, penalty)
        assert np.all(np.asarray(codes.gap) <= 3e4 * EPS)  # h is up to 4 long
    assert np.all(np.isfinite(codes.x))


def slow_pursuit(D, h, k, signed):
    chosen, x = [], np.zeros(D.shape[1])
    for _ in range(k):
        r = h - D @ x
        along = D.T @ r / np.linalg.norm(D, axis=0)
        score = np.abs(along) if signed else along
        score[chosen] = -1
        if np.linalg.norm(r) < 1e-5 or score.max() <= 0:
            break
        chosen.append(int(score.argmax()))
        x = np.zeros(D.shape[1])
        x[chosen] = np.linalg.lstsq(D[:, chosen], h)[0] if signed else nnls(D[:, chosen], h)[0]
    return x


@pytest.mark.parametrize("signed", [False, True])
def test_pursuit_is_the_slow_one(signed):
    _, h, D = world(6, 12, 3, samples=40, noise=0.05)
    D, k = D * jnp.linspace(0.5, 2, 12)[None], jnp.arange(40) % 5
    found = each(partial(ladder.pursuit, most=4, signed=signed), D, h, k)
    H, W = in_numpy(h, D)
    slow = np.array([slow_pursuit(W, row, count, signed) for row, count in zip(H, k, strict=True)])
    np.testing.assert_allclose(found, slow, atol=10 * SOLVED)
    assert np.all((np.asarray(found) != 0).sum(1) <= np.asarray(k))
    assert signed == bool(np.any(np.asarray(found) < 0))


def test_pursuit_stops_at_what_is_left():
    """Without noise at the features that are there; with a tolerance as soon as the residual is within."""
    x = world(8, 8, p=0.4)[0]
    found = each(partial(ladder.pursuit, k=8), jnp.eye(8), x)
    np.testing.assert_array_equal(np.asarray(found) != 0, np.asarray(x) != 0)
    np.testing.assert_allclose(found, x, atol=SOLVED)
    loose = each(partial(ladder.pursuit, k=8, tolerance=0.7), jnp.eye(8), x)
    left = np.asarray(x) * (np.asarray(loose) == 0)
    assert np.all(np.linalg.norm(left, axis=1) <= 0.7)
    last = np.where(np.asarray(loose) > 0, np.asarray(x), np.inf).min(1)
    assert np.all((np.linalg.norm(left, axis=1) ** 2 + last**2 > 0.49) | np.isinf(last))


def test_lista_starts_as_projected_gradient_descent():
    """Its limit is non-negative least squares, and one layer is the plain encoder."""
    h = world(8, 5, noise=0.1)[1]
    D = (
        jnp.asarray(np.linalg.qr(np.random.default_rng(1).standard_normal((8, 8)))[0][:, :5], float)
        * jnp.linspace(1, 2, 5)[None]
    )
    many, one = ladder.lista(60), ladder.lista(1)
    params = ladder.from_dictionary(D, variant=many)
    # each step leaves at most 1 - 1/4 of the error: .75^60 = 3e-8
    np.testing.assert_allclose(sae.latents(params, h, variant=many), each(ladder.lasso, D, h).x, atol=1e-7 + SOLVED)
    plain = sae.latents(params, h, variant=sae.RELU)
    np.testing.assert_array_equal(sae.latents(params, h, variant=one), plain)
    two = jax.nn.relu(h @ params.W_enc.T + plain @ params.S.T)
    np.testing.assert_allclose(sae.latents(params, h, variant=ladder.lista(2)), two, rtol=RTOL, atol=RTOL)


@pytest.mark.parametrize("name", ["UNIT_RELU", "TOP_K", "lista"])
def test_frozen_dictionaries_stay(name):
    variant = ladder.lista(2) if name == "lista" else getattr(sae, name)
    x, h, D = world(4, 6, samples=200)
    start = ladder.from_dictionary(D, variant=variant)
    how = {"variant": ladder.frozen(variant), "k": 2.0, "steps": 60, "batch": 32, "rate": 1e-2}
    own = sae.fit(jax.random.key(0), start, h, penalty=0.05, **how)
    np.testing.assert_array_equal(own.params.W_dec, D)
    np.testing.assert_array_equal(own.params.b_dec, np.zeros(4))
    assert np.any(own.params.W_enc != start.W_enc)
    if name == "lista":
        found = sae.fit(jax.random.key(0), ladder.supervised(start), (h, x), **how)
        np.testing.assert_array_equal(found.params.W_dec, np.eye(6))
        before, after = (jnp.sum((x - sae.latents(p, h, variant=variant)) ** 2) for p in (start, found.params))
        assert after < 0.9 * before


def slow_posterior(D, h, p, noise, most):
    states = [np.array(s) for s in product([0, 1], repeat=len(p)) if sum(s) <= most]
    prior = np.array([np.prod(np.where(s == 1, p, 1 - p)) for s in states])
    weight = prior * np.exp([-np.sum((h - D @ s) ** 2) / (2 * noise**2) for s in states])
    return weight @ np.array(states) / weight.sum(), states[weight.argmax()], 1 - prior.sum()


@pytest.mark.parametrize("most", [5, 2])
def test_posterior_is_the_slow_one(most):
    _, h, D = world(3, 5, binary=True, noise=0.3)
    p = jnp.linspace(0.1, 0.6, 5)
    found = each(partial(ladder.posterior, density=p, noise=0.3, most=most), D, h)
    H, W, P = in_numpy(h, D, p)
    for i, row in enumerate(H):
        mean, best, left_out = slow_posterior(W, row, P, 0.3, most)
        np.testing.assert_allclose(found.mean[i], mean, atol=100 * RTOL)  # logits of about 30
        np.testing.assert_array_equal(found.best[i], best)
        np.testing.assert_allclose(found.left_out[i], left_out, atol=RTOL)


@pytest.mark.x64
def test_posterior_of_one_feature_has_the_known_error():
    """`E (x - E[x | h])^2 = E[q (1 - q)]`, q the probability that it is on, by quadrature over h."""
    p, noise, rng = 0.3, 1.0, np.random.default_rng(0)
    x = (rng.random(600_000) < p) * 1.0
    h = jnp.asarray(x + noise * rng.standard_normal(len(x)))[:, None]
    mean = each(partial(ladder.posterior, density=p, noise=noise), jnp.ones((1, 1)), h).mean[:, 0]

    def integrand(h):
        on, off = (
            w * np.exp(-((h - s) ** 2) / (2 * noise**2)) / np.sqrt(2 * np.pi) / noise for w, s in ((p, 1), (1 - p, 0))
        )
        return on * off / (on + off)

    assert_matches_simulation((x - np.asarray(mean)) ** 2, quad(integrand, -8, 9)[0])


@pytest.mark.slow
@pytest.mark.x64
def test_no_encoder_beats_the_posterior():
    """`E|x - z|^2 - E|x - mean|^2 = E|z - mean|^2` for every function z of h: by simulation, and never below."""
    n, noise, p = 8, 0.2, 0.15
    x, h, D = world(4, n, 1, samples=8_000, p=p, noise=noise, binary=True)
    mean = each(partial(ladder.posterior, density=p, noise=noise), D, h).mean
    variant = ladder.lista(4)
    start = ladder.supervised(ladder.from_dictionary(D, variant=variant))
    how = {"steps": 150, "batch": 64, "rate": 1e-2}
    trained = sae.fit(jax.random.key(0), start, (h, x), variant=ladder.frozen(variant), **how).params
    encoders = {
        "threshold": each(partial(ladder.threshold, t=0.3), D, h),
        "lista": sae.latents(trained, h, variant=variant),
        "lasso": each(partial(ladder.lasso, penalty=0.05), D, h).x,
        "pursuit": each(partial(ladder.pursuit, k=3, tolerance=noise * 2), D, h),
        "best": each(partial(ladder.posterior, density=p, noise=noise), D, h).best,
        "almost": 0.98 * mean,
    }
    least = jnp.sum((x - mean) ** 2, axis=1)
    for name, z in encoders.items():
        more = np.asarray(jnp.sum((x - z) ** 2, axis=1) - least)
        apart = np.asarray(jnp.sum((z - mean) ** 2, axis=1))
        off = more - apart
        assert abs(off.mean()) <= 5 * off.std() / np.sqrt(len(off)), name
        sem = more.std() / np.sqrt(len(more))
        assert more.mean() >= -5 * sem, name
        assert more.mean() > 5 * sem or name == "almost"  # the others are told from the posterior


@pytest.mark.x64
def test_best_code_is_the_best_of_all():
    """Against non-negative least squares on every support, zeros allowed."""
    n, most, noise = 6, 3, 0.1
    p = np.linspace(0.05, 0.3, n)
    x, h, D = world(4, n, 2, noise=noise)
    found = np.asarray(each(partial(ladder.best_code, density=jnp.asarray(p), noise=noise, most=most), D, h))
    H, W = in_numpy(h, D)
    odds = np.log((1 - p) / p)
    for z, row in zip(found, H, strict=True):
        values = [
            (nnls(W[:, s], row)[1] ** 2 if s else row @ row) / (2 * noise**2) + odds[list(s)].sum()
            for k in range(most + 1)
            for s in combinations(range(n), k)
        ]
        value = np.sum((row - W @ z) ** 2) / (2 * noise**2) + odds[z > 0].sum()
        np.testing.assert_allclose(value, min(values), rtol=1e-10)
    exact = each(partial(ladder.best_code, density=0.1, noise=1e-6, most=3), D, x @ D.T)
    few = np.asarray((x > 0).sum(1)) <= 3
    np.testing.assert_allclose(np.asarray(exact)[few], np.asarray(x)[few], atol=SOLVED)


SMALL = ladder.Settings(penalties=(0.0, 0.05), steps=250, batch=32, rate=1e-2, layers=3)


@pytest.mark.slow
@pytest.mark.x64
def test_the_posterior_is_the_highest_rung():
    x, h, D = world(3, 6, samples=2000, p=0.15, noise=0.1, binary=True)
    bias = jnp.asarray([1.0, -2.0, 0.5])
    settings = ladder.Settings(**{**vars(SMALL), "noise": 0.1, "density": 0.15})
    rungs = ladder.ladder(jax.random.key(0), x, h + bias[None], D, bias, settings=settings)
    assert list(rungs) == ["threshold", "frozen", "encoder", "lista", "lasso", "pursuit", "exhaustive"]
    top = rungs["exhaustive"]
    for name, rung in rungs.items():
        assert np.isfinite(rung.setting) == (name in ("threshold", "frozen", "lasso", "pursuit"))
        assert rung.error >= top.error
        assert rung.f1 <= top.f1 + 0.02
        assert 0 <= rung.fvu <= 1
    assert rungs["lista"].error < rungs["encoder"].error < rungs["threshold"].error
    assert abs(top.l0 - 0.9) < 0.1  # as many as there are features


@pytest.mark.x64
@pytest.mark.slow
def test_where_features_do_not_overlap_every_rung_is_right():
    x, _, _ = world(4, 4, samples=600, p=0.3)
    settings = ladder.Settings(**{**vars(SMALL), "density": 0.3, "steps": 200, "penalties": (0.0,)})
    rungs = ladder.ladder(jax.random.key(0), x, x, jnp.eye(4), settings=settings)
    for name, rung in rungs.items():
        trained = name in ("frozen", "encoder", "lista")
        assert rung.error <= (1e-4 if trained else 100 * SOLVED), name
        assert rung.fvu <= (1e-4 if trained else 100 * SOLVED), name
        assert trained or abs(rung.f1 - 1) < 1e-6
    on = (x[300:] > 0).sum(1).mean()
    np.testing.assert_allclose(rungs["pursuit"].l0, on, rtol=RTOL)


def test_errors_are_told_apart():
    """A right dictionary has no error, whatever its order and scale; right codes have none; a wrong dictionary has one."""
    x, h, D = world(6, 8, samples=300, p=0.15)
    order, scale = np.array([3, 1, 0, 2, 6, 7, 5, 4]), jnp.linspace(0.5, 2, 8)
    W_dec, z = (D * scale[None])[:, order], (x / scale[None])[:, order]
    found = ladder.apart(x, h, D, W_dec, z)
    for rung in (found.own, found.refit, found.truth):
        assert_close(rung.f1, np.ones(()))
        assert rung.fvu < 1e4 * EPS
        assert rung.error < 1e4 * EPS
        np.testing.assert_allclose(rung.l0, (x > 0).sum(1).mean(), rtol=RTOL)
    shrunk = ladder.apart(x, h, D, W_dec, 0.7 * z)
    np.testing.assert_allclose(shrunk.encoder, 0.09 * float((h**2).sum() / ((h - h.mean(0)[None]) ** 2).sum()), rtol=1e-4)
    np.testing.assert_allclose(shrunk.dictionary, 0, atol=1e4 * EPS)
    turned = W_dec + 0.3 * jnp.asarray(np.random.default_rng(3).standard_normal(W_dec.shape), float)
    wrong = ladder.apart(x, h, D, turned, z, bias=jnp.zeros(6), b_dec=jnp.zeros(6))
    assert wrong.dictionary > 0.02
    assert wrong.truth.fvu < 1e4 * EPS


@pytest.mark.x64
@theorem
@given(st.integers(0, 20))
def test_neither_codes_nor_refits_are_below_the_optimum(seed):
    """Optimal codes on the own dictionary are no worse than any of its own, and never more."""
    rng = np.random.default_rng(seed)
    x, h, D = world(4, 6, seed, samples=30, noise=0.1)
    W_dec = jnp.asarray(rng.standard_normal((4, 5)), float)
    z = jnp.asarray(rng.random((30, 5)) * (rng.random((30, 5)) < 0.4), float)
    found = ladder.apart(x, h, D, W_dec, z, most=4)
    assert found.encoder >= -100 * EPS
    assert found.refit.l0 <= found.own.l0
    assert found.truth.l0 <= found.own.l0
    assert_close(found.own.fvu, found.encoder + found.dictionary + found.truth.fvu)


X, H, D = world(3, 6)
BAD = jnp.where(jnp.arange(3) == 1, jnp.nan, H[0])


def climb(x=X, h=H, D=D, bias=None, **changes):
    return ladder.ladder(jax.random.key(0), x, h, D, bias, settings=ladder.Settings(**{"steps": 1, **changes}))


REFUSED = {
    "k = 7: needs at least 1 and at most min\\(m, n\\) = 3": lambda: ladder.pursuit(D, H[0], 7),
    "k = 5: needs at least 0 and at most most = 2": lambda: ladder.pursuit(D, H[0], 5, most=2),
    "most = None: needs the largest k": lambda: ladder.pursuit(D, H[0], jnp.asarray(2)),
    "tolerance = -1": lambda: ladder.pursuit(D, H[0], 2, -1.0),
    "penalty = -0.1: needs to be at least 0": lambda: ladder.lasso(D, H[0], -0.1),
    "penalty = nan": lambda: ladder.lasso(D, H[0], float("nan")),
    "most = 7: needs at least 1 and at most n = 6": lambda: ladder.lasso(D, H[0], most=7),
    "h holds 1 numbers that are not finite": lambda: ladder.lasso(D, BAD),
    "h has shape \\(2,\\): needs \\(m,\\) = \\(3,\\)": lambda: ladder.threshold(D, H[0, :2], 0.1),
    "t = -0.5": lambda: ladder.threshold(D, H[0], -0.5),
    "layers = 0": lambda: ladder.lista(0),
    "D has nan or inf in column 1": lambda: ladder.from_dictionary(D.at[0, 1].set(jnp.nan), variant=sae.RELU),
    "noise = 0.0: needs to be above 0": lambda: ladder.posterior(D, H[0], 0.1, 0.0),
    "density = 1.5: needs to lie between 0 and 1": lambda: ladder.posterior(D, H[0], 1.5, 0.1),
    "most = 20: gives 1048576 supports of n = 20 features": lambda: ladder.supports(20, 20),
    "density = 0.5: needs to lie between 0 and 0.5": lambda: ladder.best_code(D, H[0], 0.5, 0.1, most=2),
    "most = 4: needs at most m = 3": lambda: ladder.best_code(D, H[0], 0.1, 0.1, most=4),
    "k = 4: needs at least 1 and at most min\\(m, n\\) = 3": lambda: climb(k=4),
    "penalties = .*: needs to be at least 0": lambda: climb(penalties=(0.1, -0.1)),
    "noise = -1": lambda: climb(noise=-1.0),
    "noise = 0.0: needs to be above": lambda: climb(1.0 * (X > 0), penalties=(0.0,), density=0.2),
    "density = 0.7: needs to lie between 0 and 0.5": lambda: climb(penalties=(0.0,), density=0.7),
    "x has shape \\(20, 5\\): needs \\(20, 6\\)": lambda: climb(x=X[:, :5]),
    "bias has shape \\(2,\\)": lambda: climb(bias=jnp.zeros(2)),
    "h holds 3 numbers that are not finite": lambda: climb(h=H.at[0].set(jnp.nan)),
    "z has shape \\(20, 6\\): needs \\(samples, L\\) = \\(20, 4\\)": lambda: ladder.apart(X, H, D, D[:, :4], X),
    "W_dec has shape \\(2, 6\\): needs": lambda: ladder.apart(X, H, D, D[:2], X),
    "z holds numbers that are negative": lambda: ladder.apart(X, H, D, D, -X),
    "most = 5: needs at least 1 and at most min\\(m, n, L\\) = 3": lambda: ladder.apart(X, H, D, D, X, most=5),
}


@pytest.mark.x64
@pytest.mark.parametrize("message", REFUSED)
def test_what_is_refused(message):
    with pytest.raises(ValueError, match=message):
        REFUSED[message]()
